"""What activations do, by depth: against counts by hand, and a dead network planted."""

import numpy as np
import pytest
import torch
from torch import nn

from saccade.nn import zoo
from saccade.nn.activity import Activity, activity, readings
from saccade.nn.blocks import Blocks


def test_figures_are_those_counted_by_hand() -> None:
    torch.manual_seed(0)
    below, between, above = nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 4)
    network = nn.Sequential(below, between, above, nn.Sigmoid())
    with torch.no_grad():
        below.bias[:2] = -1000.0  # two units dead
        above.bias[0] = 50.0  # one saturated
    x = torch.randn(200, 5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    relu, sigmoid = activity(network, x)
    hidden = below(x).detach()
    assert (relu.layer, relu.kind, relu.dead) == ("1", "ReLU", 2 / 7)
    assert relu.saturated == pytest.approx(float((hidden <= 0).double().mean()))
    assert relu.mean == pytest.approx(float(hidden.clamp(min=0).mean()), rel=1e-5)
    y = network(x).detach().double()
    assert sigmoid.sd == pytest.approx(float(y.std(correction=0)), rel=1e-5)
    assert sigmoid.saturated == pytest.approx(float((y * (1 - y) < 0.0025).double().mean()))
    assert sigmoid.dead == 0.25
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert between.inplace


def test_batch_norm_is_not_changed_and_chance_not_used_up() -> None:
    norm = nn.BatchNorm2d(4)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.Dropout(), nn.Flatten())
    x, state = torch.rand(4, 3, 8, 8), torch.get_rng_state()
    activity(network, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert norm.running_mean is not None
    assert not norm.running_mean.any()


def test_a_planted_dead_network_and_a_saturated_one_are_named() -> None:
    x = torch.rand(32, 3, 16, 16) * 2 - 1
    healthy = zoo.new("mlp", classes=3, side=16, width=0.1, blocks=Blocks(depth=8))
    assert readings(activity(healthy, x)) == []
    dead = zoo.new("mlp", classes=3, side=16, width=0.1, blocks=Blocks(depth=4, norm="none"))
    for module in dead.modules():
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.bias, -100.0)
    [sentence] = readings(activity(dead, x))
    assert sentence.startswith("100% of the units of 2 (ReLU) and 3 more give no gradient on any image")
    saturated = zoo.new(
        "mlp", classes=3, side=16, width=0.5, blocks=Blocks(depth=20, norm="none", activation="sigmoid")
    )
    for module in saturated.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=10.0)
    assert any("they are saturated; smaller initial weights" in each for each in readings(activity(saturated, x)))
    vanishing = zoo.new(
        "mlp", classes=3, side=16, blocks=Blocks(depth=20, norm="none", activation="tanh", init="small")
    )
    [sentence] = readings(activity(vanishing, x))
    assert "what comes in is lost on the way; larger initial weights (init=he)" in sentence


def test_every_activation_is_seen_at_every_depth() -> None:
    x = torch.rand(16, 3, 16, 16)
    for name in ("maxout", "prelu", "gelu", "elu"):
        network = zoo.new("convnet", classes=2, side=16, width=0.2, blocks=Blocks(activation=name, depth=2))
        found = activity(network, x)
        assert len(found) == 5
        assert all(isinstance(each, Activity) and np.isfinite(each.sd) and each.dead == 0 for each in found)
    assert len(activity(zoo.new("timm/vit_tiny_patch16_224", classes=2, side=32), torch.rand(2, 3, 32, 32))) == 12


@pytest.mark.parametrize("shape", [(6, 5, 5, 3), (6, 25, 3)])
def test_units_are_counted_where_channels_come_last(shape: tuple[int, ...]) -> None:
    linear = nn.Linear(3, 4)
    nn.init.constant_(linear.bias[:1], -1000.0)
    [relu] = activity(nn.Sequential(linear, nn.ReLU()), torch.randn(shape))
    assert relu.dead == 0.25
