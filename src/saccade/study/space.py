"""What a search draws from: ranges and choices by name, laid out at random, as a grid or evenly (lecture 6)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.stats import qmc

from saccade.device import derived_seed

NARROWER = 1 / 3
"""Width of a refined range, as a share of the coarse one's."""

DRAWS = 8
"""Times as many settings as are asked for are drawn of a space in which they repeat."""

Layout = Literal["random", "grid", "sobol"]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: their logarithms evenly likely where `log`, else they themselves."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """Return one number, rounded to three digits.

        >>> Range(2.0, 2.0, log=True).draw(np.random.default_rng(0))
        2.0
        """
        return self.at(rng.uniform())

    def at(self, place: float) -> float:
        """Return the number so far along, rounded to three digits, or to a whole one.

        >>> Range(1e-4, 1e-2, log=True).at(0.5), Range(1, 4, whole=True).at(0.99)
        (0.001, 4)
        """
        if self.whole:
            low, high = self.low - 0.5, self.high + 0.5
        else:
            low, high = self.low, self.high
        if self.log:
            value = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
        else:
            value = low + place * (high - low)
        if self.whole:
            return int(min(max(round(value), self.low), self.high))
        return min(max(float(f"{value:.3g}"), self.low), self.high)

    def place(self, value: float) -> float:
        """Return how far along a number lies, from 0 to 1.

        >>> round(Range(1e-4, 1e-2, log=True).place(1e-3), 9)
        0.5
        """
        if self.high == self.low:
            return 0.5
        scale = math.log if self.log else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))

    def around(self, value: float) -> "Range":
        """Return the range a third as wide around a number, as far as it lies within this one.

        >>> Range(0.0, 9.0).around(1.0), Range(0.0, 9.0).around(5.0)
        (Range(low=0.0, high=2.5, ...), Range(low=3.5, high=6.5, ...))
        """
        place = self.place(value)
        low, high = max(0.0, place - NARROWER / 2), min(1.0, place + NARROWER / 2)
        plain = replace(self, whole=False)
        if self.whole:
            return replace(self, low=math.floor(plain.at(low)), high=math.ceil(plain.at(high)))
        return replace(self, low=plain.at(low), high=plain.at(high))


@dataclass(frozen=True)
class Choice:
    """One of several values, each as likely."""

    values: tuple[Any, ...]

    def at(self, place: float) -> Any:
        """Return the value so far along.

        >>> Choice(("adam", "sgd")).at(0.5)
        'sgd'
        """
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    def place(self, value: Any) -> float:
        """Return how far along a value's middle lies, from 0 to 1."""
        return (self.values.index(value) + 0.5) / len(self.values)

    def around(self, value: Any) -> "Choice":
        """Return that value alone."""
        return Choice((value,))


Space = Mapping[str, Range | Choice]


def lay_out(layout: Layout, space: Space, trials: int, seed: int) -> list[dict[str, Any]]:
    """Return different settings for so many trials, or as many fewer as make a whole grid, or as are drawn.

    "random" draws each by itself; "grid" crosses evenly spaced levels, the first quantities having the more;
    "sobol" is a scrambled sequence that leaves no gaps (Sobol, 1967; Owen, 1995). The same seed gives the same.
    """
    finite = math.isfinite(math.prod(map(_distinct, space.values())))
    drawn = DRAWS * trials if finite else trials
    if layout == "grid":
        levels = grid_levels(space, trials)
        cells = np.indices(levels).reshape(len(levels), -1).T
        places_ND = (cells + 0.5) / np.array(levels)
    elif layout == "sobol":
        sampler = qmc.Sobol(len(space), rng=derived_seed(seed, "search"))
        places_ND = sampler.random_base2(math.ceil(math.log2(max(drawn, 1))))[:drawn]
    else:
        places_ND = np.random.default_rng(derived_seed(seed, "search")).uniform(size=(drawn, len(space)))
    rows = (
        {name: values.at(float(place)) for (name, values), place in zip(space.items(), row, strict=True)}
        for row in places_ND
    )
    return list({tuple(row.values()): row for row in rows}.values())[:trials]


def grid_levels(space: Space, trials: int) -> list[int]:
    """Return how many levels a grid of at most so many trials has of each quantity, as even as can be.

    >>> ranges = {"learning_rate": Range(0.1, 1.0), "weight_decay": Range(0.1, 1.0)}
    >>> grid_levels(ranges, 9), grid_levels(ranges, 15), grid_levels(ranges | {"norm": Choice(("none",))}, 25)
    ([3, 3], [4, 3], [5, 5, 1])
    """
    most = [_distinct(values) for values in space.values()]
    levels = [1] * len(most)
    while True:
        free = [axis for axis in range(len(levels)) if levels[axis] < most[axis]]
        axis = min(free, key=lambda axis: levels[axis], default=None)
        if axis is None or math.prod(levels) // levels[axis] * (levels[axis] + 1) > trials:
            return levels
        levels[axis] += 1


def unvaried(space: Space, trials: int) -> list[str]:
    """Return the names of the quantities of which a grid of so many trials has one value, though there are more.

    >>> unvaried({"activation": Choice(("relu", "tanh")), "dropout": Range(0.0, 0.5)}, 2)
    ['dropout']
    """
    levels = zip(space.items(), grid_levels(space, trials), strict=True)
    return [name for (name, values), count in levels if count == 1 and _distinct(values) > 1]


def around(space: Space, best: Mapping[str, Any]) -> dict[str, Range | Choice]:
    """Return the space around the best settings: ranges a third as wide, choices made; where no range is left, all."""
    narrower = {name: values.around(best[name]) for name, values in space.items()}
    return narrower if any(_distinct(values) > 1 for values in narrower.values()) else dict(space)


def refined(layout: Layout, space: Space, best: Mapping[str, Any], trials: int, seed: int) -> list[dict[str, Any]]:
    """Return different settings for a second, finer search: the best of the first, then others around them."""
    others = lay_out("random" if layout == "random" else "sobol", around(space, best), trials, seed + 1)
    return [dict(best), *(each for each in others if each != best)][:trials]


def _distinct(values: Range | Choice) -> float:
    if isinstance(values, Choice):
        return len(values.values)
    if values.low == values.high:
        return 1
    return values.high - values.low + 1 if values.whole else math.inf
