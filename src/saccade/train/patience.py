"""The weights of the best epoch are kept; training may end when no better one comes (early stopping, lecture 7)."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from saccade.optim.average import floating, give


class Patience:
    """Keeps a network's weights of the epoch with the lowest validation loss; runs out after `epochs` without a lower.

    `epoch` is that epoch, `loss` its loss, `waited` the number of epochs since (Prechelt, 1998); `clear` tells that it
    was better than the newest by more than the standard error of the difference. Without `epochs` it never runs out.

    >>> patience = Patience(nn.Linear(1, 1), epochs=2)
    >>> [patience.over(epoch, torch.tensor([loss]), 0.5) for epoch, loss in enumerate((0.9, 0.5, 0.6, 0.5))]
    [False, False, False, True]
    >>> patience.epoch
    1
    """

    def __init__(self, network: nn.Module, epochs: int | None = None) -> None:
        self.network, self.epochs = network, epochs
        self.epoch, self.loss, self.accuracy, self.waited, self.clear = 0.0, math.inf, 0.0, 0, False
        self.weights: dict[str, Tensor] = {}
        self.loss_N = torch.zeros(0)

    @property
    def chosen(self) -> bool:
        """Whether the best epoch's weights are to predict: training waited for better ones in vain, or it is clear."""
        return bool(self.weights) and (self.epochs is not None or self.clear)

    def over(self, epoch: float, loss_N: Tensor, accuracy: float) -> bool:
        """Take note of a look at the same N validation images after an epoch; return whether to wait no longer."""
        loss = float(loss_N.mean())
        if loss < self.loss:
            self.epoch, self.loss, self.accuracy, self.waited, self.clear = epoch, loss, accuracy, 0, False
            self.weights, self.loss_N = {name: value.clone() for name, value in floating(self.network)}, loss_N
        else:
            self.waited += 1
            gain_N = loss_N - self.loss_N
            beyond_chance = bool(gain_N.mean() > gain_N.std(correction=0) / (len(gain_N) - 1) ** 0.5)
            self.clear = beyond_chance and self.accuracy >= accuracy
        return self.epochs is not None and self.waited >= self.epochs

    def install(self) -> None:
        """Give the network the best epoch's weights where they are chosen."""
        if self.chosen:
            give(self.network, self.weights)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors from which, with `plain` values, another goes on; training does not change them."""
        return {"losses": self.loss_N, **{f"weights/{name}": value for name, value in self.weights.items()}}

    def plain(self) -> dict[str, Any]:
        """Return the plain values; no loss before the first epoch's end."""
        loss = self.loss if math.isfinite(self.loss) else None
        values = {"epoch": self.epoch, "accuracy": self.accuracy, "waited": self.waited, "clear": self.clear}
        return {**values, "loss": loss}

    def load(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Go on from what there was."""
        self.loss_N = tensors["losses"]
        self.weights = {name.removeprefix("weights/"): value for name, value in tensors.items() if name != "losses"}
        self.epoch, self.accuracy, self.waited = plain["epoch"], plain["accuracy"], plain["waited"]
        self.clear, self.loss = plain["clear"], math.inf if plain["loss"] is None else plain["loss"]
