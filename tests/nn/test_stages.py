"""Stages, frozen layers and their batch statistics, gradual thawing, and the drift of statistics."""

import numpy as np
import pytest
import torch
from torch import nn

from saccade.data.batches import ArrayImages
from saccade.errors import ModelError
from saccade.nn import zoo
from saccade.nn.stages import END, averaged, drift, staged, stages
from saccade.nn.transfer import Transfer
from saccade.nn.trunks import trunk
from saccade.optim.average import recompute_statistics
from saccade.settings import TrainSettings
from saccade.train import Forward, Session


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return trunk("timm/test_resnet")


def test_stages_are_where_the_maps_shrink_and_give_what_hooks_see() -> None:
    network = resnet().eval()
    names = stages(network, 64)
    assert names == ("act1", "layer1", "layer2", "layer3", END)
    x_NCHW = torch.randn(2, 3, 64, 64)
    found = staged(network, x_NCHW, names)
    with torch.no_grad():
        maps_NCHW = network.layer1(network.maxpool(network.act1(network.bn1(network.conv1(x_NCHW)))))  # type: ignore[operator]
        torch.testing.assert_close(found[1], maps_NCHW.mean((2, 3)))
        torch.testing.assert_close(found[-1], network(x_NCHW))
    assert network.training is False


@pytest.mark.parametrize(("model", "side"), [("timm/test_vit", 160), ("torchvision/squeezenet1_0", 64)])
def test_other_kinds_of_networks_have_stages_too(model: str, side: int) -> None:
    network = trunk(model)
    names = stages(network, side)
    assert 3 <= len(names) <= 6
    assert names[-1] == END
    assert all(row.ndim == 2 for row in staged(network.eval(), torch.zeros(1, 3, side, side), names))


def test_a_stage_that_is_not_passed_through_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    network.unused = nn.Linear(2, 2)
    network.forward = lambda x: network[1](network[0](x))  # type: ignore[method-assign]
    with pytest.raises(ModelError, match='does not pass through "unused"; give another stage'):
        staged(network, torch.zeros(1, 3, 2, 2), ["unused"])


def test_drift_is_nought_on_the_networks_own_statistics_and_grows_with_a_shift() -> None:
    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(norm, nn.Flatten(), nn.Linear(12, 2))
    x_NCHW = torch.randn(64, 3, 2, 2)
    norm.running_mean = x_NCHW.mean((0, 2, 3))
    norm.running_var = x_NCHW.var((0, 2, 3))
    own = drift(network, x_NCHW, ["0", END])
    assert own[END] is None
    assert own["0"] == pytest.approx(0, abs=1e-6)
    shifted = drift(network, x_NCHW + 2 * norm.running_var.sqrt()[:, None, None], ["0", END])
    assert shifted["0"] == pytest.approx(2, rel=1e-4)


def test_frozen_layers_and_their_statistics_stay() -> None:
    body = Transfer(resnet(), 3, 64)
    layers = body.layers()
    body.freeze(len(layers) // 2)
    body.train()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    rule = torch.optim.SGD([p for p in body.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        body(torch.randn(4, 3, 64, 64)).square().sum().add(body.head.bias.sum()).backward()
        rule.step()
    names = {id(module): name for name, module in body.trunk.named_modules()}
    still = [f"trunk.{names[id(layer)]}" for layer in layers[: len(layers) // 2]]
    for name, value in body.state_dict().items():
        if any(name.startswith(f"{each}.") for each in still):
            assert torch.equal(value, before[name]), name
    moved = [f"trunk.{names[id(layer)]}" for layer in layers[len(layers) // 2 :] if isinstance(layer, nn.BatchNorm2d)]
    assert not torch.equal(body.state_dict()[f"{moved[0]}.running_mean"], before[f"{moved[0]}.running_mean"])
    body.freeze(0)
    assert all(p.requires_grad for p in body.parameters())


def test_statistics_of_frozen_layers_are_not_made_anew() -> None:
    body = Transfer(resnet(), 3, 64)
    norms = [layer for layer in body.layers() if isinstance(layer, nn.BatchNorm2d)]
    body.freeze(body.layers().index(norms[-1]))
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    recompute_statistics(body, [3 + torch.randn(4, 3, 64, 64)])
    same = [torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True)]  # type: ignore[arg-type]
    assert same == [True] * (len(norms) - 1) + [False]


def test_layers_thaw_one_after_another_from_the_last() -> None:
    body = Transfer(resnet(), 3, 64)
    layers = len(body.layers())
    stills = []
    for progress in np.linspace(0, 1, 11):
        body.thaw(float(progress), frozen=0.5, over=0.4)
        stills.append(body.still)
    assert stills[0] == layers - 1
    assert stills == sorted(stills, reverse=True)
    assert stills[4:] == [round(0.5 * layers)] * 7


def test_a_rule_made_while_layers_are_still_knows_those_too() -> None:
    """As a training that goes back to its beginning makes one."""
    x_NHWC = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)
    settings = TrainSettings(size=64, batch_size=4, frozen=0.2, thaw=0.5, device="cpu", optimizer="adamw")
    network = zoo.with_body(zoo.build("linear", classes=3, side=64), Transfer(resnet(), 3, 64))
    start = Session(Forward.of(network, settings), ArrayImages(x_NHWC, torch.arange(8) % 3), list("abcdefgh"), settings)

    def known() -> list[int]:
        groups = [group for rule in start.training().optimizer.rules for group in rule.param_groups]
        return sorted(len(group["params"]) for group in groups)

    before, body = known(), zoo.body(network)
    assert isinstance(body, Transfer)
    body.thaw(0.0, frozen=0.2, over=0.5)
    assert known() == before
    assert body.still == round(0.2 * len(body.layers()))


def test_a_head_on_stages_sees_them_side_by_side() -> None:
    network = resnet().eval()
    body = Transfer(network, 3, 64, ("layer2", END)).eval()
    x_NCHW = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(body.features(x_NCHW), torch.cat(staged(network, x_NCHW, ["layer2", END]), 1))
    assert body.head.in_features == sum(body.widths(64))
    assert averaged(torch.arange(6.0).view(1, 3, 2)).tolist() == [[2.0, 3.0]]


def test_maps_with_their_channels_last_are_averaged_over_the_image() -> None:
    x_NHWC = torch.rand(2, 7, 7, 12)
    torch.testing.assert_close(averaged(x_NHWC), x_NHWC.mean((1, 2)))
    torch.testing.assert_close(averaged(x_NHWC.movedim(-1, 1)), x_NHWC.mean((1, 2)))
    network = trunk("torchvision/swin_t").eval()
    names = stages(network, 64)
    widths = [row.shape[1] for row in staged(network, torch.zeros(1, 3, 64, 64), names)]
    assert widths == sorted(widths)
    assert set(widths) <= {96, 192, 384, 768}
