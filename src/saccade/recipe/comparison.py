"""Runs side by side: what each recorded, and their differences on the test images they have in common.

Only what lies in the runs' folders is read: no model is loaded, no image opened, no look taken.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np

from saccade.data.splits import united
from saccade.errors import InputError, RunError
from saccade.files import read_csv
from saccade.recipe.provenance import used
from saccade.run import GROUP, PREDICTIONS, Run
from saccade.study.compare import compare as compare_answers
from saccade.study.compare import holm
from saccade.words import counted, plural

LEVEL = 0.05
_TEST_FIGURES = ("accuracy", "interval", "macro_f1", "calibration_error", "images", "looks")

Picture = tuple[str, str]
"""What makes two test images the same in two runs: the hash of the content, and the class."""


@dataclass(frozen=True)
class Recorded:
    """A finished run as its folder tells of it; `name` is what it is called among those compared."""

    name: str
    run: Run

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What summary.json holds."""
        return self.run.read_summary()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What settings.yaml holds."""
        return self.run.read_settings()

    @cached_property
    def used(self) -> set[str]:
        """The hashes of the images that the run was trained or chosen by, or the weights that it began with."""
        return set(used(self.run))

    @cached_property
    def tested(self) -> dict[str, Picture]:
        """The test part's images: name → content and class."""
        return {row["image"]: (row["hash"], row["class"]) for row in self.run.read_split() if row["part"] == "test"}

    @cached_property
    def pictures(self) -> set[Picture]:
        """The different pictures of the test part."""
        return set(self.tested.values())

    @cached_property
    def right(self) -> dict[Picture, bool] | None:
        """Which different test pictures were labelled right, or None where the run recorded no predictions.

        A picture that lies in the part several times counts once. Raises RunError where predictions.csv is damaged.
        """
        rows, path = self.predictions, self.run.predictions
        if rows is None:
            return None
        if {row["image"]: row["class"] for row in rows} != {name: label for name, (_, label) in self.tested.items()}:
            raise RunError(f"{path} does not tell of the test images in split.csv; the run's files were changed.")
        wrong = {self.tested[row["image"]] for row in rows if row["predicted"] != row["class"]}
        return {picture: picture not in wrong for picture in self.pictures}

    @cached_property
    def groups(self) -> dict[Picture, str]:
        """The declared groups of test pictures that have one, such as their patients, by name."""
        rows = (row for row in self.predictions or [] if row.get(GROUP))
        return {self.tested[row["image"]]: row[GROUP] for row in rows}

    @cached_property
    def predictions(self) -> list[dict[str, str]] | None:
        """The rows of predictions.csv, or None where the run recorded none; raises RunError where it is damaged."""
        path = self.run.predictions
        try:
            return read_csv(path, PREDICTIONS, GROUP) if path.exists() else None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is damaged; the run's files were changed.") from error

    @cached_property
    def test(self) -> dict[str, Any] | None:
        """The figures of the latest recorded look at the run's own test part, or None where it is sealed."""
        looks = self.run.own_looks()
        return looks[-1] if looks else self.summary.get("test")


def compare(paths: Sequence[Path]) -> dict[str, Any]:
    """Return runs side by side, and for each two the difference of their accuracies on the same test images.

    Plain values: `runs`, `pairs`, `settings` that differ, `warnings`, `level`, and `correction` where several
    pairs are tested. Raises InputError for fewer than two runs; RunError for one that is missing, unfinished,
    damaged, or given twice.
    """
    runs = open_all(paths, "compare")
    pairs = [_pair(first, second) for first, second in combinations(runs, 2)]
    tested = [pair for pair in pairs if pair["p"] is not None]
    for pair, adjusted in zip(tested, holm([pair["p"] for pair in tested]), strict=True):
        pair["p_adjusted"] = adjusted
        pair["better"] = _better(pair)
    for pair in pairs:
        pair["sentence"] = _sentence(pair)
    return {
        "runs": [_figures(run) for run in runs],
        "pairs": pairs,
        "level": LEVEL,
        "correction": {"method": "Holm", "comparisons": len(tested)} if len(tested) > 1 else None,
        "settings": _differing({run.name: run.settings for run in runs}),
        "warnings": list(_warnings(runs)),
    }


def open_all(paths: Sequence[Path], command: str) -> list[Recorded]:
    """Return finished runs, by names that tell them apart, for a command; raises as `compare` does."""
    if len(paths) < 2:
        given = "one was given" if paths else "none was given"
        raise InputError(f"`saccade {command}` needs two runs or more, and {given}. See `saccade {command} --help`.")
    places: dict[Path, Path] = {}
    for path in paths:
        if (place := path.resolve()) in places:
            raise RunError(f"{places[place]} and {path} are the same run; give each run once.")
        places[place] = path
    names = Counter(place.name for place in places)
    runs = [
        Recorded(place.name if names[place.name] == 1 else str(path), Run.open(path)) for place, path in places.items()
    ]
    for run in runs:
        run.summary  # noqa: B018 (a run that did not finish is refused before anything is compared)
    return runs


