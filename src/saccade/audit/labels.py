"""Labels that are likely wrong: out-of-fold predictions, and a model of labels some of which are wrong.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021, for the first;
Sukhbaatar et al., "Training Convolutional Networks with Noisy Labels", 2015, for the second.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from saccade.classifiers.linear import LinearClassifier
from saccade.classifiers.solvers import Optimum
from saccade.data.splits import fold_numbers
from saccade.events import Finding, Progress, emit
from saccade.metrics import best_temperature

FOLDS, ROUNDS = 5, 3
"""Parts that are held out in turn, and how often they are drawn anew."""
STRENGTHS = (0.3, 0.1, 0.03, 0.01)
UNSEEN = 20.0
"""How far below all others the score of a class lies that a classifier never saw."""
SHARPER = tuple(np.geomspace(1.1, 0.4, 15).tolist())
"""Temperatures tried, in those that fit best were no label wrong: wrong ones make a classifier look too sure."""
ROWS = 20_000
"""Images that a classifier is fitted to at the most: more tell a linear one little, and take memory and time."""
MOST, HALVINGS = 0.3, 30
"""The share of wrong labels at the most, and the steps that find it."""

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Suspect:
    """One image whose label is likely wrong: what it is labelled, what the model says, and how surely."""

    key: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Noisy:
    """Labels explained by class probabilities (N, K) and a `share` of wrong ones, drawn from the other classes.

    `wrong_N` is the probability that each label is wrong, `log_loss` the mean over labels: small where they are likely.
    """

    probabilities_NK: Floats
    share: float
    wrong_N: Floats
    log_loss: float

    @classmethod
    def of(cls, scores_NK: Floats, labels_N: Indices) -> "Noisy":
        """Find the temperature of scores and the share of wrong labels at which the labels are likeliest.

        A label has the probability (1 - e) p + e (1 - p) / (K - 1): that of its class, p, but for a share e.

        >>> scores = np.log([[0.9, 0.1]] * 9 + [[0.1, 0.9]] * 9 + [[0.001, 0.999]])
        >>> Noisy.of(scores, np.array([0] * 9 + [1] * 9 + [0])).wrong_N.round(1)[[0, 9, 18]].tolist()
        [0.0, 0.0, 1.0]
        """
        first = best_temperature(scores_NK, labels_N)
        tried = (softmax(scores_NK / (first * factor), axis=1) for factor in SHARPER)
        return min((cls._with(p_NK, labels_N) for p_NK in tried), key=lambda each: each.log_loss)

    @classmethod
    def _with(cls, p_NK: Floats, labels_N: Indices) -> "Noisy":
        own_N = np.maximum(p_NK[np.arange(len(labels_N)), labels_N], 1e-12)
        other_N = (1 - own_N) / (p_NK.shape[1] - 1)
        low, high = 0.0, MOST
        for _ in range(HALVINGS):  # the likelihood is concave in the share
            share = (low + high) / 2
            rising = ((other_N - own_N) / ((1 - share) * own_N + share * other_N)).sum() > 0
            low, high = (share, high) if rising else (low, share)
        likely_N = (1 - low) * own_N + low * other_N
        return cls(p_NK, low, low * other_N / likely_N, -float(np.log(likely_N).mean()))

    def suspects(self) -> Indices:
        """Return the images whose labels are more likely wrong than right, the surest first."""
        order = np.argsort(-self.wrong_N, kind="stable")
        found: Indices = order[self.wrong_N[order] > 0.5]
        return found


def out_of_fold(x_ND: NDArray[np.float32], labels_N: Indices, groups_N: Indices, end: float = math.inf) -> Floats:
    """Return each image's log-probabilities (N, K) by linear softmaxes fitted without it and what is like it.

    Labels are 0 … K-1; images of one group are in one fold. That one of STRENGTHS is taken which makes the labels
    likeliest, some of them wrong (`Noisy`). Scores are averaged over ROUNDS draws of the folds, or as many as end
    before `end`, by `perf_counter`.
    """
    strengths: tuple[float, ...] = STRENGTHS
    rounds: list[Floats] = []
    for number in range(ROUNDS):
        begun = perf_counter()
        scores_SNK = _held_out(x_ND, labels_N, fold_numbers(labels_N, groups_N, FOLDS, seed=number), strengths, end)
        best = 0 if rounds else int(np.argmin([Noisy.of(each, labels_N).log_loss for each in scores_SNK]))
        strengths = strengths[best : best + 1]
        rounds.append(scores_SNK[best])
        if 2 * perf_counter() - begun > end:
            break
    probabilities_NK = Noisy.of(np.mean(rounds, axis=0), labels_N).probabilities_NK
    return np.asarray(np.log(np.maximum(probabilities_NK, 1e-12)))


def _held_out(
    x_ND: NDArray[np.float32], labels_N: Indices, fold_N: Indices, strengths: Sequence[float], end: float
) -> Floats:
    """Return the scores (S, N, K) of each image at each strength, by classifiers of the other folds."""
    scores_SNK = np.zeros((len(strengths), len(labels_N), int(labels_N.max()) + 1))
    for fold in range(FOLDS):
        held, rest = np.flatnonzero(fold_N == fold), np.flatnonzero(fold_N != fold)
        rest = rest[_sample(labels_N[rest])]
        if len(held) and len(np.unique(labels_N[rest])) > 1:
            limit = None if end == math.inf else max(0.0, (end - perf_counter()) / (FOLDS - fold))
            found = LinearClassifier(solver=Optimum(time_limit=limit)).fit_path(x_ND[rest], labels_N[rest], strengths)
            found += found[-1:] * (len(strengths) - len(found))
            for scores_NK, model in zip(scores_SNK, found, strict=True):
                seen_NK = model.scores(x_ND[held])
                scores_NK[held] = seen_NK.min(1, keepdims=True) - UNSEEN
                scores_NK[held, labels_N[held]] = seen_NK.max(1)  # a class of one image has no other to be told by
                scores_NK[np.ix_(held, model.classes_)] = seen_NK
        emit(Progress(task="labels", done=fold + 1, total=FOLDS, unit="folds"))
    return scores_SNK


def _sample(labels_N: Indices) -> Indices:
    """Return ROWS images at the most: of each class its share, the first ones, and one at least."""
    order = np.argsort(labels_N, kind="stable")
    counts_K = np.bincount(labels_N)
    place_N = np.arange(len(order)) - (np.cumsum(counts_K) - counts_K)[labels_N[order]]
    return order[np.argsort(place_N / counts_K[labels_N[order]], kind="stable")[:ROWS]]


def describe(noisy: Noisy, labels_N: Indices, keys: Sequence[str], classes: Sequence[str]) -> list[Suspect]:
    """Return the suspects with names, the surest first."""
    found = []
    for i in noisy.suspects().tolist():
        others_K = noisy.probabilities_NK[i].copy()
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
