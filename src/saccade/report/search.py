"""The page of a search: what it came to, every trial, and how accuracy depends on what was searched over."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from saccade import words
from saccade.palette import LIGHT, PALETTE
from saccade.report.charts import FONT, new_axes, write
from saccade.report.page import environment
from saccade.report.svg import to_svg

Trial = Mapping[str, Any]
BEST, MIDDLE = 0.1, 0.5
"""Shares of the trials that count as the best, and as better than the rest."""


def render_search(told: Mapping[str, Any]) -> str:
    """Return the page of what `saccade search` tells as HTML: no script, nothing loaded from elsewhere."""
    clean = words.clean(dict(told))
    tried = [trial for trial in clean["trials"] if trial["settings"] and trial["stage"] != "final"]
    axes = [*clean["importance"], *(name for name in clean["space"] if name not in clean["importance"])]
    context = {
        "told": clean,
        "judgement": judgement(clean),
        "repeated": any(each["sd"] is not None for each in clean["finalists"]),
        "trials": [_line(trial) for trial in sorted(clean["trials"], key=_rank)],
        "finalists": [{**each, "spelt": spelt(each["settings"])} for each in clean["finalists"]],
        "best": clean["best"] and spelt(clean["best"]["settings"]),
        "parallel": parallel(tried, clean["space"], axes) if tried else None,
        "plane": plane(tried, clean["space"], clean["grid"], axes[:2]) if tried and len(axes) > 1 else None,
        "axes": axes[:2],
        "palette": PALETTE,
    }
    return environment().get_template("search.html.jinja").render(context)


def judgement(told: Mapping[str, Any]) -> str:
    """Return why the best settings of a search are no better than the defaults, as far as is known; else nothing."""
    best = told["best"]
    if told["better"] is False:
        return "other settings were better by no more than chance: the defaults stay"
    if told["better"] is None and best and best["accuracies"] and best["settings"]:
        return "too few whole repeats to tell whether that is better than the defaults"
    return ""


def spelt(settings: Mapping[str, Any]) -> str:
    """Return settings in one line.

    >>> spelt({"learning_rate": 0.012345, "norm": "batch"}), spelt({})
    ('learning_rate 0.0123, norm batch', 'the defaults')
    """
    return ", ".join(f"{name} {words.tried(value)}" for name, value in settings.items()) or "the defaults"


def parallel(trials: Sequence[Trial], space: Mapping[str, Any], axes: Sequence[str]) -> Markup:
    """Draw each trial as a line over what was searched over and the accuracy, the best trials in colour on top."""
    values = [accuracy(trial) for trial in trials]
    low, high = min(values), max(values)
    figure, chart = new_axes(270, left=56, right=48, top=26, bottom=48, width=max(460.0, 105.0 * (len(axes) + 1)))
    chart.set(xlim=(0, len(axes)), ylim=(-0.02, 1.02))
    chart.xaxis.set_visible(False)
    chart.yaxis.set_visible(False)
    for place in range(len(axes) + 1):
        chart.plot([place, place], [0, 1], color=LIGHT["line"], linewidth=1.5, clip_on=False)
    for trial in sorted(trials, key=accuracy):
        ends = [_place(space[name], trial["settings"][name]) for name in axes]
        ends.append((accuracy(trial) - low) / (high - low) if high > low else 0.5)
        kind, width, alpha = _emphasis(accuracy(trial), values)
        chart.plot(range(len(ends)), ends, color=LIGHT[kind], linewidth=width, alpha=alpha, clip_on=False)
    for place, name in enumerate(axes):
        top, bottom = _ends(space[name])
        write(chart, place, 1.05, top, ha="center", va="bottom", color=LIGHT["quiet"], fontsize=FONT - 1)
        write(chart, place, -0.05, bottom, ha="center", va="top", color=LIGHT["quiet"], fontsize=FONT - 1)
        write(chart, place, -0.13, words.short(name, 16), ha="center", va="top")
    write(
        chart, len(axes), 1.05, words.percent(high), ha="center", va="bottom", color=LIGHT["quiet"], fontsize=FONT - 1
    )
    write(chart, len(axes), -0.05, words.percent(low), ha="center", va="top", color=LIGHT["quiet"], fontsize=FONT - 1)
    write(chart, len(axes), -0.13, "accuracy", ha="center", va="top")
    best = max(trials, key=accuracy)
    tried = words.plural(len(trials), "trial")
    return to_svg(figure, f"Parallel coordinates of {tried}; the best has {spelt(best['settings'])}.")


def plane(trials: Sequence[Trial], space: Mapping[str, Any], grid: Mapping[str, int], axes: Sequence[str]) -> Markup:
    """Draw coarse trials in the plane of two quantities beside the grid of as many, which has few levels of each.

    Ticks along the edges are the distinct values that were tried: a grid of n trials tries √n, drawn ones n.
    """
    coarse = [trial for trial in trials if trial["stage"] == "coarse"]
    values = [accuracy(trial) for trial in coarse]
    across, up = axes
    figure, chart = new_axes(300, left=84, right=24, top=24, bottom=52)
    chart.set(xlim=(-0.06, 1.02), ylim=(-0.08, 1.04))
    levels = [(np.arange(grid[name]) + 0.5) / grid[name] for name in axes]
    for x in levels[0]:
        for y in levels[1]:
            chart.plot(
                x, y, "s", markersize=9, markerfacecolor="none", markeredgecolor=LIGHT["quiet"], markeredgewidth=2
            )
    for trial in sorted(coarse, key=accuracy):
        x, y = (_place(space[name], trial["settings"][name]) for name in axes)
        kind, _, alpha = _emphasis(accuracy(trial), values)
        chart.plot(x, y, "o", color=LIGHT[kind], markersize=8, alpha=max(alpha, 0.55), markeredgewidth=0)
        chart.plot([x, x], [-0.07, -0.035], color=LIGHT["ink"], linewidth=1.2)
        chart.plot([-0.05, -0.025], [y, y], color=LIGHT["ink"], linewidth=1.2)
    for name, axis in ((across, chart.xaxis), (up, chart.yaxis)):
        ticks = _ticks(space[name])
        axis.set_major_locator(FixedLocator([place for place, _ in ticks]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda place, _, ticks=ticks: dict(ticks).get(place, "")))
    chart.set_xlabel(across, color=LIGHT["quiet"], fontsize=FONT, labelpad=6)
    write(chart, -0.06, 1.09, up, color=LIGHT["quiet"], clip_on=False)
    spoken = f"{len(coarse)} trials by {across} and {up}, and a grid of {grid[across]} times {grid[up]}"
    return to_svg(
        figure, f"{spoken}; {_distinct(coarse, across)} and {_distinct(coarse, up)} distinct values were tried."
    )


def accuracy(trial: Trial) -> float:
    """Return a trial's accuracy, where it was stopped the one last seen, or 0."""
    if trial["state"] == "done":
        return float(trial["accuracy"])
    return float(trial["seen"][max(trial["seen"], key=int)]) if trial["seen"] else 0.0


