"""The short result that ends `fit`, `train` and `evaluate`: numbers to believe and where to go next."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from saccade.cli.text import count, interval, percent, printable, seconds, table
from saccade.words import counted

SHOWN = 3
"""Warnings, and steps to take next, told at the end; the report has them all."""


def result_text(summary: Mapping[str, Any]) -> str:
    """Return what `fit` and `train` end with, from summary.json's content."""
    from saccade.report import verdict

    run = str(summary["run"])
    took = seconds(summary["seconds"])
    if summary.get("budget_seconds"):
        took += f" of {seconds(summary['budget_seconds'])}"
    test, baselines = summary.get("test"), summary.get("baselines")
    rows = [
        ("Test", _accuracy(test) if test else f"sealed until `saccade evaluate {quote(run)}`"),
        ("Without", _without_leaks(test) if test else ""),
        ("Chosen", _chosen(summary)),
        ("Beside it", _baselines(baselines) if baselines else ""),
        *[("Warning", warning.replace("\u00a0", " ")) for warning in _first(verdict(summary).warnings)],
        *[("Next", step["text"]) for step in _advice(summary)],
        ("Took", took),
        ("Report", f"{run}/report.html"),
        ("Model", f"{run}/model"),
        ("Predict", f"saccade predict {quote(run)} PATH…"),
    ]
    return _aligned([row for row in rows if row[1]])


def _chosen(summary: Mapping[str, Any]) -> str:
    validation = summary["validation"]
    told = f"{summary['chosen']}, validation accuracy {percent(validation['accuracy'])}"
    if summary.get("chosen_by") == "macro F1":
        told += f", chosen by macro F1 ({validation['macro_f1']:.3f}), in which every class counts the same"
    return told


def variants_text(compared: Mapping[str, Any]) -> str:
    """Return what `train` ends with where it trained a network with each of several settings."""
    header = ["", "validation accuracy", "95 % interval", "loss", "epochs", "seconds"]
    rows = [
        [run["name"], *_told(run)] if run["error"] is None else [run["name"], "failed", "", "", "", ""]
        for run in compared["runs"]
    ]
    failures = [f"{run['name']}: {run['error']}" for run in compared["runs"] if run["error"] is not None]
    means = [
        f"{percent(each['mean'])} ± {100 * each['sd']:.1f} over {each['folds']} folds  {each['name']}".rstrip()
        for each in compared["folds"]
    ]
    ends = [*(("Mean", each) for each in means), ("Curves", compared["page"]), ("Runs", compared["folder"])]
    return "\n\n".join(filter(None, [table(header, rows), "\n".join(map(printable, failures)), _aligned(ends)]))


def _told(run: Mapping[str, Any]) -> list[str]:
    loss = "" if run["validation_loss"] is None else f"{run['validation_loss']:.3f}"
    accuracy, bounds = percent(run["validation_accuracy"]), interval(run["interval"])
    return [accuracy, bounds, loss, count(run["epochs"]), f"{run['seconds']:.1f}"]


def evaluation_text(test: Mapping[str, Any]) -> str:
    """Return what `evaluate` says, from the "test" object of summary.json."""
    rows = [("Test", _accuracy(test)), ("Without", _without_leaks(test)), ("Macro F1", f"{test['macro_f1']:.3f}")]
    if "calibration_error" in test:
        rows.append(("Calibration", f"error {test['calibration_error']:.3f}"))
    if gain := test.get("averaging"):
        rows.append(("Averaging", _averaging(gain)))
    if others := test.get("others"):
        rows.insert(0, ("Classifier", test["name"]))
        rows += [(name, told) for each in others for name, told in (("", each["name"]), ("Test", _accuracy(each)))]
    return _aligned([row for row in rows if row[1]])


def _averaging(gain: Mapping[str, Any]) -> str:
    """Return what averaging changed on the same images against its best member alone."""
    (low, high), (least, most) = gain["interval"], gain["log_loss_interval"]
    return (
        f"{100 * gain['difference']:+.1f} points against {gain['over']} alone (95 % interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}), log loss lower by {gain['log_loss']:.3f} ({least:.3f} to {most:.3f})"
    )


def _without_leaks(test: Mapping[str, Any]) -> str:
    """Return the accuracy on the test images that are like none of an earlier part, where there are others."""
    clean = test.get("without_leaks")
    return f"near-duplicates of other parts: {_accuracy(clean)}" if clean else ""


def _accuracy(test: Mapping[str, Any]) -> str:
    told = f"accuracy {percent(test['accuracy'])} (95 % interval {interval(test['interval'])}"
    if "images" in test:
        told += f", {counted(test['images'], test.get('groups'))}"
    told += ")"
    if "looks" in test:
        told += f", look {test['looks']} at this test part"
    return told


def _baselines(baselines: Sequence[Mapping[str, Any]]) -> str:
    told = (f"{each['name']} {percent(each['validation_accuracy'])}" for each in baselines)
    return f"{', '.join(told)} on validation"


def _first(warnings: Sequence[str]) -> list[str]:
    more = [f"and {count(len(warnings) - SHOWN)} more, all in the report"] if len(warnings) > SHOWN else []
    return [*warnings[:SHOWN], *more]


def _advice(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the first steps of what to do next; none in summaries that know of no next."""
    return list((summary.get("next") or {}).get("advice") or [])[:SHOWN]


def _aligned(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {printable(told)}" for name, told in rows)
