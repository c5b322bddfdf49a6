"""Reading loss curves in words (lecture 7, step 6): what a curve shows, why one thinks so, what to do."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST = 6
"""Points of a curve that can be read."""
RISEN, FALLEN = 1.5, 0.02
"""Times its first value a loss has exploded at; the share of it that counts as a fall."""
NOISY = 0.25
"""Standard deviation of the steps around the curve, as a share of the loss, from which on it is noisy."""
STILL = 0.5
"""Share of its fall that a loss makes in its last third where the learning rate is too low to be done."""
STAYS = 0.05
"""Share of its fall that a loss on a plateau may still move in its last third, chance included."""
GAP = 1.1
"""Times its lowest value that the validation loss has risen to where the network overfits."""

MOST = 256
"""Points of a curve that is kept while a training goes on."""

OF_THE_END = ("too low", "plateau", "noise")
"""Kinds that the end of a curve shows, where the rate was not lowered."""


@dataclass(frozen=True)
class Reading:
    """One thing a loss curve shows: a `kind` of a few fixed words, and a sentence with evidence and advice.

    Kinds are "too high", "not started", "too low", "plateau", "noise", "overfitting".
    """

    kind: str
    sentence: str


def read_curve(losses: Sequence[float], validation: Sequence[float] = (), *, annealed: bool = False) -> list[Reading]:
    """Return what the training losses, in order of the steps, and the validation losses show; nothing if healthy.

    Where the learning rate was `annealed`, lowered to nothing, the end of a curve shows the schedule: "too low",
    "plateau" and "noise" are then not looked for.

    >>> read_curve([2.3, 2.31, 2.3, 2.3, 2.29, 2.3])[0].kind
    'not started'
    """
    losses_S = np.asarray(losses, np.float64)
    found = [_of_training(losses_S), _noise(losses_S), _overfitting(validation)]
    readings = [each for each in found if each is not None]
    if annealed:
        readings = [each for each in readings if each.kind not in OF_THE_END]
    return [each for each in readings if each.kind == "too high"] or readings


def read_history(history: Sequence[Mapping[str, Any]]) -> list[Reading]:
    """Return what the lines of a finished training's history show, whose learning rate was lowered to nothing."""
    losses, held = ([line[name] for line in history if name in line] for name in ("loss", "validation_loss"))
    return read_curve(losses, held, annealed=True)


