"""Every optimizer and schedule against its formula in NumPy float64, and who is decayed."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from saccade.errors import SettingError
from saccade.nn import zoo
from saccade.optim import DEFAULTS, SCHEDULES, build_optimizer, schedule
from saccade.optim.muon import Muon

Floats = NDArray[np.float64]
Rule = Callable[[Floats, list[Floats], float, float], Floats]


class Small(nn.Module):
    """A matrix that should decay, a vector and a scalar that should not, and something frozen."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(3, 4, generator=draw, dtype=torch.float64))
        self.vector = nn.Parameter(torch.randn(4, generator=draw, dtype=torch.float64))
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.ones(3, 3), requires_grad=False)


def sgd(x: Floats, gradients: list[Floats], rate: float, decay: float) -> Floats:
    velocity = np.zeros_like(x)
    for gradient in gradients:
        slope = gradient + decay * x
        velocity = 0.9 * velocity + slope
        x = x - rate * (slope + 0.9 * velocity)
    return x


def adam(x: Floats, gradients: list[Floats], rate: float, decay: float, decoupled: float = 0.0) -> Floats:
    first, second = np.zeros_like(x), np.zeros_like(x)
    for t, gradient in enumerate(gradients, 1):
        x = x * (1 - rate * decoupled)
        slope = gradient + decay * x
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        x = x - rate * first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    return x


def adamw(x: Floats, gradients: list[Floats], rate: float, decay: float) -> Floats:
    return adam(x, gradients, rate, 0.0, decoupled=decay)


RULES: dict[str, Rule] = {"sgd": sgd, "adam": adam, "adamw": adamw}


def test_the_table_is_whole() -> None:
    assert DEFAULTS.keys() == {*RULES, "muon"}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("rate", "decay"), [(None, None), (0.05, 0.3)])
def test_updates_follow_the_formula_and_vectors_do_not_decay(
    name: str, rate: float | None, decay: float | None
) -> None:
    network = Small()
    start = {key: value.detach().numpy().copy() for key, value in network.named_parameters()}
    optimizer = build_optimizer(name, network, rate, decay)
    draw = np.random.default_rng(1)
    gradients: dict[str, list[Floats]] = {"matrix": [], "vector": [], "scale": []}
    for _ in range(5):
        for key, kept in gradients.items():
            kept.append(np.asarray(draw.normal(size=start[key].shape)))
            getattr(network, key).grad = torch.from_numpy(kept[-1].copy())
        optimizer.step(0.5)
    rate = 0.5 * (DEFAULTS[name].learning_rate if rate is None else rate)
    decay = DEFAULTS[name].weight_decay if decay is None else decay
    for key, kept in gradients.items():
        expected = RULES[name](start[key], kept, rate, decay if key == "matrix" else 0.0)
        np.testing.assert_allclose(getattr(network, key).detach().numpy(), expected, rtol=1e-10)
    assert torch.equal(network.frozen, torch.ones(3, 3))


def test_muon_takes_the_kernels_and_adam_the_rest() -> None:
    network = zoo.build("convnet", classes=5, side=32)
    optimizer = build_optimizer("muon", network, 0.1, 0.02)
    kernels, rest = optimizer.rules
    assert isinstance(kernels, Muon)
    assert type(rest) is torch.optim.Adam
    shapes = [parameter.ndim for group in kernels.param_groups for parameter in group["params"]]
    assert shapes == [4] * 6, "two convolutions a stage; the whitening is fixed"
    decays = {(p.ndim, group["weight_decay"]) for group in rest.param_groups for p in group["params"]}
    assert decays == {(2, 0.02), (1, 0.0)}
    assert [group["lr"] for rule in optimizer.rules for group in rule.param_groups] == pytest.approx([0.1, 0.02, 0.02])
    trained = {id(p) for rule in optimizer.rules for group in rule.param_groups for p in group["params"]}
    assert trained == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}


def test_muon_needs_kernels_and_with_kernels_alone_no_adam() -> None:
    with pytest.raises(SettingError, match="muon updates convolutions, and this network has none; give adam or sgd"):
        build_optimizer("muon", nn.Linear(3, 2), 0.1, None)
    (rule,) = build_optimizer("muon", nn.Conv2d(3, 2, 1, bias=False), None, None).rules
    assert isinstance(rule, Muon)


@pytest.mark.parametrize("name", DEFAULTS)
def test_state_put_back_goes_on_the_same(name: str) -> None:
    def trained(steps: int, network: nn.Module, optimizer: Any, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            for parameter in network.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            optimizer.step(0.7)
            optimizer.zero_grad()
            assert all(parameter.grad is None for parameter in network.parameters())

    network, again = (nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 2)) for _ in range(2))
    optimizer = build_optimizer(name, network, None, 0.1)
    trained(2, network, optimizer, 0)
    again.load_state_dict(network.state_dict())
    restored = build_optimizer(name, again, None, 0.1)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    trained(2, network, optimizer, 1)
    trained(2, again, restored, 1)
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


FORMULAS: dict[str, Callable[[float], float]] = {
    "constant": lambda p: 1.0,
    "linear": lambda p: 1 - p,
    "cosine": lambda p: math.cos(math.pi * p / 2) ** 2,
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_schedules_rise_in_a_line_then_fall_by_their_formula(name: str, warmup: float) -> None:
    assert SCHEDULES.keys() == FORMULAS.keys()
    factor = schedule(name, warmup)
    for p in np.linspace(0, 0.999, 200):
        expected = p / warmup if p < warmup else FORMULAS[name]((p - warmup) / (1 - warmup))
        assert factor(float(p)) == pytest.approx(expected, abs=1e-9)
    assert factor(warmup) == pytest.approx(1.0)
