"""Which weights and views of a network that was trained predict, asked of the validation part."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from saccade import metrics
from saccade.classifiers import Member, Model, NetworkClassifier
from saccade.data import Part
from saccade.metrics import losses_N
from saccade.optim import Average
from saccade.recipe.averages import averaged
from saccade.recipe.candidates import Candidate, Judge
from saccade.recipe.plan import Plan
from saccade.study.ensemble import mean_and_error
from saccade.train.course import Course
from saccade.train.forward import Forward
from saccade.train.session import Session


def calibrated_model(session: Session, validation: Part) -> tuple[Model, NDArray[np.float64]]:
    """Return a session's network as a model, its temperature fitted, and its probabilities on the validation part."""
    classes = len(validation.classes)

    def model(forward: Forward) -> Model:
        classifier = NetworkClassifier.of(forward, session.settings, classes)
        member = Member.of(session.settings.model, classifier)
        return Model((member,), validation.classes, session.settings.fit_to_square)

    # Scores to be scaled, which only have to be finite: far below what a log loss tells apart.
    log_NK = np.log(model(session.forward).probabilities_of(validation).clip(1e-30))
    forward = session.forward.calibrated(log_NK, validation.labels_N)
    return model(forward), softmax(log_NK / forward.temperature, axis=1)


def viewed(session: Session, validation: Part, plan: Plan) -> Session:
    """Return a session without its further views, unless they are better on validation by more than their noise."""
    if not session.forward.further:
        return session
    alone, labels_N, groups_N = session.seeing(test_views=1), validation.labels_N, validation.groups_N
    rows = [calibrated_model(each, validation)[1] for each in (alone, session)]
    gain, error = mean_and_error(losses_N(rows[0], labels_N) - losses_N(rows[1], labels_N), groups_N)
    before, after = (metrics.accuracy(row_NK.argmax(1), labels_N) for row_NK in rows)
    better = gain > error and after >= before
    told = f"{session.settings.test_views - 1} further views lower the validation log loss by {gain:.3f} (standard "
    told += f"error {error:.3f}) and take the accuracy from {before:.1%} to {after:.1%}"
    plan.decide("test_views", session.settings.test_views if better else 1, told)
    return session if better else alone


def finished(session: Session, course: Course, validation: Part, plan: Plan) -> Candidate:
    """Return the candidate that a training ended with; its facts say which weights it has, where these may be others.

    Of snapshots it is their average where that is better on validation, else the best of them; of averaged weights and
    the last ones, the better, which the session's network then has.
    """
    snapshots, average, patience = course.training.snapshots, course.training.average, course.patience
    facts: dict[str, Any] = {"best_epoch": None, "kept_weights": None, "snapshots": None}
    if snapshots is not None:
        # Of a copy each: a classifier keeps the network it is made of.
        taken = [Candidate(*calibrated_model(session.on_trial(), validation)) for _ in snapshots.each()]
        names = [f"cycle {number}" for number in range(1, len(taken) + 1)]
        found = averaged(taken, validation, names)
        chosen = found.candidate if found.ensemble.accepted else Judge(validation.labels_N).best(taken)
        return replace(chosen, facts={**facts, "snapshots": found.plain(chosen.name)})
    if patience is not None and patience.chosen:
        facts["best_epoch"] = round(patience.epoch, 3)
    candidate = Candidate(*calibrated_model(session, validation), facts)
    return _better(candidate, session, average, validation, plan) if average and average.other else candidate


def _better(candidate: Candidate, session: Session, average: Average, validation: Part, plan: Plan) -> Candidate:
    """Return the candidate, or that of the last weights where they are better on validation.

    Its own are the averaged ones, or, where patience chose them, the best epoch's.
    """
    name = "averaged" if candidate.facts["best_epoch"] is None else "best epoch's"
    average.exchange()
    last = Candidate(*calibrated_model(session, validation), {**candidate.facts, "best_epoch": None})
    judge, both = Judge(validation.labels_N), {name: candidate, "last": last}
    kept = "last" if judge.best([candidate, last]) is last else name
    if kept == name:
        average.exchange()
    figures = (
        f"{judge.accuracy(each):.1%} with the {weights} weights (log loss "
        f"{metrics.log_loss(each.validation_NK, validation.labels_N):.3f})"
        for weights, each in both.items()
    )
    plan.decide("weights", kept, f"the validation accuracy is {', '.join(figures)}")
    return replace(both[kept], facts={**both[kept].facts, "kept_weights": kept})
