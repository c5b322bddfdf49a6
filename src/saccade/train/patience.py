"""Early stopping: the weights of the best epoch are kept, and training ends when no better one comes (lecture 7)."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from saccade.optim.average import floating, give


class Patience:
    """Keeps a network's weights of the epoch with the lowest validation loss; runs out after so many without a lower.

    `epoch` is that epoch, `loss` its loss, `waited` the number of epochs since (Prechelt, 1998).

    >>> patience = Patience(nn.Linear(1, 1), epochs=2)
    >>> [patience.over(epoch, loss) for epoch, loss in enumerate((0.9, 0.5, 0.6, 0.5))]
    [False, False, False, True]
    >>> patience.epoch
    1
    """

    def __init__(self, network: nn.Module, epochs: int) -> None:
        self.network, self.epochs = network, epochs
        self.epoch, self.loss, self.waited = 0.0, math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def over(self, epoch: float, loss: float) -> bool:
        """Take note of the validation loss that the network has after an epoch; return whether to wait no longer."""
        if loss < self.loss:
            self.epoch, self.loss, self.waited = epoch, loss, 0
            self.weights = {name: value.clone() for name, value in floating(self.network)}
        else:
            self.waited += 1
        return self.waited >= self.epochs

    def install(self) -> None:
        """Give the network the best epoch's weights."""
        if self.weights:
            give(self.network, self.weights)

    def plain(self) -> dict[str, Any]:
        """Return the plain values from which, with `weights`, another goes on; no loss before the first epoch's end."""
        loss = self.loss if math.isfinite(self.loss) else None
        return {"epoch": self.epoch, "loss": loss, "waited": self.waited}

    def load(self, weights: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Go on from what there was."""
        self.weights = dict(weights)
        self.epoch, self.waited = plain["epoch"], plain["waited"]
        self.loss = math.inf if plain["loss"] is None else plain["loss"]
