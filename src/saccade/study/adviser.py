"""Advice on transfer (lecture 7): how much data there is, how like what the network knows, hence what to train.

The lecture's table has four cells: few images, similar: a linear classifier on top; few, different: linear on
earlier stages too; many, similar: fine-tune a few layers; many, different: fine-tune more. Of few images it leaves
open what is very different; there fine-tuning more is advised too. docs/transfer.md has the figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.classifiers.linear import LinearClassifier
from saccade.classifiers.solvers import Optimum
from saccade.events import Progress, emit
from saccade.metrics import design_effect
from saccade.nn.stages import END
from saccade.study.folds import Setting, best
from saccade.study.paths import TOLERANCE, linear

CELLS: Mapping[str, str] = {
    "top": "a linear classifier on top",
    "stages": "a linear classifier on several stages",
    "few": "fine-tuning a few layers",
    "more": "fine-tuning more layers",
}
TABLE: Mapping[tuple[bool, bool], str] = {
    (False, True): "top",
    (False, False): "stages",
    (True, True): "few",
    (True, False): "more",
}
"""The cell by whether there are many images a class, and whether they are similar to what the network knows."""
MANY = 30
"""Images of the median class from which on fine-tuning gains more by them than it loses by overfitting."""
FAR = 0.5
"""Standard deviations between the statistics of features and the network's own, from which images are different."""
WRONG = 1 / 3
"""Share of the last stage's mistakes that all stages together avoid, from which images are very different."""
FOLDS, PENALTIES = 5, (0.1, 0.03, 0.01)
MOST = 2_000
"""Images that linear probes are cross-validated on: the error of an accuracy is then a point at the most."""


@dataclass(frozen=True)
class Stage:
    """How far the classes are apart after one stage of the network, for a linear classifier of its features.

    `accuracy` is cross-validated on training images, `error` its standard error; `drift` says how far the batch
    norms up to there see other statistics than those they were trained on, None where there are none.
    """

    name: str
    features: int
    accuracy: float
    error: float
    drift: float | None = None


@dataclass(frozen=True)
class Advice:
    """What was measured, the cell of the lecture's table that it leads to, and why in two sentences.

    `together` ± `together_error` is the accuracy on all stages' features side by side, and `gain` ± `gain_error`
    what it is above that on the last stage's. `seen` is how many of the `images` the network was trained on: where
    there are some, a third sentence tells it.
    """

    cell: str
    why: str
    images: int
    images_a_class: int
    chance: float
    stages: tuple[Stage, ...]
    together: float
    together_error: float
    gain: float
    gain_error: float
    many: bool
    similar: bool
    seen: int = 0

    def plain(self) -> dict[str, Any]:
        """Return plain values, for the summary."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Advice":
        """Return the advice that `plain` described."""
        return cls(**{**plain, "stages": tuple(Stage(**each) for each in plain["stages"])})


def advise(
    x_ND: NDArray[np.float32],
    y_N: NDArray[np.int64],
    widths: Mapping[str, int],
    *,
    counts_K: NDArray[np.int64],
    drift: Mapping[str, float | None],
    folds: tuple[NDArray[np.int64], NDArray[np.int64]],
    seen: int = 0,
) -> Advice:
    """Return advice from frozen features of training images, those of the stages side by side.

    `widths` are how many of the columns are each stage's, in order; `counts_K` the training images of each
    class, of which x_ND may be a sample; `folds` number the fold of each image, by which linear probes
    are validated, and the images that belong together; the network was trained on `seen` of the training images.
    """
    fold_N, groups_N = folds
    ends = np.cumsum([*widths.values()])
    columns = {name: slice(int(end - wide), int(end)) for (name, wide), end in zip(widths.items(), ends, strict=True)}
    probes: dict[str, Setting] = {}
    for done, (name, own) in enumerate(columns.items()):
        emit(Progress(task="linear probes", done=done, total=len(columns) + 1, unit="stages"))
        probes[name] = _probed(x_ND[:, own], y_N, fold_N)
    together = _probed(x_ND, y_N, fold_N)
    stages = [
        Stage(name, widths[name], each.mean, _error(each.predicted_N == y_N, groups_N), drift.get(name))
        for name, each in probes.items()
    ]
    last, rest = probes[END].predicted_N == y_N, together.predicted_N == y_N
    gains_N = rest.astype(float) - last
    counts_K = counts_K[counts_K > 0]
    return _placed(
        stages,
        (together.mean, _error(rest, groups_N), float(gains_N.mean()), _error(gains_N, groups_N)),
        (int(counts_K.sum()), int(np.median(counts_K)), float(counts_K.max() / counts_K.sum())),
        seen,
    )


def _placed(
    stages: Sequence[Stage], measured: tuple[float, float, float, float], data: tuple[int, int, float], seen: int
) -> Advice:
    """Return the cell that the measurements lead to, and why."""
    together, _, gain, error = measured
    images, a_class, chance = data
    drift = stages[-1].drift
    helped = gain > error
    far = drift is not None and drift > FAR
    many, similar = a_class >= MANY, not (helped or far)
    wrong = gain > max(2 * error, WRONG * (1 - stages[-1].accuracy))
    cell = "more" if wrong else TABLE[many, similar]
    size = f"{a_class:,} images in the median class, which is {'enough to fine-tune' if many else 'few'}"
    end = stages[-1].accuracy
    told = (
        f"a linear classifier tells {100 * end:.1f} % right on the features of the last stage and "
        f"{100 * together:.1f} % on those of all stages, a gain of {100 * gain:.1f} points beside a standard error of "
        f"{100 * error:.1f}"
    )
    shifted = "" if drift is None else f", and their statistics lie {drift:.2f} sd from the network's own"
    kind = "similar to" if similar else f"{'very ' if wrong else ''}different from"
    known = ", which pays with few images too where the upper layers are wrong for them" if wrong and not many else ""
    why = (
        f"There are {size}, and they are {kind} what the network knows: {told}{shifted}. "
        f"Hence {CELLS[cell]}{known}; always naming the commonest class would be right for {100 * chance:.1f} %."
    )
    if seen:
        why += (
            f" The network was trained on {seen:,} of these {images:,} training images, so its features look better on "
            "them than they are, those of the last stage most of all: on new images earlier stages may help more."
        )
    return Advice(cell, why, images, a_class, chance, tuple(stages), *measured, many, similar, seen)


def _probed(x_ND: NDArray[np.float32], y_N: NDArray[np.int64], fold_N: NDArray[np.int64]) -> Setting:
    classifier = LinearClassifier(solver=Optimum(tolerance=TOLERANCE))
    return best(linear(x_ND, y_N, fold_N, [classifier], PENALTIES, task="linear probes")[0])


def _error(values_N: NDArray[Any], groups_N: NDArray[np.int64]) -> float:
    """Return the standard error of a mean of values that are about independent, but for those of a group."""
    return float(np.std(values_N) * (design_effect(values_N, groups_N) / max(1, len(values_N))) ** 0.5)
