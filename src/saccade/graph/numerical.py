"""The numerical gradient: slow, approximate and easy (lecture 4), with how far it is to be trusted."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

STEPS = (1e-4, 1e-5, 1e-6, 1e-7)
"""Steps tried one after another, as shares of a coordinate's scale: finer ones stay clear of a kink that is near."""
COARSE = (1e-3, 1e-2)
"""Steps for what is computed in single precision, where finer ones drown in rounding."""
ROUNDING = 16.0
"""How far off a function's value may be, in units of its last place."""
DOUBLE = torch.finfo(torch.float64).eps
FINE = 1e-7
"""Relative difference from the derivative expected up to which it is the right one."""
GOOD = 1e-8
"""Uncertainty, as a share of the derivative, at which no further step is tried."""
HARDLY = 1e-6
"""The two one-sided derivatives may differ by this share and count as equal."""
SHRINKS, GROWS = 0.3, 6.0
"""At a tenth of the step the one-sided derivatives differ a tenth as much where smooth, as much at a kink, and ten
times as much in noise."""
CERTAIN = 1000.0
"""What changes by this many times what rounding explains is no noise."""


@dataclass(frozen=True)
class Derivative:
    """A derivative by centred differences, at most about `uncertainty` off; the derivatives to the `left` and `right`.

    At a `kink` the function has no derivative, or bends so sharply that no step shows one; `value` is then
    the mean of left and right.
    """

    value: float
    uncertainty: float
    left: float
    right: float
    kink: bool


@dataclass(frozen=True)
class _Differences:
    left: float
    right: float
    rounding: float

    @property
    def centred(self) -> float:
        return (self.left + self.right) / 2

    @property
    def gap(self) -> float:
        return abs(self.right - self.left)


def derivative(
    function: Callable[[float], float],
    scale: float = 1.0,
    eps: float = DOUBLE,
    *,
    middle: float | None = None,
    expected: float = math.nan,
) -> Derivative:
    """Return the derivative of a function of one number at 0: (f(h) - f(-h)) / 2h, for the h that suits it.

    Steps are tried from 1e-4 of `scale` down until two agree; what they differ by is the uncertainty.
    Where the one-sided derivatives differ, and do so at every step, there is a kink; a jump, and what climbs
    within the finest step, count as one. `eps` is the unit of rounding of the function's value, relative to it.
    `middle` is f(0), where it is known already. Two steps that agree with each other and, within a relative
    1e-7, with the `expected` derivative need no third.

    >>> found = derivative(lambda t: (2 + t) ** 3)
    >>> round(found.value, 6), found.kink
    (12.0, False)
    >>> derivative(abs).left, derivative(abs).right, derivative(abs).kink
    (-1.0, 1.0, True)
    """
    middle, rounding = function(0.0) if middle is None else middle, ROUNDING * eps
    tried: list[_Differences] = []
    for share in STEPS:
        tried.append(_differences(function, middle, share * scale, rounding))
        if len(tried) > 1 and not _kinked(*tried[-2:]):
            found = _agreed(*tried[-2:])
            as_expected = abs(found.value - expected) <= FINE * max(abs(found.value), abs(expected))
            if as_expected or found.uncertainty <= GOOD * abs(found.value):
                return found
    coarse = [_differences(function, middle, share * scale, rounding) for share in COARSE]
    pairs = list(pairwise([*reversed(coarse), *tried]))
    smooth = [_agreed(*pair) for pair in pairs if not _kinked(*pair)]
    finest = tried[-1]
    if not smooth or all(_kinked(*pair) for pair in pairs[-2:]):
        return Derivative(finest.centred, finest.gap, finest.left, finest.right, kink=True)
    best = min(smooth, key=lambda found: found.uncertainty)
    # Two coarse steps may agree by chance beyond a bend that only the finest one sees.
    hidden = abs(best.value - finest.centred) > best.uncertainty + CERTAIN * finest.rounding
    return replace(best, kink=True) if hidden else best


def numerical_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the gradient of a scalar function at `x` by centred differences in float64, in the shape of `x`.

    Two evaluations and more a number: for small tensors, and to check what is faster (lecture 4).

    >>> numerical_gradient(lambda x: (x**2).sum(), torch.tensor([1.0, 3.0])).round(decimals=6)
    tensor([2., 6.], dtype=torch.float64)
    """
    values = x.detach().double().clone().contiguous()
    size = typical(values)
    # A clone, since a function may work in place.
    offsets = (along(lambda: float(function(values.clone())), values, index) for index in range(values.numel()))
    slopes = [derivative(offset, size(index)) for index, offset in enumerate(offsets)]
    return torch.tensor([slope.value for slope in slopes], dtype=torch.float64).view(x.shape)


def along(evaluate: Callable[[], float], values: Tensor, index: int) -> Callable[[float], float]:
    """Return what `evaluate()` is as a function of an offset on one number of `values`, which stay as they are."""
    held, place = values.detach(), tuple(int(each) for each in np.unravel_index(index, values.shape))
    before = float(held[place])

    def offset(t: float) -> float:
        held[place] = before + t
        try:
            return evaluate()
        finally:
            held[place] = before

    return offset


def typical(values: Tensor) -> Callable[[int], float]:
    """Return the scale of each number of a tensor: its size, at the least the median size; 1 where both are 0."""
    flat = values.detach().flatten()
    median = float(flat.abs().median()) if flat.numel() else 0.0
    return lambda index: max(abs(float(flat[index])), median) or 1.0


def _differences(function: Callable[[float], float], middle: float, step: float, rounding: float) -> _Differences:
    after, before = function(step), function(-step)
    largest = max(abs(after), abs(before), abs(middle))
    return _Differences((middle - before) / step, (after - middle) / step, rounding * largest / step)


def _kinked(coarse: _Differences, fine: _Differences) -> bool:
    if not math.isfinite(fine.gap):  # the function ends here, as the square root does at 0
        return True
    hardly = HARDLY * max(abs(fine.left), abs(fine.right)) + 2 * fine.rounding
    return fine.gap > hardly and SHRINKS * coarse.gap < fine.gap < GROWS * coarse.gap


def _agreed(coarse: _Differences, fine: _Differences) -> Derivative:
    uncertainty = abs(coarse.centred - fine.centred) + fine.rounding
    return Derivative(fine.centred, uncertainty, fine.left, fine.right, kink=False)
