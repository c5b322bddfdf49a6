"""Linear classifiers over folds: a path of penalties for each, the work shared between all of them (lecture 2)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from saccade.classifiers.inputs import flat
from saccade.classifiers.linear import LinearClassifier
from saccade.classifiers.solvers import Descent
from saccade.classifiers.standardised import Standardised
from saccade.classifiers.standardised_bytes import prepared
from saccade.errors import TrainingError
from saccade.events import Finding, Progress, emit, within
from saccade.study.folds import Setting, best, parted, setting_of

Array = NDArray[Any]

TOLERANCE = 5e-4
"""Largest derivative at which a fold's optimum is near enough: predictions hardly change below it."""
PATH = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4, 3e-5, 1e-5)
"""Strengths of a penalty, from the strongest, whose optimum is the quickest found."""
FIRST = PATH[4:8]
"""Those that are tried first; then one more, as long as the best lies at an end."""


def linear(
    x: Array,
    y_N: NDArray[np.int64],
    fold_N: NDArray[np.int64],
    classifiers: Sequence[LinearClassifier],
    strengths: Sequence[float] | None = None,
    *,
    task: str = "linear",
) -> list[list[Setting]]:
    """Return a Setting for each strength of the penalty, from the strongest, for each of several linear classifiers.

    A fold's rows are standardised once for all, and an optimum starts from that of the strength before. Without
    `strengths`, they go on along PATH until the best of the mean over the folds lies between two others; a fold by
    itself, while it is prepared, as long as each is better than the one before by a standard error. Descent, which
    goes down the same objective, takes the strength at which an optimum among the classifiers was best; where there is
    none, it starts anew at each. What runs off to infinity is left out and told in a Finding. Raises InputError where
    the folds are none, TrainingError where all ran off.
    """
    x_ND, folds = np.asarray(flat(x)), parted(y_N, fold_N)
    searches = [_Search(each, y_N, fold_N, further=strengths is None) for each in classifiers]
    descents, optima = ([each for each in searches if each.descends is descends] for descends in (True, False))
    for each in searches:
        each.wanted = set(each.only or strengths or FIRST)
    while todo := [each for each in optima if not each.complete(len(folds))]:
        _hold_out(x_ND, y_N, folds, todo, task)
        for each in todo:
            if each.complete(len(folds)):
                each.go_on({setting.values["strength"]: setting.mean for setting in each.settings()})
    at = {each.objective: {best(each.settings()).values["strength"]} for each in optima}
    for each in descents:
        each.wanted = at.get(each.objective, each.wanted)
    _hold_out(x_ND, y_N, folds, descents, task)
    found = [each.settings() for each in searches]
    if ran_off := sorted({each.rate for each in searches if each.ran_off}):
        rates = ", ".join(f"{rate:g}" for rate in ran_off)
        if not any(found):
            raise TrainingError(f"Descent ran off to infinity at the learning rates {rates}; give smaller ones.")
        emit(Finding(kind="descent", detail=f"{task}: descent ran off to infinity at the learning rates {rates}"))
    return found


