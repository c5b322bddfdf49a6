"""Averages of classifiers: chosen greedily on validation, and kept only where validation improves (lecture 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from saccade.device import derived_seed
from saccade.metrics import design_effect, losses_N

Array = NDArray[np.float64]

ROUNDS = 10
DRAWS = 2000
"""Times the images are drawn anew for the interval of a gain."""
AT_ONCE = 1_000_000
"""Images drawn that are in memory together."""


@dataclass(frozen=True)
class Ensemble:
    """Weights of the members (0: left out), and what averaging changed on the validation images.

    `gain` is the fall of the mean log loss against the best member, `standard_error` that of the gain over the
    images or their groups, `interval` its 95 % interval; `accepted` says whether the gain is more than its error and
    no accuracy is lost. `accuracies` and `losses` are the members' own, `disagreement` is the share of the images that
    two of those averaged label differently, the mean over pairs.
    """

    weights: tuple[float, ...]
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    accuracy: float
    gain: float
    standard_error: float
    interval: tuple[float, float]
    disagreement: float
    accepted: bool

    @property
    def best(self) -> int:
        """Which member has the lowest log loss: the one that the average is held against."""
        return min(range(len(self.losses)), key=self.losses.__getitem__)

    @property
    def best_accuracy(self) -> float:
        """The highest accuracy of a member."""
        return max(self.accuracies)

    @property
    def why(self) -> str:
        """The decision in words."""
        if np.count_nonzero(self.weights) < 2:
            return "no average has a lower validation log loss than the best classifier alone"
        told = (
            f"averaging lowers the validation log loss by {self.gain:.3f} (standard error {self.standard_error:.3f}) "
            f"and takes the accuracy from {self.best_accuracy:.1%} to {self.accuracy:.1%}"
        )
        return told if self.accepted else f"{told}: not enough to keep"


def ensemble(
    members: Sequence[Array], labels_N: NDArray[np.int64], groups_N: NDArray[np.int64] | None = None
) -> Ensemble:
    """Return the average of members' probabilities (N, K) that fits the labels best, found greedily.

    From the best member on, the one that lowers the log loss of the average most is added, any of them
    again if need be, until none lowers it (Caruana et al., 2004). `groups_N` numbers the images that belong together:
    errors and intervals are those over groups.

    >>> sure, unsure = np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([[0.5, 0.5], [0.5, 0.5]])
    >>> ensemble([sure, unsure], np.array([0, 0])).weights
    (1.0, 0.0)
    """
    losses = [losses_N(member, labels_N) for member in members]
    counts_M = _greedy(members, [float(each.mean()) for each in losses], labels_N)
    average_NK = sum(count * member for count, member in zip(counts_M, members, strict=True)) / counts_M.sum()
    best = min(range(len(members)), key=lambda place: losses[place].mean())
    saved_N = losses[best] - losses_N(average_NK, labels_N)
    gain, error = mean_and_error(saved_N, groups_N)
    accuracies = [float((each_NK.argmax(1) == labels_N).mean()) for each_NK in (average_NK, *members)]
    averaged = [member for member, count in zip(members, counts_M, strict=True) if count]
    return Ensemble(
        weights=tuple((counts_M / counts_M.sum()).tolist()),
        accuracies=tuple(accuracies[1:]),
        losses=tuple(float(each.mean()) for each in losses),
        accuracy=accuracies[0],
        gain=gain,
        standard_error=error,
        interval=bootstrap_interval(saved_N, groups_N),
        disagreement=disagreement(averaged),
        accepted=bool(len(averaged) > 1 and gain > error and accuracies[0] >= max(accuracies[1:])),
    )


def disagreement(members: Sequence[Array]) -> float:
    """Return the share of images that two members label differently, the mean over all pairs; 0 of one alone.

    >>> disagreement([np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0.8, 0.2], [0.3, 0.7]])])
    0.5
    """
    labelled = [member.argmax(1) for member in members]
    shares = [float((one_N != other_N).mean()) for one_N, other_N in combinations(labelled, 2)]
    return float(np.mean(shares)) if shares else 0.0


def mean_and_error(value_N: Array, groups_N: NDArray[np.int64] | None = None) -> tuple[float, float]:
    """Return the mean of paired differences and its standard error, infinite for one image or one group alone.

    >>> mean_and_error(np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    error = float(value_N.std() / np.sqrt(len(value_N) - 1)) if len(value_N) > 1 else np.inf
    together = 1.0 if groups_N is None else np.sqrt(design_effect(value_N, groups_N))
    return float(value_N.mean()), float(error * together) if error else error


def bootstrap_interval(
    value_N: Array, groups_N: NDArray[np.int64] | None = None, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Return the interval of the mean of paired differences, by drawing the images anew (Efron, 1979; percentiles).

    Where `groups_N` numbers images that belong together, groups are drawn, each with all its images.

    >>> low, high = bootstrap_interval(np.ones(50))
    >>> low, high
    (1.0, 1.0)
    """
    _, group_N, images_G = np.unique(
        np.arange(len(value_N)) if groups_N is None else groups_N, return_inverse=True, return_counts=True
    )
    if len(images_G) < 2:
        return float(value_N.mean()), float(value_N.mean())
    alone = len(images_G) == len(value_N)
    drawn = (value_N,) if alone else (np.bincount(group_N, value_N), images_G)
    found = bootstrap(
        drawn, np.mean if alone else _ratio, n_resamples=DRAWS, batch=max(1, AT_ONCE // len(images_G)),
        paired=not alone, confidence_level=confidence, method="percentile",
        rng=np.random.default_rng(derived_seed(seed, "bootstrap")),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _ratio(sum_G: Array, images_G: Array, axis: int) -> Array:
    """Return the mean over images from groups' sums and numbers of images."""
    return np.asarray(sum_G.sum(axis) / images_G.sum(axis))


def _greedy(members: Sequence[Array], losses: Sequence[float], labels_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each member is in the average."""
    counts_M = np.zeros(len(members), np.int64)
    best = int(np.argmin(losses))
    counts_M[best] = 1
    total_NK, loss = members[best], losses[best]
    for size in range(2, ROUNDS + 1):
        tried = [float(losses_N((total_NK + member) / size, labels_N).mean()) for member in members]
        place = int(np.argmin(tried))
        if tried[place] >= loss:
            break
        counts_M[place] += 1
        total_NK, loss = total_NK + members[place], tried[place]
    return counts_M
