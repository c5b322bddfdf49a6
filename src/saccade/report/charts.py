"""The report's charts: plain numbers in, SVG out, in matplotlib's object-oriented way."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from saccade.palette import LIGHT, text_width
from saccade.report.svg import to_svg
from saccade.words import interval, percent, plural, short

# Charts are drawn this wide and scaled by the page: on a phone their letters shrink by a quarter at the most.
WIDTH = 460
FONT = 13

_DASHES = {"dashed": (0, (6, 3)), "dotted": (0, (2, 2))}

Points = Sequence[tuple[float, float]]


def titled(title: str, chart: Markup, legend: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return a chart as a page shows it, under its title: `legend` has (colour, name) of what it draws."""
    return {"title": title, "chart": chart, "legend": legend}


def bars(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw accuracies as bars under their names, each with its interval as a whisker.

    A row has `name`, `accuracy`, `interval` (or None) and `kind`: "chosen" stands out in colour.
    """
    pitch = 46
    figure, axes = new_axes(pitch * len(rows), left=0, right=84, top=0, bottom=0)
    axes.set(xlim=(0, 1), ylim=(len(rows), 0))
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    for place, row in enumerate(rows):
        chosen = row["kind"] == "chosen"
        colour, middle = LIGHT["right"] if chosen else LIGHT["quiet"], place + 0.66
        axes.barh(middle, 1, height=0.3, color=LIGHT["line"], alpha=0.6, linewidth=0)
        axes.barh(middle, row["accuracy"], height=0.3, color=colour, alpha=1 if chosen else 0.55, linewidth=0)
        if row["interval"]:
            axes.plot(row["interval"], [middle, middle], color=LIGHT["ink"], linewidth=2)
        weight = "bold" if chosen else "normal"
        write(axes, 0, place + 0.37, short(row["name"], 52), weight=weight, va="baseline")
        write(axes, 1.03, middle, percent(row["accuracy"]), weight=weight, va="center")
    spoken = "; ".join(f"{row['name']} {percent(row['accuracy'])}" for row in rows)
    return to_svg(figure, f"Bar chart of accuracy: {spoken}.")


def lines(
    series: Sequence[tuple[str, str, Points]], *, description: str, axis: str, end: float, kind: str = "number"
) -> Markup:
    """Draw curves over `axis`, from 0 to `end`; a series is (colour of the palette, style, points).

    The style is "faint" (single steps), "line", "dashed", "dotted" or "marked" (one dot a point); `kind` is "number",
    "percent", or "log" for a logarithmic scale.
    """
    figure, axes = new_axes(250, left=52, right=20, top=10, bottom=44)
    y = np.array([point[1] for _, _, points in series for point in points])
    axes.set_xlim(0, end)
    if kind == "log":
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(y.min() / 1.15, y.max() * 1.15)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        axes.set_ylim(*limits(y, pad=0.06, ceiling=1.0 if kind == "percent" else None))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=end >= 4 or axis == "depth", steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_plain_tick))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick if kind == "percent" else _plain_tick))
    axes.grid(axis="y", color=LIGHT["line"], linewidth=1)
    axes.set_xlabel(axis, color=LIGHT["quiet"], fontsize=FONT, labelpad=6)
    for colour, style, points in series:
        faint, marker = style == "faint", "o" if style == "marked" and len(points) <= 60 else None
        xs, ys = zip(*points, strict=True)
        axes.plot(
            xs, ys, color=LIGHT[colour], linewidth=1 if faint else 2, alpha=0.35 if faint else 1.0,
            marker=marker, markersize=5, markeredgewidth=0, linestyle=_DASHES.get(style, "-"),
        )  # fmt: skip
    return to_svg(figure, description)


def learning(curve: Mapping[str, Any]) -> Markup:
    """Draw accuracy over the number of training images: measured, as a law through it, and beyond today's number.

    A curve has `images` (today's), `points` with `images`, `accuracy` and `interval`, `line` as rows of (images,
    accuracy, low, high), and `forecasts` with `images` and `accuracy`. The scale of images is logarithmic.
    """
    today, points, forecasts = curve["images"], curve["points"], curve["forecasts"]
    line_M4 = np.array(curve["line"], np.float64)
    figure, axes = new_axes(290, left=52, right=34, top=30, bottom=44)
    axes.set_xscale("log", base=2)
    axes.set_xlim(line_M4[0, 0] / 1.15, line_M4[-1, 0] * 1.15)
    seen = np.concatenate([line_M4[:, 1:].ravel(), *(point["interval"] for point in points)])
    axes.set_ylim(*limits(seen, pad=0.06, ceiling=1.0))
    ticks = {*(point["images"] for point in points), today, *(forecast["images"] for forecast in forecasts)}
    axes.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_short_tick))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    axes.grid(axis="y", color=LIGHT["line"], linewidth=1)
    axes.set_xlabel("training images", color=LIGHT["quiet"], fontsize=FONT, labelpad=6)
    axes.fill_between(line_M4[:, 0], line_M4[:, 2], line_M4[:, 3], color=LIGHT["right"], alpha=0.16, linewidth=0)
    now = np.interp(math.log(today), np.log(line_M4[:, 0]), line_M4[:, 1])
    until, after = line_M4[line_M4[:, 0] < today, :2], line_M4[line_M4[:, 0] > today, :2]
    drawn = (([*until, (today, now)], "-"), ([(today, now), *after], (0, (5, 4))))
    for rows, style in drawn:
        axes.plot(*zip(*rows, strict=True), color=LIGHT["right"], linewidth=2, linestyle=style)
    axes.axvline(today, color=LIGHT["quiet"], linewidth=1.2, linestyle=(0, (2, 3)))
    over = axes.get_xaxis_transform()
    write(axes, today, 1.04, f"today: {today:,}", transform=over, ha="center", va="baseline", color=LIGHT["quiet"])
    for point in points:
        axes.plot([point["images"]] * 2, point["interval"], color=LIGHT["ink"], linewidth=1.5)
        axes.plot(point["images"], point["accuracy"], "o", color=LIGHT["ink"], markersize=7, markeredgewidth=0)
    for forecast in forecasts:
        axes.plot(forecast["images"], forecast["accuracy"], "o", markersize=8, markeredgewidth=2,
                  markeredgecolor=LIGHT["right"], markerfacecolor=LIGHT["card"])  # fmt: skip
    spoken = [f"{each['images']:,} images: {percent(each['accuracy'])}" for each in points]
    ahead = [f"{each['images']:,} images: {percent(each['accuracy'])}" for each in forecasts]
    return to_svg(figure, f"Learning curve. Measured: {'; '.join(spoken)}. Expected: {'; '.join(ahead)}.")


def spectrum(density: Mapping[str, Sequence[float]], *, bins: int = 61) -> Markup:
    """Draw how eigenvalues are spread: each bar a share of them, by whether they are above, below or perhaps 0.

    `density` has `values`, `shares` and `errors`, of which one as large as its value leaves the sign in doubt.
    Both scales are logarithmic, that of the eigenvalues linear within a few thousandths of the largest.
    """
    values_M, shares_M, errors_M = (np.array(density[name], np.float64) for name in ("values", "shares", "errors"))
    largest = float(np.abs(values_M).max()) or 1.0
    decades = 10.0 ** (math.floor(math.log10(largest)) - np.arange(3.0))
    near = decades[-1] / 2
    placed_M = np.arcsinh(values_M / near)
    edges = np.linspace(min(float(placed_M.min()), -1.0) - 0.3, max(float(placed_M.max()), 1.0) + 0.3, bins + 1)
    doubted_M = np.abs(values_M) <= np.maximum(errors_M, 1e-6 * largest)
    kinds = {"quiet": doubted_M, "right": ~doubted_M & (values_M > 0), "wrong": ~doubted_M & (values_M < 0)}
    heights = {kind: np.histogram(placed_M[of_M], edges, weights=shares_M[of_M])[0] for kind, of_M in kinds.items()}
    least = min(float(each[each > 0].min()) for each in heights.values() if each.any())
    floor = 10.0 ** math.floor(math.log10(max(least, 1e-6)) - 0.1)
    figure, axes = new_axes(270, left=80, right=24, top=10, bottom=44)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(floor, 1.5))
    axes.set_yscale("log")
    for kind, each in heights.items():
        axes.bar(
            edges[:-1],
            np.maximum(each - floor, 0),
            np.diff(edges),
            bottom=floor,
            align="edge",
            color=LIGHT[kind],
            linewidth=0,
        )
    ticks = [tick for tick in (*-decades, 0.0, *decades) if edges[0] < math.asinh(tick / near) < edges[-1]]
    axes.xaxis.set_major_locator(FixedLocator(sorted(math.asinh(tick / near) for tick in ticks)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{near * math.sinh(place):.1g}"))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}\u00a0%"))
    axes.grid(axis="y", color=LIGHT["line"], linewidth=1)
    axes.set_xlabel("eigenvalue", color=LIGHT["quiet"], fontsize=FONT, labelpad=6)
    below = percent(float(shares_M[kinds["wrong"]].sum()))
    words = f"Eigenvalues of the Hessian, from {values_M.min():.3g} to {values_M.max():.3g}, {below} of them below 0."
    return to_svg(figure, words)


def confusion(counts_KK: NDArray[np.int64], classes: Sequence[str]) -> Markup:
    """Draw a confusion matrix (row = true class, column = predicted) with its counts, for up to 24 classes.

    Colour is the share of the true class: blue on the diagonal, orange beside it, by square root so
    that a share of a few per cent can be seen.
    """
    classes_count = len(classes)
    names = [short(name, 22) for name in classes]
    margin = 26 + max(text_width(name, FONT) for name in names)
    cell = 56 if classes_count <= 4 else 44 if classes_count <= 10 else 32
    side = cell * classes_count
    slant = margin * 0.72 + 10
    width, height = margin + side + slant * 0.8, side + slant + 4
    figure, axes = new_axes(height, left=margin, right=slant * 0.8, top=slant, bottom=4, width=width)
    axes.set(xlim=(0, classes_count), ylim=(classes_count, 0))
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    shares_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    size = FONT if counts_KK.max() < 1000 or cell > 40 else FONT - 3
    for row in range(classes_count):
        for column in range(classes_count):
            count, share = int(counts_KK[row, column]), float(shares_KK[row, column])
            colour = LIGHT["right" if row == column else "wrong"]
            fill = Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, facecolor=colour, linewidth=0)
            strength = 0.62 if row == column else 0.75
            fill.set_alpha(strength * share**0.5 if count else 0.03)
            axes.add_patch(fill)
            if count:
                bold = "bold" if row == column else "normal"
                write(axes, column + 0.5, row + 0.5, f"{count:,}", ha="center", va="center", weight=bold, fontsize=size)
        write(axes, -0.15 * 44 / cell, row + 0.5, names[row], ha="right", va="center")
        head = write(axes, row + 0.4, -0.15 * 44 / cell, names[row], ha="left", va="baseline")
        head.set(rotation=45, rotation_mode="anchor")
    right = int(np.trace(counts_KK))
    return to_svg(
        figure, f"Confusion matrix of {plural(classes_count, 'class')}: {right:,} of {counts_KK.sum():,} right."
    )


def calibration(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw how often answers were right against how sure they were, over the number of answers in each bin.

    A bin has `low`, `high`, `images`, `confidence` and `accuracy` (the last two None where it is empty).
    """
    figure, axes = new_axes(330, left=52, right=20, top=10, bottom=110)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.grid(axis="y", color=LIGHT["line"], linewidth=1)
    axes.plot([0, 1], [0, 1], color=LIGHT["quiet"], linewidth=1.5, linestyle=(0, (4, 4)))
    below = figure.add_axes((axes.get_position().x0, 44 / 330, axes.get_position().width, 50 / 330))
    _plain(below)
    most = max((row["images"] for row in bins), default=0) or 1
    below.set(xlim=(0, 1), ylim=(0, most * 1.05))
    for row in bins:
        if not row["images"]:
            continue
        left, width = row["low"] + 0.006, row["high"] - row["low"] - 0.012
        axes.bar(left, row["accuracy"], width, align="edge", color=LIGHT["right"], alpha=0.75, linewidth=0)
        below.bar(left, row["images"], width, align="edge", color=LIGHT["quiet"], alpha=0.5, linewidth=0)
    for part in (axes, below):
        part.xaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.xaxis.set_major_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))
    below.xaxis.set_major_formatter(FuncFormatter(percent_tick))
    below.yaxis.set_major_locator(FixedLocator([most]))
    below.yaxis.set_major_formatter(FuncFormatter(_plain_tick))
    below.set_xlabel("probability the classifier gave", color=LIGHT["quiet"], fontsize=FONT, labelpad=6)
    filled = [row for row in bins if row["images"]]
    spoken = "; ".join(f"{interval([row['low'], row['high']])}: right {percent(row['accuracy'], 0)}" for row in filled)
    return to_svg(figure, f"Calibration diagram, by the probability given: {spoken}.")