def _figures(run: Recorded) -> dict[str, Any]:
    """Return one run's own figures; those of a test part that is sealed are None."""
    summary = run.summary
    network, test = summary.get("network") or {}, run.test or {}
    return {
        "name": run.name,
        "run": str(run.run.path),
        "command": summary.get("command"),
        "source": summary["source"],
        "split": summary["split"],
        "chosen": summary["chosen"],
        "network": {name: network.get(name) for name in ("name", "parameters", "size", "epochs")} if network else None,
        "validation": _figures_of(summary["validation"], ("accuracy", "interval", "images")),
        "test": _figures_of(test, _TEST_FIGURES) if test else None,
        "test_pictures": len(run.pictures),
        "seconds": summary.get("seconds"),
        "budget_seconds": summary.get("budget_seconds"),
    }


def _figures_of(part: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a part's figures of these names, None where it has none, and its groups where its images are of such."""
    groups = {"groups": part["groups"]} if part.get("groups") else {}
    return {**{name: part.get(name) for name in names}, **groups}


def _pair(first: Recorded, second: Recorded) -> dict[str, Any]:
    """Return two runs' difference on the test pictures that both recorded, or why there is none."""
    common = sorted(first.pictures & second.pictures)
    pair = {
        "first": first.name,
        "second": second.name,
        "test_images": [len(first.pictures), len(second.pictures)],
        "images": len(common),
        "groups": None,
        "p": None,
        "p_adjusted": None,
        "better": None,
        "untested": None,
    }
    sealed = [run.name for run in (first, second) if run.right is None]
    if sealed:
        has = "has" if len(sealed) == 1 else "have"
        return {**pair, "untested": f"{' and '.join(sealed)} {has} no recorded predictions on the test part"}
    if not common or first.right is None or second.right is None:
        return {**pair, "untested": "no image is in the test part of both"}
    first_N, second_N = (np.array([right[key] for key in common]) for right in (first.right, second.right))
    groups_N = np.arange(len(common))
    for run in (first, second):  # what either declares to belong together does
        groups_N = united(groups_N, [run.groups.get(picture) for picture in common])
    answers = compare_answers(first_N, second_N, groups_N)
    return {**pair, **asdict(answers), "interval": list(answers.interval)}


def _better(pair: Mapping[str, Any]) -> str | None:
    """Return the name of the run that is better beyond chance, or None."""
    if pair["p_adjusted"] >= LEVEL:
        return None
    return str(pair["first"] if pair["difference"] > 0 else pair["second"])


def _sentence(pair: Mapping[str, Any]) -> str:
    """Say in one sentence what the test of a pair came to."""
    first, second = pair["first"], pair["second"]
    if pair["untested"]:
        return f"Nothing can be tested between {first} and {second}: {pair['untested']}."
    images = "this one image" if pair["images"] == 1 else f"these {counted(pair['images'], pair['groups'])}"
    p = "p < 0.001" if pair["p_adjusted"] < 0.001 else f"p = {pair['p_adjusted']:.2g}"
    won, lost = pair["first_alone"], pair["second_alone"]
    if pair["better"] is None:
        only = f"{won:,} {first} alone got right, {lost:,} {second} alone"
        return f"{first} and {second} cannot be told apart on {images}: {only}, {p}."
    if pair["better"] == second:
        first, second, won, lost = second, first, lost, won
    return f"{first} is better than {second} on {images}: {won:,} it alone got right against {lost:,}, {p}."


def _differing(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings that are not the same in all runs: name → run → value; a run without one is left out."""
    names = dict.fromkeys(name for each in settings.values() for name in each)
    held = {name: {run: each[name] for run, each in settings.items() if name in each} for name in names}
    return {
        name: values
        for name, values in held.items()
        if len(values) < len(settings) or any(value != next(iter(values.values())) for value in values.values())
    }


def _warnings(runs: Sequence[Recorded]) -> Iterator[str]:
    """Say which comparisons of the runs' own figures would be unfair, and which images are left out."""
    for tested, trained in permutations(runs, 2):
        if seen := len({picture for picture, _ in tested.pictures} & trained.used):
            yield (
                f"{seen:,} of {tested.name}'s {len(tested.pictures):,} test images were used to train or choose "
                f"{trained.name}: it must not be measured on them, and they are in no comparison."
            )
    for first, second in combinations(runs, 2):
        in_both = {picture for picture, _ in first.pictures} & {picture for picture, _ in second.pictures}
        if other := len(in_both - {picture for picture, _ in first.pictures & second.pictures}):
            yield (
                f"{plural(other, 'test image')} {'has' if other == 1 else 'have'} one class in {first.name} and "
                f"another in {second.name}; {'it is' if other == 1 else 'they are'} left out of the comparison."
            )
