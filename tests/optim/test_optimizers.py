"""Every optimizer and schedule against its formula in NumPy float64, and who is decayed."""

import copy
import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from saccade.errors import InputError, SettingError
from saccade.nn import zoo
from saccade.optim import DEFAULTS, SCHEDULES, build_optimizer, cycle, schedule
from saccade.optim.muon import Muon
from saccade.settings import OptimizerName, ScheduleName

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
    for gradient in gradients:
        x = x - rate * (gradient + decay * x)
    return x


def momentum(x: Floats, gradients: list[Floats], rate: float, decay: float) -> Floats:
    """As the notes have it: x ← x - α (ρ v + ∇f), and v is what is in the brackets."""
    velocity = np.zeros_like(x)
    for gradient in gradients:
        velocity = 0.9 * velocity + (gradient + decay * x)
        x = x - rate * velocity
    return x


def nesterov(x: Floats, gradients: list[Floats], rate: float, decay: float) -> Floats:
    """The notes' form, v ← ρv - α∇f(x + ρv), x ← x + v, told of the point y = x + ρv that the gradient is taken at.

    y moves from x + ρv to x + v' + ρv' where v' is the new v, so by v' - ρv + ρv'.
    """
    velocity = np.zeros_like(x)
    for gradient in gradients:
        before, velocity = velocity, 0.9 * velocity - rate * (gradient + decay * x)
        x = x + velocity - 0.9 * before + 0.9 * velocity
    return x


def adagrad(x: Floats, gradients: list[Floats], rate: float, decay: float) -> Floats:
    total = np.zeros_like(x)
    for gradient in gradients:
        slope = gradient + decay * x
        total = total + slope**2
        x = x - rate * slope / (np.sqrt(total) + 1e-10)
    return x


def rmsprop(x: Floats, gradients: list[Floats], rate: float, decay: float) -> Floats:
    mean = np.zeros_like(x)
    for gradient in gradients:
        slope = gradient + decay * x
        mean = 0.99 * mean + 0.01 * slope**2
        x = x - rate * slope / (np.sqrt(mean) + 1e-8)
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


RULES: dict[str, Rule] = {
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
}


def test_the_tables_and_the_settings_name_the_same_rules_and_schedules() -> None:
    assert DEFAULTS.keys() == {*RULES, "muon", "lbfgs"} == set(get_args(OptimizerName))
    assert SCHEDULES.keys() == FORMULAS.keys() == set(get_args(ScheduleName))


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


def test_nesterov_looks_ahead_as_the_notes_do() -> None:
    """On f(x) = x'Ax / 2, where gradients depend on the path: PyTorch's point is the notes' x + ρv at every step."""
    draw = np.random.default_rng(3)
    half = draw.normal(size=(4, 4))
    bowl = half @ half.T + np.eye(4)
    network = Small()
    start = network.vector.detach().numpy().copy()
    optimizer = build_optimizer("nesterov", network, 0.03, 0.0)
    x, velocity = start, np.zeros(4)
    for _ in range(20):
        network.vector.grad = torch.from_numpy(bowl @ network.vector.detach().numpy())
        optimizer.step(1.0)
        velocity = 0.9 * velocity - 0.03 * (bowl @ (x + 0.9 * velocity))
        x = x + velocity
        np.testing.assert_allclose(network.vector.detach().numpy(), x + 0.9 * velocity, rtol=1e-11)
    assert np.linalg.norm(x) < 0.3 * np.linalg.norm(start)


def test_lower_layers_go_slower_under_every_rule() -> None:
    for name in (*RULES, "muon"):
        lower, upper = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3)
        network = nn.Sequential(lower, upper)
        optimizer = build_optimizer(name, network, 0.1, 0.0, dict.fromkeys(lower.parameters(), 0.25))
        rates = {id(p): g["lr"] for rule in optimizer.rules for g in rule.param_groups for p in g["params"]}
        for kind in ("weight", "bias"):
            assert rates[id(getattr(lower, kind))] == pytest.approx(0.25 * rates[id(getattr(upper, kind))]), name
        before = {key: value.clone() for key, value in network.state_dict().items()}
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(1.0)
        assert not any(torch.equal(value, before[key]) for key, value in network.state_dict().items())


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


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda net: build_optimizer("adm", net), 'There is no optimizer "adm". Did you mean "adam"?'),
        (lambda net: build_optimizer("zebra", net), 'There is no optimizer "zebra". Known are: muon, sgd, momentum, '),
        (
            lambda net: build_optimizer("lbfgs", net),
            "lbfgs steps over all images at once, not by batches; take",
        ),
        *(
            (
                lambda net, rate=rate: build_optimizer("sgd", net, rate),
                f"The learning rate {rate:g} cannot be used; give",
            )
            for rate in (-0.1, math.nan, math.inf)
        ),
        (
            lambda net: build_optimizer("muon", net, -0.1),
            "The learning rate -0.1 cannot be used; give a finite",
        ),
        (
            lambda net: build_optimizer("adam", net, 0.1, -1.0),
            "The weight decay -1 cannot be used; give a finite",
        ),
        (
            lambda net: build_optimizer("adam", net.requires_grad_(False)),
            "Linear has no trainable parameters for adam to update; thaw some.",
        ),
        (lambda _: schedule("cosin", 0.1), 'There is no schedule "cosin". Did you mean "cosine"?'),
        *(
            (
                lambda _, warmup=warmup: schedule("linear", warmup),
                f"A warm-up of {warmup:g} is no share of the training",
            )
            for warmup in (-0.1, 1.0, 1.5, math.nan)
        ),
        (lambda _: cycle(0.5, 0), "A training cannot run in 0 cycles; give a whole number, at least 1."),
    ],
)
def test_what_is_no_rule_rate_or_schedule_is_refused(wrong: Callable[[nn.Module], object], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        wrong(nn.Linear(3, 2))
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", [name for name in DEFAULTS if name != "lbfgs"])
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
    "step": lambda p: 0.001 if p >= 0.9 else 0.01 if p >= 0.6 else 0.1 if p >= 0.3 else 1.0,
    "exponential": lambda p: math.exp(-p * math.log(100)),
    "inverse": lambda p: 1 / (1 + 9 * p),
    "one_cycle": lambda p: (
        0.04 + 0.96 * math.sin(math.pi * p / 0.6) ** 2
        if p < 0.3
        else 4e-6 + (1 - 4e-6) * math.sin(math.pi * (1 - p) / 1.4) ** 2
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_schedules_rise_in_a_line_then_fall_by_their_formula(name: str, warmup: float) -> None:
    factor, formula = schedule(name, warmup), FORMULAS[name]
    for p in np.linspace(0, 0.999, 200):
        expected = p / warmup * formula(0.0) if p < warmup else formula((p - warmup) / (1 - warmup))
        assert factor(float(p)) == pytest.approx(expected, abs=1e-9)
    assert factor(warmup) == pytest.approx(formula(0.0))
    assert max(factor(float(p)) for p in np.linspace(warmup, 1, 1001)) == pytest.approx(1.0, abs=1e-4)


def test_one_cycle_is_pytorchs() -> None:
    rule = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(rule, max_lr=1.0, total_steps=5001, cycle_momentum=False)
    for step in range(5001):  # theirs peaks a little earlier, at step 1499.3
        assert SCHEDULES["one_cycle"](step / 5000) == pytest.approx(theirs.get_last_lr()[0], abs=1e-3)
        if step < 5000:
            rule.step()
            theirs.step()
