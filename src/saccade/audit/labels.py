"""Labels that are likely wrong: out-of-fold predictions, and confident learning.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.classifiers.linear import LinearClassifier
from saccade.data.splits import fold_numbers
from saccade.events import Finding, Progress, emit

FOLDS = 5
SURE = 0.75
"""Share of the labels doubted that would have to be wrong, as estimated: a person's time is not to be wasted."""
FIRST = 10
"""So many images, the most doubtful ones, are too few to estimate anything by."""

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Suspect:
    """One image whose label is likely wrong: what it is labelled, what the model says, and how surely."""

    key: str
    label: str
    predicted: str
    probability: float


def out_of_fold(x_ND: NDArray[np.float32], labels_N: Indices, groups_N: Indices, strength: float = 0.1) -> Floats:
    """Return each image's class probabilities (N, K) from a linear softmax fitted without it and what is like it.

    Labels are 0 … K-1; images of one group are in one fold. The probability of a class with no image outside a
    fold is 0 there.
    """
    fold_N = fold_numbers(labels_N, groups_N, FOLDS, seed=0)
    probabilities_NK = np.zeros((len(labels_N), int(labels_N.max()) + 1))
    for fold in range(FOLDS):
        held_N = fold_N == fold
        if held_N.any() and len(np.unique(labels_N[~held_N])) > 1:
            model = LinearClassifier(strength=strength).fit(x_ND[~held_N], labels_N[~held_N])
            probabilities_NK[np.ix_(held_N, model.classes_)] = model.predict_proba(x_ND[held_N])
        emit(Progress(task="labels", done=fold + 1, total=FOLDS, unit="folds"))
    return probabilities_NK


def suspects(probabilities_NK: Floats, labels_N: Indices) -> Indices:
    """Return the images whose labels are likely wrong, the surest first.

    A class has a threshold: the mean probability it has on images labelled with it. An image is the more doubtful
    the smaller the probability of its label, as a share of that threshold, is; doubted it is where another class
    exceeds its own. How many wrong labels there are at most follows from how many images are that doubtful, beside
    how many would be under each of the other labels; as many are returned as keep SURE of them wrong by that.

    >>> suspects(np.array([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.1, 0.9]]), np.array([0, 0, 1, 1])).tolist()
    [2]
    """
    images, classes = probabilities_NK.shape
    own_N = probabilities_NK[np.arange(images), labels_N]
    counts_K = np.bincount(labels_N, minlength=classes)
    thresholds_K = np.bincount(labels_N, own_N, minlength=classes) / np.maximum(counts_K, 1)
    shares_NK = np.where(counts_K > 0, probabilities_NK / np.maximum(thresholds_K, 1e-9), 0.0)
    other_NK = np.ones_like(shares_NK, dtype=bool)
    other_NK[np.arange(images), labels_N] = False
    shares_N = shares_NK[np.arange(images), labels_N]
    order = np.argsort(shares_N, kind="stable")
    wrong = np.sort(shares_NK[other_NK & (counts_K > 0)])
    if_wrong_N = np.searchsorted(wrong, shares_N[order], side="right") / max(len(wrong), 1)
    seen_N = np.arange(1, images + 1)
    first = min(FIRST, -(-images // FIRST))
    least = (seen_N / np.maximum(if_wrong_N, 1e-9))[first - 1 :].min()
    sure_N = least * if_wrong_N >= SURE * seen_N
    kept = order[: int(np.flatnonzero(sure_N)[-1]) + 1] if sure_N.any() else order[:0]
    others_N = np.where(other_NK, shares_NK, 0.0).max(1)
    found: Indices = kept[(others_N[kept] >= 1) & (shares_N[kept] < 1)]
    return found


def describe(probabilities_NK: Floats, labels_N: Indices, keys: Sequence[str], classes: Sequence[str]) -> list[Suspect]:
    """Return the suspects with names, the surest first."""
    found = []
    for i in suspects(probabilities_NK, labels_N).tolist():
        others_K = probabilities_NK[i].copy()
        others_K[labels_N[i]] = -1
        best = int(others_K.argmax())
        found.append(Suspect(keys[i], classes[labels_N[i]], classes[best], float(others_K[best])))
    return found


def tell(found: Sequence[Suspect], by: str) -> None:
    """Emit a Finding of the kind "label" for each pair of classes, those with most suspects first."""
    pairs: dict[tuple[str, str], list[Suspect]] = {}
    for suspect in found:
        pairs.setdefault((suspect.label, suspect.predicted), []).append(suspect)
    for (label, predicted), members in sorted(pairs.items(), key=lambda pair: -len(pair[1])):
        surest = members[0].probability
        detail = f'labelled "{label}", taken for "{predicted}" (up to {surest:.0%}) by {by}: look at them'
        emit(Finding(kind="label", detail=detail, paths=tuple(each.key for each in members), severity="warning"))


def oriented_gradients(x_NHWC: NDArray[np.uint8], cells: int = 8, bins: int = 9) -> NDArray[np.float32]:
    """Return simple features of uint8 RGB images (N, S, S, 3), S a multiple of `cells`: (N, D) float32.

    Histograms of gradient directions in cells, weighted by strength, square roots of their shares (Dalal and
    Triggs 2005, without overlapping blocks), and each quarter cell's mean colour: for where no pretrained
    network is at hand.
    """
    images, side = x_NHWC.shape[:2]
    step = side // cells
    blocks = []
    for start in range(0, images, 1024):
        x = x_NHWC[start : start + 1024].astype(np.float32)
        grey = x.mean(3)
        dy, dx = np.gradient(grey, axis=(1, 2))
        strength = np.hypot(dx, dy)
        direction = (np.arctan2(dy, dx) % np.pi) * (bins / np.pi)
        shares = []
        for number in range(bins):
            near = np.abs((direction - number + bins / 2) % bins - bins / 2)
            weighted = strength * np.clip(1 - near, 0, None)
            shares.append(weighted.reshape(len(x), cells, step, cells, step).sum((2, 4)))
        histogram = np.stack(shares, 3)
        histogram /= histogram.sum(axis=(1, 2, 3), keepdims=True) + 1e-3
        colour = x.reshape(len(x), cells, step, cells, step, 3).mean((2, 4)) / 255
        blocks.append(np.concatenate([np.sqrt(histogram).reshape(len(x), -1), colour.reshape(len(x), -1)], 1))
    return np.concatenate(blocks).astype(np.float32)
