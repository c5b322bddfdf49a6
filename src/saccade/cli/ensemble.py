"""The command `ensemble`: several runs' classifiers as one."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from saccade.cli.options import Device, Json, Out
from saccade.cli.output import answer, working
from saccade.cli.text import percent, printable, table


def ensemble(*runs: Path, out: Out = None, device: Device = "auto", json: Json = False) -> None:
    """Average the classifiers of several runs, where that is better on validation by more than its noise.

    Parameters
    ----------
    runs
        The folders that `saccade fit` or `saccade train` wrote, two or more, of one source split the same way.
    """
    with working():
        from saccade.recipe.combining import combine

        summary = combine(runs, out=out, device=device).summary
    answer(summary, ensemble_text(summary), json=json)


def ensemble_text(summary: Mapping[str, Any]) -> str:
    """Return what `ensemble` ends with: each run's figures and its part, what averaging gained, where to go on."""
    found, run = summary["ensemble"], quote(str(summary["run"]))
    rows = [
        [each["name"], f"{each['weight']:.2f}", percent(each["accuracy"]), f"{each['log_loss']:.3f}"]
        for each in found["members"]
    ]
    alone = f"Not kept: the model is {summary['chosen']} alone, the best by {summary['chosen_by']}"
    decision = "Kept" if found["accepted"] else alone
    told = [f"{decision}. {found['why'][0].upper()}{found['why'][1:]}."]
    if sum(each["weight"] > 0 for each in found["members"]) > 1:  # else their average is the best of them, and no more
        rows.append(["their average", "", percent(found["accuracy"]), f"{_loss(found):.3f}"])
        told.append(_gain(found))
    then = ", which tells what averaging gained there" if found["accepted"] else ""
    told += [f"Test   sealed until `saccade evaluate {run}`{then}", f"Model  {summary['run']}/model"]
    lines = "\n".join(map(printable, told))
    return f"{table(['Run', 'weight', 'validation accuracy', 'log loss'], rows)}\n\n{lines}"


def _gain(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return (
        f"Gain in log loss {found['gain']:.3f} (95 % interval {low:.3f} to {high:.3f}); two of those averaged differ "
        f"on {percent(found['disagreement'])} of the validation images."
    )


def _loss(found: Mapping[str, Any]) -> float:
    return float(min(each["log_loss"] for each in found["members"]) - found["gain"])