@dataclass(eq=False)
class _Search:
    """The strengths of one linear classifier that are wanted, and of those tried what each predicted.

    Each fold has the accuracy and the temperature at each strength, and the classifiers of the strongest and the
    weakest. It goes `further` than what is wanted at first where the best lies at an end.
    """

    classifier: LinearClassifier
    y_N: NDArray[np.int64]
    fold_N: NDArray[np.int64]
    further: bool
    wanted: set[float] = field(default_factory=set)
    accuracies: dict[int, dict[float, float]] = field(default_factory=dict)
    predicted: dict[float, NDArray[np.int64]] = field(default_factory=dict)
    temperatures: dict[float, list[float]] = field(default_factory=dict)
    ends: dict[int, list[LinearClassifier]] = field(default_factory=dict)
    ran_off: set[float] = field(default_factory=set)

    @property
    def descends(self) -> bool:
        """Whether it is fitted by descent."""
        return isinstance(self.classifier.solver, Descent)

    @property
    def rate(self) -> float:
        """The learning rate of its descent; 0 where it does not descend."""
        return self.classifier.solver.learning_rate if isinstance(self.classifier.solver, Descent) else 0.0

    @property
    def objective(self) -> tuple[str, str]:
        """What it minimises, but for the strength."""
        return self.classifier.loss, self.classifier.penalty

    @property
    def described(self) -> str:
        """What is told of it while it is fitted."""
        rate = f", learning rate {self.rate:g}" if self.descends else ""
        return ", ".join(self.objective).replace("_", " ") + rate

    @property
    def only(self) -> tuple[float, ...]:
        """The one strength that there is without a penalty."""
        return (0.0,) if self.classifier.penalty == "none" else ()

    def settings(self) -> list[Setting]:
        """Return what was found, from the strongest penalty, but for what ran off in a fold."""
        rate = {"learning_rate": self.rate} if self.descends else {}
        return [
            replace(
                setting_of(
                    {"loss": self.classifier.loss, "penalty": self.classifier.penalty, "strength": strength, **rate},
                    self.predicted[strength], self.y_N, self.fold_N,
                ),
                temperature=float(np.exp(np.mean(np.log(self.temperatures.get(strength, [1.0]))))),
            )
            for strength in sorted(self.predicted.keys() - self.ran_off, reverse=True)
        ]  # fmt: skip

    def lacking(self, fold: int) -> list[float]:
        """Return the strengths that are wanted and a fold has not tried, from the strongest."""
        return sorted(self.wanted - self.accuracies.get(fold, {}).keys(), reverse=True)

    def complete(self, folds: int) -> bool:
        """Return whether every fold has tried all that is wanted."""
        return not any(self.lacking(fold) for fold in range(folds))

    def go_on(self, accuracies: Mapping[float, float], least: float = 0.0) -> None:
        """Want the strength of PATH past the end, too, where that is the most accurate, by more than `least`."""
        tried = sorted(accuracies, reverse=True)
        at = max(accuracies, key=lambda strength: accuracies[strength])
        if self.further and not self.only and at in (tried[0], tried[-1]):
            beside = tried[1] if at == tried[0] else tried[-2]
            place = PATH.index(at) + (1 if at == tried[-1] else -1)
            if accuracies[at] >= accuracies[beside] + least:
                self.wanted |= set(PATH[max(place, 0) : place + 1])

    def fitted(
        self, x_ND: Array, y_N: Array, strengths: Sequence[float], data: Standardised, fold: int
    ) -> Iterator[LinearClassifier]:
        """Yield the classifier of each strength on the rows of a fold; of those that run off to infinity none."""
        if self.descends:
            for strength in [each for each in strengths if each not in self.ran_off]:
                try:
                    yield from clone(self.classifier).fit_path(x_ND, y_N, [strength], data=data)
                except TrainingError:
                    self.ran_off.add(strength)
            return
        ends = self.ends.get(fold, [])
        start = min(ends, key=lambda end: abs(np.log(end.strength / strengths[0])), default=None)
        models = clone(self.classifier).fit_path(x_ND, y_N, strengths, data=data, start=start)
        ordered = sorted([*ends, *models], key=lambda model: -model.strength)
        self.ends[fold] = [ordered[0], ordered[-1]]
        yield from models

    def note(self, fold: int, strength: float, held: Array, predicted: Array) -> None:
        """Keep what was predicted for the images of one fold."""
        self.predicted.setdefault(strength, np.empty(len(self.y_N), np.int64))[held] = predicted
        self.accuracies.setdefault(fold, {})[strength] = float((self.y_N[held] == predicted).mean())

    def calibrate(self, model: LinearClassifier, x_ND: Array, y_N: Array) -> None:
        """Keep the temperature at which the scores of held-out images fit them; of a softmax it is 1."""
        known_N = np.isin(y_N, model.classes_)
        if model.loss != "softmax" and known_N.any():
            temperature = model.calibrated(x_ND[known_N], y_N[known_N]).temperature_
            self.temperatures.setdefault(model.strength, []).append(temperature or 1.0)


def _hold_out(
    x_ND: Array, y_N: NDArray[np.int64], folds: Sequence[tuple[Array, Array]], todo: Sequence[_Search], task: str
) -> None:
    """Fit every search, at each strength it wants, on all folds but one, and predict that one; for each fold."""
    total = len(folds) * len(todo)
    for fold, (train, held) in enumerate(folds if todo else ()):
        if (y_N[train] == y_N[train[0]]).all():  # the images of the only other class all lie in this fold
            for search in todo:
                for strength in search.lacking(fold):
                    search.note(fold, strength, held, y_N[train[:1]])
            continue
        train_ND, held_ND = x_ND[train], x_ND[held]
        with prepared(train_ND) as data:
            for place, search in enumerate(todo, fold * len(todo)):
                with within(Progress(task=task, done=place, total=total, unit="fits", detail=search.described)):
                    while strengths := search.lacking(fold):
                        for model in search.fitted(train_ND, y_N[train], strengths, data, fold):
                            search.note(fold, model.strength, held, model.predict(held_ND))
                            search.calibrate(model, held_ND, y_N[held])
                        if search.descends:
                            break
                        most = max(search.accuracies[fold].values())
                        search.go_on(search.accuracies[fold], math.sqrt(most * (1 - most) / len(held)))
