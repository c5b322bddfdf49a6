"""The learning curve: how accuracy grew with the number of training images, and what more of them would bring."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.device import derived_seed
from saccade.metrics import accuracy_interval
from saccade.study.baselines import stratified_order

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
FEWEST_SHARES = 3  # as many as the law has unknowns
REPEATS = 3  # of every share but the whole
FACTORS = (2, 4)
DRAWS = 400
LINE = 25  # sizes at which the law is told, for a chart
TAILS = (0.025, 0.975)
POWERS_P = np.geomspace(0.02, 2, 200)
"""Exponents c that are tried; between neighbours the fit hardly changes."""

Predict = Callable[[NDArray[np.int64]], NDArray[np.int64]]
Floats = NDArray[np.float64]
Right = dict[int, list[NDArray[np.bool_]]]
"""Which validation images were right, by the number of training images and repeat."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """Accuracy after learning from so many images: mean and sd of its repeats, and its 95 % interval, by groups."""

    images: int
    accuracy: float
    sd: float | None
    repeats: int
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ClassCurve:
    """One class's recall at each point, its rise from the last point but one to the last, and that rise's error.

    All None where the class has no validation image; the error is one standard error over these, group by group.
    """

    recalls: tuple[float | None, ...]
    rise: float | None
    error: float | None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Accuracy expected of `factor` times today's images, and the gain over today's, with 95 % intervals."""

    factor: int
    images: int
    accuracy: float
    interval: tuple[float, float]
    gain: float
    gain_interval: tuple[float, float]

    @property
    def clear(self) -> bool:
        """Whether there is a gain at all: the law cannot fall, so its interval holds 0 where it begins there."""
        return self.gain_interval[0] >= 0.0005


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """A classifier's accuracy over the number of its training images, and the law error = a + b n^-c through it.

    `images` is today's number; `classes` are in the order of the labels; `line` tells the law from the first
    point to the last forecast as (images, accuracy, low, high), a 95 % band.
    """

    name: str
    images: int
    validation_images: int
    points: tuple[Point, ...]
    classes: tuple[ClassCurve, ...]
    law: tuple[float, float, float]
    line: tuple[tuple[float, float, float, float], ...]
    forecasts: tuple[Forecast, ...]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "LearningCurve":
        """Return the curve that `plain` described."""
        parts = {"points": Point, "classes": ClassCurve, "forecasts": Forecast}
        made = {name: tuple(kind(**_tuples(each)) for each in plain[name]) for name, kind in parts.items()}
        return cls(**{**_tuples(plain), **made, "line": tuple(map(tuple, plain["line"]))})

    def plain(self) -> dict[str, Any]:
        """Return the curve as values that JSON knows."""
        return {name: _listed(value) for name, value in asdict(self).items()}


def _tuples(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}


