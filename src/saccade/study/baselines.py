"""How far one gets without a network: nearest neighbours, linear classifiers, features, in a tenth of the time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.classifiers.featured import FeatureClassifier
from saccade.classifiers.linear import LinearClassifier
from saccade.classifiers.neighbors import METRICS, KNearestNeighbors, described
from saccade.classifiers.objective import Objective
from saccade.classifiers.solvers import Optimum
from saccade.classifiers.standardised_bytes import FEWEST, prepared
from saccade.data.parts import Part, Parts
from saccade.device import derived_seed
from saccade.events import Progress, emit
from saccade.features import Stacked, handmade
from saccade.metrics import accuracy, accuracy_interval
from saccade.train.budget import Clock

# On CIFAR-10 and on photos of clothing all three are as good at 16 px as at 32 px, at a quarter of the cost.
SIDE = 16
NEIGHBORS = (1, 3, 5, 9, 15)
PENALTIES = (1e-1, 1e-2, 1e-3)
PASSES, FEWEST_PASSES = 75, 15  # over the data, for all penalties and for one alone
PROBE = 128  # images whose cost is measured before the rest is decided
SAFETY = 0.7  # of the time that is left is planned with
FEATURED_SIDE = 32  # of the images that edges and colours are taken of
FEATURED_PENALTIES = (3e-2, 1e-2)
WORTH = 0.5  # seconds below which features are not begun

Score = Callable[[NDArray[np.int64], NDArray[np.int64]], float]
"""How good predicted labels are, held against the true ones: higher is better."""


@dataclass(frozen=True)
class Baseline:
    """One classical classifier, its settings chosen on validation images.

    `model_size` is the side in pixels of the images it takes; `note` says what did not fit into its time; `score` is
    what its settings were chosen by.
    """

    name: str
    model_size: int
    classifier: KNearestNeighbors | LinearClassifier | FeatureClassifier
    validation_accuracy: float
    interval: tuple[float, float]
    seconds: float
    note: str
    score: float


@dataclass(frozen=True)
class Sample:
    """Images of a part, all of it or a stratified share, of `total` images.

    `groups_N` numbers those that belong together, such as a patient's.
    """

    x_NHWC: NDArray[Any]
    y_N: NDArray[np.int64]
    groups_N: NDArray[np.int64]
    total: int

    def __len__(self) -> int:
        return len(self.y_N)

    def first(self, count: int) -> "Sample":
        """Return a stratified `count` of them, or all, in the order they have."""
        if count >= len(self):
            return self
        chosen = np.sort(stratified_order(self.y_N)[:count])
        return Sample(self.x_NHWC[chosen], self.y_N[chosen], self.groups_N[chosen], self.total)


def baselines(parts: Parts, clock: Clock, size: int, score: Score = accuracy) -> list[Baseline]:
    """Return k-NN by L1 and by L2, and the linear softmax on pixels and on edges and colours, chosen on validation.

    Their settings, k and the penalty, are those of the highest `score`.

    All in a tenth of the clock's budget: costs are measured on a few images, and what would not fit is left
    out by a seeded choice that keeps the classes' shares. Labels are indices into `parts.classes`.
    """
    end = perf_counter() + (math.inf if clock.budget is None else min(clock.budget / 10, max(clock.remaining(), 0)))
    side = min(size, SIDE)

    def share(fraction: float) -> float:
        return max(0.0, end - perf_counter()) * fraction

    validation = load(parts.validation, side, share(0.1))
    train = load(parts.train, side, share(0.4))
    todo: list[tuple[Callable[[float], Baseline], float]] = [
        (lambda seconds: _neighbors(METRICS[0], train, validation, seconds, score), 0.3),
        (lambda seconds: _neighbors(METRICS[1], train, validation, seconds, score), 0.4),
        (lambda seconds: _linear(train, validation, seconds, score), 0.5),
        (lambda seconds: _featured(parts, min(size, FEATURED_SIDE), seconds, score), 1.0),
    ]
    done = []
    for number, (work, fraction) in enumerate(todo):
        emit(Progress(task="baselines", done=number, total=len(todo)))
        if number < len(todo) - 1 or share(fraction) >= WORTH:
            done.append(work(share(fraction)))
    emit(Progress(task="baselines", done=len(todo), total=len(todo)))
    return done


def stratified_order(labels_N: NDArray[np.int64], groups_N: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return a seeded order whose every beginning has the classes' shares, and one of each class first.

    Within a class, images of one of `groups_N` follow on each other, as one that is drawn.
    """
    rng = np.random.default_rng(derived_seed(0, "baselines"))
    place_N = np.empty(len(labels_N))
    for label in np.unique(labels_N):
        own = np.flatnonzero(labels_N == label)
        members = rng.permutation(own)
        if groups_N is not None:
            _, first_G, group_M = np.unique(groups_N[own], return_index=True, return_inverse=True)
            drawn_M = np.argsort(members)  # a group goes where its first image, and it alone, was drawn
            members = own[np.lexsort((drawn_M, drawn_M[first_G[group_M]]))]
        place_N[members] = (np.arange(len(members)) + rng.random()) / len(members)
        place_N[members[0]] -= 1
    return np.argsort(place_N, kind="stable")


