"""The rounds of a `fit`: classical classifiers, networks, their average, and the choice made final."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from saccade import study
from saccade.classifiers import FeatureClassifier, KNearestNeighbors, LinearClassifier, Member, Model, Optimum
from saccade.errors import TrainingError
from saccade.events import Finding, emit, stage
from saccade.nn.published import Pretrained
from saccade.recipe import contest as contests
from saccade.recipe import plan as planning
from saccade.recipe.averages import Averaged, averaged
from saccade.recipe.candidates import Candidate, test_time
from saccade.recipe.contest import Contest, Entry
from saccade.recipe.network import NO_TIME, WORTH_BEGINNING, train_network
from saccade.recipe.pictures import draw_templates
from saccade.recipe.summary import of_baseline
from saccade.recipe.trials import try_all
from saccade.study.adviser import Advice
from saccade.study.baselines import Baseline, stratified_share
from saccade.study.curves import LearningCurve
from saccade.study.transfer import Probe
from saccade.words import plural

CURVE_SHARE, CURVE_MOST = 0.03, 30.0
"""Of the time left, and the seconds at the most, for the learning curve."""
FEWEST_SECONDS = 3.0
"""Below which measuring a network would take longer than training it could."""
REFIT_MOST = 20_000
"""Training images, for a classifier on pixels to be fitted once more."""
REFIT_SECONDS = 1.0
"""Taken for it, even where the clock has left none."""
KEEP_SHARE = 0.02
"""Of the time left, that a simple classifier's predictions of the test images may take for it to be averaged."""


@dataclass(frozen=True)
class Found:
    """What the networks' round came to: candidates, the trials, and the learning curve of a simple classifier."""

    candidates: Sequence[Candidate] = ()
    trials: Sequence[Mapping[str, Any]] = ()
    curve: LearningCurve | None = None
    probe: Probe | None = None
    advice: Advice | None = None
    """What the pretrained features say of transfer."""


def classical(contest: Contest) -> tuple[list[dict[str, Any]], Candidate]:
    """Return the figures of each classical classifier, and the best as a candidate."""
    parts, plan = contest.parts, contest.plan
    kept = contest.candidates.get("baseline")
    if kept is not None and (rows := contest.candidates.noted("baselines")) is not None:
        _keep_time(contest, kept)
        return rows, kept
    with stage("baselines") as record:
        found = study.baselines(parts, plan.clock, planning.native_side(parts.train), contest.judge.score)
        best = max(found, key=lambda each: each.score)
        member = Member(best.name, best.classifier, best.model_size)
        model = Model((member,), parts.classes, contest.settings.fit_to_square)
        begun = time.perf_counter()
        validation_NK = model.probabilities_of(parts.validation)
        seconds = (time.perf_counter() - begun) / len(parts.validation)
        quick = seconds * len(parts.test) <= KEEP_SHARE * plan.left()
        candidate = Candidate(model, validation_NK, {"quick": quick}, image_seconds=seconds)
        _keep_time(contest, candidate)
        record.outcome = ", ".join(f"{each.name}: {each.validation_accuracy:.1%}" for each in found)
        record.validation_accuracy = best.validation_accuracy
        rows = [_told(contest, baseline) for baseline in found]
        contest.candidates.note("baselines", rows)
        return rows, contest.keep("baseline", candidate)


def _told(contest: Contest, baseline: Baseline) -> dict[str, Any]:
    """Return what the summary says of a baseline; the rows of W as pictures where it has them."""
    row, classifier = of_baseline(baseline), baseline.classifier
    if isinstance(classifier, LinearClassifier):
        row["templates"] = draw_templates(contest.candidates.run, classifier, contest.parts.classes)
    return row


def _keep_time(contest: Contest, simple: Candidate) -> None:
    """Keep the time to predict the test images, by which it may be averaged, where it was quick when it was found."""
    if simple.facts["quick"]:
        contest.plan.keep(test_time(simple.name), simple.image_seconds * len(contest.parts.test))