def learning_curve(
    predict: Predict,
    y_train_N: NDArray[np.int64],
    y_validation_N: NDArray[np.int64],
    *,
    name: str,
    seconds: Callable[[], float],
    seed: int,
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> LearningCurve | None:
    """Return how a classifier learns from an eighth, a quarter, half and all of its images, or None.

    `predict(indices)` fits the classifier on those training images and returns its labels of the validation
    images; `seconds()` is the time left. Shares are nested, stratified, and hold an image of each class; all but
    the whole are repeated with other images while there is time; what the first costs cannot be known before it was
    paid. None where fewer than three could be measured, or validation images are of one group.

    `groups` numbers the training and the validation images that belong together (each its own where None). Shares are
    drawn group by group, within each class: more photos are of others, such as animals or patients, and half of the
    images, drawn one by one, would still know nearly all of these.

    The law error = a + b n^-c (a, b >= 0, 0 < c <= 2; Hestness et al., 2017, arXiv:1712.00409) is fitted by least
    squares, and again to noise drawn around it. The noise has two parts: that of the validation images, which all
    points share, so that it is estimated from which groups were right where; and that of the training images drawn,
    by which repeats differ more than chance over validation images explains. In simulations 90 to 100 % of the
    intervals of gains held the truth, least where the law has no floor (a = 0, c = 0.25) (tests/study/test_curves.py).
    """
    train_N, validation_N = groups or (np.arange(len(y_train_N)), np.arange(len(y_validation_N)))
    if len(np.unique(validation_N)) < 2:
        return None
    right = _measure(predict, (y_train_N, y_validation_N, train_N), seconds, seed)
    if len(right) < FEWEST_SHARES:
        return None
    today, classes = len(y_train_N), 1 + int(max(y_train_N.max(), y_validation_N.max()))
    images_S = np.array(list(right))
    correct_SN = np.array([np.mean(repeats, axis=0) for repeats in right.values()])
    noise_SS = _noise(right, correct_SN, validation_N)
    laws_D3 = _laws(images_S, 1 - correct_SN.mean(1), noise_SS, seed)
    sizes_M = np.geomspace(images_S[0], FACTORS[-1] * today, LINE)
    low_M, high_M = np.quantile(accuracy_of(laws_D3[1:], sizes_M), TAILS, axis=0)
    line_M4 = np.stack([sizes_M, accuracy_of(laws_D3[:1], sizes_M)[0], low_M, high_M], axis=1)
    a, b, c = laws_D3[0].tolist()
    return LearningCurve(
        name=name,
        images=today,
        validation_images=len(y_validation_N),
        points=tuple(_point(images, repeats, validation_N) for images, repeats in right.items()),
        classes=tuple(
            _class_curve(correct_SN[:, own_N], validation_N[own_N])
            for own_N in (y_validation_N == label for label in range(classes))
        ),
        law=(a, b, c),
        line=tuple((float(n), float(y), float(low), float(high)) for n, y, low, high in line_M4),
        forecasts=tuple(_forecast(laws_D3, today, factor) for factor in FACTORS),
    )


def fit_laws(images_S: NDArray[Any], errors_DS: Floats, variances_S: Floats) -> Floats:
    """Return a, b, c (D, 3) of error = a + b n^-c, with a, b >= 0 and 0 < c <= 2, for D series of errors.

    Weighted least squares. For a given c the law is linear and a and b are known at once, either of them 0
    where it would be negative; so c alone is searched, and no start can lead astray.
    """
    weights_S = 1 / variances_S / np.sum(1 / variances_S)
    scale = float(images_S.max())
    z_PS = (images_S / scale) ** -POWERS_P[:, None]
    z_P, zz_P, e_D, ez_DP = z_PS @ weights_S, z_PS**2 @ weights_S, errors_DS @ weights_S, errors_DS * weights_S @ z_PS.T
    b_DP = (ez_DP - e_D[:, None] * z_P) / (zz_P - z_P**2)
    mean_DP = np.broadcast_to(np.maximum(e_D, 0)[:, None], b_DP.shape)
    a_3DP = np.stack([e_D[:, None] - b_DP * z_P, mean_DP, np.zeros_like(b_DP)])
    b_3DP = np.stack([b_DP, np.zeros_like(b_DP), np.maximum(ez_DP / zz_P, 0)])
    # The mean of (a + b z - e)², without that of e², which is the same for every law.
    cost_3DP = a_3DP * (a_3DP + 2 * b_3DP * z_P - 2 * e_D[:, None]) + b_3DP * (b_3DP * zz_P - 2 * ez_DP)
    cost_3DP = np.where((a_3DP < 0) | (b_3DP < 0), np.inf, cost_3DP)
    best_D = cost_3DP.transpose(1, 0, 2).reshape(len(errors_DS), -1).argmin(1)
    kind_D, power_D = np.divmod(best_D, len(POWERS_P))
    rows_D, c_D = np.arange(len(errors_DS)), POWERS_P[power_D]
    return np.stack([a_3DP[kind_D, rows_D, power_D], b_3DP[kind_D, rows_D, power_D] * scale**c_D, c_D], axis=1)


def accuracy_of(laws_D3: Floats, images_M: NDArray[Any]) -> Floats:
    """Return the accuracy (D, M), at least 0, that each law gives each number of images.

    >>> accuracy_of(np.array([[0.1, 1.0, 0.5]]), np.array([25, 100])).tolist()
    [[0.7, 0.8]]
    """
    a_D1, b_D1, c_D1 = laws_D3.T[:, :, None]
    accuracy_DM: Floats = np.maximum(1 - a_D1 - b_D1 * np.asarray(images_M, np.float64) ** -c_D1, 0)
    return accuracy_DM


def _measure(predict: Predict, labels: tuple[NDArray[np.int64], ...], seconds: Callable[[], float], seed: int) -> Right:
    """Return what was right at each share, the cheapest first, until the next would take longer than is left."""
    y_train_N, y_validation_N, groups_N = labels
    total = len(y_train_N)
    fewest = len(np.unique(y_train_N))
    sizes = sorted({max(round(share * total), fewest) for share in SHARES})
    right: Right = {}
    costs: dict[int, float] = {}
    for repeat in range(REPEATS):
        shuffled_N = np.random.default_rng(derived_seed(seed, "learning curve", repeat)).permutation(total)
        order_N = shuffled_N[stratified_order(y_train_N[shuffled_N], groups_N[shuffled_N])]
        for images in sizes if repeat == 0 else sizes[:-1]:
            left = seconds()
            if left <= _expected(images, costs):
                return right
            right.setdefault(images, []).append(predict(np.sort(order_N[:images])) == y_validation_N)
            costs[images] = 0.0 if left == math.inf else left - seconds()
    return right


def _expected(images: int, costs: dict[int, float]) -> float:
    """Return the seconds a share should take: as it did before, or by the growth from smaller ones, at least linear."""
    if images in costs or not costs:
        return costs.get(images, 0.0)
    *before, last = sorted(costs)
    growth = 1.0
    if before and costs[before[-1]] > 0 and costs[last] > 0:
        growth = max(1.0, math.log(costs[last] / costs[before[-1]]) / math.log(last / before[-1]))
    return float(costs[last] * (images / last) ** growth)


def _noise(right: Right, correct_SN: Floats, groups_N: NDArray[np.int64]) -> Floats:
    """Return the covariance (S, S) of the points' accuracies on validation images of these groups."""
    shares, images = correct_SN.shape
    drawn = []
    for repeats in right.values():
        if len(repeats) > 1:
            right_RN = np.array(repeats, np.float64)
            by_chance = right_RN.var(axis=0, ddof=1).sum() / images**2
            drawn.append(right_RN.mean(1).var(ddof=1) - by_chance)
    of_training = max(float(np.mean(drawn)), 0.0) if drawn else 0.0
    # Two right and two wrong more, as Agresti and Coull would have it: no accuracy is beyond doubt.
    p_S, q_S = correct_SN.mean(1), (correct_SN.sum(1) + 2) / (images + 4)
    repeats_S = np.array([len(repeats) for repeats in right.values()])
    apart_SG = _by_group(correct_SN, groups_N)
    noise_SS: Floats = np.cov(apart_SG, bias=True).reshape(shares, shares) / (images**2 / apart_SG.shape[1])
    # What few groups were right on may cancel out.
    seen_S = p_S * (1 - p_S) / images if apart_SG is correct_SN else noise_SS.diagonal()
    doubt_S = np.maximum(q_S * (1 - q_S) / (images + 4) - seen_S, 0)
    return noise_SS + np.diag(doubt_S + of_training / repeats_S)


def _by_group(values_SN: Floats, groups_N: NDArray[np.int64]) -> Floats:
    """Return the deviations from each row's mean, summed over groups (S, G); the values where each is its own."""
    _, group_N = np.unique(groups_N, return_inverse=True)
    if len(set(group_N.tolist())) == len(group_N):
        return values_SN
    return np.stack([np.bincount(group_N, row_N - row_N.mean()) for row_N in values_SN])


def _laws(images_S: NDArray[Any], errors_S: Floats, noise_SS: Floats, seed: int) -> Floats:
    """Return the law fitted to the errors, and below it those fitted to errors drawn around it: (1 + DRAWS, 3)."""
    variances_S = np.diag(noise_SS)
    law_13 = fit_laws(images_S, errors_S[None], variances_S)
    rng = np.random.default_rng(derived_seed(seed, "learning curve", "noise"))
    spread_SS = np.linalg.cholesky(noise_SS + 1e-12 * np.eye(len(images_S)))
    drawn_DS = 1 - accuracy_of(law_13, images_S) + rng.standard_normal((DRAWS, len(images_S))) @ spread_SS.T
    return np.concatenate([law_13, fit_laws(images_S, drawn_DS.clip(0, 1), variances_S)])


def _forecast(laws_D3: Floats, today: int, factor: int) -> Forecast:
    now_D, then_D = accuracy_of(laws_D3, np.array([today, factor * today])).T
    return Forecast(
        factor=factor,
        images=factor * today,
        accuracy=float(then_D[0]),
        interval=_interval(then_D),
        gain=float(then_D[0] - now_D[0]),
        gain_interval=_interval(then_D - now_D),
    )


def _interval(values_D: Floats) -> tuple[float, float]:
    """Return the middle 95 % of all values but the first, stretched to hold the first."""
    low, high = np.quantile(values_D[1:], TAILS)
    return float(min(low, values_D[0])), float(max(high, values_D[0]))


def _point(images: int, repeats: Sequence[NDArray[np.bool_]], groups_N: NDArray[np.int64]) -> Point:
    accuracies = [float(right_N.mean()) for right_N in repeats]
    return Point(
        images=images,
        accuracy=float(np.mean(accuracies)),
        sd=float(np.std(accuracies, ddof=1)) if len(repeats) > 1 else None,
        repeats=len(repeats),
        interval=accuracy_interval(np.mean(repeats, axis=0), groups_N),
    )


def _class_curve(correct_SN: Floats, groups_N: NDArray[np.int64]) -> ClassCurve:
    """Return the recalls of one class from its own validation images, of these groups."""
    shares, images = correct_SN.shape
    if images == 0:
        return ClassCurve(recalls=(None,) * shares, rise=None, error=None)
    rise_N = correct_SN[-1] - correct_SN[-2]
    # Few images may agree by chance: no rise is surer than half an image.
    apart_G = _by_group(rise_N[None], groups_N)[0]
    error = max(float(apart_G.std()) / math.sqrt(images**2 / len(apart_G)), 0.5 / images)
    return ClassCurve(recalls=tuple(correct_SN.mean(1).tolist()), rise=float(rise_N.mean()), error=error)


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
