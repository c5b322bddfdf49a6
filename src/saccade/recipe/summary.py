"""summary.json: what a run says of itself, put together from its stages, candidates and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade import metrics
from saccade.data import Parts
from saccade.device import machine
from saccade.events import Event, Finding, Passed, StageEnded
from saccade.files import read_json, write_json
from saccade.recipe.material import Material
from saccade.study import Baseline
from saccade.train.reading import read_history
from saccade.words import some

SCHEMA = 1
FEW, MOST_NAMED = 3, 100


@dataclass
class Diary:
    """A listener that keeps a run's stages and findings; in a file too, for a run that may be resumed."""

    stages: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    place: Path | None = None

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, StageEnded):
            figures = {"seconds": round(event.seconds, 3), "validation_accuracy": event.validation_accuracy}
            self.stages.append({"name": event.stage, **figures})
            self._write()
        elif isinstance(event, Finding) and event not in self.findings:
            self.findings.append(event)
        elif isinstance(event, Passed) and event.finding in self.findings:
            self.findings.remove(event.finding)

    def keep_in(self, place: Path) -> None:
        """Go on from what the file holds of before an interruption, and keep it there from now on."""
        if place.exists():
            earlier = read_json(place)
            self.stages = [*earlier["stages"], *self.stages]
            told = [Finding(**{**each, "paths": (*each["paths"],), "groups": (*each["groups"],)})
                    for each in earlier["findings"]]  # fmt: skip
            self.findings = [*told, *(finding for finding in self.findings if finding not in told)]
        place.parent.mkdir(exist_ok=True)
        self.place = place
        self._write()

    def _write(self) -> None:
        if self.place is not None:
            write_json(self.place, {"stages": self.stages, "findings": findings_json(self)})

    def unreadable(self) -> int:
        """Return how many images could not be read."""
        return sum(len(finding.paths) for finding in self.findings if finding.kind == "unreadable")

    def warnings(self) -> list[str]:
        """Return the text of every finding that is more than a note, after the first names it is about."""
        return [_named(finding) + finding.detail for finding in self.findings if finding.severity != "note"]


def of_data(material: Material, diary: Diary, test: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the summary says of the images; the test part's classes only where it was looked at."""
    parts = material.parts
    counts = {part.name: part.images.class_counts().tolist() for part in (parts.train, parts.validation)}
    if test is not None:
        counts["test"] = [row["images"] for row in test["per_class"]]
    return {
        "source": material.source,
        "images": material.found,
        "classes": list(parts.classes),
        "class_counts": counts,
        "unreadable": diary.unreadable(),
        "duplicates": material.duplicates,
        "split": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
    }


def of_validation(parts: Parts, probabilities_NK: NDArray[np.float64]) -> dict[str, Any]:
    """Return a classifier's figures on the validation part, beside those of always naming the commonest class."""
    labels_N, predicted_N = parts.validation.labels_N, probabilities_NK.argmax(1)
    return {
        **metrics.judged(predicted_N == labels_N, parts.validation.groups_N),
        "macro_f1": metrics.macro_f1(metrics.confusion_KK(predicted_N, labels_N, len(parts.classes))),
        "majority": float((labels_N == parts.train.images.class_counts().argmax()).mean()),
    }


def of_baseline(baseline: Baseline) -> dict[str, Any]:
    """Return what the summary says of a baseline."""
    return {
        "name": baseline.name,
        "validation_accuracy": baseline.validation_accuracy,
        "interval": list(baseline.interval),
        "seconds": round(baseline.seconds, 3),
        "note": baseline.note,
    }


def of_software() -> dict[str, Any]:
    """Return the versions and the machine a result depends on."""
    return {"schema": SCHEMA, "saccade": version("saccade"), "machine": machine()}


def reading(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return in words what the training curves show (lecture 7, step 6)."""
    seen = [line for line in history if "validation_loss" in line]
    if len(seen) < 3:
        return []
    first, last = seen[0], seen[-1]
    told = ["Validation accuracy went from " + " to ".join(map(_accuracy_then, (first, last))) + "."]
    found = read_history(history)
    told += [each.sentence for each in found]
    if not found:
        told.append("The validation loss was still about its lowest at the end: no sign of overfitting.")
    if last["loss"] > last["validation_loss"]:
        told.append("The training loss lies above it because it is measured on changed images and smoothed labels.")
    return told


def _accuracy_then(line: Mapping[str, Any]) -> str:
    return f"{line['validation_accuracy']:.1%} (epoch {line['epoch']:.1f})"


def told_findings(diary: Diary) -> list[dict[str, Any]]:
    """Return the findings for summary.json: each with how many it names, and the first of their names."""
    return [
        {
            "kind": finding.kind,
            "detail": finding.detail,
            "paths": list(finding.paths[:MOST_NAMED]),
            "severity": finding.severity,
            "count": len(finding.paths),
        }
        for finding in diary.findings
    ]


def _named(finding: Finding) -> str:
    """Return what a finding is about, as the beginning of its sentence; nothing where the detail itself names it."""
    itself = all(f'"{path}"' in finding.detail for path in finding.paths)
    return "" if itself else f"{some(finding.paths, FEW)}: "


def findings_json(diary: Diary) -> list[dict[str, Any]]:
    """Return findings.json's content."""
    return [asdict(finding) for finding in diary.findings]
