"""Which trials of a search go on to the next stage, and what the search comes to."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from saccade.settings import SearchSettings
from saccade.study.board import Row
from saccade.study.importance import importance
from saccade.study.space import Space, grid_levels

RUNNERS = 2
"""Finalists beside the defaults."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return trials, the best first: those that ended, by accuracy, then loss; then by how far and well others came."""

    def key(row: Row) -> tuple[float, ...]:
        if row.state == "done":
            return (0.0, -row.result["accuracy"], row.result["loss"])
        last = max(row.seen, default=0)
        return (1.0, -last, -row.seen.get(last, 0.0))

    return sorted(rows, key=key)


def finalists(rows: Sequence[Row], defaults: Mapping[str, Any] = NOTHING) -> list[dict[str, Any]]:
    """Return the settings to repeat with fresh seeds: none, which are the defaults, then the best two trials'.

    Trials of the refined stage come before those of the coarse one, which were shorter. Those that spell out
    `defaults`, the values of what is not given, are no others.
    """
    found: list[dict[str, Any]] = [{}]
    for stage in ("refined", "coarse"):
        for row in ranked([row for row in rows if row.stage == stage and row.state == "done"]):
            given = {name: value for name, value in row.job["settings"].items() if defaults.get(name) != value}
            if given and row.job["settings"] not in found and len(found) <= RUNNERS:
                found.append(dict(row.job["settings"]))
    return found


def conclude(
    rows: Sequence[Row], settings: SearchSettings, space: Space, defaults: Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """Return what the trials came to as plain values; of `defaults` see `finalists`.

    "best" is the finalist with the highest mean accuracy over its fresh seeds, of those of which no repeat was stopped,
    where its lead over the defaults is more than one standard error of their differences, seed by seed, else the
    defaults. "better" tells; it is None where there are no two seeds to tell by, as of one repeat, and the lead is
    believed. Without repeats it is the best trial; None where no trial ended.
    """
    candidates = [_repeated(given, rows) for given in finalists(rows, defaults)]
    tried = [each for each in candidates if each["accuracies"]]
    eligible = [each for each in tried if not each["stopped"]] or tried[:1]
    best, better = None, None
    if eligible:
        best = max(eligible, key=lambda each: float(each["mean"]))
        if eligible[0]["settings"] == {} and best["settings"]:
            better = _leads(best, eligible[0])
            best = best if better is not False else eligible[0]
    elif found := finalists(rows)[1:]:
        [first, *_] = ranked([row for row in rows if row.job["settings"] == found[0]])
        best = {**_repeated(found[0], rows), "mean": first.result["accuracy"]}
    coarse = [row for row in rows if row.stage == "coarse"]
    return {
        "best": best,
        "better": better,
        "asked": settings.trials,
        "finalists": tried,
        "stages": {stage: _summed([row for row in rows if row.stage == stage]) for stage in ("coarse", "refined")},
        "importance": importance(coarse, space),
        "space": {name: _plain(values) for name, values in space.items()},
        "grid": dict(zip(space, grid_levels(space, len(coarse)), strict=True)),
        "trials": [row.plain() for row in rows],
    }


def _repeated(given: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Return a finalist's accuracies by seed, their mean and standard deviation, and how many repeats were stopped."""
    runs = [row for row in rows if row.stage == "final" and row.job["settings"] == given]
    by_seed = {str(row.job["seed"]): row.result["accuracy"] for row in runs if row.state == "done"}
    values = list(by_seed.values())
    mean = float(np.mean(values)) if values else None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    stopped = sum(row.state == "stopped" for row in runs)
    return {"settings": dict(given), "accuracies": by_seed, "mean": mean, "sd": sd, "stopped": stopped}


def _leads(best: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool | None:
    """Return whether a lead, seed by seed, is more than its standard error; None where that cannot be told."""
    seeds = best["accuracies"].keys() & defaults["accuracies"].keys()
    if len(seeds) < 2:
        return None
    leads = np.array([best["accuracies"][seed] - defaults["accuracies"][seed] for seed in seeds])
    return bool(leads.mean() > leads.std(ddof=1) / math.sqrt(len(leads)))


def _summed(rows: Sequence[Row]) -> dict[str, Any]:
    done = [row for row in rows if row.state == "done"]
    return {
        "trials": len(rows),
        "done": len(done),
        "stopped": sum(row.state == "stopped" for row in rows),
        "accuracy": max((row.result["accuracy"] for row in done), default=None),
        "seconds": round(sum(row.result.get("seconds", 0.0) for row in rows), 2),
    }


def _plain(values: Any) -> dict[str, Any]:
    return {name: list(each) if isinstance(each, tuple) else each for name, each in vars(values).items()}
