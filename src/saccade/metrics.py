"""How good is it: plain numbers from labels and probabilities, with their uncertainty."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit

from saccade.errors import InputError

Array = NDArray[Any]

NUMBERS = "biuf"
"""NumPy's kinds of truth values and numbers."""


@dataclass(frozen=True)
class ClassMetrics:
    """One class: its images, and precision, recall and F1, each 0 where it is not defined."""

    images: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose largest probability lies in (low, high]: mean of it, and share that is right."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def accuracy(predicted_N: Array, labels_N: Array) -> float:
    """Return the share of predictions that are right: both whole numbers, or both names.

    Raises InputError where they are not one a label, or cannot be equal.

    >>> accuracy(np.array([0, 1, 1]), np.array([0, 1, 0]))
    0.6666666666666666
    """
    predicted_N, labels_N = np.asarray(predicted_N), np.asarray(labels_N)
    _check_row("Predictions", predicted_N)
    _check(predicted_N, labels_N)
    if (predicted_N.dtype.kind in NUMBERS) != (labels_N.dtype.kind in NUMBERS):
        raise InputError(
            f"Predictions such as {predicted_N.tolist()[0]!r} cannot be held against labels such as "
            f"{labels_N.tolist()[0]!r}; give both as whole numbers, or both as names."
        )
    return float(np.mean(predicted_N == labels_N))


