"""The classifiers a run may choose from, each on disk as soon as it is complete, so that a resumed run has it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from saccade import metrics
from saccade.classifiers import Model
from saccade.data import Part
from saccade.errors import DeviceError, RunError
from saccade.events import Finding, emit
from saccade.files import read_json, slug, write_atomic, write_json
from saccade.run import Run

_TOLD = ("facts", "checks", "image_seconds", "left_out")
"""What a candidate's JSON file says of it."""
UNBALANCED = 4.0
"""Training images of the largest class for one of the smallest, from which on every class is to count the same."""


@dataclass(frozen=True)
class Candidate:
    """A trained classifier, its probabilities (N, K) on the validation part, and how it came about."""

    model: Model
    validation_NK: NDArray[np.float64]
    facts: Mapping[str, Any] = field(default_factory=dict)
    checks: Sequence[Mapping[str, Any]] = ()
    image_seconds: float = 0.0
    """What predicting one image takes."""
    left_out: Sequence[str] = ()
    """The checks before its training that there was no time for."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.model.name


def test_time(name: str) -> str:
    """Return what the time is called that is kept for a classifier's predictions of the test images."""
    return f"test images by {name}"


@dataclass(frozen=True)
class Judge:
    """What classifiers are chosen by: accuracy on validation, or macro F1 where the classes are `unbalanced`."""

    labels_N: NDArray[np.int64]
    unbalanced: bool = False

    @classmethod
    def of(cls, train: Part, validation: Part) -> "Judge":
        """Return the judge that the training images' classes call for, and say so where it is not accuracy."""
        counts_K = train.images.class_counts()
        counts_K = counts_K[counts_K > 0]
        ratio = counts_K.max() / counts_K.min()
        if ratio >= UNBALANCED:
            detail = (
                f"The largest class has {counts_K.max():,} training images and the smallest {counts_K.min():,}: "
                "classifiers are chosen by macro F1, in which every class counts the same, and not by accuracy."
            )
            emit(Finding(kind="unbalanced", detail=detail))
        return cls(validation.labels_N, bool(ratio >= UNBALANCED))

    def __call__(self, candidate: Candidate) -> float:
        """Return the candidate's score, higher is better."""
        return self.score(candidate.validation_NK.argmax(1), self.labels_N)

    def score(self, predicted_N: NDArray[np.int64], labels_N: NDArray[np.int64]) -> float:
        """Return what it says of predicted labels, held against the true ones; both are indices of classes."""
        if not self.unbalanced:
            return metrics.accuracy(predicted_N, labels_N)
        classes = 1 + int(max(predicted_N.max(), labels_N.max()))
        return metrics.macro_f1(metrics.confusion_KK(predicted_N, labels_N, classes))

    def accuracy(self, candidate: Candidate) -> float:
        """Return the share of the validation images named right."""
        return metrics.accuracy(candidate.validation_NK.argmax(1), self.labels_N)

    def best(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the candidate of the highest score; of several, the one that is least wrongly sure."""
        return max(candidates, key=lambda each: (self(each), -metrics.log_loss(each.validation_NK, self.labels_N)))


class Candidates:
    """The folder of a run's candidates, and of what else its stages found that a resumed run is not to find again.

    Those that come back compute on `device`.
    """

    def __init__(self, run: Run, device: str = "auto") -> None:
        self.run, self.device, self.folder = run, device, run.path / "candidates"

    def keep(self, name: str, candidate: Candidate, score: float) -> Candidate:
        """Write a candidate, whole or not at all, and return it; the best so far is the run's model meanwhile."""
        folder = self._place(name)
        folder.mkdir(parents=True, exist_ok=True)
        candidate.model.save(folder)
        write_atomic(folder / "validation.safetensors", save({"probabilities": candidate.validation_NK}))
        told = {name: getattr(candidate, name) for name in _TOLD}
        write_json(folder / "candidate.json", told)
        if score >= (self.noted("best") or 0.0):
            candidate.model.save(self.run.model)
            self.note("best", score)
        return candidate

    def get(self, name: str) -> Candidate | None:
        """Return what `keep` wrote; None where that was not finished or is damaged, so that it is to be made again.

        Raises DeviceError where it is whole and the device fails.
        """
        folder = self._place(name)
        try:
            told = read_json(folder / "candidate.json")
            validation_NK = load((folder / "validation.safetensors").read_bytes())["probabilities"]
            model = Model.load(folder, self.device)
            return Candidate(model, validation_NK, **{name: told[name] for name in _TOLD})
        except DeviceError:
            raise
        except (OSError, ValueError, LookupError, TypeError, SafetensorError, RunError):
            return None

    def note(self, name: str, value: Any) -> None:
        """Write plain values that a stage found."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._place(name).with_suffix(".json"), value)

    def noted(self, name: str) -> Any:
        """Return what `note` wrote; None where nothing was."""
        try:
            return read_json(self._place(name).with_suffix(".json"))
        except (OSError, ValueError):
            return None

    def note_arrays(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write arrays that a stage computed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = save({key: np.ascontiguousarray(value) for key, value in arrays.items()})
        write_atomic(self._place(name).with_suffix(".safetensors"), data)

    def noted_arrays(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Return what `note_arrays` wrote; None where nothing was, or it is damaged."""
        try:
            return load(self._place(name).with_suffix(".safetensors").read_bytes())
        except (OSError, ValueError, SafetensorError):
            return None

    def discard(self) -> None:
        """Remove the folder, once one is chosen and saved."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _place(self, name: str) -> Path:
        return self.folder / slug(name)
