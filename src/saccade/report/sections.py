"""The report's sections: each takes what the run's folder holds and returns what its template shows, or None."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saccade.report import charts, curves, pictures, transfer
from saccade.report.averages import averaging
from saccade.report.folds import over_folds
from saccade.report.kinds import KINDS, title
from saccade.report.layers import layer_charts
from saccade.report.verdict import is_baseline, majority, plain_names, verdict

View = dict[str, Any]
History = Sequence[Mapping[str, Any]]

_SEVERITIES = {"error": 0, "warning": 1, "note": 2}
_STEPS = {
    "training": "What went wrong in training",
    "photos": "More photos",
    "classes": "Photos of which classes",
    "labels": "Labels to look at",
    "confusion": "Look-alikes",
    "budget": "More time",
}
LISTED, FULL_MATRIX = 200, 24
FEW_ANSWERS = 60
"""Below which nothing can be said of how often each probability is right."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a run's folder holds, read once; every text in it is printable."""

    folder: Path
    summary: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] | None = None
    settings: str = ""

    @property
    def figures(self) -> Mapping[str, Any]:
        """The figures of the test part, or of validation where the test part was not looked at."""
        found: Mapping[str, Any] = self.summary.get("test") or self.summary["validation"]
        return found

    @property
    def part(self) -> str:
        """The part that `figures` are of."""
        return "test" if self.summary.get("test") else "validation"


def top(material: Material) -> View:
    """The verdict, and the ruler it is marked on."""
    found = verdict(material.summary, material.findings or ())
    best = max((row["validation_accuracy"] for row in material.summary.get("baselines") or []), default=None)
    looked = material.figures.get("looked") or []
    return {"verdict": found, "best": None if is_baseline(material.summary) else best, "looked": looked}


def next_steps(material: Material) -> View | None:
    """What the figures advise to do next, the learning curve, the pairs most confused, the classes short of photos."""
    found = material.summary.get("next") or {}
    curve = found.get("learning_curve")
    pairs = [
        {**pair, "shown": list(filter(None, (pictures.embed(material.folder, name) for name in pair["pictures"])))}
        for pair in found.get("pairs") or []
    ]
    steps = [
        {"title": _STEPS.get(step["kind"], ""), "text": step["text"].replace(" %", "\u00a0%")}
        for step in found.get("advice") or []
    ]
    view = {"steps": steps, "curve": curve, "pairs": [pair for pair in pairs if pair["shown"]],
            "classes": found.get("classes") or [], "part": material.part}  # fmt: skip
    if not (steps or curve or view["pairs"] or view["classes"]):
        return None
    return {**view, "chart": charts.learning(curve) if curve else None}


def baselines(material: Material) -> View | None:
    """Every classifier on the same validation images."""
    summary = material.summary
    rows = [
        {**row, "accuracy": row["validation_accuracy"], "interval": row.get("interval")}
        for row in summary.get("baselines") or []
    ]
    if not rows:
        return None
    known = {row["name"] for row in rows}
    others = [row for row in summary.get("candidates") or [] if row["name"] not in known]
    rows += [{**row, "accuracy": row["validation_accuracy"]} for row in others]
    if summary["chosen"] not in {row["name"] for row in rows}:  # an average, or a run of one network alone
        mine = summary["validation"]
        rows.append({"name": summary["chosen"], "accuracy": mine["accuracy"], "interval": mine.get("interval"),
                     "seconds": None if others else _training_seconds(summary)})  # fmt: skip
    share = majority(summary, "validation")
    if share is not None:
        rows.append({"name": "always the commonest class", "accuracy": share, "interval": None})
    rows = [{"note": "", "seconds": None, **row} for row in rows]
    for row in rows:
        row["kind"] = "chosen" if row["name"] == summary["chosen"] else "other"
    rows.sort(key=lambda row: -row["accuracy"])
    templates = [
        {"class": each["class"], "picture": picture}
        for row in rows
        for each in row.get("templates") or ()
        if (picture := pictures.embed(material.folder, each["picture"]))
    ]
    more = {"templates": templates, "classes": len(summary["classes"])}
    return {"rows": rows, "chart": charts.bars(rows), "images": summary["split"]["validation"],
            "groups": (summary.get("validation") or {}).get("groups"), **more}  # fmt: skip


