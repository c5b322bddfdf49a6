"""The charts of a cross-validation: how accuracy depends on what was tried, fold by fold."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from saccade.palette import LIGHT, text_width
from saccade.report.charts import FONT, WIDTH, limits, new_axes, percent_tick, write
from saccade.report.svg import to_svg
from saccade.words import percent, told_values

HEIGHT = 230
COLOURS = ("right", "wrong", "green", "amber")


def over_folds(classifier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Draw accuracy over the settings of one classifier: `chart`s of four lines at the most, and their `caption`s.

    A classifier has `settings`, each with `values`, `mean`, `sd` and `folds`, and `chosen`. The last of the values
    runs along the axis; the others, if any, make a line of their own. A caption says what a chart's lines share
    where there are several charts.
    """
    groups: dict[Any, dict[tuple[Any, ...], list[Mapping[str, Any]]]] = {}
    for each in classifier["settings"]:
        *others, along = each["values"]
        lines = groups.setdefault((along,), {})
        lines.setdefault(tuple(each["values"][name] for name in others), []).append(each)
    if any(len(lines) > len(COLOURS) for lines in groups.values()):
        groups = {
            (*along, loss, some): {key: lines[key] for key in keys[some : some + len(COLOURS)]}
            for along, lines in groups.items()
            for loss in dict.fromkeys(key[0] for key in lines)
            for keys in [[key for key in lines if key[0] == loss]]
            for some in range(0, len(keys), len(COLOURS))
        }
    drawn = []
    for lines in groups.values():
        names = [*next(iter(lines.values()))[0]["values"]][:-1]
        shared = {name: values[0] for name, values in zip(names, zip(*lines, strict=True), strict=True)
                  if len(set(values)) == 1 and len(groups) > 1}  # fmt: skip
        drawn.append({"chart": _drawn(classifier, lines, names), "caption": told_values(shared)})
    return drawn


def _drawn(
    classifier: Mapping[str, Any], lines: Mapping[tuple[Any, ...], Sequence[Mapping[str, Any]]], names: Sequence[str]
) -> Markup:
    """Draw lines of settings: a dot a fold, their mean and standard deviation, a ring around the setting chosen.

    What runs along is evenly spaced in its order; a line is named at its end by those of its values, called
    `names`, that not all have.
    """
    settings = [each for line in lines.values() for each in line]
    along = [*settings[0]["values"]][-1]
    places = {value: place for place, value in enumerate(sorted({each["values"][along] for each in settings}))}
    differing = [name for name, values in zip(names, zip(*lines, strict=True), strict=True) if len(set(values)) > 1]
    labels = [told_values({name: line[0]["values"][name] for name in differing}) for line in lines.values()]
    named = max(text_width(label, FONT) for label in labels)
    figure, axes = new_axes(HEIGHT, left=52, right=24 + named, top=10, bottom=44)
    shown = [
        value for each in settings for value in (*each["folds"], each["mean"] - each["sd"], each["mean"] + each["sd"])
    ]
    low, high = limits(np.array(shown), pad=0.08, ceiling=1.0)
    axes.set(xlim=(-0.4, len(places) - 0.6), ylim=(low, high))
    tick = max(text_width(f" {value:g} ", FONT) for value in places)
    every = math.ceil(tick * len(places) / (WIDTH - 76 - named))
    axes.xaxis.set_major_locator(FixedLocator(range(0, len(places), every)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _=None: f"{[*places][round(x)]:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.grid(axis="y", color=LIGHT["line"], linewidth=1)
    axes.set_xlabel(along.replace("_", " "), color=LIGHT["quiet"], fontsize=FONT, labelpad=6)
    ends = []
    for place, (unsorted, colour) in enumerate(zip(lines.values(), COLOURS, strict=False)):
        line = sorted(unsorted, key=lambda each: places[each["values"][along]])
        aside = 0.1 * (place - (len(lines) - 1) / 2)  # so that no bar hides another's
        xs, means = [places[each["values"][along]] + aside for each in line], [each["mean"] for each in line]
        axes.plot(xs, means, color=LIGHT[colour], linewidth=2, marker="o", markersize=5, markeredgewidth=0)
        for x, each in zip(xs, line, strict=True):
            spread = [each["mean"] - each["sd"], each["mean"] + each["sd"]]
            axes.plot([x, x], spread, color=LIGHT[colour], linewidth=1.5)
            axes.plot([x] * len(each["folds"]), each["folds"], "o", color=LIGHT[colour], markersize=4, alpha=0.35,
                      markeredgewidth=0)  # fmt: skip
            if each["values"] == classifier["chosen"]:
                axes.plot(x, each["mean"], "o", markersize=12, markeredgewidth=1.5, markeredgecolor=LIGHT["ink"],
                          markerfacecolor="none")  # fmt: skip
        ends.append((means[-1], labels[place], LIGHT[colour]))
    heights = _apart([height for height, _, _ in ends], 15 / (HEIGHT - 54) * (high - low))
    for height, (_, label, colour) in zip(heights, ends, strict=True):
        write(axes, len(places) - 0.6 + 0.02 * len(places), height, label, va="center", color=colour, clip_on=False)
    spoken = "; ".join(f"{told_values(each['values'])}: {percent(each['mean'])}" for each in settings)
    return to_svg(figure, f"Accuracy over the folds of {classifier['name']}. {spoken}.")


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Return heights in the order of those wanted, each as near as may be, none nearer than `gap` to another.

    >>> _apart([3.0, 1.0, 1.0], 1.0)
    [3.0, 0.5, 1.5]
    """
    from sklearn.isotonic import isotonic_regression

    order, steps = np.argsort(wanted, kind="stable"), gap * np.arange(len(wanted))
    heights = np.empty(len(wanted))
    heights[order] = isotonic_regression(np.array(wanted, np.float64)[order] - steps) + steps
    return [float(height) for height in heights]
