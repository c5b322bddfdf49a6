"""One self-contained HTML page of several trainings: their curves in one picture, their activations by depth."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade import words
from saccade.files import write_atomic
from saccade.palette import PALETTE
from saccade.report import charts, curves
from saccade.report.page import environment

COLOURS = ("right", "wrong", "green", "amber", "ink", "quiet")
STYLES = ("marked", "dashed", "dotted")
"""Six runs each; after eighteen, colours and dashes repeat."""

View = dict[str, Any]
Points = curves.Points


def write_comparison(folder: Path, compared: Mapping[str, Any]) -> Path:
    """Write comparison.html into a folder, from what `recipe.train_each` returns, and return its path."""
    path = folder / "comparison.html"
    write_atomic(path, render_comparison(compared))
    return path


def render_comparison(compared: Mapping[str, Any]) -> str:
    """Return the page as HTML: no script, nothing loaded from elsewhere."""
    runs = words.clean(list(compared["runs"]))
    for place, run in enumerate(runs):
        run["colour"] = COLOURS[place % len(COLOURS)]
        run["style"] = STYLES[place // len(COLOURS) % len(STYLES)]
    drawn = [
        _chart("Validation accuracy", runs, lambda run: _curve(run, "validation_accuracy"), "epoch", "percent"),
        _chart("Validation loss", runs, lambda run: _curve(run, "validation_loss"), "epoch", "number"),
        _chart("Training loss", runs, lambda run: _curve(run, "loss"), "epoch", "number"),
        _chart("Spread of activations, before training", runs, lambda run: _depths(run, "sd"), "depth", "number"),
        _chart("Mean of activations, before training", runs, lambda run: _depths(run, "mean"), "depth", "number"),
        _chart("Saturated values, before training", runs, lambda run: _depths(run, "saturated"), "depth", "percent"),
        _chart("Dead units, after training", runs, lambda run: _depths(run, "dead", "end"), "depth", "percent"),
    ]
    best = max((run["validation_accuracy"] for run in runs if run["error"] is None), default=None)
    told = words.clean({"folds": list(compared["folds"]), "source": str(compared["source"])})
    context = {"runs": runs, "charts": [each for each in drawn if each], "best": best, "palette": PALETTE, **told}
    context["same_images"] = compared["same_images"]
    return environment().get_template("comparison.html.jinja").render(context)


def _curve(run: Mapping[str, Any], name: str) -> Points:
    return curves.thinned(curves.points(run.get("history") or [], name, "epoch"))


def _depths(run: Mapping[str, Any], name: str, when: str = "start") -> Points:
    activities = (run.get("activations") or {}).get(when) or []
    return [(float(depth), float(each[name])) for depth, each in enumerate(activities, 1)]


def _chart(
    title: str, runs: Sequence[Mapping[str, Any]], points: Callable[[Mapping[str, Any]], Points], axis: str, kind: str
) -> View | None:
    """Return one chart with a curve a run; None where no run has two points."""
    series = [(run["colour"], run["style"], points(run), run["name"]) for run in runs]
    series = [each for each in series if each[2]]
    if not any(len(each[2]) > 1 for each in series):
        return None
    values = [value for each in series for _, value in each[2]]
    if kind == "number" and min(values) > 0 and max(values) > 30 * min(values):
        kind = "log"
    end = max(x for each in series for x, _ in each[2])
    last = "; ".join(f"{name} ends at {drawn[-1][1]:.3g}" for _, _, drawn, name in series)
    chart = charts.lines([each[:3] for each in series], description=f"{title}: {last}.", axis=axis, end=end, kind=kind)
    return charts.titled(title, chart, [(colour, name) for colour, _, _, name in series])