def stratified_share(part: Part, most: int) -> Part:
    """Return at most so many of a part's images, all classes alike, in their own order."""
    return part.select(np.sort(stratified_order(part.labels_N)[:most]))


def load(part: Part, side: int, seconds: float) -> Sample:
    """Return as many of a part's images as can be had in `seconds`, at `side` pixels; at least the probe."""
    order = stratified_order(part.labels_N)
    if seconds == math.inf:
        return Sample(part.squares(side), part.labels_N, part.groups_N, len(part))
    begun = perf_counter()
    probe = part.select(order[:PROBE]).squares(side)
    spent = perf_counter() - begun
    chosen = order[: max(PROBE, int(SAFETY * seconds / spent * len(probe)))]
    x_NHWC = np.concatenate([probe, part.select(chosen[PROBE:]).squares(side)])
    place = np.argsort(chosen)
    return Sample(x_NHWC[place], part.labels_N[chosen[place]], part.groups_N[chosen[place]], len(part))


def _neighbors(metric: str, train: Sample, validation: Sample, seconds: float, score: Score) -> Baseline:
    begun = perf_counter()
    few = KNearestNeighbors(k=1, metric=metric).fit(train.x_NHWC[:PROBE], train.y_N[:PROBE])
    few.predict(validation.x_NHWC[:1])  # compiles, which is not to count as the cost of an image
    if seconds < math.inf:
        train, validation = _affordable(metric, train, validation, seconds - (perf_counter() - begun))
    ks = [k for k in NEIGHBORS if k <= len(train)]
    model = KNearestNeighbors(k=ks[-1], metric=metric).fit(train.x_NHWC, train.y_N)
    predicted = model.predict_each(validation.x_NHWC, ks)
    best = int(np.argmax([score(y_N, validation.y_N) for y_N in predicted]))
    model.set_params(k=ks[best])
    return _baseline(described(model), model, predicted[best], perf_counter() - begun, (train, validation), score)


def _affordable(metric: str, train: Sample, validation: Sample, seconds: float) -> tuple[Sample, Sample]:
    """Cut validation images first, down to 500, then training images, to what can be searched in `seconds`."""
    rows = train.x_NHWC[: 128 * PROBE]
    begun = perf_counter()
    KNearestNeighbors(k=1, metric=metric).fit(rows, train.y_N[: len(rows)]).predict(validation.x_NHWC[:PROBE])
    spent = perf_counter() - begun
    pairs = SAFETY * (seconds - spent) * len(rows) * min(PROBE, len(validation)) / spent
    validation = validation.first(max(int(pairs / len(train)), 500))
    return train.first(max(int(pairs / len(validation)), PROBE)), validation


