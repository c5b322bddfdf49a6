"""An exponential moving average of a network's weights, which errs less than the weights that still jump about."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

YOUNG = 10
"""The decay is at most (1 + t) / (YOUNG + t) after t steps, so that early weights are soon forgotten."""


class Average:
    """The mean m of a network's weights w over its steps, m ← d m + (1 - d) w, with the running statistics.

    Polyak and Juditsky (1992), with d the `decay`, smaller at first. Whole numbers, such as batch norm's
    count of batches, are the network's own. `values` are by name, as in the network's `state_dict`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = network, decay, 0
        self.values = {name: value.clone() for name, value in self._floating()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (YOUNG + self.steps))
        weights = [value for _, value in self._floating()]
        torch._foreach_lerp_(list(self.values.values()), weights, 1 - decay)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor], steps: int) -> None:
        """Go on from `values` and `steps` as they were."""
        self.steps = steps
        for name, value in self.values.items():
            value.copy_(values[name])

    @torch.no_grad()
    def install(self) -> None:
        """Give the network the averaged weights, for good."""
        for name, value in self._floating():
            value.copy_(self.values[name])

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Give the network the averaged weights within the block, and its own ones back after it."""
        own = {name: value.clone() for name, value in self._floating()}
        self.install()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._floating():
                    value.copy_(own[name])

    def _floating(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name, value in self.network.state_dict().items() if value.is_floating_point())
