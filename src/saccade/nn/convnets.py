"""saccade's own networks, from a linear classifier to a ConvNet that is strong for its cost.

All take standardised images (N, 3, side, side) and give scores (N, K); `Blocks` say what they are made of.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from saccade.nn.blocks import Blocks, Residual, global_pool_2d, norm_1d, norm_2d, pool_2d
from saccade.nn.init import initialise
from saccade.nn.layers import WhiteningConv

WIDTHS = (48, 128, 256)
WIDEST = 512
"""Channels of stages after those."""
MLP = Blocks(depth=2, activation="relu", norm="batch")
CONVNET = Blocks(depth=len(WIDTHS), activation="silu", norm="batch", pool="max", global_pool="max")
"""What they are made of where settings do not say."""


def linear(classes: int, side: int, width: float, blocks: Blocks = Blocks()) -> nn.Module:
    """Return scores = Wx + b on the pixels (lecture 2), W by `init`; `width` has no meaning here."""
    blocks.refuse_others("linear", "init")
    return _initialised(nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, classes)), blocks)


def mlp(classes: int, side: int, width: float, blocks: Blocks = Blocks()) -> nn.Module:
    """Return a network with `depth` hidden fully connected layers of 512 · width units; by default two."""
    blocks.refuse_others("mlp", "depth", "activation", "norm", "init")
    blocks = blocks.or_else(MLP)
    hidden = max(1, round(512 * width))
    sizes = (3 * side * side, *[hidden] * (blocks.depth or 0))
    layers = [layer for before, after in pairwise(sizes) for layer in dense(before, after, blocks)]
    return _initialised(nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], classes)), blocks)


def convnet(classes: int, side: int, width: float, blocks: Blocks = Blocks()) -> "ConvNet":
    """Return the ConvNet, its channels multiplied by `width`; `depth` is its number of stages.

    Up to 40 px it whitens 2x2 patches; above, the 16 strongest components of 4x4 patches at every
    second pixel, which costs a quarter.
    """
    blocks = blocks.or_else(CONVNET)
    small = side <= 40
    whitening = WhiteningConv(3, 12, kernel=2) if small else WhiteningConv(3, 16, kernel=4, stride=2, padding=1)
    depth = blocks.depth or 0
    widths = [*WIDTHS, *[WIDEST] * (depth - len(WIDTHS))][:depth]
    return ConvNet(whitening, [max(8, round(channels * width)) for channels in widths], classes, blocks)


class ConvNet(nn.Module):
    """Whitened patches, then a stage for each width that halves the side, then the maximum over the image.

    Few wide layers make the most of a CPU's and a GPU's products.
    """

    def __init__(self, whitening: WhiteningConv, widths: Sequence[int], classes: int, blocks: Blocks) -> None:
        super().__init__()
        self.whitening = whitening
        self.activate = blocks.activate()
        channels = (self.whitening.out_channels // blocks.pieces, *widths)
        self.stages = nn.Sequential(*(Stage(before, after, blocks) for before, after in pairwise(channels)))
        self.pool = global_pool_2d(blocks.global_pool or "max")
        if blocks.init:
            initialise(self.stages, blocks.init, blocks.activation or "silu", scores=False)
        self.head = nn.Linear(widths[-1], classes, bias=False)
        self.fixed_norm = blocks.normalised and blocks.init is None
        with torch.no_grad():
            self.head.weight.div_(self.head.weight.std())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, K)."""
        features_NCHW = self.stages(self.activate(self.whitening(x_NCHW)))
        strongest_NC = self.pool(features_NCHW)
        scores_NK: Tensor = self.head(strongest_NC) / self.head.in_features
        return scores_NK


class Stage(nn.Module):
    """Conv 3x3, pooling, norm, activation; then the same without pooling, added to its input (He et al., 2016)."""

    def __init__(self, before: int, after: int, blocks: Blocks) -> None:
        super().__init__()
        self.change = _conv(before, after * blocks.pieces, blocks)
        self.pool = pool_2d(blocks.pool or "max", ceil_mode=True)
        self.change_norm = _norm(after * blocks.pieces, blocks)
        self.change_activate = blocks.activate()
        self.refine = _conv(after, after * blocks.pieces, blocks)
        self.refine_norm = _norm(after * blocks.pieces, blocks)
        self.refine_activate = blocks.activate()
        self.add = Residual(after, zero_last=blocks.zero_last)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return (N, after, H/2, W/2), rounded up."""
        x_NCHW = self.pool(self.change(x_NCHW))
        x_NCHW = self.change_activate(self.change_norm(x_NCHW))
        refined_NCHW = self.refine_activate(self.refine_norm(self.refine(x_NCHW)))
        summed_NCHW: Tensor = self.add(x_NCHW, refined_NCHW)
        return summed_NCHW


def dense(inputs: int, outputs: int, blocks: Blocks) -> list[nn.Module]:
    """Return a fully connected layer, its normalisation and its activation: (N, inputs) → (N, outputs)."""
    units = outputs * blocks.pieces
    norm = [norm_1d(blocks.norm or "batch", units)] if blocks.normalised else []
    return [nn.Linear(inputs, units, bias=not blocks.normalised), *norm, blocks.activate()]


def _initialised(network: nn.Module, blocks: Blocks) -> nn.Module:
    if blocks.init:
        initialise(network, blocks.init, blocks.activation or "relu")
    return network


def _conv(before: int, after: int, blocks: Blocks) -> nn.Conv2d:
    """Return a 3x3 convolution that at first hands its inputs through unchanged (Dirac initialisation)."""
    conv = nn.Conv2d(before, after, 3, padding=1, bias=not blocks.normalised)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[: min(before, after)])
    return conv


def _norm(channels: int, blocks: Blocks) -> nn.Module:
    """Return a norm with a trained bias and no trained scale: the layers above have scale enough."""
    norm = norm_2d(blocks.norm or "batch", channels)
    if isinstance(norm, nn.BatchNorm2d):
        norm.momentum = 0.6
    if blocks.normalised:
        norm.weight.requires_grad_(False)
    return norm