def wilson_interval(
    successes: int, n: int, confidence: float = 0.95, worth: float | None = None
) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (J. Am. Stat. Assoc. 22, 1927).

    With z the normal quantile and p = successes / n:
    (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n). `worth` stands for n in it, p alone excepted, where
    the n depend on each other and tell as much as so many that do not (`effective_size`); (0, 1) where that is 0.
    Raises InputError unless 0 <= successes <= n, n >= 1.

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    if not (0 <= successes <= n and n >= 1):
        raise InputError(
            f"{successes} successes of {n} are no proportion; give a whole number from 0 to n, n at least 1."
        )
    size = n if worth is None else worth
    if not size:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, spread = successes / n, z * z / size
    half = z * (p * (1 - p) / size + spread / (4 * size)) ** 0.5
    low, high = (p + spread / 2 - half) / (1 + spread), (p + spread / 2 + half) / (1 + spread)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def accuracy_interval(right_N: Array, groups_N: Array | None = None, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of an accuracy from which of N images were right, some of which may belong together.

    Wilson's, with `effective_size` for N where `groups_N` numbers groups of several images, such as patients, whose
    images tend to be right or wrong together. A right_N between 0 and 1 is the share of several tries that was right.
    Raises InputError where there is no image, or not a group for each.

    >>> right_N, patients_N = np.array([1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0]), np.repeat(np.arange(6), 2)
    >>> [round(each, 2) for each in accuracy_interval(right_N)]
    [0.47, 0.91]
    >>> [round(each, 2) for each in accuracy_interval(right_N, patients_N)]
    [0.34, 0.95]
    """
    right_N = np.asarray(right_N)
    worth = None if groups_N is None else effective_size(right_N, groups_N, confidence)
    return wilson_interval(round(float(right_N.sum())), len(right_N), confidence, worth)


def effective_size(value_N: Array, groups_N: Array, confidence: float = 0.95) -> float:
    """Return how many images of different groups would tell the mean of values as well as these N of G groups do.

    N / design effect * (t_(N-1) / t_(G-1))², with t the quantiles of Student's distribution: of few groups the
    variance between them is itself uncertain (Korn and Graubard, Survey Methodology 24, 1998, 193). N where every
    image is a group, 0 where all are one. Raises InputError as `design_effect` does.

    >>> effective_size(np.array([1, 0, 1]), np.array([3, 1, 2]))
    3.0
    """
    images, groups = len(value_N), len(np.unique(groups_N))
    effect = design_effect(value_N, groups_N)
    if groups in (1, images):
        return images / effect
    t_images, t_groups = stdtrit([images - 1, groups - 1], 0.5 + confidence / 2)
    return float(images / effect * (t_images / t_groups) ** 2)


def design_effect(value_N: Array, groups_N: Array) -> float:
    """Return how many times its value among as many single images the variance of a mean is, at least 1.

    With e an image's value less the mean, e_g its sum over the n_g images of a group, and f the largest e²:

    (N (N - 1) (G - 1) / G Σ_g (e_g / (N - n_g))² + f/2 Σ_g n_g²/N) / (Σ e² + f/2).

    Without f it is the variance of the ratio of two sums over groups, by leaving out each group in turn (Tukey's
    jackknife, which holds where groups differ in size), over that of a mean of single images (Kish, Survey Sampling,
    1965, ch. 8). Few that are wrong cannot show how they lie in groups: f counts half an image more whose group is
    all like it, so that without any each group counts as one image. 1 where every image is a group, infinite where
    all are one. Raises InputError where there is no image, or not a group for each.

    >>> design_effect(np.array([1, 1, 0, 0]), np.array([0, 1, 2, 3]))
    1.0
    """
    value_N, groups_N = np.asarray(value_N, np.float64), np.asarray(groups_N)
    if value_N.shape != groups_N.shape or value_N.ndim != 1 or not len(value_N):
        raise InputError(
            f"Groups of shape {groups_N.shape} cannot be those of values of shape {value_N.shape}; give one group an "
            "image, and at least one."
        )
    _, group_N, images_G = np.unique(groups_N, return_inverse=True, return_counts=True)
    images, groups = len(value_N), len(images_G)
    if groups == images:
        return 1.0
    if groups == 1:
        return math.inf
    apart_N = value_N - value_N.mean()
    single, far, together = np.sum(apart_N**2), np.max(apart_N**2), np.sum(images_G**2) / images
    if not far:
        return float(together)
    left_G = np.bincount(group_N, apart_N) / (images - images_G)
    grouped = images * (images - 1) * (groups - 1) / groups * np.sum(left_G**2)
    return max(1.0, float((grouped + far / 2 * together) / (single + far / 2)))


def judged(right_N: Array, groups_N: Array | None = None) -> dict[str, Any]:
    """Return accuracy, its 95 % interval and what it is of, as JSON knows them, from which of N images were right.

    `groups` and `design_effect` are None where every image stands alone. Raises as `accuracy_interval` does.
    """
    images, groups = len(right_N), None if groups_N is None else len(np.unique(groups_N))
    alone = groups_N is None or groups == images
    effect = None if alone or groups_N is None else design_effect(right_N, groups_N)
    return {
        "accuracy": float(np.mean(right_N)),
        "interval": list(accuracy_interval(right_N, groups_N)),
        "images": images,
        "groups": None if alone else groups,
        "design_effect": effect if effect != math.inf else None,
    }


def confusion_KK(predicted_N: Array, labels_N: Array, classes: int) -> NDArray[np.int64]:  # noqa: N802
    """Return counts of images by true class (row) and predicted class (column), whole numbers from 0 on.

    Raises InputError where one is none of the `classes`.

    >>> confusion_KK(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    array([[1, 1],
           [0, 1]])
    """
    predicted_N, labels_N = np.asarray(predicted_N), np.asarray(labels_N)
    _check_row("Predictions", predicted_N)
    _check(predicted_N, labels_N)
    _check_classes("Predictions", predicted_N, classes)
    _check_classes("Labels", labels_N, classes)
    pairs = labels_N.astype(np.int64) * classes + predicted_N.astype(np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def per_class(confusion: NDArray[np.int64]) -> list[ClassMetrics]:
    """Return each class's metrics from a confusion matrix (K, K), rows true.

    precision = right / predicted as it, recall = right / images of it, F1 = 2 right / (both sums).
    """
    right, images, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    return [
        ClassMetrics(int(n), _ratio(r, p), _ratio(r, n), _ratio(2 * r, n + p))
        for r, n, p in zip(right, images, predicted, strict=True)
    ]


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1 of the classes that have images or are predicted, from a confusion matrix (K, K)."""
    seen = (confusion.sum(0) + confusion.sum(1)) > 0
    scores = [metrics.f1 for metrics, there in zip(per_class(confusion), seen, strict=True) if there]
    return float(np.mean(scores)) if scores else 0.0


def calibration(probabilities_NK: Array, labels_N: Array, bins: int = 15) -> tuple[float, list[CalibrationBin]]:
    """Return the expected calibration error over bins of equal width, and the bins.

    error = sum over bins of (images in it / N) |accuracy - mean confidence|, where confidence is an image's
    largest probability (Guo et al., 2017, arXiv:1706.04599). An empty bin has confidence and accuracy 0.
    Raises InputError where labels are none of the K classes, or probabilities no numbers.
    """
    probabilities_NK, labels_N = _scored(probabilities_NK, labels_N)
    confidence_N = probabilities_NK.astype(np.float64).max(1)
    right_N = probabilities_NK.argmax(1) == labels_N
    edges = np.linspace(0, 1, bins + 1)
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, bins - 1)
    counts = np.bincount(bin_N, minlength=bins)
    confidences = np.bincount(bin_N, confidence_N, bins) / np.maximum(counts, 1)
    accuracies = np.bincount(bin_N, right_N, bins) / np.maximum(counts, 1)
    error = float(np.sum(counts * np.abs(accuracies - confidences)) / len(labels_N))
    rows = zip(edges[:-1], edges[1:], counts, confidences, accuracies, strict=True)
    return error, [CalibrationBin(float(a), float(b), int(n), float(c), float(r)) for a, b, n, c, r in rows]


def log_loss(probabilities_NK: Array, labels_N: Array) -> float:
    """Return the mean of the images' log losses; raises InputError as they do.

    >>> round(log_loss(np.array([[0.5, 0.5]]), np.array([1])), 4)
    0.6931
    """
    return float(losses_N(probabilities_NK, labels_N).mean())


def losses_N(probabilities_NK: Array, labels_N: Array) -> NDArray[np.float64]:  # noqa: N802 (the suffix is its shape)
    """Return each image's log loss (N,): -log of the true class's share, held at least 2.2e-16 so that it is finite.

    Raises InputError where labels are none of the K classes, or probabilities no numbers.
    """
    probabilities_NK, labels_N = _scored(probabilities_NK, labels_N)
    p_NK = probabilities_NK.astype(np.float64)
    true_N = p_NK[np.arange(len(labels_N)), labels_N] / p_NK.sum(1)
    return np.asarray(-np.log(np.clip(true_N, np.finfo(np.float64).eps, 1)))


def best_temperature(scores_NK: Array, labels_N: Array) -> float:
    """Return the T, 0.05 to 20, at which softmax(scores / T) fits labels best by the log loss.

    One number, fitted on images that the scores' model did not learn from, which corrects how sure it is and
    changes no prediction (Guo et al., 2017). Each label counts as 1 in N + 2 wrong, so that a few images
    without a mistake do not make it certain (Platt, 1999). Raises InputError where labels are none of the K
    classes, or scores not finite.

    >>> round(best_temperature(np.array([[3.0, 0.0]] * 4), np.array([0, 0, 0, 1])), 2)
    4.33
    """
    scores_NK, labels_N = _scored(scores_NK, labels_N)
    images, classes = scores_NK.shape
    target_NK = np.full(scores_NK.shape, 1 / (images + 2) / max(1, classes - 1))
    target_NK[np.arange(images), labels_N] = 1 - 1 / (images + 2)
    below_NK = np.subtract(scores_NK, scores_NK.max(1, keepdims=True), dtype=np.float64)
    aimed = float((target_NK * below_NK).sum(1).mean())

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        return float(np.log(np.exp(below_NK / temperature).sum(1)).mean() - aimed / temperature)

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def _check(predictions: Array, labels_N: Array) -> None:
    if len(predictions) != len(labels_N) or not len(labels_N):
        raise InputError(
            f"{len(predictions)} predictions cannot be held against {len(labels_N)} labels; "
            "give one prediction a label, and at least one."
        )
    _check_row("Labels", labels_N)


def _check_row(what: str, given_N: Array) -> None:
    if given_N.ndim != 1:
        raise InputError(f"{what} of shape {given_N.shape} were given; expected is one an image, of shape (N,).")


def _check_classes(what: str, given_N: Array, classes: int) -> None:
    if given_N.dtype.kind not in "iu":
        raise InputError(
            f"{what} such as {given_N.tolist()[0]!r} are no classes; give whole numbers from 0 to {classes - 1}."
        )
    low, high = int(given_N.min()), int(given_N.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise InputError(f"{what} hold {wrong}, which is no class; give whole numbers from 0 to {classes - 1}.")


def _scored(scores_NK: Array, labels_N: Array) -> tuple[Array, Array]:
    """Return scores and labels as arrays; raises InputError unless these are classes and those finite."""
    scores_NK, labels_N = np.asarray(scores_NK), np.asarray(labels_N)
    if scores_NK.ndim != 2:
        raise InputError(f"Scores of shape {scores_NK.shape} were given; expected is one a class and image, (N, K).")
    _check(scores_NK, labels_N)
    _check_classes("Labels", labels_N, scores_NK.shape[1])
    if not np.isfinite(scores_NK).all():
        raise InputError("Scores hold what is no finite number; look for the images that they are of.")
    return scores_NK, labels_N


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
