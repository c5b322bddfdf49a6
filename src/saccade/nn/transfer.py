"""Transfer: a network trained elsewhere, with a new linear layer for one's own classes on top (lecture 7)."""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from saccade.nn.stages import check_stages, staged
from saccade.nn.trunks import features, takes

ODD = 69
"""A side that only networks take that take any from SMALLEST on: no power of two divides it."""
SMALLEST = 64
"""Side of the images below which a network pretrained on photos sees too little."""


class Transfer(nn.Module):
    """A trunk, normalised images (N, 3, H, W) → features (N, D), and a head, features → scores (N, K).

    With `stages`, features are the averaged outputs of these modules of the trunk, side by side. The head begins
    at zero, so that no class is likelier than another. `any_side` says whether images of any side are taken, from
    SMALLEST on. Raises ModelError where the trunk takes no images of this side, or has no such stage.
    """

    def __init__(self, trunk: nn.Module, classes: int, side: int, stages: Sequence[str] = ()) -> None:
        super().__init__()
        self.trunk = trunk
        self.stages = tuple(stages)
        self.any_side = takes(trunk, ODD)
        wide = features(trunk, side)
        if stages:
            check_stages(trunk, stages)
            wide = sum(self.widths(side))
        self.head = nn.Linear(wide, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.fixed = frozenset(name for name, each in trunk.named_parameters() if not each.requires_grad)
        """Parameters that were not trained either where the trunk comes from."""
        self.still = 0
        """Layers, from the input on, that stay as they are in training, batch statistics included."""

    def features(self, x_NCHW: Tensor) -> Tensor:
        """Return features (N, D), of the stages where there are any, as exact as the head is."""
        exact = self.head.weight.dtype
        if self.stages:
            return torch.cat([each.to(exact) for each in staged(self.trunk, x_NCHW, self.stages)], 1)
        features_ND: Tensor = self.trunk(x_NCHW)
        return features_ND.to(exact)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, K); the head computes as exactly as its weights are, whatever the trunk does."""
        features_ND = self.features(x_NCHW)
        with torch.autocast(features_ND.device.type, enabled=False):
            scores_NK: Tensor = self.head(features_ND)
        return scores_NK

    @torch.no_grad()
    def widths(self, side: int) -> list[int]:
        """Return the number of features that each stage gives."""
        device = next(self.trunk.parameters()).device
        training = self.trunk.training
        rows = staged(self.trunk.eval(), torch.zeros(1, 3, side, side, device=device), self.stages)
        self.trunk.train(training)
        return [each.shape[1] for each in rows]

    def under(self, head: nn.Linear) -> "Transfer":
        """Return the same trunk, shared, under another head."""
        other = copy.copy(self)
        other._modules = {**self._modules, "head": head}
        return other

    def layers(self) -> list[nn.Module]:
        """Return the trunk's modules that have weights or statistics of their own, from the input on."""
        own = (m for m in self.trunk.modules() if [*m.parameters(recurse=False), *m.buffers(recurse=False)])
        return list(own)

    def freeze(self, still: int) -> None:
        """Let the first `still` layers stay as they are from now on, and the others be trained."""
        self.still = still
        layers = self.layers()
        named = {id(each): name for name, each in self.trunk.named_parameters()}
        for place, layer in enumerate(layers):
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(place >= still and named[id(parameter)] not in self.fixed)
        self.train(self.training)

    def thaw(self, progress: float, frozen: float, over: float) -> None:
        """Freeze what is to be still at a progress: a share `frozen` of the layers for good, of the rest less and less.

        These begin to be trained one after another, the last first, over a share `over` of the training
        (Howard and Ruder, 2018).
        """
        layers = len(self.layers())
        lowest = round(frozen * layers)
        share = 1.0 if progress >= over else progress / over
        still = lowest + round((1 - share) * max(0, layers - 1 - lowest))
        if still != self.still:
            self.freeze(still)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; layers that stay as they are keep that of prediction, so that their statistics stay too."""
        super().train(mode)
        if mode and self.still:
            for layer in self.layers()[: self.still]:
                layer.train(False)
        return self

    def depth_factors(self, lowest: float) -> dict[nn.Parameter, float]:
        """Return a factor on the learning rate of each parameter: from `lowest` at the input, geometrically, to 1.

        What lower layers see, edges and colours, fits other images too, and is to change less (lecture 7).
        """
        parameters = list(self.trunk.parameters())
        exponents = [1 - place / max(1, len(parameters) - 1) for place in range(len(parameters))]
        return {parameter: lowest**e for parameter, e in zip(parameters, exponents, strict=True)}
