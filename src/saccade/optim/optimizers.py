"""Optimizers by name, with the parameters grouped: kernels and matrices decay, biases and scales do not (lecture 7)."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from saccade.errors import ModelError, SettingError, entry
from saccade.optim.muon import Muon
from saccade.optim.penalties import decayed


@dataclass(frozen=True)
class Defaults:
    """An optimizer's own highest learning rate, weight decay and share of training spent warming up."""

    learning_rate: float
    weight_decay: float
    warmup: float


DEFAULTS: dict[str, Defaults] = {
    "muon": Defaults(0.24, 0.0, 0.0),
    "sgd": Defaults(0.1, 5e-4, 0.1),
    "momentum": Defaults(0.1, 5e-4, 0.1),
    "nesterov": Defaults(0.1, 5e-4, 0.1),
    "adagrad": Defaults(1e-2, 0.0, 0.1),
    "rmsprop": Defaults(1e-3, 0.0, 0.1),
    "adam": Defaults(1e-3, 0.0, 0.1),
    "adamw": Defaults(1e-3, 0.05, 0.1),
    "lbfgs": Defaults(1.0, 5e-4, 0.0),
}

Groups = list[dict[str, Any]]
RULES: dict[str, Callable[[Groups], torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
"""PyTorch's rules, of groups of parameters; `muon` and `lbfgs` are built apart.

Momentum is as the notes have it, v ← ρv + g, x ← x - αv. Nesterov's x is the notes' point of the next
gradient, x + ρv, with their v times -α: at a constant rate the same path, and the gradient is taken at x.
"""

DECOUPLED = frozenset({"adamw"})
"""Rules whose weight decay is no part of the loss: it shrinks weights by itself, whatever becomes of the gradient."""

ADAM_BESIDE_MUON = 0.2
"""The rate of the parameters that Muon cannot take, relative to its own."""


class Optimizer:
    """One or two of PyTorch's optimizers that step together, all rates scaled by one schedule."""

    def __init__(self, *rules: torch.optim.Optimizer) -> None:
        self.rules = rules
        self.rates = [group["lr"] for rule in rules for group in rule.param_groups]

    def step(self, factor: float) -> None:
        """Update the parameters with every learning rate at `factor` times its highest."""
        groups = [group for rule in self.rules for group in rule.param_groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate * factor
        for rule in self.rules:
            rule.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for rule in self.rules:
            rule.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return each rule's state."""
        return [rule.state_dict() for rule in self.rules]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Put back what `state_dict` returned."""
        for rule, state in zip(self.rules, states, strict=True):
            rule.load_state_dict(state)


def build_optimizer(
    name: str,
    network: nn.Module,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    factors: Mapping[nn.Parameter, float] = MappingProxyType({}),
) -> Optimizer:
    """Return the optimizer called `name` over the network's trainable parameters; None takes its defaults.

    `factors` are on the learning rates of some parameters, for those of a pretrained network's lower layers.

    `muon` updates the kernels of convolutions by Muon and everything else by Adam. Weight decay, of what `decayed`
    returns, save muon's kernels, is an L2 penalty, save in DECOUPLED rules, where it is apart from the gradient
    (Loshchilov and Hutter, 2019). Raises
    SettingError where there is no such optimizer (`LBFGS` is built by itself, for its steps are over all images), a
    rate or the decay is below 0 or not finite, or `muon` has nothing to update; ModelError where nothing is trainable.
    """
    if name == "lbfgs":
        raise SettingError("lbfgs steps over all images at once, not by batches; take saccade.optim.LBFGS.")
    default = entry(DEFAULTS, name, "optimizer")
    rate = default.learning_rate if learning_rate is None else learning_rate
    decay = default.weight_decay if weight_decay is None else weight_decay
    for what, value in {"learning rate": rate, "weight decay": decay}.items():
        if not 0 <= value < math.inf:
            raise SettingError(f"The {what} {value:g} cannot be used; give a finite number, at least 0.")
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trainable:
        raise ModelError(f"{type(network).__name__} has no trainable parameters for {name} to update; thaw some.")
    decays = dict.fromkeys(shrunk(name, network), decay)
    if name == "muon":
        return _muon(trainable, decays, rate, factors)
    return Optimizer(RULES[name](_groups(trainable, decays, rate, factors)))


def shrunk(name: str, network: nn.Module) -> list[nn.Parameter]:
    """Return the trainable parameters that the weight decay of the optimizer called `name` falls on."""
    return [each for each in decayed(network) if each.requires_grad and not (name == "muon" and _is_kernel(each))]


def penalized(optimizer: Optimizer, weights: Iterable[nn.Parameter], l1: float, l2: float) -> Optimizer:
    """Add the gradient of `penalty`, λ₁ sign(w) + λ₂ w, to those of `weights` before each of the optimizer's steps.

    Unlike a weight decay that is decoupled (`adamw`), a penalty is scaled by what an adaptive rule makes of
    gradients (Loshchilov and Hutter, 2019). Returns the optimizer.
    """
    penalised = set(weights)

    @torch.no_grad()
    def before(rule: torch.optim.Optimizer, *_: Any) -> None:
        for group in rule.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and weight in penalised:
                    weight.grad.add_(weight, alpha=l2).add_(weight.sign(), alpha=l1)

    if l1 or l2:
        for rule in optimizer.rules:
            rule.register_step_pre_hook(before)
    return optimizer


def _muon(
    parameters: Collection[nn.Parameter],
    decays: Mapping[nn.Parameter, float],
    rate: float,
    factors: Mapping[nn.Parameter, float],
) -> Optimizer:
    """Return Muon on kernels, which have no use for decay, beside Adam on the rest; PyTorch's takes matrices alone."""
    kernels = [parameter for parameter in parameters if _is_kernel(parameter)]
    others = [parameter for parameter in parameters if not _is_kernel(parameter)]
    if not kernels:
        raise SettingError("The optimizer muon updates convolutions, and this network has none; give adam or sgd.")
    undecayed = [{"params": group["params"], "lr": group["lr"]} for group in _groups(kernels, {}, rate, factors)]
    muon = Muon(undecayed)
    if not others:
        return Optimizer(muon)
    adam = torch.optim.Adam(_groups(others, decays, rate * ADAM_BESIDE_MUON, factors), betas=(0.85, 0.95))
    return Optimizer(muon, adam)


def _is_kernel(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 4


def _groups(
    parameters: Iterable[nn.Parameter],
    decays: Mapping[nn.Parameter, float],
    rate: float,
    factors: Mapping[nn.Parameter, float],
) -> Groups:
    """Return the parameters by learning rate and weight decay, which is 0 where `decays` have none."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        key = (rate * factors.get(parameter, 1.0), decays.get(parameter, 0.0))
        groups.setdefault(key, []).append(parameter)
    return [{"params": each, "lr": lr, "weight_decay": weight_decay} for (lr, weight_decay), each in groups.items()]
