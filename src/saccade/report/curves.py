"""The history of a training, made ready to draw: at most a few hundred points, and a smooth line through them."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

Points = list[tuple[float, float]]


def points(history: Sequence[Mapping[str, Any]], name: str, axis: str) -> Points:
    """Return (axis, value) wherever a line of the history has a finite number called `name`."""
    pairs = [(line.get(axis), line.get(name)) for line in history]
    return [(float(x), float(y)) for x, y in pairs if x is not None and y is not None and isfinite(y)]


def thinned(series: Points, most: int = 400) -> Points:
    """Return the means of at most `most` runs of neighbouring points.

    >>> thinned([(0, 1), (1, 3), (2, 5), (3, 7)], most=2)
    [(0.5, 2.0), (2.5, 6.0)]
    """
    if len(series) <= most:
        return series
    return [(float(x), float(y)) for x, y in (part.mean(axis=0) for part in np.array_split(np.array(series), most))]


def smoothed(series: Points, share: float = 0.04) -> Points:
    """Return the mean of each point's neighbourhood: up to `share` of the whole on each side, as far on both.

    >>> smoothed([(0, 2.0), (1, 4.0), (2, 9.0)], share=0.4)
    [(0.0, 2.0), (1.0, 5.0), (2.0, 9.0)]
    """
    if not series:
        return []
    x, y = np.array(series, dtype=float).T
    place = np.arange(len(y))
    reach = np.minimum(int(len(y) * share), np.minimum(place, place[::-1]))
    total = np.concatenate([[0.0], np.cumsum(y)])
    means = (total[place + reach + 1] - total[place - reach]) / (2 * reach + 1)
    return [(float(a), float(b)) for a, b in zip(x, means, strict=True)]
