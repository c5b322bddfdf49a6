"""Averages of a network's weights over its steps, which err less than weights that still jump about, and snapshots."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from saccade.errors import InputError
from saccade.optim.schedules import cycle

YOUNG = 10
"""The decay is at most (1 + t) / (YOUNG + t) after t steps, so that early weights are soon forgotten."""

Share = Callable[[int], float]
"""How much of the average the t-th weights taken in are, t = 1, 2, …"""


def decaying(decay: float) -> Share:
    """Return the share of an exponential moving average, 1 - d with d the `decay`, smaller at first.

    >>> decaying(0.99)(1), decaying(0.5)(1000)
    (0.818..., 0.5)
    """
    return lambda t: 1 - min(decay, (1 + t) / (YOUNG + t))


def evenly(t: int) -> float:
    """Return the share with which all weights taken in count the same: 1 / t."""
    return 1 / t


class Average:
    """The mean m of a network's weights w over its steps, m ← m + s(t) (w - m), with the running statistics.

    With `decaying` shares an exponential moving average (Polyak and Juditsky, 1992), with `evenly` their mean since
    the progress `begin` (stochastic weight averaging; Izmailov et al., 2018). Whole numbers, such as batch norm's
    count of batches, are the network's own. `values` are by name, as in the network's `state_dict`; `steps` is t;
    `other` is what the network had before `install`, or the last `exchange`.
    """

    def __init__(self, network: nn.Module, share: Share, begin: float = 0.0) -> None:
        self.network, self.share, self.begin, self.steps = network, share, begin, 0
        self.values = {name: value.clone() for name, value in floating(network)}
        self.other: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Take in the weights after the step at a progress, unless that is before `begin`."""
        if progress < self.begin:
            return
        self.steps += 1
        weights = [value for _, value in floating(self.network)]
        torch._foreach_lerp_(list(self.values.values()), weights, self.share(self.steps))

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor], steps: int) -> None:
        """Go on from `values` and `steps` as they were."""
        self.steps = steps
        for name, value in self.values.items():
            value.copy_(values[name])

    def install(self) -> None:
        """Give the network the averaged weights and keep its own, which stay in it where none were taken in."""
        if self.steps:
            self.other = {name: value.clone() for name, value in self.network.state_dict().items()}
            give(self.network, self.values)

    def exchange(self) -> None:
        """Give the network what it had before, and keep what it has: its own weights, or again the averaged ones."""
        now = {name: value.clone() for name, value in self.network.state_dict().items()}
        give(self.network, self.other)
        self.other = now

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Give the network the averaged weights within the block, and its own ones back after it."""
        self.install()
        try:
            yield
        finally:
            give(self.network, self.other)
            self.other = {}


class Snapshots:
    """A network's weights at the end of each of several `cycles` of its schedule but the last (Huang et al., 2017).

    With the last, which the network itself ends with, they are as many networks for the price of one training.
    """

    def __init__(self, network: nn.Module, cycles: int) -> None:
        self.network, self.cycles = network, cycles
        self.taken: list[dict[str, Tensor]] = []

    def before(self, progress: float) -> None:
        """Take a snapshot where the step at a progress is the first of a cycle."""
        while len(self.taken) < cycle(progress, self.cycles)[0]:
            self.taken.append({name: value.clone() for name, value in floating(self.network)})

    def each(self) -> Iterator[None]:
        """Give the network each snapshot's weights in turn, then those that it has."""
        for weights in [*self.taken, {name: value.clone() for name, value in floating(self.network)}]:
            give(self.network, weights)
            yield


def floating(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield what can be averaged of a network, its weights and running statistics, by name."""
    return ((name, value) for name, value in network.state_dict().items() if value.is_floating_point())


@torch.no_grad()
def give(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values by name into a network."""
    for name, value in network.state_dict().items():
        if name in values:
            value.copy_(values[name])


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Compute batch norm's statistics anew, over batches of input: those of other weights do not fit averaged ones.

    Each layer's is the mean over the batches of what it sees; dropout is off. Nothing changes in a network without
    running statistics, nor in layers that `train()` leaves as they are, for they are frozen. Raises InputError, and
    leaves the statistics as they are, where there is no batch.
    """
    was_training = network.training
    layers = [
        module
        for module in network.train().modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats and module.training
    ]
    network.train(was_training)
    if not layers:
        return
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise InputError("Batch norm's statistics cannot be computed from no batch at all; give one or more.")
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.train()
        layer.reset_running_stats()
        layer.momentum = None  # PyTorch then weighs all batches the same
    for x_NCHW in chain([first], batches):
        network(x_NCHW)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.train(was_training)
