"""Two classifiers on the same images: the difference of their accuracies, its interval, and whether it is chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from saccade.errors import InputError
from saccade.metrics import effective_size, wilson_interval


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same images: how many both, one alone and neither labelled right, and what follows.

    `difference` is the first's accuracy less the second's, `interval` its 95 % interval, `p` the probability of
    so uneven a split of the images that one alone got right, were the two equally good.
    """

    images: int
    both: int
    first_alone: int
    second_alone: int
    neither: int
    first_accuracy: float
    second_accuracy: float
    difference: float
    interval: tuple[float, float]
    p: float
    groups: int | None = None
    """How many groups the images are of, which are what is compared then; None where each stands alone."""


def compare(
    first_right_N: NDArray[np.bool_], second_right_N: NDArray[np.bool_], groups_N: NDArray[np.int64] | None = None
) -> Comparison:
    """Compare two classifiers by which of the same N images each labelled right, in the same order.

    Where `groups_N` numbers images that belong together, such as a patient's, the difference's interval and p are
    those of groups: `sign_flips` for `mcnemar`, and as many images as tell as much (`effective_size`) for N.
    Raises InputError unless both are of the same images, and there is one.

    >>> right = compare(np.array([True, True, True, False]), np.array([True, False, False, False]))
    >>> right.first_alone, right.second_alone, right.difference, right.p
    (2, 0, 0.5, 0.5)
    """
    first_N, second_N = np.asarray(first_right_N, bool), np.asarray(second_right_N, bool)
    if first_N.shape != second_N.shape or not first_N.size:
        raise InputError(
            f"{first_N.size} answers cannot be held against {second_N.size}; "
            "give two classifiers' answers to the same images, and at least one."
        )
    n, both = first_N.size, int((first_N & second_N).sum())
    first_alone, second_alone = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    groups = n if groups_N is None else len(np.unique(groups_N))
    worth, p = None, mcnemar(first_alone, second_alone)
    if groups_N is not None and groups < n:
        differing_N = first_N.astype(np.int64) - second_N
        worth, p = effective_size(differing_N, groups_N), sign_flips(differing_N, groups_N)
    neither = n - both - first_alone - second_alone
    return Comparison(
        images=n,
        both=both,
        first_alone=first_alone,
        second_alone=second_alone,
        neither=neither,
        first_accuracy=(both + first_alone) / n,
        second_accuracy=(both + second_alone) / n,
        difference=(first_alone - second_alone) / n,
        interval=paired_interval(both, first_alone, second_alone, neither, worth=worth),
        p=p,
        groups=groups if groups < n else None,
    )


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Return the two-sided p of the exact McNemar test (Psychometrika 12, 1947).

    Of two equally good classifiers each is as likely to be the one that alone is right: a binomial test of
    one half over the images that one alone got right; 1 where there is none.

    >>> mcnemar(12, 3)
    0.03515625
    """
    discordant = first_alone + second_alone
    return float(binomtest(first_alone, discordant).pvalue) if discordant else 1.0


def sign_flips(differing_N: NDArray[np.int64], groups_N: NDArray[np.int64]) -> float:
    """Return the two-sided p of the exact sign-flip test over groups (Fisher, The Design of Experiments, 1935, § 21).

    With 1 for an image that the first classifier alone named right, -1 for the second, 0 else, and d_g the sum over
    a group: of two equally good classifiers each d_g is as likely to be -d_g, whatever holds an image and others of
    its group together. p is the share of all 2^G choices of signs whose sum is no nearer to 0 than that of the d_g;
    where each image is a group, `mcnemar`. Their sums' distribution is the inverse Fourier transform of Π_g cos(d_g t).

    >>> round(sign_flips(np.array([1, 1, 1, 1, 1, -1]), np.array([0, 0, 1, 1, 2, 3])), 12)
    0.375
    """
    _, group_N = np.unique(groups_N, return_inverse=True)
    sums_G = np.rint(np.bincount(group_N, differing_N)).astype(np.int64)
    most, reached = int(np.abs(sums_G).sum()), abs(int(sums_G.sum()))
    sizes_S, counts_S = np.unique(np.abs(sums_G), return_counts=True)
    angles = 2 * np.pi * np.arange(most + 1) / (2 * most + 1)
    waves = np.ones(most + 1)
    for size, count in zip(sizes_S.tolist(), counts_S.tolist(), strict=True):
        waves *= np.cos(size * angles) ** count
    chances = np.fft.irfft(waves, 2 * most + 1)  # of a sum of 0, 1, … most, and as many below 0
    return float(np.clip(2 * chances[reached : most + 1].sum(), 0.0, 1.0)) if reached else 1.0


def paired_interval(
    both: int, first_alone: int, second_alone: int, neither: int, confidence: float = 0.95, worth: float | None = None
) -> tuple[float, float]:
    """Return the interval of a difference of two proportions of the same images (Newcombe, Stat. Med. 17, 1998, 2635).

    His method 10. With Wilson's intervals (l, u) of the proportions p of the first and q of the second, and the
    correlation φ of their answers: (p - q) - sqrt((p - l_p)² - 2φ (p - l_p)(u_q - q) + (u_q - q)²), and above
    likewise. It has its nominal coverage at a few dozen images, and a width where no answers differ. `worth` is as in
    `wilson_interval`: images that depend on each other count as so many; the interval is (-1, 1) where that is 0.

    >>> low, high = paired_interval(1, 1, 7, 12)
    >>> round(low, 3), round(high, 3)
    (-0.507, -0.026)
    """
    n = both + first_alone + second_alone + neither
    if worth == 0:
        return -1.0, 1.0
    p, q = (both + first_alone) / n, (both + second_alone) / n
    (low_p, high_p), (low_q, high_q) = (wilson_interval(round(share * n), n, confidence, worth) for share in (p, q))
    table = (both, first_alone, second_alone, neither)
    phi = _correlation(*(table if worth is None else (count * worth / n for count in table)))

    def half(a: float, b: float) -> float:
        return sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    difference = (first_alone - second_alone) / n
    low, high = difference - half(p - low_p, high_q - q), difference + half(high_p - p, q - low_q)
    return max(low, -1.0), min(high, 1.0)


def _correlation(both: float, first_alone: float, second_alone: float, neither: float) -> float:
    """Return φ of the fourfold table, drawn towards 0 by half an image where it is positive, as Newcombe has it."""
    margins = (both + first_alone) * (second_alone + neither) * (both + second_alone) * (first_alone + neither)
    if not margins:
        return 0.0
    excess = both * neither - first_alone * second_alone
    half = (both + first_alone + second_alone + neither) / 2
    return (max(excess - half, 0.0) if excess > 0 else excess) / sqrt(margins)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several (Holm, Scand. J. Stat. 6, 1979), in their order.

    Where those below a level are believed, the chance of believing any that is an accident is at most that level.
    Of m in ascending order the i-th becomes min(1, the largest of (m - j + 1) p_j over j ≤ i).

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    p_M = np.asarray(p_values, np.float64)
    order = np.argsort(p_M, kind="stable")
    adjusted_M = np.empty_like(p_M)
    adjusted_M[order] = np.minimum(np.maximum.accumulate(p_M[order] * np.arange(len(p_M), 0, -1)), 1)
    return [float(p) for p in adjusted_M]
