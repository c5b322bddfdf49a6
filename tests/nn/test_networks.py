"""Networks by name: shapes at every side, what is refused, what a new one knows, and what training may change."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saccade.errors import InputError, ModelError
from saccade.nn import zoo
from saccade.nn.blocks import Blocks
from saccade.nn.convnets import ConvNet
from saccade.nn.layers import Standardize
from saccade.settings import TrainSettings

Floats = NDArray[np.float64]


def images(n: int, side: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 4, 4, generator=draw) * 255
    return nn.functional.interpolate(coarse, size=(side, side)).permute(0, 2, 3, 1).to(torch.uint8)


def as_input(x_NHWC: Tensor) -> Tensor:
    return x_NHWC.permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("side", [4, 16, 17, 31, 32, 40, 41, 64, 128])
@pytest.mark.parametrize("name", ["convnet", "mlp", "linear"])
def test_own_networks_take_every_side(name: str, side: int) -> None:
    for classes in (2, 200) if side in (16, 32) else (10,):
        network = zoo.build(name, classes=classes, side=side, width=0.1)
        zoo.fit_to(network, images(20, side))
        scores_NK = network(as_input(images(3, side)))
        assert scores_NK.shape == (3, classes)
        assert scores_NK.isfinite().all()


def test_a_convnet_takes_smaller_images_than_it_was_made_for() -> None:
    for side in (32, 96):
        network = zoo.build("convnet", classes=4, side=side, width=0.25)
        for smaller in range(16, side, 7):
            assert network(as_input(images(2, smaller))).shape == (2, 4)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def test_sizes_are_those_of_the_formulas() -> None:
    assert parameters(zoo.build("linear", classes=10, side=32)) == 10 * (3 * 32 * 32 + 1)
    mlp = 3 * 32 * 32 * 512 + 512 * 512 + 4 * 512 + 512 * 10 + 10
    assert parameters(zoo.build("mlp", classes=10, side=32)) == mlp
    convs = 9 * (24 * 48 + 48 * 48 + 48 * 128 + 128 * 128 + 128 * 256 + 256 * 256)
    assert parameters(zoo.build("convnet", classes=10, side=32)) == convs + 2 * (48 + 128 + 256) + 10 * 256
    half, full = (parameters(zoo.build("convnet", classes=10, side=32, width=width)) for width in (0.5, 1.0))
    assert half < full / 3


def test_a_stage_is_its_formula_in_numpy() -> None:
    """Conv, max pooling, batch norm, SiLU; conv, batch norm, SiLU, plus the input."""
    network = zoo.build("convnet", classes=3, side=16, width=0.2)
    stage = network[-1].stages[1].double().eval()  # type: ignore[index]
    draw = np.random.default_rng(0)
    state = {name: value.numpy() for name, value in stage.state_dict().items()}
    for name, value in state.items():
        if name.endswith(("running_mean", "bias")):
            state[name] = draw.normal(size=value.shape)
        elif name.endswith("running_var"):
            state[name] = draw.uniform(0.5, 2, value.shape)
    stage.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    x = draw.normal(size=(2, state["change.weight"].shape[1], 5, 5))

    def conv(x: Floats, weight: Floats) -> Floats:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        return np.asarray(np.einsum("nchwij,kcij->nkhw", windows, weight))

    def norm_silu(x: Floats, name: str) -> Floats:
        mean, var, bias = (state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "bias"))
        y = (x - mean) / np.sqrt(var + 1e-5) + bias
        return np.asarray(y / (1 + np.exp(-y)))

    changed = np.pad(conv(x, state["change.weight"]), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
    pooled = changed.reshape(2, -1, 3, 2, 3, 2).max((3, 5))
    inner = norm_silu(pooled, "change_norm")
    expected = inner + norm_silu(conv(inner, state["refine.weight"]), "refine_norm")
    np.testing.assert_allclose(stage(torch.from_numpy(x)).detach().numpy(), expected, atol=1e-9)


def test_a_new_network_gives_every_class_about_the_same_score() -> None:
    for name in ("convnet", "mlp", "linear"):
        network = zoo.build(name, classes=10, side=32)
        zoo.fit_to(network, images(200, 32))
        probabilities_NK = network(as_input(images(64, 32))).detach().softmax(1)
        assert float(probabilities_NK.max()) < 0.9
        assert float(-probabilities_NK.log().mean()) < 1.5 * np.log(10)


def test_fitting_sets_mean_scale_and_whitening_alone() -> None:
    network = zoo.build("convnet", classes=3, side=16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    zoo.fit_to(network, images(50, 16))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"standardize.mean_C", "standardize.sd_C", "body.whitening.weight"}
    assert isinstance(network[0], Standardize)  # type: ignore[index]
    assert isinstance(network[1], ConvNet)  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("torchvision/resnet18", 32),
        ("timm/resnet10t", 32),
        ("timm/vit_tiny_patch16_224", 48),
        ("torchvision/googlenet", 32),
        ("torchvision/inception_v3", 96),
    ],
)
def test_others_networks_are_built_run_and_give_gradients(name: str, side: int) -> None:
    network = zoo.build(name, classes=7, side=side)
    zoo.fit_to(network, images(20, side))
    assert network.training
    scores_NK = network(as_input(images(2, side)))
    assert scores_NK.shape == (2, 7)
    scores_NK.sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    assert zoo.optimizer_for(network) == "adam"
    assert zoo.side_at(network, side, 0.0) == side


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("convnt", ' Did you mean "convnet"?'),
        ("resnet18", ' Did you mean "torchvision/resnet18"?'),
        ("torchvision/resnet19", ' Did you mean "torchvision/resnet18"?'),
        ("timm/vit_tiny_patch16_225", ' Did you mean "timm/vit_tiny_patch16_224"?'),
        ("qqqqqqqq", ""),
        ("", ""),
    ],
)
def test_unknown_networks_are_refused_with_the_nearest(given: str, meant: str) -> None:
    for attempt in (zoo.check_known, lambda name: zoo.build(name, classes=2, side=32)):
        with pytest.raises(ModelError) as caught:
            attempt(given)
        assert str(caught.value) == f'There is no network "{given}".{meant} `saccade models` lists them.'


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"preprocess": "zcaa"}, 'There is no preprocessing "zcaa". Did you mean "zca"?'),
        ({"width": -1.0}, "A width of -1 makes no network; give a factor above 0, such as 0.5."),
        ({"width": 0.0}, "A width of 0 makes no network; give a factor above 0, such as 0.5."),
        ({"width": math.nan}, "A width of nan makes no network; give a factor above 0, such as 0.5."),
        ({"classes": 0}, "A network cannot tell 0 classes apart; give a whole number, at least 1."),
    ],
)
def test_what_makes_no_network_is_refused(choices: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        zoo.build("mlp", **{"classes": 3, "side": 8, **choices})
    assert str(refused.value) == sentence


def test_a_network_that_cannot_take_a_side_says_why() -> None:
    with pytest.raises(ModelError) as caught:
        zoo.build("torchvision/vit_b_16", classes=2, side=32)
    assert str(caught.value) == (
        'The network "torchvision/vit_b_16" cannot take images of 32 x 32 pixels '
        "(Wrong image height! Expected 224 but got 32!); give another size."
    )


def test_every_listed_name_is_known() -> None:
    listed = zoo.names()
    assert listed["saccade"] == list(zoo.OWN)
    assert {name.partition("/")[0] for family in ("torchvision", "timm") for name in listed[family]} == {
        "torchvision",
        "timm",
    }
    for family in listed.values():
        for name in (family[0], family[-1]):
            zoo.check_known(name)


def test_choices_that_have_no_meaning_are_refused_before_anything_is_built() -> None:
    for settings, sentence in (
        (
            {"model": "timm/resnet18", "pool": "max"},
            'pool has no meaning for the network "timm/resnet18": it takes activ',
        ),
        ({"model": "conv3 pool", "depth": 2}, 'depth has no meaning for the network "conv3 pool": it takes activation'),
        ({"model": "mlp", "pool": "max"}, 'pool has no meaning for the network "mlp": it takes depth'),
        ({"model": "mlp", "norm": "instance"}, "norm=instance normalises over an image's places"),
    ):
        with pytest.raises(ModelError) as caught:
            zoo.check_choices(TrainSettings.model_validate(settings))
        assert sentence in str(caught.value)
    for name in ("convnet", "mlp", "linear"):
        zoo.check_choices(TrainSettings(model=name, init="orthogonal"))
    for chosen, said in (({"model": "linear", "width": 2}, 'width has no meaning for the network "linear"'),
                         ({"model": "timm/resnet18", "width": 0.5}, "width has no meaning"),
                         ({"lowest_rate": 0.1}, "lowest_rate is for pretrained networks alone")):  # fmt: skip
        with pytest.raises(ModelError, match=said):
            zoo.check_choices(TrainSettings.model_validate(chosen))
    zoo.check_choices(TrainSettings(model="mlp", activation="prelu", init="he"))


def test_the_default_convnet_is_the_same_to_the_bit() -> None:
    """Its weights' and scores' sums, of what docs/convnet.md measured."""
    torch.manual_seed(0)
    network = zoo.build("convnet", classes=10, side=32)
    x = torch.rand(4, 3, 32, 32) * 255
    assert float(network(x).detach().double().sum()) == pytest.approx(-5.045451208949089, rel=1e-5)
    assert zoo.optimizer_for(network) == "muon"
    for blocks in (Blocks(norm="none"), Blocks(init="he")):
        assert zoo.optimizer_for(zoo.build("convnet", classes=2, side=16, blocks=blocks)) == "adam"


@pytest.mark.parametrize("activation", ["relu", "maxout", "prelu"])
@pytest.mark.parametrize("norm", ["batch", "layer", "instance", "group", "none"])
def test_a_convnet_of_other_blocks_runs_and_every_parameter_gets_a_gradient(activation: str, norm: str) -> None:
    for pool in ("max", "average", "fractional"):
        blocks = Blocks(
            activation=activation, norm=norm, pool=pool, depth=2, init="he", global_pool="average", zero_last=True
        )
        network = zoo.build("convnet", classes=3, side=20, width=0.2, blocks=blocks)
        network(torch.rand(4, 3, 20, 20)).square().sum().backward()
        for name, parameter in network.named_parameters():
            assert not parameter.requires_grad or parameter.grad is not None, name
