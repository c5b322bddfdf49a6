"""The verdict page before training: checks, inputs as the network sees them, and the learning-rate range test."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from saccade import words
from saccade.files import write_atomic
from saccade.palette import LIGHT, PALETTE
from saccade.report import charts, pictures
from saccade.report.page import environment
from saccade.report.sections import Material, checks
from saccade.report.svg import to_svg
from saccade.run import Run


def write_checks(run: Run) -> Path:
    """Write report.html from the checks.json of a run of `saccade check`, and return its path."""
    told = words.clean(run.read("checks"))
    picture = pictures.embed(run.path, told["inputs"])
    chart = range_chart(told["rates"]) if told["rates"] and told["rates"]["losses"] else None
    view = checks(Material(folder=run.path, summary=told))
    context = {"told": told, "palette": PALETTE, "picture": picture, "chart": chart, "view": view}
    write_atomic(run.report, environment().get_template("checking.html.jinja").render(context))
    return run.report


def range_chart(rates: Mapping[str, Any]) -> Markup:
    """Draw the loss over rising learning rates, the spread of the repetitions around it, and the rates to know."""
    figure, axes = charts.new_axes(270, left=52, right=20, top=40, bottom=44)
    axes.set_xscale("log")
    chosen, suggestion = rates["chosen"], rates["suggestion"]
    rate, mean, low, high = zip(*rates["losses"], strict=True)
    top = min(max(high), 1.6 * max(mean[: max(1, len(mean) // 3)]))
    floor = min(low)
    axes.set_ylim(floor - 0.06 * (top - floor or 1.0), top + 0.04 * (top - floor or 1.0))
    axes.set_xlim(min(rate[0], chosen / 1.3), max(rate[-1], chosen * 1.3))
    axes.fill_between(rate, low, high, color=LIGHT["right"], alpha=0.18, linewidth=0)
    axes.plot(rate, mean, color=LIGHT["right"], linewidth=2)
    axes.xaxis.set_major_locator(LogLocator(numticks=8))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y", color=LIGHT["line"], linewidth=1)
    axes.set_xlabel("learning rate", color=LIGHT["quiet"], fontsize=charts.FONT, labelpad=6)
    marks = [("fastest fall", suggestion, "green", 1.02), ("yours", chosen, "ink", 1.11)]
    over = axes.get_xaxis_transform()
    for name, at, colour, height in marks:
        if at:
            axes.axvline(at, color=LIGHT[colour], linewidth=1.5, linestyle=(0, (4, 3)))
            charts.write(axes, at, height, f"{name}: {at:.2g}", transform=over, ha="center", va="baseline",
                         color=LIGHT[colour])  # fmt: skip
    suggested = f"falls fastest at {suggestion:.2g}" if suggestion else "does not fall"
    return to_svg(figure, f"Loss over the learning rate: it {suggested}, and rises again from {rates['limit']:.2g} on.")
