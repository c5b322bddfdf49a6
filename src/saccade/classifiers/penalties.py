"""Penalties on weights, in the notes' form: L2, L1 and their sum (lecture 3)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import SettingError, did_you_mean

Array = NDArray[Any]
NAMES = ("none", "l2", "l1", "elastic_net")


@dataclass(frozen=True)
class Penalty:
    """l2 * sum W^2 + l1 * sum |W|; biases are never given to it.

    >>> Penalty.of("elastic_net", 0.1, beta=0.5)(np.array([[2.0, -1.0]]))
    0.55
    """

    l2: float = 0.0
    l1: float = 0.0

    @classmethod
    def of(cls, name: str, strength: float, beta: float = 1.0) -> "Penalty":
        """Return strength * R(W): "l2" sum W^2, "l1" sum |W|, "elastic_net" sum (beta W^2 + |W|), "none" 0.

        Raises SettingError for another name, and for a strength or beta below 0.
        """
        for what, value in (("strength of the penalty", strength), ("beta of the elastic net", beta)):
            if not 0 <= value < np.inf:
                raise SettingError(f"The {what} cannot be {value}; give a number of at least 0.")
        known = {
            "none": NONE,
            "l2": cls(l2=strength),
            "l1": cls(l1=strength),
            "elastic_net": cls(l2=beta * strength, l1=strength),
        }
        if name not in known:
            raise SettingError(
                f'There is no penalty "{name}"; give {", ".join(NAMES)}.{did_you_mean(str(name), NAMES)}'
            )
        return known[name]

    def __call__(self, weights_KD: Array) -> float:
        """Return the penalty of the weights, summed in float64."""
        squares = self.l2 * float(np.sum(weights_KD**2, dtype=np.float64)) if self.l2 else 0.0
        return squares + (self.l1 * float(np.sum(np.abs(weights_KD), dtype=np.float64)) if self.l1 else 0.0)

    def shrunk(self, weights_KD: Array, step: float) -> Array:
        """Return argmin_V |V - W|^2 / (2 step) + l1 sum |V|: every weight drawn towards 0 by `step` l1, and not past.

        >>> Penalty(l1=1.0).shrunk(np.array([3.0, -0.2]), 0.5)
        array([ 2.5, -0. ])
        """
        if not self.l1:
            return weights_KD
        return np.asarray(np.sign(weights_KD) * np.maximum(np.abs(weights_KD) - step * self.l1, 0))

    def steepest(self, weights_KD: Array, slope_KD: Array) -> Array:
        """Return the smallest subgradient of f + l1 sum |W|, of f's gradient: 0 everywhere at a minimum."""
        if not self.l1:
            return slope_KD
        at_zero = np.sign(slope_KD) * np.maximum(np.abs(slope_KD) - self.l1, 0)
        return np.where(weights_KD == 0, at_zero, slope_KD + self.l1 * np.sign(weights_KD))


NONE = Penalty()
