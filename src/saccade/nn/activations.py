"""Activations by name (lecture 5), and how strongly each passes on what comes in."""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from saccade.errors import entry


class Maxout(nn.Module):
    """The larger of two pieces, max(w1·x + b1, w2·x + b2) (Goodfellow et al., 2013): (N, 2C, …) → (N, C, …).

    The layer before gives both pieces of all C units, the first pieces first.

    >>> Maxout()(torch.tensor([[1.0, 5.0, 3.0, 2.0]]))
    tensor([[3., 5.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the larger piece of each unit."""
        larger: Tensor = x.unflatten(1, (PIECES, -1)).amax(1)
        return larger


PIECES = 2
"""Pieces of a maxout unit."""

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "maxout": Maxout,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
"""Each is PyTorch's own with its defaults (a slope of 0.01 in leaky_relu, of 0.25 at first in prelu), but maxout."""


def activation(name: str) -> nn.Module:
    """Return a new activation by name; raises SettingError where there is none of this name."""
    return entry(ACTIVATIONS, name, "activation")()


def pieces(name: str) -> int:
    """Return how many outputs of the layer before make one unit: 2 for maxout, else 1."""
    return PIECES if name == "maxout" else 1


@cache
@torch.no_grad()
def gain(name: str) -> float:
    """Return the factor on weights that keeps the mean square of a deep network's values: 1 / √E[f(z)²], z ~ N(0, 1).

    He et al. (2015) derive it for ReLU, where it is √2; the same holds for any activation. Integrated in
    float64 to about 1e-9.

    >>> round(gain("relu") ** 2, 6), round(gain("maxout"), 6)
    (2.0, 1.0)
    """
    z, step = np.linspace(-12, 12, 480_001, retstep=True)
    density = np.exp(-np.square(z) / 2) / np.sqrt(2 * np.pi) * step
    if name == "maxout":  # of two independent pieces: half of the squares of each, E[max²] = 1
        return 1.0
    module = nn.LeakyReLU(0.25) if name == "prelu" else activation(name)  # as it begins, without a parameter
    values = module(torch.from_numpy(z)).numpy()
    return float((np.square(values) * density).sum() ** -0.5)
