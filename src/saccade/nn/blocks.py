"""What saccade's own networks are put together from, by name: activation, normalisation, pooling, initial weights."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from saccade.errors import ModelError, entry
from saccade.nn.activations import activation, pieces
from saccade.nn.layers import FractionalMaxPool, GlobalMaxPool
from saccade.nn.regularize import StochasticDepth
from saccade.settings import TrainSettings

GROUPS = 32
"""Groups of channels that group norm normalises over, or fewer where they do not divide (Wu and He, 2018)."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The choices a network is made by; None leaves one to the network. The fields are settings of `saccade train`.

    >>> Blocks(activation="tanh", depth=3).or_else(Blocks(activation="relu", norm="batch"))
    Blocks(depth=3, activation='tanh', norm='batch', pool=None, global_pool=None, init=None, zero_last=False)
    """

    depth: int | None = None
    activation: str | None = None
    norm: str | None = None
    pool: str | None = None
    global_pool: str | None = None
    init: str | None = None
    zero_last: bool = False

    @classmethod
    def of(cls, settings: TrainSettings) -> "Blocks":
        """Return the choices that settings name."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})

    @property
    def chosen(self) -> dict[str, object]:
        """The choices that were made, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    def or_else(self, defaults: "Blocks") -> "Blocks":
        """Return the same with a network's own choices where none was made."""
        return Blocks(**{**{field.name: getattr(defaults, field.name) for field in fields(self)}, **self.chosen})

    def refuse_others(self, network: str, *meaningful: str) -> None:
        """Raise ModelError where a choice was made that has no meaning for a network."""
        if others := [name for name in self.chosen if name not in meaningful]:
            takes = f"it takes {', '.join(meaningful)}" if meaningful else "it is as it is"
            raise ModelError(f'The setting {others[0]} has no meaning for the network "{network}": {takes}.')

    def activate(self) -> nn.Module:
        """Return a new activation."""
        return activation(self.activation or "relu")

    @property
    def pieces(self) -> int:
        """How many outputs of a layer make one unit."""
        return pieces(self.activation or "relu")

    @property
    def normalised(self) -> bool:
        """Whether layers are followed by a normalisation, so that they need no bias."""
        return self.norm != "none"


def norm_2d(name: str, channels: int) -> nn.Module:
    """Return a normalisation of (N, C, H, W), with a scale and a shift for each channel but for "none".

    "batch" normalises over N, H and W; "layer" over C, H and W; "instance" over H and W; "group" over H, W and the
    channels of each of 32 groups (their greatest divisor in common with C). Raises SettingError for another name.
    """
    return entry(_NORMS_2D, name, "normalisation")(channels)


def norm_1d(name: str, features: int) -> nn.Module:
    """Return a normalisation of (N, D); the same names, but for "instance".

    Raises ModelError for "instance", which has nothing to normalise over, SettingError for another name.
    """
    if name == "instance":
        raise ModelError(
            "norm=instance normalises over an image's places, of which a fully connected layer has none; "
            "give batch, layer, group or none."
        )
    return entry(_NORMS_1D, name, "normalisation")(features)


def pool_2d(name: str, kernel: int = 2, stride: int = 2, padding: int = 0, *, ceil_mode: bool = False) -> nn.Module:
    """Return a pooling of (N, C, H, W): the maximum or the average of windows, or fractional max pooling.

    The fractional one takes windows of `kernel` pixels and gives 1/√`stride` of the side (Graham, 2014).
    Raises SettingError for another name.
    """
    if name == "fractional":
        return FractionalMaxPool(kernel, stride**-0.5)
    return entry(_POOLS, name, "pooling")(kernel, stride, padding, ceil_mode=ceil_mode)


def global_pool_2d(name: str) -> nn.Module:
    """Return the maximum or the average over each channel, (N, C, H, W) → (N, C); SettingError for another name."""
    return entry(_GLOBAL_POOLS, name, "global pooling")()


class Residual(nn.Module):
    """x + branch(x), or x + s · branch(x) with a trained scale s a channel that begins at 0 (`zero_last`).

    A deep network then begins as its skip connections alone, whatever its branches are made of (Goyal et al.,
    2017, for batch norm's scale; De and Smith, 2020).
    """

    def __init__(self, channels: int, *, zero_last: bool) -> None:
        super().__init__()
        self.scale_C = nn.Parameter(torch.zeros(channels)) if zero_last else None
        self.drop = StochasticDepth()

    def forward(self, x_NCHW: Tensor, branch_NCHW: Tensor) -> Tensor:
        """Return the sum."""
        branch_NCHW = self.drop(branch_NCHW)
        return x_NCHW + (branch_NCHW if self.scale_C is None else self.scale_C[:, None, None] * branch_NCHW)


_NORMS_2D: Mapping[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
    "group": lambda channels: nn.GroupNorm(math.gcd(GROUPS, channels), channels),
    "none": lambda channels: nn.Identity(),
}
_NORMS_1D: Mapping[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "group": lambda features: nn.GroupNorm(math.gcd(GROUPS, features), features),
    "none": lambda features: nn.Identity(),
}
_POOLS: Mapping[str, Callable[..., nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
_GLOBAL_POOLS: Mapping[str, Callable[[], nn.Module]] = {
    "max": GlobalMaxPool,
    "average": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
}