def new_axes(height: float, *, left: float, right: float, top: float, bottom: float, width: float = WIDTH) -> Any:
    """Return a transparent figure and its axes, with margins in points."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    axes = figure.add_axes(box)
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    """Take off what is not data: frame, ticks, background."""
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(which="both", length=0, width=0, pad=6, labelsize=FONT, labelcolor=LIGHT["quiet"])


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> Any:
    """Write text at a place of the axes, letter by letter as it is, in the charts' ink and size but for `style`."""
    return axes.text(x, y, text, parse_math=False, **{"fontsize": FONT, "color": LIGHT["ink"], **style})


def limits(values: NDArray[np.float64], *, pad: float, ceiling: float | None = None) -> tuple[float, float]:
    """Return the ends of an axis that shows all values, with a share of room beyond them but for the ceiling."""
    low, high = float(values.min()), float(values.max())
    room = (high - low) * pad if high > low else max(abs(high) * 0.1, 0.05)
    return low - room, high + room if ceiling is None else min(high + room, ceiling)


def percent_tick(value: float, _: int | None = None) -> str:
    """Return a share of one at a tick, as a percentage."""
    return f"{100 * value:.3g}\u00a0%"


def _plain_tick(value: float, _: int | None = None) -> str:
    return f"{value:,.6g}" if abs(value) >= 1 else f"{value:.3g}"


def _short_tick(value: float, _: int | None = None) -> str:
    """Return a number of images in a few letters.

    >>> _short_tick(1500.0), _short_tick(45000.0), _short_tick(1_281_167.0)
    ('1,500', '45k', '1.28M')
    """
    return f"{value:,.0f}" if value < 1e4 else f"{value / 1e3:.3g}k" if value < 999_500 else f"{value / 1e6:.3g}M"
