"""What a run that is not finished has to show: its training so far, by history and checkpoints, and what was before."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from operator import itemgetter
from typing import Any

from saccade.errors import RunError
from saccade.files import read_json
from saccade.report.sections import SECTIONS, WORKINGS
from saccade.run import Run
from saccade.words import plural

SHOWN = ("training", "checks", "findings", "split", "time", "record")
BEGUN = tuple(row for name in SHOWN for row in (*SECTIONS, *WORKINGS) if row[0] == name)
"""The sections that need no classifier, in the order of the page."""


def so_far(run: Run) -> dict[str, Any]:
    """Return what is known of an unfinished run, as its summary.json will name it, and the page's `heading`.

    Of several networks it is the latest that is told of. `findings` are None where the run's diary is not on disk.
    Raises RunError where there is nothing to show yet.
    """
    history, newest, diary = run.history(), _newest(run), _diary(run)
    of_newest = newest.get("settings", {}).get("model")
    name = history[-1]["network"] if history else of_newest
    newest = newest if of_newest == name else {}
    pace = newest.get("pace")
    done = max([line["step"] for line in history if line["network"] == name] + ([pace["step"] + 1] if pace else [0]))
    of_all = f"{done:,} of {plural(max(done, pace['steps']), 'step')}" if pace else f"{plural(done, 'step')} so far"
    if name is None and not diary.get("stages"):
        raise RunError(
            f"The run in {run.path} has nothing to show yet: no part of it is finished and no epoch of a training; "
            "wait for one, or go on with it by --resume."
        )
    return {
        "heading": f"This run is not finished: {of_all if name else 'no epoch of a training has ended'}",
        **_of_split(run),
        "stages": diary.get("stages", []),
        "checks": newest.get("checks", []),
        "left_out": newest.get("left_out", []),
        "network": {"name": name, "steps": done, "settings": newest.get("settings")} if name else None,
        "reading": [each["detail"] for each in newest.get("watch", {}).get("told", [])],
        "findings": diary.get("findings"),
        "budget_seconds": run.read_settings().get("budget"),
        "run": str(run.path),
    }


def _newest(run: Run) -> Mapping[str, Any]:
    """Return the plain values of the checkpoint that was taken last, of whichever network; none without one."""
    found: list[tuple[float, Mapping[str, Any]]] = []
    for file in run.checkpoints.rglob("[0-9]*.json"):
        with suppress(OSError, ValueError, LookupError, TypeError):
            plain = read_json(file)["plain"]
            found.append((float(plain["seconds"]), plain))
    return max(found, key=itemgetter(0), default=(0.0, {}))[1]


def _diary(run: Run) -> Mapping[str, Any]:
    """Return the stages that ended and what was found in them, where a run keeps that before its end."""
    with suppress(OSError, ValueError):
        found: Mapping[str, Any] = read_json(run.path / "candidates" / "diary.json")
        return found
    return {}


def _of_split(run: Run) -> dict[str, Any]:
    """Return how many images lie in which part; of each class, too, but of the sealed test part."""
    rows = run.read_split()
    classes = sorted({row["class"] for row in rows})
    counts = Counter((row["part"], row["class"]) for row in rows)
    return {
        "images": len(rows),
        "classes": classes,
        "class_counts": {part: [counts[part, name] for name in classes] for part in ("train", "validation")},
        "split": {part: sum(row["part"] == part for row in rows) for part in ("train", "validation", "test")},
    }