def _line(trial: Trial) -> dict[str, Any]:
    outcome = trial.get("stopped") or ("" if trial["state"] in ("done", "stopped") else trial["state"])
    settings = "" if trial["settings"] is None else spelt(trial["settings"])
    return {**trial, "spelt": settings, "outcome": outcome, "accuracy": trial.get("accuracy")}


def _rank(trial: Trial) -> tuple[int, bool, float]:
    return ("final", "refined", "coarse").index(trial["stage"]), trial["state"] != "done", -accuracy(trial)


def _emphasis(value: float, values: Sequence[float]) -> tuple[str, float, float]:
    """Return colour, width and opacity of a trial: the best stand out, the middle is faint, the rest fainter."""
    better = sum(other > value for other in values) / len(values)
    if better < BEST:
        return "wrong", 2.5, 1.0
    return ("right", 1.5, 0.6) if better < MIDDLE else ("quiet", 1.0, 0.3)


def _place(values: Mapping[str, Any], value: Any) -> float:
    if "values" in values:
        return (list(values["values"]).index(value) + 0.5) / len(values["values"])
    scale = math.log if values["log"] else float
    low, high = scale(values["low"]), scale(values["high"])
    return (scale(value) - low) / (high - low)


def _ends(values: Mapping[str, Any]) -> tuple[str, str]:
    """Return what stands at the upper and the lower end of an axis."""
    if "values" in values:
        return words.tried(values["values"][-1]), words.tried(values["values"][0])
    return words.tried(values["high"]), words.tried(values["low"])


def _ticks(values: Mapping[str, Any]) -> list[tuple[float, str]]:
    if "values" in values:
        return [(_place(values, value), words.tried(value)) for value in values["values"]]
    middle = math.sqrt(values["low"] * values["high"]) if values["log"] else (values["low"] + values["high"]) / 2
    return [(0.0, words.tried(values["low"])), (0.5, words.tried(middle)), (1.0, words.tried(values["high"]))]


def _distinct(trials: Sequence[Trial], name: str) -> int:
    return len({trial["settings"][name] for trial in trials})
