"""Second order: Newton's step, and what the Hessian of a loss looks like, its eigenvalues and their density.

What needs the matrix H takes it whole; what does not takes `product`, v ↦ H v.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from saccade.errors import InputError, TrainingError
from saccade.events import Finding, emit
from saccade.optim.objective import Objective

Product = Callable[[Tensor], Tensor]
Floats = NDArray[np.float64]

EXACT = 2000
"""Parameters up to which the Hessian is computed whole."""
FLAT = 1e-6
"""Share of the largest eigenvalue below which one cannot be told from 0 in float32."""
SOLVED = 1e-6
"""Share of the right side at which a system of equations is as good as solved."""


def newton_step(objective: Objective, damping: float = 0.0, *, iterations: int = 250) -> Tensor:
    """Return the step (D) to the minimum of the loss's quadratic approximation, -(H + damping)⁻¹ g (lecture 7).

    Exact for up to EXACT parameters: nothing moves where the loss is flat. For more, Hessian-free by
    conjugate gradients, which after D `iterations` would be exact, too, but for rounding. Those that end before are
    truncated: the step goes down the approximation all the same, but not to its minimum (Martens, 2010), and a Finding
    says how much of the slope it leaves. Raises TrainingError where the approximation has no minimum, for it curves
    down by more than the damping, and where the loss, its slope or its curvature is no finite number.

    >>> x = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> bowl = Objective([x], lambda: iter([(x - 1).square().sum()]))
    >>> bowl.move_to(bowl.position() + newton_step(bowl))
    >>> bowl.position()
    tensor([1., 1.])
    """
    value, slope_D = objective.slope()
    if not (math.isfinite(value) and slope_D.isfinite().all()):
        raise _no_number()
    if objective.size > EXACT:
        solution = conjugate_gradients(objective.product, -slope_D, damping=damping, iterations=iterations)
        if solution.residual > SOLVED:
            emit(Finding(kind="truncated", detail=_truncated(solution.residual, iterations), severity="warning"))
        return solution.x_D
    hessian_DD = objective.hessian().double()
    if not hessian_DD.isfinite().all():
        raise _no_number()
    values_D, vectors_DD = torch.linalg.eigh(hessian_DD)
    values_D += damping
    noise = FLAT * float(values_D.abs().max())
    if float(values_D[0]) < -noise:
        raise _curving_down(float(values_D[0]) - damping)
    curved_D = values_D > noise
    along_D = vectors_DD.T @ slope_D.double() / values_D.where(curved_D, 1.0)
    step_D: Tensor = -(vectors_DD @ along_D.where(curved_D, 0.0)).to(slope_D.dtype)
    return step_D


class Solution(NamedTuple):
    """What solves (H + damping) x = b, as far as `residual` says: |b - (H + damping) x| / |b|, 0 where it does."""

    x_D: Tensor
    residual: float


def conjugate_gradients(
    product: Product, right_D: Tensor, *, damping: float = 0.0, iterations: int = 250, tolerance: float = SOLVED
) -> Solution:
    """Solve (H + damping) x = b, positive definite, in float64, until what is left of b is below `tolerance` · |b|.

    It ends after so many `iterations` at the latest, whatever is left then: the solution's `residual`, which may be
    above 1, for it is x'(H + damping)x / 2 - b'x that falls with every iteration (Shewchuk, 1994).
    Raises TrainingError where H turns out to curve down along a direction, by more than the damping, and where H or
    b holds what is no finite number.

    >>> matrix = torch.tensor([[4.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    >>> conjugate_gradients(lambda v: matrix @ v, torch.tensor([1.0, 2.0], dtype=torch.float64)).x_D
    tensor([0.0909, 0.6364], dtype=torch.float64)
    """
    residual_D = right_D.double()
    solution_D, direction_D, square = torch.zeros_like(residual_D), residual_D, residual_D @ residual_D
    whole = float(square)
    if not math.isfinite(whole):
        raise _no_number()
    for _ in range(iterations):
        if float(square) <= tolerance**2 * whole:
            break
        curved_D = product(direction_D.to(right_D.dtype)).double() + damping * direction_D
        curvature = float(direction_D @ curved_D)
        if not math.isfinite(curvature):
            raise _no_number()
        if curvature <= 0:
            raise _curving_down(curvature / float(direction_D @ direction_D) - damping)
        length = float(square) / curvature
        solution_D = solution_D + length * direction_D
        residual_D = residual_D - length * curved_D
        square, before = residual_D @ residual_D, square
        direction_D = residual_D + square / before * direction_D
    return Solution(solution_D.to(right_D.dtype), math.sqrt(float(square) / whole) if whole else 0.0)


def _truncated(left: float, iterations: int) -> str:
    return (
        f"Newton's step is truncated: after {iterations} iterations {left:.2g} times the slope is left of it. It goes "
        "down, but not to the minimum of the approximation; give more iterations, or a damping."
    )


def _curving_down(curvature: float) -> TrainingError:
    return TrainingError(
        f"Newton's step has nowhere to go: the loss curves down, by {curvature:.3g}; give a damping above "
        f"{-curvature:.3g}, or come nearer to a minimum first."
    )


def _no_number() -> TrainingError:
    return TrainingError(
        "There is no step from here: the loss, its slope or its curvature is no finite number; begin elsewhere."
    )


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues (M, ascending) and the share of all that each stands for; the shares sum to 1.

    `errors_M` says how far from each the nearest true eigenvalue can be.
    """

    values_M: Floats
    shares_M: Floats
    errors_M: Floats

    def leading(self, count: int, tolerance: float = 0.01) -> list[float]:
        """Return up to so many eigenvalues of the largest size, those known to within a share of their size."""
        sure_M = self.errors_M <= tolerance * np.abs(self.values_M)
        order = np.argsort(-np.abs(self.values_M[sure_M]), kind="stable")
        return [float(value) for value in self.values_M[sure_M][order][:count]]

    @property
    def condition(self) -> float | None:
        """The largest over the smallest size of an eigenvalue, flat directions left out: see FLAT.

        With errors, what it is at least; None where none is known to be of a direction that is not flat.
        """
        sizes_M = np.abs(self.values_M)
        curved_M = sizes_M - self.errors_M > FLAT * sizes_M.max()
        return float(sizes_M.max() / (sizes_M + self.errors_M)[curved_M].min()) if curved_M.any() else None

    @property
    def flat(self) -> float:
        """The share of eigenvalues that cannot be told from 0, by FLAT or by their errors."""
        return float(self.shares_M[np.abs(self.values_M) <= self._doubt_M].sum())

    @property
    def negative(self) -> float:
        """The share of eigenvalues below 0, beyond doubt: where there are any, this is no minimum."""
        return float(self.shares_M[self.values_M < -self._doubt_M].sum())

    @property
    def _doubt_M(self) -> Floats:  # noqa: N802 (the suffix is its shape)
        doubt_M: Floats = np.maximum(self.errors_M, FLAT * np.abs(self.values_M).max())
        return doubt_M

    @property
    def mean(self) -> float:
        """The mean eigenvalue, which is the trace over D."""
        return float(self.shares_M @ self.values_M)


def exact_spectrum(hessian_DD: Tensor) -> Spectrum:
    """Return every eigenvalue of a symmetric matrix.

    >>> exact_spectrum(torch.diag(torch.tensor([2.0, -1.0, 8.0]))).leading(2)
    [8.0, 2.0]
    """
    values_D = torch.linalg.eigvalsh(hessian_DD.double()).cpu().numpy()
    return Spectrum(values_D, np.full(len(values_D), 1 / len(values_D)), np.zeros(len(values_D)))


def lanczos(product: Product, start_D: Tensor, steps: int) -> tuple[Floats, Floats]:
    """Return diagonal (M) and side diagonal (M) of the tridiagonal matrix that H is on the Krylov space of a vector.

    The side's last entry is what the space still lacks, 0 where it is exhausted. Every new vector is made
    orthogonal to all before, twice, in float64, so that no eigenvalue comes up as its own ghost.
    """
    basis, diagonal, side = [start_D.double() / start_D.double().norm()], [], []
    for _ in range(min(steps, len(start_D))):
        next_D = product(basis[-1].to(start_D.dtype)).double()
        diagonal.append(float(basis[-1] @ next_D))
        known_MD = torch.stack(basis)
        for _ in range(2):
            next_D = next_D - known_MD.T @ (known_MD @ next_D)
        side.append(float(next_D.norm()))
        if side[-1] <= FLAT * max(map(abs, diagonal)):
            side[-1] = 0.0
            break
        basis.append(next_D / side[-1])
    return np.array(diagonal), np.array(side)


def krylov_spectrum(product: Product, start_D: Tensor, steps: int) -> Spectrum:
    """Return what Lanczos' method tells of the spectrum from one random vector.

    The eigenvalues of its tridiagonal matrix; the first entries of their vectors, squared, are the
    shares, and the last ones bound the errors.
    """
    diagonal_M, side_M = lanczos(product, start_D, steps)
    values_M, vectors_MM = eigh_tridiagonal(diagonal_M, side_M[:-1])
    return Spectrum(values_M, vectors_MM[0] ** 2, side_M[-1] * np.abs(vectors_MM[-1]))


def mean_spectrum(spectra: Sequence[Spectrum]) -> Spectrum:
    """Return the mean of several, as of stochastic Lanczos quadrature (Ubaru, Chen and Saad, 2017)."""
    values_M = np.concatenate([each.values_M for each in spectra])
    order = np.argsort(values_M, kind="stable")
    shares_M = np.concatenate([each.shares_M for each in spectra]) / len(spectra)
    return Spectrum(values_M[order], shares_M[order], np.concatenate([each.errors_M for each in spectra])[order])


def noise_scale(gradients_MD: Tensor, batch_size: int) -> float | None:
    """Return the batch size at which noise and gradient are as large, tr(Σ) / |g|² (McCandlish et al., 2018).

    Estimated without bias in either, from the gradients of `M` batches of so many images; None where
    the gradient is lost in its noise. Raises InputError where there are fewer than two batches.
    """
    batches = len(gradients_MD)
    if batches < 2:
        raise InputError(f"The noise of gradients shows in two batches or more, and {batches} was given; give more.")
    mean_D = gradients_MD.double().mean(0)
    variance = float((gradients_MD.double() - mean_D).square().sum()) / (batches - 1)  # tr(Σ) / batch_size
    squared = float(mean_D.square().sum()) - variance / batches
    return batch_size * variance / squared if squared > 0 else None
