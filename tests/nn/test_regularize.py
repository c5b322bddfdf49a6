"""Dropout, DropConnect and stochastic depth: the mean over masks is the prediction; weights fit with and without."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.errors import SettingError
from saccade.nn import zoo
from saccade.nn.regularize import DroppingLinear, StochasticDepth, regularize, without_drops
from saccade.settings import TrainSettings

MASKS = 20_000


def within_chance(drawn_MK: Tensor, expected_K: Tensor) -> bool:
    """Return whether the mean over masks is the expected value, as far as its standard error can tell."""
    error_K = drawn_MK.double().std(0) / len(drawn_MK) ** 0.5
    return bool(((drawn_MK.double().mean(0) - expected_K.double()).abs() < 5 * error_K + 1e-6).all())


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_the_mean_over_dropouts_masks_is_the_prediction(rate: float) -> None:
    torch.manual_seed(0)
    layer = DroppingLinear.of(nn.Linear(12, 4), rate, 0.0)
    x_D = torch.randn(12)
    drawn = layer.train()(x_D.expand(MASKS, -1))
    assert within_chance(drawn, layer.eval()(x_D))
    assert len(drawn.unique(dim=0)) > 10


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_the_mean_over_dropconnects_masks_is_the_prediction(rate: float) -> None:
    torch.manual_seed(0)
    layer = DroppingLinear.of(nn.Linear(12, 4), 0.0, rate)
    x_D = torch.randn(12)
    drawn = torch.stack([layer.train()(x_D) for _ in range(3000)])
    assert within_chance(drawn, layer.eval()(x_D))
    assert len(drawn.unique(dim=0)) > 10


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_the_mean_over_depths_is_the_prediction(rate: float) -> None:
    torch.manual_seed(0)
    layer, branch = StochasticDepth(rate), torch.randn(3, 2)
    drawn = layer.train()(branch.expand(MASKS, -1, -1))
    assert within_chance(drawn.flatten(1), layer.eval()(branch).flatten())
    kept = (drawn != 0).flatten(1).all(1)
    assert bool(((drawn == 0).flatten(1).all(1) | kept).all()), "a branch is left out whole"
    assert float(kept.float().mean()) == pytest.approx(1 - rate, abs=0.02)


def built(model: str, **rates: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = zoo.build(model, classes=5, side=16, width=0.25)
    torch.manual_seed(0)
    network = zoo.build(model, classes=5, side=16, width=0.25)
    regularize(zoo.body(network), TrainSettings(model=model, size=16, **rates))
    return plain, network


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        ("convnet", {"dropout": 0.5}),
        ("convnet", {"stochastic_depth": 0.5}),
        ("mlp", {"dropout": 0.5}),
        ("mlp", {"dropconnect": 0.5}),
    ],
)
def test_a_network_drops_in_training_alone_and_keeps_its_weights_names(model: str, rates: dict[str, float]) -> None:
    plain, network = built(model, **rates)
    network.load_state_dict(plain.state_dict())
    x_NCHW = 255 * torch.rand(8, 3, 16, 16)
    assert torch.equal(network.eval()(x_NCHW), plain.eval()(x_NCHW))
    assert not torch.equal(network.train()(x_NCHW), network.train()(x_NCHW))
    without_drops(network)
    assert torch.equal(network.train()(x_NCHW), network.train()(x_NCHW))


def test_every_hidden_layer_of_an_mlp_is_dropped_from_and_never_a_pixel() -> None:
    body = zoo.body(built("mlp", dropout=0.3)[1])
    kinds = [type(layer) for layer in body.modules() if isinstance(layer, nn.Linear)]
    assert kinds == [nn.Linear, DroppingLinear, DroppingLinear]


def test_depths_rates_rise_from_the_first_branch_to_the_last() -> None:
    body = zoo.body(built("convnet", stochastic_depth=0.3)[1])
    rates = [layer.rate for layer in body.modules() if isinstance(layer, StochasticDepth)]
    assert rates == pytest.approx([0.1, 0.2, 0.3])


def test_rates_of_zero_change_nothing() -> None:
    plain, network = built("mlp")
    assert [type(module) for module in network.modules()] == [type(module) for module in plain.modules()]


@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"dropconnect": 0.5}])
def test_a_linear_classifier_has_nothing_to_drop(rates: dict[str, float]) -> None:
    with pytest.raises(SettingError, match='The network "linear" has no fully connected layer that sees hidden units'):
        built("linear", **rates)


def test_stochastic_depth_needs_residual_branches() -> None:
    with pytest.raises(SettingError, match='The network "mlp" has no residual branches, which stochastic_depth is for'):
        built("mlp", stochastic_depth=0.2)


def test_torchvisions_and_timms_branches_are_found() -> None:
    class Residual(nn.Module):
        def __init__(self, drop_path: nn.Module | None) -> None:
            super().__init__()
            self.drop_path = drop_path

    from torchvision.ops import StochasticDepth as Torchvisions

    body = nn.Sequential(Residual(None), Residual(nn.Identity()), Torchvisions(0.1, "row"))
    regularize(body, TrainSettings(stochastic_depth=0.3))
    rates = [layer.rate for layer in body.modules() if isinstance(layer, StochasticDepth)]
    assert rates == pytest.approx([0.1, 0.2, 0.3])