def _of_training(losses_S: NDArray[np.float64]) -> Reading | None:
    """Return the shape of the curve, if it is not that of a loss that fell and levels off at a low."""
    if len(losses_S) < FEWEST:
        return None
    if not np.isfinite(losses_S).all():
        return Reading("too high", "The loss stopped being a number: the learning rate is too high; try a third of it.")
    first, middle, last = (float(np.median(part)) for part in np.array_split(losses_S, 3))
    few, some = max(2, len(losses_S) // 20), max(2, len(losses_S) // 10)
    start, end = float(losses_S[:few].mean()), float(losses_S[-some:].mean())
    chance = 5 * spread(losses_S[len(losses_S) // 3 :]) / math.sqrt(some)
    lowest = float(smoothed(losses_S, len(losses_S) // 20).min())
    if end > RISEN * max(lowest, 1e-12) and end > lowest + max(0.2 * abs(start), chance):
        return Reading(
            "too high",
            f"The loss rose from {lowest:.3g} to {end:.3g}: the learning rate is too high; try a third of it.",
        )
    fallen = start - end
    if fallen < FALLEN * abs(start):
        return Reading(
            "not started",
            f"The loss went from {start:.3g} to {end:.3g} and has not begun to fall: look at the checks before "
            "training, the labels and the initial weights, and try a higher learning rate.",
        )
    late, early = middle - last, first - middle
    if late >= STILL * fallen - 1e-12 or (late > 0.2 * fallen and 0.6 * early < late < 1.7 * early):
        return Reading(
            "too low",
            f"The loss still falls as steadily at the end ({end:.3g}) as before: the learning rate is low for the "
            "time there was; try three times as much, or train longer.",
        )
    error = 1.25 * spread(losses_S[len(losses_S) // 3 :]) * math.sqrt(6 / len(losses_S))  # of two medians' difference
    if fallen < 0.3 * abs(start) and abs(late) + 2 * error < STAYS * fallen:
        return Reading(
            "plateau",
            f"The loss fell from {start:.3g} to {end:.3g} and stays there: lower the learning rate now, or take a "
            "network with more capacity.",
        )
    return None


def _noise(losses_S: NDArray[np.float64]) -> Reading | None:
    """Return that the curve jumps about, where its steps differ much from their neighbours' mean."""
    if len(losses_S) < 3 * FEWEST or not np.isfinite(losses_S).all():
        return None
    late_S = losses_S[len(losses_S) // 3 :]
    around = spread(late_S)
    share = around / max(float(np.abs(late_S).mean()), 1e-12)
    if share < NOISY or around < 0.03 * float(losses_S[: max(2, len(losses_S) // 20)].mean()):
        return None
    return Reading(
        "noise",
        f"The loss jumps from step to step by {share:.0%} of itself: a larger batch or a lower learning rate would "
        "make it smoother.",
    )


def _overfitting(validation: Sequence[float]) -> Reading | None:
    """Return that the validation loss has risen from its lowest."""
    held_E = np.asarray(validation, np.float64)
    if len(held_E) < 3 or not np.isfinite(held_E).all():
        return None
    smooth_E = smoothed(held_E, len(held_E) // 20)
    place, last = int(smooth_E.argmin()), float(smooth_E[-1])
    if last <= GAP * float(smooth_E[place]) or place == len(held_E) - 1:
        return None
    return Reading(
        "overfitting",
        f"The validation loss was lowest at {float(held_E[place]):.3g} and has risen to {float(held_E[-1]):.3g}: the "
        "network overfits; stop there, or add images, augmentation or weight decay.",
    )


class Curve:
    """A curve of fewer than MOST points, each the mean of `stride` values: where it would have more, two become one.

    >>> curve = Curve()
    >>> for value in range(MOST):
    ...     curve.add(value)
    >>> curve.stride, curve.points[:3]
    (2, [0.5, 2.5, 4.5])
    """

    def __init__(self, points: Sequence[float] = (), stride: int = 1, rest: Sequence[float] = ()) -> None:
        self.points, self.stride, self.rest = list(points), stride, list(rest)

    def add(self, value: float) -> None:
        """Append a value."""
        self.rest.append(value)
        if len(self.rest) < self.stride:
            return
        self.points.append(sum(self.rest) / self.stride)
        self.rest.clear()
        if len(self.points) == MOST:
            self.points = [(one + other) / 2 for one, other in zip(self.points[::2], self.points[1::2], strict=True)]
            self.stride *= 2

    def plain(self) -> dict[str, Any]:
        """Return plain values, of which `Curve(**values)` is the same."""
        return {"points": [*self.points], "stride": self.stride, "rest": [*self.rest]}


def spread(values_S: NDArray[np.float64]) -> float:
    """Return the standard deviation of values around a smooth curve; 0 for fewer than three.

    Of a second difference of independent normal values the variance is six times theirs, and a slope does
    not count; its mean size is sqrt(2 / pi) of its standard deviation.
    """
    second = np.diff(values_S, 2)
    return float(np.abs(second).mean() / math.sqrt(12 / math.pi)) if len(second) else 0.0


def smoothed(values_S: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Return each value averaged with its neighbours, as many on both sides: `reach`, or what there are.

    >>> smoothed(np.array([3.0, 6.0, 0.0]), 2).tolist()
    [3.0, 3.0, 0.0]
    """
    last = len(values_S) - 1
    reaches = [min(reach, place, last - place) for place in range(len(values_S))]
    return np.array([values_S[place - r : place + r + 1].mean() for place, r in enumerate(reaches)])
