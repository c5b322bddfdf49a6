"""Stages, frozen layers and their batch statistics, gradual thawing, and the drift of statistics."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from saccade.data.batches import ArrayImages
from saccade.errors import ModelError
from saccade.nn import zoo
from saccade.nn.stages import END, averaged, drift, staged, stages
from saccade.nn.transfer import Transfer
from saccade.nn.trunks import trunk
from saccade.nn.volumes import volumes
from saccade.optim.average import recompute_statistics
from saccade.settings import TrainSettings
from saccade.train import Forward, Session
from saccade.train.look import Seen, named


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


class Branched(nn.Module):
    """A trunk of what real ones have: a linear layer under a rectifier in place, a pair of outputs, layers after."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.pair, self.last = (
            nn.Linear(12, 8),
            nn.MultiheadAttention(8, 2, batch_first=True),
            nn.Linear(8, 4),
        )
        self.inner = nn.Sequential(nn.ReLU(inplace=True))
        self.ran = 0
        self.last.register_forward_pre_hook(self.count)

    def count(self, *_: object) -> None:
        """Take note that the last layer ran."""
        self.ran += 1

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return features (N, 4)."""
        x_ND = self.inner(self.one(x_NCHW.flatten(1)))
        x_NTD = x_ND[:, None]
        features_ND: Tensor = self.last(self.pair(x_NTD, x_NTD, x_NTD)[0].mean(1))
        return features_ND


def test_a_pass_ends_where_all_stages_are_reached_and_a_stage_is_what_it_gave_then() -> None:
    network, x_NCHW = Branched().eval(), torch.randn(5, 3, 2, 2)
    [alone] = staged(network, x_NCHW, ["one"])
    assert network.ran == 0
    first, _ = staged(network, x_NCHW, ["one", END])
    assert network.ran == 1
    own = network.one(x_NCHW.flatten(1))
    assert own.min() < 0, "what the rectifier changes in place"
    assert torch.equal(alone, own)
    assert torch.equal(first, own)


def test_of_several_outputs_the_first_is_the_stage_and_one_of_no_images_is_refused() -> None:
    x_NCHW = torch.randn(5, 3, 2, 2)
    network = Branched().eval()
    rows, end = staged(network, x_NCHW, ["pair", END])
    assert torch.equal(network.last(rows), end)
    with pytest.raises(ModelError, match=r'Stage "0" gives \(60,\) for 5 images, no row each; give another stage'):
        staged(nn.Sequential(nn.Flatten(0)), x_NCHW, ["0"])


def test_rows_are_exact_where_the_pass_is_not() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    x_NCHW = torch.randn(2, 3, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        [rows] = staged(network, x_NCHW, ["0"])
        maps_NCHW = network(x_NCHW)
    assert maps_NCHW.dtype == torch.bfloat16
    torch.testing.assert_close(rows, maps_NCHW.float().mean((2, 3)), rtol=0, atol=1e-6)
    assert staged(network.double(), x_NCHW.double(), ["0"])[0].dtype == torch.float64


def test_what_follows_a_pass_that_ends_early_is_told_apart_from_what_it_left() -> None:
    """The table of volumes and the watch know which module is at work, whether or not all before it came to an end."""
    body = Transfer(resnet(), 3, 64, ("layer1.0.conv1",)).eval()
    table = {layer.layer: layer for layer in volumes(body, 64).layers}
    assert table["head"].output == (3,)
    assert "trunk.layer4" not in " ".join(table)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        body(torch.zeros(1, 3, 64, 64))
    assert 2 * sum(layer.multiply_adds for layer in table.values()) == counter.get_total_flops()
    seen = Seen()
    with named(body, seen):
        body(torch.zeros(2, 3, 64, 64))
    assert (seen.stack, seen.classes) == ([], 3)


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
