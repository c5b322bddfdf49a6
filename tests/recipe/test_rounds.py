"""The rounds of a `fit`: the simple classifier is chosen as the run says, and resuming changes no decision."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import f1_score

from saccade import data, recipe
from saccade.data import Parts
from saccade.events import Event, StageStarted, listening
from saccade.recipe import candidates
from saccade.recipe.candidates import Candidates, Judge
from saccade.recipe.contest import Contest
from saccade.recipe.plan import Plan
from saccade.recipe.rounds import classical
from saccade.run import Run
from saccade.settings import FitSettings
from saccade.study.baselines import baselines
from saccade.study.curves import LearningCurve
from saccade.train.budget import Clock


def rare_parts() -> Parts:
    """Return images of one common and two rare classes, hardly brighter above and below, under much noise."""
    rng, labels_N = np.random.default_rng(0), np.repeat([0, 1, 2], [400, 60, 60])
    x_NHWC = rng.normal(128, 40, (len(labels_N), 8, 8, 3))
    x_NHWC[labels_N == 1, :4] += 6
    x_NHWC[labels_N == 2, 4:] += 6
    images = data.from_arrays(x_NHWC.clip(0, 255).astype(np.uint8), labels_N, name="rare", classes=("a", "b", "c"))
    images = data.integrity(images)
    return data.split(images, np.arange(len(images)), FitSettings())


def contest_of(parts: Parts, folder: Path, clock: Clock) -> Contest:
    run = Run.create(folder, "photos")
    judge = Judge.of(parts.train, parts.validation)
    return Contest(parts, FitSettings(), Plan(run, clock, 0), Candidates(run), judge)


def test_simple_classifiers_of_unbalanced_classes_are_chosen_by_macro_f1(tmp_path: Path) -> None:
    """Each of them, their settings, and the one that enters: here the most accurate is not the best."""
    parts = rare_parts()
    contest = contest_of(parts, tmp_path / "run", Clock(None))
    assert contest.judge.unbalanced
    x_NHWC, labels_N = parts.validation.squares(8), parts.validation.labels_N

    def f1(predicted_N: np.ndarray) -> float:
        return float(f1_score(labels_N, predicted_N, average="macro", zero_division=0))

    fair, accurate = (baselines(parts, Clock(None), 8, *score) for score in ([contest.judge.score], []))
    reached = [[f1(each.classifier.predict(x_NHWC)) for each in found] for found in (fair, accurate)]
    assert all(mine >= other for mine, other in zip(*reached, strict=True))
    assert sum(reached[0]) > sum(reached[1]) + 0.1
    best = fair[int(np.argmax(reached[0]))]
    assert max(each.validation_accuracy for each in fair) > best.validation_accuracy
    _, simple = classical(contest)
    assert simple.name == best.name
    assert f1(simple.validation_NK.argmax(1)) == max(reached[0])


def test_a_resumed_run_keeps_the_simple_classifier_in_the_average_whatever_time_is_left(tmp_path: Path) -> None:
    contest = contest_of(rare_parts(), tmp_path / "run", Clock(600.0))
    _, simple = classical(contest)
    assert candidates.test_time(simple.name) in contest.plan.kept
    resumed = replace(contest, plan=Plan(contest.plan.run, Clock(600.0, spent=599.999), 0))
    _, again = classical(resumed)
    assert resumed.plan.kept == {candidates.test_time(again.name): simple.image_seconds * len(contest.parts.test)}


def test_a_resumed_run_leaves_out_a_simple_classifier_that_was_too_slow(tmp_path: Path) -> None:
    contest = contest_of(rare_parts(), tmp_path / "run", Clock(10.0, spent=10.0))
    classical(contest)
    assert not contest.plan.kept
    resumed = replace(contest, plan=Plan(contest.plan.run, Clock(600.0), 0))
    classical(resumed)
    assert not resumed.plan.kept


def test_the_learning_curve_of_individuals_with_many_photos_is_not_flat(tmp_path: Path) -> None:
    """Image by image half of the photos would know nearly every individual, and tell as many images right as all do."""
    rng = np.random.default_rng(0)
    means_KHWC = rng.normal(128, 10, (3, 8, 8, 3))
    (tmp_path / "animals").mkdir()
    for label, mean_HWC in enumerate(means_KHWC):
        folder = tmp_path / "animals" / "abc"[label]
        folder.mkdir()
        for individual in range(22):
            own_HWC = mean_HWC + rng.normal(0, 40, mean_HWC.shape)
            for photo in range(8):
                x_HWC = own_HWC + rng.normal(0, 8, own_HWC.shape)
                name = f"{folder.name}{individual}_{photo}.png"
                Image.fromarray(x_HWC.clip(0, 255).astype(np.uint8)).save(folder / name)
    settings = FitSettings(budget=600, pretrained="none", group_pattern="([a-c][0-9]+)_")

    def listener(event: Event) -> None:
        if event == StageStarted(stage="search"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(listener):
        recipe.fit(tmp_path / "animals", settings, out=tmp_path / "run")
    curve = LearningCurve.of(Candidates(Run(tmp_path / "run")).noted("curve"))
    assert curve.forecasts[0].gain > 0.01
