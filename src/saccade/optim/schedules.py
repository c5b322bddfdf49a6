"""Learning-rate schedules: progress in [0, 1) to a factor on the highest rate (lecture 7).

Progress is the share of the training that is done, be it counted in steps or by the clock, so that
one formula serves both. `docs/optimizers.md` has them drawn.
"""

import math
from collections.abc import Callable

from saccade.errors import SettingError, entry

Schedule = Callable[[float], float]

DROPS = (0.3, 0.6, 0.9)
"""At which progress the step schedule divides the rate by ten: epochs 30, 60, 90 of 100 (He et al., 2016)."""
EXPONENTIAL_END, INVERSE_END = 0.01, 0.1
"""Where the schedules that never reach zero end."""
PEAK, START, END = 0.3, 1 / 25, 1 / 250_000
"""At which progress the one-cycle schedule is at its highest, and the factors it begins and ends with."""


def constant(progress: float) -> float:
    """Return 1 always."""
    return 1.0


def step(progress: float) -> float:
    """Divide by ten at 30, 60 and 90 %: 10^-d after d drops.

    >>> [step(progress) for progress in (0.0, 0.3, 0.6, 0.9)]
    [1.0, 0.1, 0.01, 0.001]
    """
    return 1.0 / 10.0 ** sum(progress >= drop for drop in DROPS)


def exponential(progress: float) -> float:
    """Fall by the same share in the same time, exp(-kp), to a hundredth: k = ln 100."""
    return float(EXPONENTIAL_END**progress)


def inverse(progress: float) -> float:
    """Fall as one over the time, 1 / (1 + kp), to a tenth: k = 9.

    >>> inverse(1 / 9), inverse(1.0)
    (0.5, 0.1)
    """
    return 1.0 / (1.0 + (1.0 / INVERSE_END - 1.0) * progress)


def linear(progress: float) -> float:
    """Fall in a straight line from 1 to 0: 1 - p."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Fall along half a cosine, (1 + cos πp) / 2 (Loshchilov and Hutter, 2017).

    >>> cosine(0.5)
    0.5
    """
    return 0.5 * (1.0 + round(math.cos(math.pi * progress), 12))


def one_cycle(progress: float) -> float:
    """Rise along half a cosine from 1/25 to 1 at 30 %, then fall along another to almost 0 (Smith and Topin, 2018).

    The learning rate alone: momentum stays as it is.

    >>> one_cycle(0.0), one_cycle(0.3)
    (0.04, 1.0)
    """
    if progress < PEAK:
        return START + (1 - START) * (1 - cosine(progress / PEAK))
    return END + (1 - END) * cosine((progress - PEAK) / (1 - PEAK))


SCHEDULES: dict[str, Schedule] = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
    "step": step,
    "exponential": exponential,
    "inverse": inverse,
    "one_cycle": one_cycle,
}


def schedule(name: str, warmup: float) -> Schedule:
    """Return the schedule called `name`, after a linear rise from 0 over the first `warmup` share of the progress.

    Raises SettingError where there is no such schedule, or the warm-up is no share of the training below 1.

    >>> schedule("linear", warmup=0.5)(0.25)
    0.5
    """
    fall = entry(SCHEDULES, name, "schedule")
    if not 0 <= warmup < 1:
        raise SettingError(
            f"A warm-up of {warmup:g} is no share of the training that leaves a rest; give a number from 0 to below 1."
        )

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup * fall(0.0)
        return fall((progress - warmup) / (1 - warmup))

    return factor


def cycle(progress: float, cycles: int) -> tuple[int, float]:
    """Return which of several equal cycles a progress falls into, from 0 on, and the progress within it.

    Raises SettingError where there is not one cycle.

    >>> cycle(0.625, 4)
    (2, 0.5)
    """
    if cycles < 1:
        raise SettingError(f"A training cannot run in {cycles} cycles; give a whole number, at least 1.")
    number = min(int(progress * cycles), cycles - 1)
    return number, progress * cycles - number


def cycled(rate: Schedule, cycles: int) -> Schedule:
    """Return a schedule that runs so many times, one after another (Loshchilov and Hutter, 2017).

    >>> [cycled(linear, 2)(progress) for progress in (0.0, 0.25, 0.5, 0.75)]
    [1.0, 0.5, 1.0, 0.5]
    """
    return lambda progress: rate(cycle(progress, cycles)[1])


def held(rate: Schedule, begin: float) -> Schedule:
    """Return a schedule that stays from the progress `begin` on as it is there.

    >>> held(linear, 0.75)(0.5), held(linear, 0.75)(0.9)
    (0.5, 0.25)
    """
    return lambda progress: rate(min(progress, begin))
