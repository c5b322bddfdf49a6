"""Learning-rate schedules: progress in [0, 1) to a factor on the highest rate (lecture 7)."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant(progress: float) -> float:
    """Return 1 always."""
    return 1.0


def linear(progress: float) -> float:
    """Fall in a straight line from 1 to 0: 1 - p."""
    return 1.0 - progress


def cosine(progress: float) -> float:
    """Fall along half a cosine, (1 + cos πp) / 2 (Loshchilov and Hutter, 2017).

    >>> cosine(0.5)
    0.5
    """
    return 0.5 * (1.0 + round(math.cos(math.pi * progress), 12))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine, "linear": linear}


def schedule(name: str, warmup: float) -> Schedule:
    """Return the schedule called `name`, after a linear rise over the first `warmup` share of the progress.

    >>> schedule("linear", warmup=0.5)(0.25)
    0.5
    """
    fall = SCHEDULES[name]

    def factor(progress: float) -> float:
        if progress < warmup:
            return progress / warmup
        return fall((progress - warmup) / (1 - warmup))

    return factor
