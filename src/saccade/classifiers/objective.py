"""What a linear classifier minimises: the mean loss of its scores plus a penalty on its weights (lecture 3)."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from saccade.classifiers.losses import Loss, loss_of
from saccade.classifiers.penalties import NONE, Penalty
from saccade.classifiers.standardised import Standardised

Array = NDArray[Any]


@dataclass(frozen=True)
class Objective:
    """F(W, b) = mean_n c_n L(W z_n + b, y_n) + l2 sum W^2 + l1 sum |W| over standardised rows z.

    L is `loss`, of `margin`, its corner rounded by `rounding`; c is `weight_N`, or 1. Points are (K, D + 1):
    W and b side by side.
    """

    data: Standardised
    y_N: Array
    classes: int
    loss: str = "softmax"
    margin: float = 1.0
    penalty: Penalty = NONE
    weight_N: Array | None = None
    rounding: float = 0.0

    def rounded(self, rounding: float) -> "Objective":
        """Return the same with the hinge's corner rounded."""
        return replace(self, rounding=rounding)

    def __call__(self, point_KD1: Array) -> tuple[float, Array]:
        """Return F without its l1 term, and the gradient of that."""
        function = loss_of(self.loss, self.margin, self.rounding)
        value, slope = self.data.swept(point_KD1, lambda rows, scores_NK: self._visit(function, rows, scores_NK))
        slope /= len(self.data)
        slope[:, :-1] += 2 * self.penalty.l2 * point_KD1[:, :-1]
        return value / len(self.data) + replace(self.penalty, l1=0.0)(point_KD1[:, :-1]), slope

    def value(self, point_KD1: Array) -> float:
        """Return F, the hinge's corner as sharp as it is."""
        return self.rounded(0.0)(point_KD1)[0] + replace(self.penalty, l2=0.0)(point_KD1[:, :-1])

    def slope_at(self, point_KD1: Array, chosen: Array) -> Array:
        """Return the gradient over some rows alone, without the l1 term: what a step of mini-batch descent takes."""
        z_ND = self.data.rows(chosen)
        gradient_NK = z_ND @ point_KD1[:, :-1].T + point_KD1[:, -1]
        self._visit(loss_of(self.loss, self.margin, self.rounding), chosen, gradient_NK)
        slope = np.empty_like(point_KD1)
        slope[:, :-1] = gradient_NK.T @ z_ND / len(chosen) + 2 * self.penalty.l2 * point_KD1[:, :-1]
        slope[:, -1] = gradient_NK.mean(0)
        return slope

    def steepest(self, point_KD1: Array, slope_KD1: Array) -> float:
        """Return the largest absolute derivative of F at a point, of the gradient there; 0 at the minimum."""
        weights = self.penalty.steepest(point_KD1[:, :-1], slope_KD1[:, :-1])
        return float(max(np.abs(weights).max(), np.abs(slope_KD1[:, -1]).max()))

    def root(self) -> Array | None:
        """Return the Cholesky factor L of an estimate of the curvature, Z'Z / N times the loss's own, plus 2 l2.

        L-BFGS on V = W L sees round valleys where pixels, which are all alike, made narrow ones. None
        where there are too many features for it.
        """
        if self.data.gram_DD is None:
            return None
        own = 1 / self.classes if self.loss == "softmax" else 1.0  # of a row's loss by one score, about
        curvature = self.data.gram_DD * own
        curvature[np.diag_indices_from(curvature)] += 2 * self.penalty.l2 + 1e-3 * own
        root: Array = cholesky(curvature, lower=True, overwrite_a=True, check_finite=False).astype(
            self.data.mean_D.dtype
        )
        return root

    def _visit(self, function: Loss, rows: Array | slice, scores_NK: Array) -> float:
        losses_N = function(scores_NK, self.y_N[rows])
        if self.weight_N is not None:
            losses_N *= self.weight_N[rows]
            scores_NK *= self.weight_N[rows, None]
        return float(losses_N.sum(dtype=np.float64))


def through(root: Array | None, rows_KD: Array, *, transposed: bool = False) -> Array:
    """Solve L v = w (or L' v = w) for every row w; without a root, w itself."""
    if root is None:
        return rows_KD
    return np.asarray(
        solve_triangular(root, rows_KD.T, trans="T" if transposed else "N", lower=True, check_finite=False)
    ).T