def networks(contest: Contest, weights: Pretrained | None, simple: Candidate) -> Found:
    """Plan the networks, take the pretrained one's features, try, and train what is worth it."""
    plan = contest.plan
    worth = max(WORTH_BEGINNING * contest.settings.budget, FEWEST_SECONDS)
    if plan.left() < worth and contest.candidates.noted("field") is None:
        emit(Finding(kind="given-up", detail=NO_TIME))
        return Found()
    with stage("plan") as record:
        field = contests.plan_field(contest, weights)
        record.outcome = ", ".join(f"{each.name} at {each.settings.size} px" for each in field.entries)
    entries, probed, probe, advice = field.entries, [], None, None
    if field.tuned and field.features:
        with stage("features") as record:
            candidate, probe = contests.probe_features(contest, field.features)
            record.validation_accuracy = contest.judge.accuracy(candidate)
            size = field.features.settings.size
            record.outcome = f"{candidate.name} at {size} px: {record.validation_accuracy:.1%}"
        probed = [candidate]
        advice = contests.advice(contest, field.features, probe)
        if advice is not None and not advice.many and not advice.similar:
            probed.append(contests.probe_stages(contest, field.features, probe))
        tuned = replace(field.tuned, begin=probe.forward.network)
        better = max(map(contest.judge, probed)) >= contest.judge(simple)
        entries = [field.own, tuned] if field.both else [tuned if better else field.own]
    curve = _learning_curve(contest, simple, probe)
    with stage("search") as record:
        entries, trials = try_all(contest, entries)
        record.outcome = f"{plural(len(trials), 'trial')}; to train: {', '.join(each.name for each in entries)}"
    return Found([*probed, *_trained(contest, entries)], trials, curve, probe, advice)


def _trained(contest: Contest, entries: Sequence[Entry]) -> Sequence[Candidate]:
    """Train each network in its share of the time left; where one's loss stops being a number, go on without it."""
    plan = contest.plan
    done: list[Candidate] = []
    for place, entry in enumerate(entries):
        candidate = contest.candidates.get(entry.name)
        if candidate is None:
            with plan.within(plan.left() / (len(entries) - place)):
                candidate = _attempt(contest, entry)
            if candidate is not None:
                contest.keep(entry.name, candidate)
        if candidate is not None:
            plan.keep(test_time(candidate.name), candidate.image_seconds * len(contest.parts.test))
            done.append(candidate)
    return done


def _attempt(contest: Contest, entry: Entry) -> Candidate | None:
    try:
        return train_network(contest.parts, entry.settings, contest.plan, begin=entry.begin, stop=True)
    except TrainingError as error:
        contest.plan.keep(test_time(entry.name), 0.0)
        severity = "note" if str(error) == NO_TIME else "warning"
        emit(Finding(kind="given-up", severity=severity, detail=f"{entry.name} was not trained to its end: {error}"))
        return None


def average(contest: Contest, candidates: Sequence[Candidate]) -> Averaged | None:
    """Return the average of the candidates that predict fast enough, accepted or not; None where they are too few."""
    plan = contest.plan
    members = [each for each in candidates if test_time(each.name) in plan.kept]
    if len(members) < 2:
        return None
    with stage("ensemble") as record:
        found = averaged(members, contest.parts.validation, [each.name for each in members])
        record.outcome = found.ensemble.why
        plan.decide("ensemble", found.weights() if found.ensemble.accepted else False, found.ensemble.why)
        record.validation_accuracy = found.ensemble.accuracy if found.ensemble.accepted else None
        return found


def choose(contest: Contest, candidates: Sequence[Candidate], averaged: Averaged | None, found: Found) -> Candidate:
    """Return the best of the candidates and their average, made final; what was chosen before an interruption stays."""
    kept = contest.candidates.get("chosen")
    if kept is not None:
        return kept
    accepted = [averaged.candidate] if averaged is not None and averaged.ensemble.accepted else []
    best = contest.judge.best([*candidates, *accepted])
    return contest.keep("chosen", replace(best, model=_refit(contest, best, found)))


