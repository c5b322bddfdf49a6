"""Gradient checks find planted faults where they are, and nothing in what is right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import ModelError
from saccade.graph import GradientCheck, TensorGradient, check_gradients
from saccade.nn import zoo

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Matrix(torch.autograd.Function):
    """x @ w, whose gradient by w is multiplied by a factor that should be 1."""

    @staticmethod
    def forward(context: Any, x: Tensor, w: Tensor, factor: float) -> Tensor:
        context.save_for_backward(x, w)
        context.factor = factor
        return x @ w

    @staticmethod
    def backward(context: Any, *upstream: Any) -> Any:
        x, w = context.saved_tensors
        return upstream[0] @ w.T, context.factor * x.T @ upstream[0], None


class Layer(nn.Module):
    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(1)
        self.w, self.factor = nn.Parameter(torch.randn(6, 6, generator=draws) / 2), factor

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(Matrix.apply(x, self.w, self.factor))


class Block(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.inner:
            x = x + layer(x)
        return x


def gradcheck(function: Callable[..., Any], *inputs: Tensor) -> bool:
    given = [each.double().requires_grad_() for each in inputs]
    return bool(torch.autograd.gradcheck(function, given, raise_exception=False))


@pytest.mark.parametrize("factor", [1.0, 1.05, 0.0, -1.0])
def test_the_verdict_is_pytorchs_gradchecks(factor: float) -> None:
    w = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))

    def function(x: Tensor, w: Tensor) -> Tensor:
        return Matrix.apply(x, w, factor)  # type: ignore[no-any-return]

    found = check_gradients(function, X, w)
    assert found.passed == gradcheck(function, X, w) == (factor == 1.0)
    assert [each.verdict for each in found.tensors] == ["fine", "fine" if factor == 1.0 else "wrong"]


@pytest.mark.parametrize(
    ("error", "verdict"), [(1e-9, "fine"), (3e-6, "suspicious"), (1e-3, "suspicious"), (0.05, "wrong")]
)
def test_the_scale_is_the_usual_one(error: float, verdict: str) -> None:
    w = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
    found = check_gradients(lambda x, w: Matrix.apply(x, w, 1 + error), X, w)
    assert found.verdict == verdict
    if verdict != "fine":
        assert found.worst is not None
        assert found.worst.error == pytest.approx(error / (1 + error), rel=1e-2)


def test_kinks_excuse_a_small_difference() -> None:
    assert TensorGradient("w", (3,), 1e-5, compared=3, kinks=0).verdict == "suspicious"
    assert TensorGradient("w", (3,), 1e-5, compared=2, kinks=1).verdict == "fine"


@pytest.mark.parametrize("wrong", [0, 2, 4])
def test_the_wrong_one_of_five_layers_is_named(wrong: int) -> None:
    network = nn.Sequential(*(Layer(1.05 if place == wrong else 1.0) for place in range(5)))
    found = check_gradients(network, X, coordinates=2)
    assert found.verdict == "wrong"
    assert found.wrong_modules == (str(wrong),)


def test_the_innermost_of_nested_modules_is_named_and_pytorchs_backward_hooks_count() -> None:
    network = nn.Sequential(nn.Linear(6, 6), Block(Layer(), nn.Sequential(Layer(), Layer(0.5))), nn.Linear(6, 2))
    assert check_gradients(network, X, coordinates=2).wrong_modules == ("1.inner.1.1",)
    network[2].register_full_backward_hook(lambda _, gradients, __: (2 * gradients[0],))  # type: ignore[index]
    assert check_gradients(network, X, coordinates=2).wrong_modules == ("1.inner.1.1", "2")


def test_a_gradient_that_is_cut_off_is_wrong() -> None:
    class Cut(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.detach())

    found = check_gradients(nn.Sequential(nn.Linear(6, 6), Cut(6, 2)), X)
    assert {each.name: each.verdict for each in found.tensors}["0.weight"] == "wrong"
    assert found.wrong_modules == ("1",)


@pytest.mark.parametrize("function", [torch.relu, torch.abs, lambda x: F.max_pool1d(x, 2), lambda x: x.clamp(min=0)])
def test_a_kink_is_no_error(function: Callable[[Tensor], Tensor]) -> None:
    found = check_gradients(function, torch.zeros(2, 6))
    assert found.verdict == "undecided"
    assert found.tensors[0].kinks > 0
    some = X.clone()
    some[:, :3] = 0.0
    assert check_gradients(function, some, coordinates=20).verdict == "fine"


def test_a_network_with_dropout_and_batch_norm_checks_clean_and_is_left_alone() -> None:
    network = nn.Sequential(
        nn.Linear(6, 20), nn.BatchNorm1d(20), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(20, 3)
    )
    before, state = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    found = check_gradients(network, X)
    assert (found.verdict, found.random) == ("fine", True)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not check_gradients(network.eval(), X).random


def test_what_draws_by_itself_cannot_be_checked() -> None:
    own = torch.Generator().manual_seed(0)
    found = check_gradients(lambda x: x * torch.rand(6, generator=own), X)
    assert (found.verdict, found.trouble) == ("undecided", "it gives another value each time, from draws of its own")


def test_a_value_that_is_no_number_cannot_be_checked() -> None:
    found = check_gradients(torch.log, -X.abs())
    assert (found.verdict, found.trouble) == ("undecided", "its value is nan")


def test_what_gives_no_numbers_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"^What is to be checked gives no floating-point numbers, so there is no gradient\.$"
    ):
        check_gradients(lambda x: x > 0, X)


def test_the_last_layer_of_a_network_whose_loss_is_checked() -> None:
    labels = torch.arange(5) % 3
    linear = nn.Linear(6, 3)
    found = check_gradients(nn.Sequential(linear), X)
    assert [each.name for each in found.tensors] == ["input", "0.weight", "0.bias"]
    assert check_gradients(lambda x: F.cross_entropy(x, labels), X[:, :3]).passed
    frozen = nn.Linear(6, 3).requires_grad_(False)
    assert [each.name for each in check_gradients(frozen, X).tensors] == ["input"]


@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_real_networks_check_clean(name: str) -> None:
    torch.manual_seed(0)
    network = zoo.build(name, classes=3, side=16, width=0.1).train()
    x_NCHW = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = check_gradients(network, x_NCHW, coordinates=2)
    assert found.passed, found.worst
    assert all(each.compared == 2 for each in found.tensors)


def test_time_that_is_up_leaves_what_was_compared() -> None:
    left = iter([1.0, 1.0, *[0.0] * 100])
    found = check_gradients(nn.Linear(6, 3), X, seconds=lambda: next(left))
    assert [each.compared for each in found.tensors] == [1, 1, 0]
    assert isinstance(found, GradientCheck)
    assert found.verdict == "fine"
