"""Recording changes no number, whatever the computation does, and what is recorded adds up."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import GraphError
from saccade.graph import Graph, Summary, trace
from saccade.graph.records import Use, upstream_times_local


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        product: Tensor = 2 * x * gradient
        return product


def in_place(x: Tensor) -> Tensor:
    y = x * 2
    y.relu_()
    y = y + x
    y += x
    y[0] = 1.0
    return (y**2).sum()


def through_view(x: Tensor) -> Tensor:
    y = x * 5
    row = y[0]
    row.mul_(3)
    return (y * x).sum()


def several_outputs(x: Tensor) -> Tensor:
    first, second = x.split(1)
    values, _ = torch.stack([first.sin(), second]).max(0)
    return values.sum() + x.unbind(0)[1].sum()


def control_flow(x: Tensor) -> Tensor:
    for _ in range(3):
        x = x * 2 if x.sum() < 10 else x + 1
    norm: Tensor = torch.linalg.vector_norm(x)
    return norm


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        scale = x.abs().max()
    return (x / scale).detach().sum() + (x / scale).square().sum()


def custom(x: Tensor) -> Tensor:
    square: Tensor = Square.apply(x)
    return (square * x).sum()


def shared(x: Tensor) -> Tensor:
    return (x * x + torch.matmul(x, x.T) @ x).sum()


def random(x: Tensor) -> Tensor:
    return (F.dropout(x, 0.5) * torch.randn_like(x)).sum()


FUNCTIONS = [
    in_place, through_view, several_outputs, control_flow, without_gradient, custom, shared, random,
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_gradients_are_those_without_recording_to_the_bit(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.tensor([[0.5, -1.5], [2.0, 0.25]], requires_grad=True)
    torch.manual_seed(3)
    value = function(x)
    (expected,) = torch.autograd.grad(value, x)
    torch.manual_seed(3)
    graph = trace(function, x)
    assert torch.equal(graph.results[0].value.values, value)  # type: ignore[arg-type]
    assert torch.equal(graph.gradients["x"], expected)
    assert torch.equal(graph["x"].gradient.values, expected)  # type: ignore[union-attr,arg-type]
    assert x.grad is None


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_upstream_times_local_is_downstream(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(3)
    graph = trace(function, torch.tensor([[0.5, -1.5], [2.0, 0.25]], dtype=torch.float64, requires_grad=True))
    assert graph.verified.edges >= 2
    assert graph.verified.worst < 1e-12


def edges(graph: Graph, name: str) -> list[Use]:
    return graph.uses_of(graph[name])


def test_a_wrong_edge_would_be_seen() -> None:
    graph = trace(lambda x, y: x * y, 2.0, 3.0)
    use = edges(graph, "x")[0]
    use.gradient = Summary.of(torch.tensor(5.0, dtype=torch.float64))
    assert graph.verified.worst == pytest.approx(0.4)


def test_gradients_of_a_copy_add() -> None:
    graph = trace(lambda x, y: x * y + x.exp() + x, 1.0, 4.0)
    parts = [use.gradient.mean for use in edges(graph, "x")]  # type: ignore[union-attr]
    assert parts == pytest.approx([4.0, torch.tensor(1.0).exp().item(), 1.0])
    assert graph["x"].gradient.mean == pytest.approx(sum(parts))  # type: ignore[union-attr]


def test_local_gradients_are_those_of_jacrev() -> None:
    W, x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.randn(4, dtype=torch.float64)
    graph = trace(lambda W, x: (W @ x).tanh().square().sum(), W, x.requires_grad_())
    product, tanh = graph.steps[0], graph.steps[1]
    by_W, by_x = torch.func.jacrev(torch.matmul, (0, 1))(W, x)
    assert torch.allclose(product.uses[0].local[0], by_W.reshape(3, 12), atol=1e-14)
    assert torch.allclose(product.uses[1].local[0], by_x, atol=1e-14)
    upstream = product.outputs[0].gradient.values  # type: ignore[union-attr]
    (expected,) = torch.func.vjp(lambda x: W @ x, x)[1](upstream)
    assert torch.allclose(upstream_times_local(product.uses[1]), expected, atol=1e-14)  # type: ignore[arg-type]
    assert tanh.uses[0].local[0].count_nonzero() == 3


def test_the_summary_of_a_large_tensor() -> None:
    x = torch.randn(40, 50).relu() + 100
    summary = Summary.of(x)
    assert summary.values is None
    assert summary.shape == (40, 50)
    assert summary.sd == pytest.approx(x.double().numpy().std(), rel=1e-6)
    assert summary.norm == pytest.approx(float(x.double().norm()), rel=1e-6)
    assert (summary.low, summary.high) == (float(x.min()), float(x.max()))
    assert Summary.of(torch.zeros(100).index_fill(0, torch.arange(25), 1)).zeros == 0.75
    assert Summary.of(torch.zeros(0)).norm == 0


def test_modules_name_operations_and_parameters() -> None:
    block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True))
    network = nn.Sequential(block, nn.Linear(4, 1))
    graph = trace(lambda x: network(x).sum(), torch.randn(5, 4))
    assert [".".join(step.module) for step in graph.steps] == ["0.0", "0.1", "0.2", "1", ""]
    assert set(graph.gradients) == {name for name, _ in network.named_parameters()}
    assert graph["0.1.running_mean"].kind == "buffer"
    assert graph.modules["0", "1"] == "BatchNorm1d"


def test_a_module_that_runs_twice_is_told_apart() -> None:
    layer = nn.Linear(2, 2)
    graph = trace(nn.Sequential(layer, layer), torch.randn(1, 2), upstream=torch.ones(1, 2))
    assert [step.module for step in graph.steps] == [("0",), ("0 (call 2)",)]


def test_values_alone_and_a_function_that_walks_back_itself() -> None:
    graph = trace(lambda x: x.exp() * 2, torch.zeros(3), backward=False)
    assert graph.results[0].value.mean == 2.0
    assert graph.gradients == {}
    x = torch.ones(2, requires_grad=True)
    graph = trace(lambda x: (x * 3).sum().backward(), x, backward=False)
    assert graph["x"].gradient.mean == 3.0  # type: ignore[union-attr]
    assert x.grad is not None


def test_upstream_stands_for_what_follows() -> None:
    x = torch.ones(2, requires_grad=True)
    graph = trace(lambda x: (x * 3, x.sum()), x, upstream=[torch.tensor([1.0, 2.0]), torch.tensor(10.0)])
    assert graph.gradients["x"].tolist() == [13.0, 16.0]


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (lambda x: x * 2, {}, "a tensor of 3"),
        (lambda x: (x.sum(), x.sum()), {}, "2 tensors"),
        (lambda x: 3, {}, "no tensor"),
        (lambda x: x.detach().sum(), {}, "requires a gradient"),
        (lambda x: x * 2, {"upstream": torch.ones(2)}, "must have the shapes"),
    ],
)
def test_what_has_no_gradient_to_show(function: Callable[[Tensor], Any], options: dict[str, Any], words: str) -> None:
    with pytest.raises(GraphError, match=words):
        trace(function, torch.ones(3, requires_grad=True), **options)


NETWORKS = ["resnet18", "mobilenetv3_small_100", "convnext_tiny", "vit_tiny_patch16_224"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_timm_have_the_same_gradients_to_the_bit(name: str) -> None:
    import timm

    side: dict[str, Any] = {"img_size": 32} if name.startswith("vit") else {}
    torch.manual_seed(0)
    network, x = timm.create_model(name, num_classes=3, **side), torch.randn(2, 3, 32, 32, requires_grad=True)
    state = {key: value.clone() for key, value in network.state_dict().items()}

    def loss(x: Tensor) -> Tensor:
        return F.cross_entropy(network(x), torch.tensor([0, 2]))

    torch.manual_seed(1)
    loss(x).backward()
    buffers = {key: value.clone() for key, value in network.named_buffers()}
    network.load_state_dict(state)
    torch.manual_seed(1)
    graph = trace(loss, x)
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(graph.gradients[key], parameter.grad), key
    for key, value in network.named_buffers():
        assert torch.equal(value, buffers[key]), key
    assert torch.equal(graph.gradients["x"], x.grad)  # type: ignore[arg-type]
    assert all(use.gradient is not None for step in graph.steps for use in step.uses if use.wire.differentiable)
