"""The learning-rate range test: which rates make the loss go down, how surely, and where it rises again."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from saccade.device import derived_seed
from saccade.optim import DEFAULTS
from saccade.train.budget import Pace
from saccade.train.loop import train
from saccade.train.preparing import unchanged
from saccade.train.reading import smoothed, spread
from saccade.train.session import Session
from saccade.train.watch import Watch

LOW, HIGH = 1e-4, 1e2
"""The rates tried, as factors on the optimizer's default."""
STEPS, TIMES = 60, 3
BLOWN_UP = 4.0
"""A test ends once the loss is this many times its lowest."""
FALLEN = 0.02
"""The loss has gone down once it has fallen by this share of the first one."""
REACH = 2
"""Steps on either side that a loss is averaged with."""
SLOPE_REACH = 5
"""Steps on either side over which its slope is taken: a decade of rates in all."""
CHANCE = 4.0
"""Standard errors of such an average that noise alone may make a loss fall by."""


@dataclass(frozen=True)
class RangeTest:
    """The loss after each of rising rates (R,), for each of T repetitions (T, R); NaN once one had blown up.

    `suggestions` are the rates at which the loss fell fastest, one a repetition in which it fell; `limits`
    those from which on it rose again.
    """

    rates_R: NDArray[np.float64]
    losses_TR: NDArray[np.float64]
    suggestions: tuple[float, ...]
    limits: tuple[float, ...]

    @property
    def suggestion(self) -> float | None:
        """The geometric mean of the suggestions; None where the loss never fell."""
        return float(np.exp(np.mean(np.log(self.suggestions)))) if self.suggestions else None

    @property
    def spread(self) -> float:
        """The factor within which the suggestion of a test on other batches is to lie; infinite where none can tell.

        So it does 95 times in 100 where the logarithms of single suggestions are normal, by Student's t.
        """
        times = len(self.suggestions)
        if times < 2:
            return math.inf
        error = float(np.std(np.log(self.suggestions), ddof=1)) * math.sqrt(2 / times)
        return math.exp(float(stats.t.ppf(0.975, times - 1)) * error)

    @property
    def limit(self) -> float:
        """The lowest of the limits."""
        return min(self.limits)


def range_test(
    session: Session, *, times: int = TIMES, steps: int = STEPS, seconds: Callable[[], float] = lambda: math.inf
) -> RangeTest | None:
    """Train copies of a network for a few steps at ever higher rates (Smith, 2017), each on batches of its own.

    Fewer than `times` where `seconds()`, the time left, runs out; None where there was none for even one, and where
    the rule is lbfgs, which finds the length of each step itself.
    """
    if session.rule == "lbfgs":
        return None
    default = DEFAULTS[session.rule].learning_rate
    rates_R = default * np.geomspace(LOW, HIGH, steps)
    curves: list[NDArray[np.float64]] = []
    for time in range(times):
        losses = _losses(_repetition(session, time), rates_R, seconds)
        if losses is None:
            break
        curves.append(losses)
    if not curves:
        return None
    readings = [read_rates(rates_R, losses) for losses in curves]
    suggestions = tuple(suggested for suggested, _ in readings if suggested is not None)
    return RangeTest(rates_R, np.stack(curves), suggestions, tuple(limit for _, limit in readings))


def read_rates(rates_R: NDArray[np.float64], losses_R: NDArray[np.float64]) -> tuple[float | None, float]:
    """Return the rate about which the loss fell fastest, None where it hardly fell, and that from which on it rose.

    Losses are averaged over neighbouring steps first. It has risen once half of what it fell by is lost.
    """
    finite_R = losses_R[np.isfinite(losses_R)]
    if not len(finite_R):
        return None, float(rates_R[0])
    smooth_R = smoothed(finite_R, REACH)
    first, place = float(smooth_R[: 2 * REACH + 1].mean()), int(smooth_R.argmin())
    fallen = first - float(smooth_R[place])
    chance = CHANCE * spread(finite_R) / math.sqrt(2 * REACH + 1)
    if fallen < max(FALLEN * abs(first), chance):
        risen = np.flatnonzero(smooth_R > 1.5 * first)
        return None, float(rates_R[risen[0] if len(risen) else len(smooth_R) - 1])
    lost = np.flatnonzero(smooth_R[place:] > smooth_R[place] + fallen / 2)
    limit = place + int(lost[0]) if len(lost) else len(smooth_R) - 1
    return _fastest(rates_R, losses_R[: place + 1]), float(rates_R[limit])


def slopes(losses_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return at each step the slope of the line through the losses around it by least squares.

    >>> slopes(np.array([5.0, 3.0, 1.0])).round(9).tolist()
    [-2.0, -2.0, -2.0]
    """
    steps = len(losses_R)
    if steps < 2:
        return np.zeros(steps)
    starts = [max(0, min(place - SLOPE_REACH, steps - 2 * SLOPE_REACH - 1)) for place in range(steps)]
    around = [losses_R[start : start + 2 * SLOPE_REACH + 1] for start in starts]
    return np.array([np.polyfit(np.arange(len(part)), part, 1)[0] for part in around])


def _fastest(rates_R: NDArray[np.float64], losses_R: NDArray[np.float64]) -> float:
    """Return the middle of the rates at which losses fall at least half as fast as anywhere, the fastest counting most.

    A long even fall has no steepest place but by chance; its middle is the same each time.
    """
    fall_R = -slopes(losses_R)
    weight_R = np.where(fall_R >= fall_R.max() / 2, np.maximum(fall_R, 0.0), 0.0)
    if not weight_R.any():
        return float(rates_R[len(losses_R) - 1])
    return float(np.exp(np.average(np.log(rates_R[: len(losses_R)]), weights=weight_R)))


class _Losses(Watch):
    """A watch that keeps every step's loss, whatever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def __call__(self, step: int, loss_N: Tensor, index_N: Tensor) -> None:
        """Read a step's mean loss."""
        self.losses.append(float(loss_N.detach().cpu().double().mean()))


def _repetition(session: Session, time: int) -> Session:
    settings = session.settings.model_copy(update={"seed": derived_seed(session.settings.seed, "range", time)})
    return replace(session.on_trial(), settings=settings)


def _losses(trial: Session, rates_R: NDArray[np.float64], seconds: Callable[[], float]) -> NDArray[np.float64] | None:
    """Return the loss at each rate, NaN once it has blown up; None where time ran out."""
    steps, watch = len(rates_R), _Losses()
    factors = rates_R / trial.highest_rate
    training = replace(
        trial.training(),
        prepare=unchanged(trial.forward),
        rate=lambda progress: float(factors[min(steps - 1, round(progress * steps))]),
    )
    losses_R = np.full(steps, math.nan)
    for done, _ in train(training, Pace.fixed(steps), watch):
        latest = watch.losses[-1]
        if not math.isfinite(latest) or latest > BLOWN_UP * min(watch.losses):
            break
        losses_R[done - 1] = latest
        if seconds() <= 0 and done < steps:
            return None
    return losses_R


def span(losses_TR: NDArray[np.float64]) -> Sequence[tuple[float, float, float]]:
    """Return the mean, the lowest and the highest loss at each rate at which no repetition had blown up.

    >>> span(np.array([[2.0, 1.0, np.inf], [3.0, 2.0, 9.0]]))
    [(2.5, 2.0, 3.0), (1.5, 1.0, 2.0)]
    """
    whole_TR = losses_TR[:, np.isfinite(losses_TR).all(0)]
    return [(float(column.mean()), float(column.min()), float(column.max())) for column in whole_TR.T]