def _refit(contest: Contest, chosen: Candidate, found: Found) -> Model:
    """Return the chosen model with its quick members fitted to training and validation images together.

    Only where the learning curve says that more images help. Networks stay as they are: training one
    again takes as long as it did.
    """
    if found.curve is None or found.curve.points[-1].accuracy <= found.curve.points[-2].accuracy:
        contest.plan.decide("refit", False, "the learning curve does not say that more images help")
        return chosen.model
    members = [_refitted(contest, member, found.probe) for member in chosen.model.members]
    names = [new.name for new, old in zip(members, chosen.model.members, strict=True) if new is not old]
    contest.plan.decide("refit", names, "on training and validation images; a network would take as long again")
    return replace(chosen.model, members=tuple(members))


def _refitted(contest: Contest, member: Member, probe: Probe | None) -> Member:
    """Return a member fitted anew where that is quick; as it was where the time for it ran out."""
    seconds = max(REFIT_SECONDS, contest.plan.left())
    train, validation = contest.parts.train, contest.parts.validation
    if isinstance(member.classifier, KNearestNeighbors | LinearClassifier | FeatureClassifier):
        if len(train) > REFIT_MOST:
            return member
        x_NHWC = np.concatenate([part.squares(member.size) for part in (train, validation)])
        y_N = np.concatenate([train.labels_N, validation.labels_N])
        again = clone(member.classifier)
        if isinstance(again, LinearClassifier):
            again.set_params(solver=Optimum(time_limit=seconds))
        if isinstance(again, FeatureClassifier):
            again.set_params(classifier__solver=Optimum(time_limit=seconds / 2))
        again.fit(x_NHWC, y_N)
        linear = again.classifier_ if isinstance(again, FeatureClassifier) else again
        return member if getattr(linear, "stopped_", "") == "time" else replace(member, classifier=again)
    if probe is not None and member.name == probe.name:
        return contests.refitted_probe(member, probe, seconds)
    return member


def _learning_curve(contest: Contest, simple: Candidate, probe: Probe | None) -> LearningCurve | None:
    """Measure how the quick classifier at hand learns from more images: on pretrained features, or on pixels."""
    plan, parts = contest.plan, contest.parts
    if (noted := contest.candidates.noted("curve")) is not None:
        return LearningCurve.of(noted)
    if plan.left() <= 0:
        return None
    end = plan.clock.elapsed() + min(CURVE_SHARE * plan.left(), CURVE_MOST)
    member = simple.model.members[0]
    train = parts.train if probe is None else stratified_share(parts.train, len(probe.y_N))
    with stage("learning curve") as record:
        predict = probe.predict if probe else _on_pixels(contest, member)
        curve = study.learning_curve(
            predict,
            train.labels_N,
            parts.validation.labels_N,
            name=member.name if probe is None else probe.name,
            seconds=lambda: end - plan.clock.elapsed(),
            seed=plan.seed,
            groups=(contest.groups_of(train), contest.groups_of(parts.validation)),
        )
        record.outcome = f"{len(curve.points)} shares of the training images" if curve else "no time"
    if curve is not None:
        contest.candidates.note("curve", curve.plain())
    return curve


def _on_pixels(contest: Contest, member: Member) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    train, validation = (part.squares(member.size) for part in (contest.parts.train, contest.parts.validation))

    def predict(indices: NDArray[np.int64]) -> NDArray[np.int64]:
        labels_N = contest.parts.train.labels_N[indices]
        if len(np.unique(labels_N)) < 2:
            return np.full(len(validation), labels_N[0])
        model = clone(member.classifier)
        if isinstance(model, KNearestNeighbors):
            model.set_params(k=min(model.k, len(indices)))
        predicted_N: NDArray[np.int64] = model.fit(train[indices], labels_N).predict(validation)
        return predicted_N

    return predict