def averages(material: Material) -> View | None:
    """What averaging several classifiers changed."""
    return averaging(material.summary, material.figures)


def folds(material: Material) -> View | None:
    """The settings of each classical classifier, over the folds they were held out of."""
    rows = material.summary.get("classifiers") or []
    if not rows:
        return None
    drawn = [{**row, "charts": over_folds(row) if len(row["settings"]) > 1 else []} for row in rows]
    drawn.sort(key=lambda row: -row["mean"])
    return {"rows": drawn, "folds": material.summary["folds"], "chosen": material.summary["chosen"],
            "images": material.summary["validation"]["images"]}  # fmt: skip


def _training_seconds(summary: Mapping[str, Any]) -> float | None:
    return next((stage["seconds"] for stage in summary.get("stages") or [] if stage["name"] == "train"), None)


def checks(material: Material) -> View | None:
    """The verdict before training, what failed first, and what was left out."""
    summary = material.summary
    rows = sorted(summary.get("checks") or [], key=lambda row: row["passed"])
    more = {"left_out": summary.get("left_out") or [], "budget": summary.get("budget_seconds")}
    return {"rows": rows, "passed": sum(row["passed"] for row in rows), **more} if rows else None


def findings(material: Material) -> View | None:
    """What the data check found, by kind, the gravest first."""
    if material.findings is None:
        return None
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for finding in filter(_of_data, material.findings):
        groups.setdefault(finding["kind"], []).append(finding)
    kinds = [
        {
            "title": title(kind),
            "meaning": KINDS.get(kind, ("", ""))[1],
            "severity": min((row.get("severity", "note") for row in rows), key=_gravity),
            "files": sum(len(row.get("paths") or ()) for row in rows),
            "rows": rows[:LISTED],
            "count": len(rows),
            "left_out": len(rows) - LISTED,
        }
        for kind, rows in sorted(groups.items(), key=lambda group: [*KINDS, group[0]].index(group[0]))
    ]
    kinds.sort(key=lambda kind: _gravity(str(kind["severity"])))
    return {"kinds": kinds, "images": material.summary["images"]}


def _of_data(finding: Mapping[str, Any]) -> bool:
    """Return whether a finding is about images, and not about the training."""
    return finding["kind"] in KINDS or bool(finding.get("paths"))


def _gravity(severity: str) -> int:
    return _SEVERITIES.get(severity, 2)


def split(material: Material) -> View | None:
    """How many images of each class went where."""
    summary = material.summary
    counts = summary.get("class_counts") or {}
    parts = [part for part in ("train", "validation", "test") if counts.get(part)]
    rows = [
        {"name": name, "counts": [counts[part][place] for part in parts], "total": sum(counts[p][place] for p in parts)}
        for place, name in enumerate(summary["classes"])
    ]
    most = max((row["total"] for row in rows), default=0) or 1
    return {"parts": parts, "rows": rows, "most": most, "split": summary["split"], "images": summary["images"]}


def inputs(material: Material) -> View | None:
    """Training images as the network gets them."""
    picture = pictures.embed(material.folder, material.summary.get("inputs"))
    size = None if is_baseline(material.summary) else (material.summary.get("network") or {}).get("size")
    return {"picture": picture, "size": size} if picture else None


def training(material: Material) -> View | None:
    """The curves of the training and what they say."""
    name = (material.summary.get("network") or {}).get("name")
    history = [line for line in material.history if line.get("network", name) == name]
    if not history:
        return None
    epochs = all(line.get("epoch") is not None for line in history) and len({line["epoch"] for line in history}) > 1
    axis = "epoch" if epochs else "step"
    end = float(max(line.get(axis) or 0 for line in history)) or 1.0
    drawn = [*_loss(history, axis, end), *_accuracy(history, axis, end), *_rate(history, axis, end)]
    drawn += layer_charts(history, axis, end)
    watch = [row for row in material.findings or () if not _of_data(row) and row["kind"] != "check"]
    return {"charts": drawn, "reading": material.summary.get("reading") or [], "watch": watch,
            "network": material.summary.get("network") or {}}  # fmt: skip