def _linear(
    train: Sample, validation: Sample, seconds: float, score: Score, penalties: Sequence[float] = PENALTIES
) -> Baseline:
    begun = perf_counter()
    if seconds < math.inf:
        cost = _cost_of_pass(train)
        planned = SAFETY * (seconds - (perf_counter() - begun))
        if cost * PASSES * len(train) > planned:
            penalties = penalties[1:2]
            train = train.first(max(int(planned / (cost * FEWEST_PASSES)), PROBE))
    limit = None if seconds == math.inf else max(0.0, SAFETY * (seconds - (perf_counter() - begun)))
    models = LinearClassifier(solver=Optimum(time_limit=limit)).fit_path(train.x_NHWC, train.y_N, penalties)
    predicted = [model.predict(validation.x_NHWC) for model in models]
    best = int(np.argmax([score(y_N, validation.y_N) for y_N in predicted]))
    model, seconds = models[best], perf_counter() - begun
    early = f"stopped by the clock at step {model.n_iter_}" if model.stopped_ == "time" else ""
    return _baseline("linear softmax", model, predicted[best], seconds, (train, validation), score, early)


def _featured(parts: Parts, side: int, seconds: float, score: Score) -> Baseline:
    """Return the linear softmax on edges and colours, of as many images as there is time to take them of."""
    begun = perf_counter()
    train = load(parts.train, side, 0.2 * seconds)
    validation = load(parts.validation, side, 0.05 * seconds)
    features = Stacked(handmade(side))
    few = train.first(PROBE)
    if seconds < math.inf:
        start = perf_counter()
        features.fit(few.x_NHWC)
        cost = (perf_counter() - start) / len(few)
        images = max(int(0.4 * (seconds - (perf_counter() - begun)) / cost), 2 * PROBE)
        validation = validation.first(max(images // 4, PROBE))
        train = train.first(max(images - len(validation), PROBE))
    as_features = [
        replace(sample, x_NHWC=rows)
        for sample, rows in (
            (train, features.fit_transform(train.x_NHWC)),
            (validation, features.transform(validation.x_NHWC)),
        )
    ]
    left = seconds - (perf_counter() - begun)
    found = _linear(as_features[0], as_features[1], left, score, FEATURED_PENALTIES)
    assert isinstance(found.classifier, LinearClassifier)
    return replace(
        found,
        name="linear softmax on edges and colours",
        model_size=side,
        classifier=FeatureClassifier.of(features, found.classifier),
        seconds=perf_counter() - begun,
    )


def _cost_of_pass(train: Sample) -> float:
    """Return the seconds an image takes in one evaluation of the softmax objective."""
    few = train.first(FEWEST)
    x_ND, classes = few.x_NHWC.reshape(len(few), -1), int(few.y_N.max()) + 1
    with prepared(x_ND) as data:
        objective = Objective(data, few.y_N, classes)
        begun = perf_counter()
        objective(np.zeros((classes, x_ND.shape[1] + 1), np.float32))
        return (perf_counter() - begun) / len(few)


def _baseline(
    name: str,
    model: KNearestNeighbors | LinearClassifier | FeatureClassifier,
    predicted_N: NDArray[np.int64],
    seconds: float,
    samples: tuple[Sample, Sample],
    score: Score,
    early: str = "",
) -> Baseline:
    used = [
        f"{len(sample):,} of {sample.total:,} {kind} images"
        for sample, kind in zip(samples, ("training", "validation"), strict=True)
        if len(sample) < sample.total
    ]
    notes = [f"on {' and '.join(used)}"] if used else []
    y_N = samples[1].y_N
    right_N = predicted_N == y_N
    note = "; ".join(notes + ([early] if early else []))
    side = samples[0].x_NHWC.shape[1]
    interval, reached = accuracy_interval(right_N, samples[1].groups_N), score(predicted_N, y_N)
    return Baseline(name, side, model, float(right_N.mean()), interval, seconds, note, reached)
