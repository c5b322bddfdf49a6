"""Dropout, DropConnect and stochastic depth: the mean over masks is the prediction; weights fit with and without."""

from typing import Any

import pytest
import torch
from timm.layers.drop import DropBlock2d as TimmsDropBlock
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.ops import DropBlock2d
from torchvision.ops import StochasticDepth as TorchvisionsDepth

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

    drawn = Residual(DropPath(0.7))
    body = nn.Sequential(Residual(None), Residual(nn.Identity()), drawn, TorchvisionsDepth(0.1, "row"))
    regularize(body, TrainSettings(stochastic_depth=0.4))
    rates = [layer.rate for layer in body.modules() if isinstance(layer, StochasticDepth)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])


def library(model: str, **rates: Any) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = get_model(model, weights=None, num_classes=7)
    regularize(network, TrainSettings(model=f"torchvision/{model}", size=32, **rates))
    return network


def share_dropped(network: nn.Module) -> float:
    """Return the share of the numbers that the last fully connected layer multiplies which training sets to 0.

    What is 0 all the same, as after a ReLU, is as much when it predicts.
    """
    in_training = float((multiplied_last(network.train()) == 0).float().mean())
    network.eval()
    for module in network.modules():
        module.train(isinstance(module, nn.modules.batchnorm._BatchNorm))
    otherwise = float((multiplied_last(network) == 0).float().mean())
    return (in_training - otherwise) / (1 - otherwise)


def multiplied_last(network: nn.Module) -> Tensor:
    seen: list[Tensor] = []
    linear = nn.functional.linear

    def forward(x: Tensor, *rest: Tensor) -> Tensor:
        seen.append(x)
        return linear(x, *rest)

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("torch.nn.functional.linear", forward)
        network(torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    return seen[-1]


@pytest.mark.parametrize("model", ["mobilenet_v3_small", "efficientnet_b0", "mnasnet0_5", "resnet18"])
@pytest.mark.parametrize("rate", [0.5, 0.0, None])
def test_the_rate_of_a_librarys_network_is_the_one_asked_for_or_its_own(model: str, rate: float | None) -> None:
    own = 0.0 if model == "resnet18" else 0.2
    dropped = share_dropped(library(model, **({} if rate is None else {"dropout": rate})))
    assert dropped == pytest.approx(own if rate is None else rate, abs=0.015)


@pytest.mark.parametrize(("given", "expected"), [(None, 0.1), (0.4, 0.4), (0.0, 0.0)])
def test_a_librarys_depth_stays_unless_it_is_given(given: float | None, expected: float) -> None:
    ends = (StochasticDepth, TorchvisionsDepth)
    branches = [each for each in library("convnext_tiny", stochastic_depth=given).modules() if isinstance(each, ends)]
    rates = [each.rate if isinstance(each, StochasticDepth) else each.p for each in branches]
    assert rates[-1] == pytest.approx(expected)
    assert sorted(rates) == rates


def test_dropout_of_0_switches_all_of_it_off_and_nothing_else() -> None:
    flat, spatial, depth = nn.Dropout(0.3), nn.Dropout2d(0.3), DropPath(0.3)
    attention, block = nn.MultiheadAttention(4, 2, dropout=0.3), TorchvisionsDepth(0.3, "row")
    regularize(nn.ModuleList([flat, spatial, attention, depth, block]), TrainSettings(dropout=0.0))
    assert (flat.p, spatial.p, attention.dropout) == (0.0, 0.0, 0.0)
    assert (depth.drop_prob, block.p) == (0.3, 0.3)


def test_every_kind_of_dropping_is_left_out() -> None:
    kinds: list[nn.Module] = [
        nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5), DropPath(0.5), DropBlock2d(0.5, 1),
        TimmsDropBlock(0.5, 1), StochasticDepth(0.5), DroppingLinear.of(nn.Linear(8, 8), 0.5, 0.5),
    ]  # fmt: skip
    for kind in kinds:
        kind.train()
        without_drops(kind)
        x_NCHW = torch.rand(8, 8, 8, 8)
        assert torch.equal(kind(x_NCHW), kind.eval()(x_NCHW)), type(kind)
    attention = nn.MultiheadAttention(4, 2, dropout=0.5)
    without_drops(attention)
    x_TND = torch.rand(3, 2, 4)
    assert torch.equal(attention(x_TND, x_TND, x_TND)[0], attention(x_TND, x_TND, x_TND)[0])


@pytest.mark.parametrize("model", ["efficientnet_b0", "swin_t", "vgg11"])
def test_torchvisions_networks_are_the_same_each_time_without_drops(model: str) -> None:
    network, x_NCHW = library(model), torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(network.train()(x_NCHW), network(x_NCHW))
        without_drops(network)
        assert torch.equal(network(x_NCHW), network(x_NCHW))
