"""A library's networks with other activations, norms and weights: what gives way, what stays, what is refused."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn

from saccade.classifiers.network import rebuilt
from saccade.errors import ModelError
from saccade.nn import zoo
from saccade.nn.blocks import Blocks
from saccade.settings import TrainSettings


def kinds(network: nn.Module) -> Counter[str]:
    return Counter(type(module).__name__ for module in network.modules())


def new(name: str, **chosen: Any) -> nn.Module:
    torch.manual_seed(0)
    return zoo.new(name, classes=3, side=32, blocks=Blocks(**chosen))


@pytest.mark.parametrize(
    ("name", "chosen", "was", "now", "count"),
    [
        ("torchvision/resnet18", {"activation": "silu"}, "ReLU", "SiLU", 9),
        ("torchvision/resnet18", {"norm": "group"}, "BatchNorm2d", "GroupNorm", 20),
        ("timm/test_vit", {"activation": "elu"}, "GELU", "ELU", 6),
        ("timm/test_efficientnet", {"norm": "group"}, "BatchNormAct2d", "GroupNorm", 13),
    ],
)
def test_every_module_of_the_kind_gives_way_and_all_others_stay(
    name: str, chosen: dict[str, str], was: str, now: str, count: int
) -> None:
    plain, other = new(name), new(name, **chosen)
    before, after = kinds(plain), kinds(other)
    assert (before[was], after[was], after[now] - before[now]) == (count, 0, count)
    activations = {each: n for each, n in before.items() if each in ("ReLU", "SiLU", "GELU")}
    if "norm" in chosen:
        assert {each: after[each] for each in activations} == activations, "those in timm's norms stay"
    other.train()(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(each.grad is not None for each in other.parameters())


def test_both_at_once_and_weights_drawn_anew() -> None:
    one = new("torchvision/resnet18", activation="tanh", norm="layer", init="orthogonal")
    assert (kinds(one)["Tanh"], kinds(one)["GroupNorm"]) == (9, 20)
    weight = one.get_submodule("layer1.0.conv1").weight.flatten(1)  # type: ignore[operator]
    gram = weight @ weight.T
    assert torch.allclose(gram, gram[0, 0] * torch.eye(64), atol=1e-4)


def test_gates_stay() -> None:
    name = "torchvision/mobilenet_v3_small"
    plain, other = kinds(new(name)), kinds(new(name, activation="relu"))
    assert other["Hardsigmoid"] == plain["Hardsigmoid"] > 0
    assert other["Hardswish"] == 0


@pytest.mark.parametrize(
    ("name", "chosen", "sentence"),
    [
        ("torchvision/resnet18", {"depth": 3},
         'The setting depth has no meaning for the network "torchvision/resnet18": it takes activation, norm, init.'),
        ("torchvision/resnet18", {"activation": "maxout"},
         'activation=maxout needs layers of twice as many units, which "torchvision/resnet18" has not.'),
        ("torchvision/vit_b_16", {"norm": "group"},
         'The network "torchvision/vit_b_16" has no batch or group norm that could be replaced: it is as it is.'),
        ("torchvision/googlenet", {"activation": "elu"},
         'The network "torchvision/googlenet" has no activation that could be replaced: it is as it is.'),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused_before_anything_is_written(
    name: str, chosen: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ModelError) as caught:
        zoo.check_choices(TrainSettings(model=name, **chosen))
    assert str(caught.value) == sentence


def test_a_saved_one_is_built_again() -> None:
    settings = TrainSettings(model="torchvision/resnet18", activation="silu", norm="group", size=32)
    zoo.check_choices(settings)
    first, again = (rebuilt(settings, 3) for _ in range(2))
    again.load_state_dict(first.state_dict())
    assert kinds(again)["SiLU"] == 9