def activations(material: Material) -> View | None:
    """What each activation of the network does, before and after training, by depth."""
    network = material.summary.get("network") or {}
    found = network.get("activations") or {}
    start, end = found.get("start") or [], found.get("end") or []
    if not end:
        return None
    drawn = [
        _by_depth("Spread of outputs", start, end, "sd", "number"),
        _by_depth("Saturated values", start, end, "saturated", "percent"),
        _by_depth("Dead units", start, end, "dead", "percent"),
    ]
    same = len(start) == len(end)
    rows = [{"after": after, "before": before} for after, before in zip(end, start if same else end, strict=True)]
    return {"charts": [each for each in drawn if each], "rows": rows, "images": found["images"],
            "faults": found.get("faults") or [], "network": network.get("name"),
            "passed_over": network.get("name") not in plain_names(material.summary["chosen"])}  # fmt: skip


def _by_depth(title: str, start: History, end: History, name: str, kind: str) -> View | None:
    series: list[tuple[str, str, list[tuple[float, float]]]] = [
        (colour, "marked", [(float(depth), float(each[name])) for depth, each in enumerate(rows, 1)])
        for colour, rows in (("quiet", start), ("right", end))
        if len(rows) > 1
    ]
    values = [value for _, _, points in series for _, value in points]
    if not series or (name != "sd" and not any(values)):
        return None
    if kind == "number" and min(values) > 0 and max(values) > 30 * min(values):
        kind = "log"
    words = f"{title} by depth, after training: {', '.join(f'{value:.3g}' for _, value in series[-1][2])}."
    chart = charts.lines(series, description=words, axis="depth", end=float(len(end)), kind=kind)
    return charts.titled(title, chart, [("quiet", "before"), ("right", "after training")][-len(series) :])


def _loss(history: History, axis: str, end: float) -> list[View]:
    loss = curves.thinned(curves.points(history, "loss", axis))
    held = curves.thinned(curves.points(history, "validation_loss", axis))
    if len(loss) < 2:
        return []
    series = [("right", "faint", loss), ("right", "line", curves.smoothed(loss)), ("wrong", "marked", held)]
    series = [each for each in series if each[2]]
    values = [value for _, _, points in series for _, value in points]
    kind = "log" if min(values) > 0 and max(values) > 30 * min(values) else "number"
    words = f"Training loss from {loss[0][1]:.3g} to {loss[-1][1]:.3g}."
    chart = charts.lines(series, description=words, axis=axis, end=end, kind=kind)
    return [charts.titled("Loss", chart, [("right", "training")] + [("wrong", "validation")] * bool(held))]


def _accuracy(history: History, axis: str, end: float) -> list[View]:
    train = curves.thinned(curves.points(history, "train_accuracy", axis))
    held = curves.thinned(curves.points(history, "validation_accuracy", axis))
    if not held:
        return []
    series = [("right", "marked", train)] * bool(train) + [("wrong", "marked", held)]
    words = f"Validation accuracy from {held[0][1]:.1%} to {held[-1][1]:.1%}."
    chart = charts.lines(series, description=words, axis=axis, end=end, kind="percent")
    return [charts.titled("Accuracy", chart, [("right", "training")] * bool(train) + [("wrong", "validation")])]


def _rate(history: History, axis: str, end: float) -> list[View]:
    rate = curves.thinned(curves.points(history, "learning_rate", axis))
    if len(rate) < 2:
        return []
    words = f"Learning rate from {rate[0][1]:.3g} over {max(y for _, y in rate):.3g} to {rate[-1][1]:.3g}."
    chart = charts.lines([("green", "line", rate)], description=words, axis=axis, end=end)
    return [charts.titled("Learning rate", chart, [])]


