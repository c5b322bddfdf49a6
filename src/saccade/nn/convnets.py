"""saccade's own networks, from a linear classifier to a ConvNet that is strong for its cost.

All take standardised images (N, 3, side, side) and give scores (N, K).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.nn.layers import WhiteningConv

WIDTHS = (48, 128, 256)


def linear(classes: int, side: int, width: float) -> nn.Module:
    """Return scores = Wx + b on the pixels (lecture 2); `width` has no meaning here."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, classes))


def mlp(classes: int, side: int, width: float) -> nn.Module:
    """Return a network with two hidden fully connected layers of 512 · width units, batch norm and ReLU."""
    hidden = max(1, round(512 * width))
    return nn.Sequential(
        nn.Flatten(), *_dense(3 * side * side, hidden), *_dense(hidden, hidden), nn.Linear(hidden, classes)
    )


def convnet(classes: int, side: int, width: float) -> "ConvNet":
    """Return the ConvNet, its channels multiplied by `width`.

    Up to 40 px it whitens 2x2 patches; above, the 16 strongest components of 4x4 patches at every
    second pixel, which costs a quarter.
    """
    small = side <= 40
    whitening = WhiteningConv(3, 12, kernel=2) if small else WhiteningConv(3, 16, kernel=4, stride=2, padding=1)
    return ConvNet(whitening, [max(8, round(channels * width)) for channels in WIDTHS], classes)


class ConvNet(nn.Module):
    """Whitened patches, then a stage for each width that halves the side, then the maximum over the image.

    Few wide layers make the most of a CPU's and a GPU's products.
    """

    def __init__(self, whitening: WhiteningConv, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.whitening = whitening
        channels = (self.whitening.out_channels, *widths)
        self.stages = nn.Sequential(*(Stage(before, after) for before, after in pairwise(channels)))
        self.head = nn.Linear(widths[-1], classes, bias=False)
        with torch.no_grad():
            self.head.weight.div_(self.head.weight.std())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, K)."""
        features_NCHW = self.stages(F.silu(self.whitening(x_NCHW)))
        strongest_NC = features_NCHW.amax((2, 3))
        scores_NK: Tensor = self.head(strongest_NC) / self.head.in_features
        return scores_NK


class Stage(nn.Module):
    """Conv 3x3, max pooling, batch norm, SiLU; then the same without pooling, added to its input (He et al., 2016)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.change = _conv(before, after)
        self.change_norm = _norm(after)
        self.refine = _conv(after, after)
        self.refine_norm = _norm(after)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return (N, after, H/2, W/2), rounded up."""
        x_NCHW = F.max_pool2d(self.change(x_NCHW), 2, ceil_mode=True)
        x_NCHW = F.silu(self.change_norm(x_NCHW))
        return x_NCHW + F.silu(self.refine_norm(self.refine(x_NCHW)))


def _dense(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()


def _conv(before: int, after: int) -> nn.Conv2d:
    """Return a 3x3 convolution that at first hands its inputs through unchanged (Dirac initialisation)."""
    conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[: min(before, after)])
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    """Return batch norm with a trained bias and no trained scale: the layers above have scale enough."""
    norm = nn.BatchNorm2d(channels, momentum=0.6)
    norm.weight.requires_grad_(False)
    return norm
