"""Transfer: a network trained elsewhere, with a new linear layer for one's own classes on top (lecture 7)."""

import copy

import torch
from torch import Tensor, nn

from saccade.nn.trunks import features, takes

ODD = 69
"""A side that only networks take that take any from SMALLEST on: no power of two divides it."""
SMALLEST = 64
"""Side of the images below which a network pretrained on photos sees too little."""


class Transfer(nn.Module):
    """A trunk, normalised images (N, 3, H, W) → features (N, D), and a head, features → scores (N, K).

    The head begins at zero, so that no class is likelier than another. `any_side` says whether images of any
    side are taken, from SMALLEST on.
    """

    def __init__(self, trunk: nn.Module, classes: int, side: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.any_side = takes(trunk, ODD)
        self.head = nn.Linear(features(trunk, side), classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, K); the head computes in float32 whatever the trunk does."""
        features_ND = self.trunk(x_NCHW).float()
        with torch.autocast(features_ND.device.type, enabled=False):
            scores_NK: Tensor = self.head(features_ND)
        return scores_NK

    def under(self, head: nn.Linear) -> "Transfer":
        """Return the same trunk, shared, under another head."""
        other = copy.copy(self)
        other._modules = {**self._modules, "head": head}
        return other

    def depth_factors(self, lowest: float) -> dict[nn.Parameter, float]:
        """Return a factor on the learning rate of each parameter: from `lowest` at the input, geometrically, to 1.

        What lower layers see, edges and colours, fits other images too, and is to change less (lecture 7).
        """
        parameters = list(self.trunk.parameters())
        exponents = [1 - place / max(1, len(parameters) - 1) for place in range(len(parameters))]
        return {parameter: lowest**e for parameter, e in zip(parameters, exponents, strict=True)}
