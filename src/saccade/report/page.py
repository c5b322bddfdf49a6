"""One self-contained HTML page from a run's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from saccade import words
from saccade.files import write_atomic
from saccade.palette import PALETTE
from saccade.report import charts
from saccade.report.sections import SECTIONS, WORKINGS, Material, Section, top
from saccade.report.unfinished import BEGUN, so_far
from saccade.run import Run


def write(run: Run) -> Path:
    """Write the run's report.html from the other files of its folder, and return its path; raises as `render` does."""
    write_atomic(run.report, render(run))
    return run.report


def render(run: Run) -> str:
    """Return the report as HTML: no script, nothing loaded from elsewhere, the same bytes for the same run.

    Of a run without summary.json, which is not finished, it is what there is so far. Raises RunError when that is
    nothing, or summary.json is damaged.
    """
    finished = (run.path / "summary.json").exists()
    known = _up_to_date(run) if finished else so_far(run)
    settings = run.settings.read_text(encoding="utf-8") if run.settings.exists() else ""
    material = Material(
        folder=run.path,
        summary=words.clean(known),
        history=words.clean(run.history()),
        plan=words.clean(_optional(run, "plan", {})),
        findings=words.clean(_optional(run, "findings", None if finished else known["findings"])),
        settings="\n".join(words.clean(line) for line in settings.splitlines()),
    )
    groups = {"sections": SECTIONS, "workings": WORKINGS} if finished else {"sections": BEGUN, "workings": ()}
    context = {
        "summary": material.summary,
        "finished": finished,
        "palette": PALETTE,
        **{name: _built(sections, material) for name, sections in groups.items()},
        **(top(material) if finished else {}),
    }
    return environment().get_template("page.html.jinja").render(context)


def _up_to_date(run: Run) -> dict[str, Any]:
    """Return the summary, with the figures of the latest look at the run's own test part, and its classes' counts."""
    summary, looks = run.read_summary(), run.own_looks()
    if not looks:
        return summary
    counted = [row["images"] for row in looks[-1].get("per_class") or []]
    return {**summary, "test": looks[-1], "class_counts": {**(summary.get("class_counts") or {}), "test": counted}}


def _built(sections: Sequence[Section], material: Material) -> list[dict[str, Any]]:
    """Return the sections for which there is something to show."""
    built = [(name, title, build(material)) for name, title, build in sections]
    return [{"name": name, "title": title, "view": view} for name, title, view in built if view is not None]


def curvature_page(told: Mapping[str, Any]) -> str:
    """Return what `saccade curvature --json` tells as an HTML page of its own, drawn."""
    clean = words.clean(dict(told))
    chart = charts.spectrum(clean["density"])
    return environment().get_template("curvature.html.jinja").render(told=clean, chart=chart, palette=PALETTE)


def environment() -> Environment:
    """Return the templates, with what they write numbers and names by."""
    environment = Environment(
        loader=PackageLoader("saccade.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        words.percent,
        words.interval,
        words.number,
        words.duration,
        words.short,
        words.plural,
        words.counted,
        words.base,
        words.plain,
        words.told_values,
    )
    environment.filters.update({filter_.__name__: filter_ for filter_ in filters})
    return environment


def _optional(run: Run, name: str, default: Any) -> Any:
    return run.read(name) if (run.path / f"{name}.json").exists() else default