def confusion(material: Material) -> View | None:
    """Which classes are taken for which."""
    table = material.figures.get("confusion")
    if not table:
        return None
    classes = material.summary["classes"]
    counts_KK = np.array(table, np.int64)
    totals_K = counts_KK.sum(axis=1)
    wrong_KK = counts_KK.copy()
    np.fill_diagonal(wrong_KK, 0)
    order = np.argsort(-wrong_KK, axis=None, kind="stable")[:12]
    places = [divmod(int(place), len(classes)) for place in order if wrong_KK.flat[place] > 0]
    pairs = [
        {"true": classes[row], "predicted": classes[column], "count": int(counts_KK[row, column]),
         "share": counts_KK[row, column] / totals_K[row]}
        for row, column in places
    ]  # fmt: skip
    view: View = {"pairs": pairs, "wrong": int(wrong_KK.sum()), "classes": len(classes), "chart": None, "heat": None}
    if len(classes) <= FULL_MATRIX:
        return {**view, "chart": charts.confusion(counts_KK, classes)}
    return {**view, "heat": pictures.heat(counts_KK)}


def classes(material: Material) -> View | None:
    """How well each class is known, the weakest first."""
    rows = [dict(row) for row in material.figures.get("per_class") or []]
    if not rows:
        return None
    for row in rows:
        row["right"] = None if row["recall"] is None else round(row["recall"] * row["images"])
    rows.sort(key=lambda row: (not row["images"], row["f1"] or 0.0))
    return {"rows": rows, "shown": len(rows) if len(rows) <= 24 else 12}


def calibration(material: Material) -> View | None:
    """Whether a probability of 90 % means nine times in ten."""
    bins = material.figures.get("calibration")
    if not bins:
        return None
    images = sum(row["images"] for row in bins)
    if images < FEW_ANSWERS:
        return None
    gap = sum(row["images"] * (row["confidence"] - row["accuracy"]) for row in bins if row["images"]) / images
    return {"chart": charts.calibration(bins), "error": material.figures.get("calibration_error"), "gap": gap}


def mistakes(material: Material) -> View | None:
    """The answers that were surest and wrong."""
    rows = material.figures.get("mistakes")
    if rows is None:
        return None
    shown = [{**row, "image": pictures.embed(material.folder, row.get("picture"))} for row in rows[:24]]
    right = round(material.figures["accuracy"] * verdict(material.summary).images)
    return {"rows": shown, "all": verdict(material.summary).images - right, "images": verdict(material.summary).images}


def time(material: Material) -> View | None:
    """Where the seconds went."""
    stages = material.summary.get("stages") or []
    if not stages:
        return None
    total = material.summary.get("seconds") or sum(stage["seconds"] for stage in stages)
    most = max(stage["seconds"] for stage in stages) or 1.0
    scored = any(stage.get("validation_accuracy") is not None for stage in stages)
    budget = material.summary.get("budget_seconds")
    return {"stages": stages, "total": total, "most": most, "budget": budget, "scored": scored}


def record(material: Material) -> View:
    """What is needed to understand and to repeat the run."""
    network = dict(material.summary.get("network") or {})
    settings = network.pop("settings", None) or {}
    summary = material.summary
    return {
        "network": network,
        "settings": settings,
        "decisions": material.plan.get("decisions") or [],
        "run": {name: summary.get(name) for name in ("source", "run", "command", "saccade")},
        "machine": summary.get("machine") or {},
        "yaml": material.settings,
    }


Section = tuple[str, str, Callable[[Material], View | None]]

# In the order of the page: template and id, heading, builder.
SECTIONS: tuple[Section, ...] = (
    ("next", "What to do next", next_steps),
    ("folds", "Classifiers over the folds", folds),
    ("mistakes", "The worst mistakes", mistakes),
    ("confusion", "What is taken for what", confusion),
    ("classes", "Class by class", classes),
    ("findings", "What the data check found", findings),
    ("split", "Classes and split", split),
    ("baselines", "Beside the baselines", baselines),
    ("averages", "Several classifiers as one", averages),
    ("transfer", "What it took over from another network", lambda material: transfer.transfer(material.summary)),
    ("calibration", "Can its probabilities be believed?", calibration),
    ("inputs", "Images as the classifier sees them", inputs),
)
WORKINGS: tuple[Section, ...] = (
    ("checks", "Checks before training", checks),
    ("training", "How training went", training),
    ("activations", "What the activations do", activations),
    ("time", "Where the time went", time),
    ("record", "Settings and machine", record),
)
"""Sections for those who want to know how the classifier was made, folded away for the others."""
