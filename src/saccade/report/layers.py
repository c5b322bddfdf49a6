"""The layers over a training, as the watch saw them: how far each moved in a step, which had dead units."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from saccade.report import charts
from saccade.report.curves import Points, thinned

HEALTHY = 1e-3
"""|Δw| / |w| that is said to be about right (lecture 6)."""
HARDLY = 0.02
"""Shares under this are not worth a picture."""


def layer_charts(history: Sequence[Mapping[str, Any]], axis: str, end: float) -> list[dict[str, Any]]:
    """Return the charts, each with `title`, `chart` and `legend`; none of what the history does not tell."""
    updates = tracks(history, "layers", "update", axis)
    return [
        *_updates({name: [(x, y) for x, y in track if y > 0] for name, track in updates.items()}, axis, end),
        *_shares("Dead units", tracks(history, "activations", "dead", axis), axis, end),
        *_shares("Saturated values", tracks(history, "activations", "saturated", axis), axis, end),
    ]


def tracks(history: Sequence[Mapping[str, Any]], table: str, name: str, axis: str) -> dict[str, Points]:
    """Return (axis, value) of each layer wherever a line of the history has it.

    >>> tracks([{"step": 8, "layers": {"head": {"update": 0.001}}}], "layers", "update", "step")
    {'head': [(8.0, 0.001)]}
    """
    found: dict[str, Points] = {}
    for line in history:
        for layer, values in (line.get(table) or {}).items():
            if name in values and line.get(axis) is not None:
                found.setdefault(layer, []).append((float(line[axis]), float(values[name])))
    return {layer: thinned(track) for layer, track in found.items()}


def _updates(found: Mapping[str, Points], axis: str, end: float) -> list[dict[str, Any]]:
    moved = [track for track in found.values() if len(track) > 1]
    if not moved:
        return []
    middle = _over(moved, median)
    series: list[tuple[str, str, Points]] = [
        *(("right", "faint", track) for track in moved),
        ("amber", "dashed", [(0.0, HEALTHY), (end, HEALTHY)]),
        ("right", "line", middle),
    ]
    words = f"Change of the weights in a step, from {middle[0][1]:.1g} to {middle[-1][1]:.1g} of themselves."
    chart = charts.lines(series, description=words, axis=axis, end=end, kind="log")
    return [
        charts.titled("Change of the weights in a step", chart, [("right", "median layer"), ("amber", "about right")])
    ]


def _shares(title: str, found: Mapping[str, Points], axis: str, end: float) -> list[dict[str, Any]]:
    known = [track for track in found.values() if len(track) > 1]
    worst = _over(known, max)
    if not known or max(share for _, share in worst) < HARDLY:
        return []
    series: list[tuple[str, str, Points]] = [*(("wrong", "faint", track) for track in known), ("wrong", "line", worst)]
    words = f"{title}, in the worst layer: from {worst[0][1]:.0%} to {worst[-1][1]:.0%}."
    chart = charts.lines(series, description=words, axis=axis, end=end, kind="percent")
    return [charts.titled(title, chart, [("wrong", "worst layer")])]


def _over(known: Sequence[Points], of: Any) -> Points:
    """Return a figure of all layers at each place."""
    places: dict[float, list[float]] = {}
    for track in known:
        for x, y in track:
            places.setdefault(x, []).append(y)
    return [(x, float(of(values))) for x, values in sorted(places.items())]
