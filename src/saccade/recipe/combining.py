"""`saccade ensemble`: the classifiers of several runs as one, where that is better on validation."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from saccade import data
from saccade.classifiers import Model
from saccade.data import ImageSet, Part, Parts, SealedPart
from saccade.errors import RunError
from saccade.events import Finding, emit, listening, stage
from saccade.files import write_atomic
from saccade.recipe.averages import averaged, renamed
from saccade.recipe.candidates import Candidate, Judge
from saccade.recipe.comparison import Recorded, open_all
from saccade.recipe.conclusion import Outcome, Result, conclude
from saccade.recipe.evaluation import settings_of
from saccade.recipe.licences import told_of
from saccade.recipe.material import Material
from saccade.recipe.plan import Plan
from saccade.recipe.provenance import inherited, joined
from saccade.recipe.summary import Diary
from saccade.run import SPLIT, Run, refuse_place
from saccade.train.budget import Clock


def combine(
    paths: Sequence[Path], *, out: Path | None = None, clock: Clock | None = None, device: str = "auto"
) -> Result:
    """Average the classifiers of several runs where that is better on validation; the test part stays sealed.

    The result is a run of its own, on the split that all of them have. Where averaging is refused, its model is the
    best of theirs. Raises InputError for fewer than two runs; RunError, before anything is written, for one that is
    unfinished, damaged or given twice, where they are of different images or splits, or where one was fitted to
    validation images, and where the images are no longer what they were;
    DeviceError where the device to predict on is unknown or fails.
    """
    runs = open_all(paths, "ensemble")
    _refuse_unlike(runs)
    first = runs[0].run
    source = str(runs[0].summary["source"])
    refuse_place(source, out)
    settings = settings_of(first)
    with listening(diary := Diary()):
        with stage("open"):
            opened = data.open(source, settings)
            images = data.integrity(opened)
            parts = _recorded_parts(images, first)
            for finding in first.read("findings"):
                if finding["kind"] == "leak":  # of the same split; evaluation needs to know
                    emit(Finding(**{**finding, "paths": (*finding["paths"],), "groups": (*finding["groups"],)}))
        with stage("predict"):
            candidates = [_candidate(run, parts.validation, device) for run in runs]
        with stage("ensemble") as record:
            judge = Judge.of(parts.train, parts.validation)
            found = averaged(candidates, parts.validation, [run.name for run in runs])
            accepted = [found.candidate] if found.ensemble.accepted else []
            named = [_named(each, run) for each, run in zip(candidates, runs, strict=True)]
            chosen = judge.best([*named, *accepted])
            record.outcome, record.validation_accuracy = found.ensemble.why, judge.accuracy(chosen)
        run = Run.create(out, f"{images.name}-ensemble")
        with run.written_alone():
            run.write_split(parts.rows(), joined(row for each in runs for row in inherited(each.run).items()))
            write_atomic(run.settings, settings.to_yaml())
            chosen.model.save(run.model)
            copies = len(images) - len(set(images.hashes()))
            material = Material(parts, run, source, len(opened), copies)
            plan = Plan(run, clock or Clock(), settings.seed)
            plan.decide("ensemble", found.weights() if accepted else False, found.ensemble.why)
            outcome = Outcome("ensemble", chosen, named, judge, averaged=found, more=told_of(chosen.model))
            return conclude(outcome, material, plan, diary)


def _refuse_unlike(runs: Sequence[Recorded]) -> None:
    """Raise RunError unless all runs have the same split, and none was fitted to its validation images."""
    first = runs[0]
    for run in runs:
        if run.summary["command"] == "baselines" or _refitted(run.run):
            raise RunError(
                f"{run.name} was fitted to its validation images too, in the end: they cannot tell what it is worth in "
                "an average; give runs of `saccade train`."
            )
        if run.settings.get("fold") != first.settings.get("fold"):
            raise RunError(
                f"{first.name} and {run.name} hold out different folds: what chose one trained the other; give runs "
                "that hold out the same images, as `saccade train` does without --folds."
            )
        if _split(run) != _split(first):
            raise RunError(
                f"{first.name} and {run.name} have different images or splits: what chose one trained the other; "
                "train them from one source with the same seed of the split."
            )
        if run.settings.get("fit_to_square") != first.settings.get("fit_to_square"):
            raise RunError(f"{first.name} and {run.name} make images square in different ways; give runs that agree.")


def _split(run: Recorded) -> set[tuple[str, ...]]:
    return {tuple(row[name] for name in SPLIT) for row in run.run.read_split()}


def _refitted(run: Run) -> bool:
    """Return whether a run's plan had a classifier fitted to training and validation images in the end."""
    return any(decision["what"] == "refit" and decision["value"] for decision in run.read("plan")["decisions"])


def _recorded_parts(images: ImageSet, run: Run) -> Parts:
    """Return the parts that a run recorded; raises RunError where images are missing or changed."""
    recorded = {row["image"]: row for row in run.read_split()}
    place_of = dict(zip(images.keys, range(len(images)), strict=True))
    facts = images.pixels.facts
    changed = [key for key, row in recorded.items() if key not in place_of or facts(key).hash != row["hash"]]
    if changed:
        raise RunError(
            f"{len(changed)} of the {len(recorded)} images of {run.path} are missing or changed in {images.source} "
            f"({changed[0]}, …); put them back."
        )
    train, validation, test = (
        Part(name, images.select([place_of[key] for key, row in recorded.items() if row["part"] == name]))
        for name in ("train", "validation", "test")
    )
    return Parts(train, validation, SealedPart(test))


def _candidate(run: Recorded, validation: Part, device: str) -> Candidate:
    model = Model.load(run.run.model, device)
    if model.classes != validation.classes:
        raise RunError(f"The model in {run.run.path} has other classes than its images; the run's files were changed.")
    return Candidate(model, np.asarray(model.probabilities_of(validation)))


def _named(candidate: Candidate, run: Recorded) -> Candidate:
    """Return a candidate whose members bear its run's name, as those of an average do: runs may have equal ones."""
    return replace(candidate, model=renamed(candidate.model, run.name))
