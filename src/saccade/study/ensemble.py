"""Averages of classifiers: chosen greedily on validation, and kept only where validation improves (lecture 7)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROUNDS = 10


@dataclass(frozen=True)
class Ensemble:
    """Weights of the members (0: left out), and what averaging changed on the validation images.

    `gain` is the fall of the mean log loss against the best member, `standard_error` that of the gain over
    the images; `accepted` says whether the gain is more than that and no accuracy is lost.
    """

    weights: tuple[float, ...]
    accuracy: float
    best_accuracy: float
    gain: float
    standard_error: float
    accepted: bool

    @property
    def why(self) -> str:
        """The decision in words."""
        told = (
            f"averaging lowers the validation log loss by {self.gain:.3f} (standard error {self.standard_error:.3f}) "
            f"and takes the accuracy from {self.best_accuracy:.1%} to {self.accuracy:.1%}"
        )
        return told if self.accepted else f"{told}: not enough to keep"


def ensemble(members: Sequence[Array], labels_N: NDArray[np.int64]) -> Ensemble:
    """Return the average of members' probabilities (N, K) that fits the labels best, found greedily.

    From the best member on, the one that lowers the log loss of the average most is added, any of them
    again if need be, until none lowers it (Caruana et al., 2004).

    >>> sure, unsure = np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    >>> ensemble([sure, unsure], np.array([0, 0])).weights
    (1.0, 0.0)
    """
    losses = [_losses_N(member, labels_N) for member in members]
    best = min(range(len(members)), key=lambda place: losses[place].mean())
    counts = np.zeros(len(members), np.int64)
    counts[best] = 1
    total_NK, loss = members[best], float(losses[best].mean())
    for size in range(2, ROUNDS + 1):
        tried = [float(_losses_N((total_NK + member) / size, labels_N).mean()) for member in members]
        place = int(np.argmin(tried))
        if tried[place] >= loss:
            break
        counts[place] += 1
        total_NK, loss = total_NK + members[place], tried[place]
    average_NK = total_NK / counts.sum()
    saved_N = losses[best] - _losses_N(average_NK, labels_N)
    gain = float(saved_N.mean())
    error = float(saved_N.std() / np.sqrt(len(labels_N) - 1)) if len(labels_N) > 1 else np.inf
    accuracies = [float((each_NK.argmax(1) == labels_N).mean()) for each_NK in (average_NK, *members)]
    best_accuracy = max(accuracies[1:])
    return Ensemble(
        weights=tuple((counts / counts.sum()).tolist()),
        accuracy=accuracies[0],
        best_accuracy=best_accuracy,
        gain=gain,
        standard_error=error,
        accepted=bool(np.count_nonzero(counts) > 1 and gain > error and accuracies[0] >= best_accuracy),
    )


def _losses_N(probabilities_NK: Array, labels_N: NDArray[np.int64]) -> Array:  # noqa: N802 (the suffix is its shape)
    return np.asarray(-np.log(probabilities_NK[np.arange(len(labels_N)), labels_N].clip(1e-12)))
