"""Initial weights by name (lecture 6), for every convolution and fully connected layer of a network."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from saccade.errors import entry
from saccade.nn.activations import gain

SMALL = 0.01
"""Standard deviation of small random weights."""


def _small(weight: Tensor, gain: float) -> None:
    nn.init.normal_(weight, std=SMALL)


def _xavier(weight: Tensor, gain: float) -> None:
    nn.init.normal_(weight, std=fan_in(weight) ** -0.5)


def _glorot(weight: Tensor, gain: float) -> None:
    nn.init.xavier_normal_(weight)


def _he(weight: Tensor, gain: float) -> None:
    nn.init.normal_(weight, std=gain * fan_in(weight) ** -0.5)


def _orthogonal(weight: Tensor, gain: float) -> None:
    nn.init.orthogonal_(weight, gain)


INITIALISATIONS: Mapping[str, Callable[[Tensor, float], None]] = {
    "small": _small,
    "xavier": _xavier,
    "glorot": _glorot,
    "he": _he,
    "orthogonal": _orthogonal,
}
"""Each sets a weight (K, C, …) in place, given the gain of the activation after it.

| name | standard deviation |
|---|---|
| small | 0.01 |
| xavier | 1 / √fan_in, as lecture 6 has it |
| glorot | √(2 / (fan_in + fan_out)), PyTorch's Xavier (Glorot and Bengio, 2010) |
| he | gain / √fan_in, √(2 / fan_in) for ReLU (He et al., 2015); also called MSRA and Kaiming |
| orthogonal | rows or columns orthogonal, all of the norm `gain` (Saxe et al., 2014) |
"""


@torch.no_grad()
def initialise(network: nn.Module, name: str, activation: str = "relu", *, scores: bool = True) -> None:
    """Set every weight that is trained of convolutions and fully connected layers by name, and their biases to 0.

    The gain is that of `activation`; where the network gives `scores`, its last layer, that no activation
    follows, has the gain 1. A transposed convolution's fans are those at stride 1. Drawn from torch's global
    generator. Raises SettingError where there is no initialisation of this name.
    """
    fill = entry(INITIALISATIONS, name, "initialisation")
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    for layer in layers:
        if layer.weight.requires_grad:
            _fill(layer, fill, 1.0 if scores and layer is layers[-1] else gain(activation))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _fill(layer: nn.Linear | nn.modules.conv._ConvNd, fill: Callable[[Tensor, float], None], gain: float) -> None:
    if isinstance(layer, nn.Linear) or not layer.transposed:
        fill(layer.weight, gain)
        return
    # Its weight is (C, K / groups, …) where others' are (K, C / groups, …).
    inputs, outputs, *kernel = layer.weight.shape
    groups = layer.groups
    weight = layer.weight.new_empty(groups * outputs, inputs // groups, *kernel)
    fill(weight, gain)
    layer.weight.copy_(weight.unflatten(0, (groups, outputs)).transpose(1, 2).flatten(0, 1))


def fan_in(weight: Tensor) -> int:
    """Return how many inputs one output of a weight (K, C, …) has: C times the kernel's size.

    >>> fan_in(torch.empty(64, 3, 5, 5))
    75
    """
    return math.prod(weight.shape[1:])
