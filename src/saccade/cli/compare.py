"""The command `compare`: runs side by side, differences tested on the same images."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from saccade.cli.options import Json
from saccade.cli.output import answer, working
from saccade.cli.text import count, interval, percent, printable, seconds, table
from saccade.words import plural, some

NONE = "–"
MOST_NAMED = 6
"""Settings named of those that not all runs have."""
Values = Mapping[str, Any]


def compare(*runs: Path, json: Json = False) -> None:
    """Set runs side by side and test their differences on the same images.

    Parameters
    ----------
    runs
        The folders that `saccade fit` or `saccade train` wrote, two or more; reading them is no look at a test part.
    """
    with working():
        from saccade.recipe.comparison import compare as compare_runs

        compared = compare_runs(runs)
    answer(compared, comparison_text(compared), json=json)


def comparison_text(compared: Values) -> str:
    """Return what `compare` says: the runs' figures, each pair's difference, the settings that differ, warnings."""
    names = [run["name"] for run in compared["runs"]]
    tested = [pair for pair in compared["pairs"] if pair["untested"] is None]
    texts = {name: _in_yaml(values) for name, values in compared["settings"].items()}
    shared = {name: values for name, values in texts.items() if len({*values.values()}) > 1}
    partial = [name for name, values in texts.items() if name not in shared and len(values) < len(names)]
    have = "only one of the runs has" if len(names) == 2 else "not all of the runs have"
    sections = [
        table(["", *names], _figures(compared["runs"])),
        "\n".join(printable(pair["sentence"]) for pair in compared["pairs"]),
        _differences(tested, compared) if tested else "",
        table(["Settings that differ", *names], _differing(shared, names)) if shared else "",
        printable(f"Settings that {have}: {some(partial, MOST_NAMED)}") if partial else "",
        "\n".join(printable(f"Warning  {warning}") for warning in compared["warnings"]),
    ]
    return "\n\n".join(filter(None, sections))


def _figures(runs: Sequence[Values]) -> list[list[str]]:
    """Return a row a figure, a column a run."""
    figures: dict[str, Callable[[Values], str]] = {
        "Source": lambda run: Path(run["source"]).name or run["source"],
        "Chosen": lambda run: run["chosen"],
        "Network": lambda run: _network(run["network"]) if run["network"] else NONE,
        "Validation": lambda run: _accuracy(run["validation"]),
        "Test": lambda run: _accuracy(run["test"]) if run["test"] else "sealed",
        "Macro F1": lambda run: _three_digits(run["test"], "macro_f1"),
        "Calibration error": lambda run: _three_digits(run["test"], "calibration_error"),
        "Looks": lambda run: count(run["test"]["looks"]) if run["test"] else NONE,
        "Took": lambda run: _time(run["seconds"], run["budget_seconds"]),
    }
    return [[name, *map(tell, runs)] for name, tell in figures.items()]


def _network(network: Values) -> str:
    told = [str(network["name"])]
    if network["size"] is not None:
        told.append(f"{network['size']} px")
    if network["epochs"] is not None:
        told.append(f"{count(network['epochs'])} {'epoch' if network['epochs'] == 1 else 'epochs'}")
    return ", ".join(told)


def _accuracy(part: Values) -> str:
    if part["interval"] is None:
        return percent(part["accuracy"])
    return f"{percent(part['accuracy'])} ({interval(part['interval'])})"


def _three_digits(test: Values | None, name: str) -> str:
    return f"{test[name]:.3f}" if test and test[name] is not None else NONE


def _time(took: float | None, budget: float | None) -> str:
    if took is None:
        return NONE
    return f"{seconds(took)} of {seconds(budget)}" if budget else seconds(took)


def _differences(pairs: Sequence[Values], compared: Values) -> str:
    """Return the table of the pairs that could be tested, and below it how they were."""
    correction = compared["correction"]
    header = ["On the images of both", "images", "accuracy", "difference (95 % interval)", "p"]
    rows = [[*_difference(pair), *([f"{pair['p_adjusted']:.2g}"] if correction else [])] for pair in pairs]
    notes = ["p: exact McNemar test. Interval: Newcombe's for paired proportions."]
    if any(pair["groups"] for pair in pairs):
        notes.append(
            "Where images are of groups, these are compared: p is that of the exact sign-flip test over groups, and "
            "Newcombe's interval that of as many images as tell as much by themselves."
        )
    if correction:
        header.append("p, corrected")
        notes.append(
            f"p, corrected by Holm's method for {correction['comparisons']} comparisons: what the sentences go by."
        )
    if any(run["test"] and run["test"]["images"] > run["test_pictures"] for run in compared["runs"]):
        notes.append("A picture that lies in a test part several times counts once here.")
    return "\n".join([table(header, rows), *notes])


def _difference(pair: Values) -> list[str]:
    low, high = (100 * bound for bound in pair["interval"])
    own = pair["test_images"]
    images = count(pair["images"])
    if any(pair["images"] < part for part in own):
        images += f" of {count(own[0])} and {count(own[1])}"
    if pair["groups"]:
        images += f", {plural(pair['groups'], 'group')}"
    return [
        f"{pair['first']} against {pair['second']}",
        images,
        f"{percent(pair['first_accuracy'])} and {percent(pair['second_accuracy'])}",
        f"{100 * pair['difference']:+.1f} ({low:+.1f} to {high:+.1f}) points",
        f"{pair['p']:.2g}",
    ]


def _in_yaml(values: Values) -> dict[str, str]:
    """Return the runs' values of a setting as settings.yaml has them."""
    written = {run: yaml.safe_dump(value, default_flow_style=True, width=math.inf) for run, value in values.items()}
    return {run: text.removesuffix("\n...\n").strip() for run, text in written.items()}


def _differing(settings: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> list[list[str]]:
    return [[setting, *(values.get(name, NONE) for name in names)] for setting, values in settings.items()]
