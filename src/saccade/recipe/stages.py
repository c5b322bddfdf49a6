"""The main path: from a source of labelled images to a chosen, evaluated and reported classifier."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saccade import report, study
from saccade.classifiers import Model
from saccade.data import Parts
from saccade.device import Usage, resolve_device
from saccade.errors import TrainingError
from saccade.events import Finding, emit, listening, stage
from saccade.files import write_atomic
from saccade.ledger import Ledger
from saccade.nn import zoo
from saccade.recipe import plan as planning
from saccade.recipe import summary as summaries
from saccade.recipe.evaluation import keep, look
from saccade.recipe.material import Material, discarded_on_refusal, gather
from saccade.recipe.network import Trained, plan_network, train_network
from saccade.recipe.pictures import draw_inputs
from saccade.recipe.plan import Plan
from saccade.recipe.summary import Diary
from saccade.run import Run
from saccade.settings import DataSettings, FitSettings, TrainSettings
from saccade.train.budget import Clock


@dataclass(frozen=True)
class Result:
    """What a run leaves: its folder, the chosen model, and summary.json's content."""

    run: Run
    model: Model
    summary: dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A trained classifier that may be chosen, and its accuracy on the validation part."""

    model: Model
    accuracy: float


def fit(source: str | Path, settings: FitSettings, *, out: Path | None = None, clock: Clock | None = None) -> Result:
    """Turn labelled images into the best classifier the budget buys, evaluated once and reported.

    Raises InputError, before anything is written, where source, settings or `out` cannot be used.
    """
    clock = clock or Clock(settings.budget)
    ledger = Ledger.default().ready()
    usage = Usage()
    resolve_device(settings.device)
    with listening(diary := Diary()):
        material = gather(source, settings, out)
        parts, run = material.parts, material.run
        plan = Plan(run, clock, settings.seed)
        with stage("baselines") as record:
            baselines = study.baselines(parts, clock, planning.native_side(parts.train))
            candidates = [_of_baseline(baseline, parts, settings) for baseline in baselines]
            record.outcome = _scores(candidates)
            record.validation_accuracy = max(each.accuracy for each in candidates)
        with stage("plan") as record:
            plan.choose_threads(usage)
            network_settings = plan_network(parts, settings, plan)
            record.outcome = f"{network_settings.model} at {network_settings.size} px"
        trained = _attempt(material, network_settings, plan)
        if trained:
            candidates.append(Candidate(trained.model, trained.accuracy))
        with stage("choose") as record:
            chosen = max(candidates, key=lambda each: each.accuracy)
            chosen.model.save(run.model)
            if trained and chosen.model is trained.model:
                validation_NK = trained.validation_NK
            else:
                validation_NK = chosen.model.probabilities_of(parts.validation)
            record.outcome, record.validation_accuracy = _scores([chosen]), chosen.accuracy
        with stage("evaluate") as record:
            seen = look(chosen.model, parts.test, ledger, run, "fit")
            test = keep(seen, run, chosen.model)
            record.outcome = f"test accuracy {test['accuracy']:.1%}"
        return _conclude(_Outcome("fit", chosen, validation_NK, trained, baselines, test), material, plan, diary)


def train(
    source: str | Path, settings: TrainSettings, *, out: Path | None = None, clock: Clock | None = None
) -> Result:
    """Train one network with explicit settings; the test part stays sealed.

    Raises InputError, before anything is written, where source, settings or `out` cannot be used;
    TrainingError where the loss stops being a number.
    """
    if settings.epochs is None and settings.budget is None:
        settings = settings.model_copy(update={"budget": FitSettings().budget})
    clock = Clock(settings.budget) if clock is None else replace(clock, budget=settings.budget)
    resolve_device(settings.device)
    zoo.check_known(settings.model)
    if settings.replay is not None:
        planning.recorded_pace(Path(settings.replay))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with listening(diary := Diary()):
        material = gather(source, settings, out)
        plan = Plan(material.run, clock, settings.seed)
        with discarded_on_refusal(material.run):
            with stage("plan"):
                settings = planning.resolve(settings, material.parts, plan)
                write_atomic(material.run.settings, settings.to_yaml())
            trained = train_network(material.parts, settings, plan)
        trained.model.save(material.run.model)
        chosen = Candidate(trained.model, trained.accuracy)
        return _conclude(_Outcome("train", chosen, trained.validation_NK, trained), material, plan, diary)


def _attempt(material: Material, settings: TrainSettings, plan: Plan) -> Trained | None:
    """Train the planned network; where its loss stops being a number, say so and go on without it."""
    try:
        return train_network(material.parts, settings, plan)
    except TrainingError as error:
        emit(Finding(kind="given-up", severity="warning", detail=f"The network was not trained to its end: {error}"))
        return None


def _of_baseline(baseline: study.Baseline, parts: Parts, settings: DataSettings) -> Candidate:
    model = Model(
        classifier=baseline.classifier,
        classes=parts.classes,
        size=baseline.model_size,
        fit_to_square=settings.fit_to_square,
        name=baseline.name,
    )
    return Candidate(model, baseline.validation_accuracy)


def _scores(candidates: Sequence[Candidate]) -> str:
    return ", ".join(f"{each.model.name}: {each.accuracy:.1%}" for each in candidates)


@dataclass(frozen=True)
class _Outcome:
    """What the stages of one command came to."""

    command: str
    chosen: Candidate
    validation_NK: NDArray[np.float64]
    trained: Trained | None
    baselines: Sequence[study.Baseline] = ()
    test: dict[str, Any] | None = None


def _conclude(outcome: _Outcome, material: Material, plan: Plan, diary: Diary) -> Result:
    """Write findings.json, summary.json and the report; then the summary again, with the time all that took."""
    parts, run, chosen, trained = material.parts, material.run, outcome.chosen, outcome.trained
    summary = {
        **summaries.of_software(),
        "command": outcome.command,
        **summaries.of_data(material, diary, outcome.test),
        "stages": diary.stages,
        "baselines": [summaries.of_baseline(baseline) for baseline in outcome.baselines],
        "checks": [asdict(check) for check in trained.checks] if trained else [],
        "network": trained.facts if trained else None,
        "chosen": chosen.model.name,
        "validation": summaries.of_validation(parts, outcome.validation_NK),
        **({"test": outcome.test} if outcome.test else {}),
        "reading": summaries.reading(run.history()),
        "inputs": draw_inputs(run, parts.train, chosen.model.size, plan.seed),
        "warnings": diary.warnings(),
        "findings": summaries.told_findings(diary),
        "budget_seconds": plan.clock.budget,
        "run": str(run.path),
    }
    run.write("findings", summaries.findings_json(diary))
    run.write("summary", {**summary, "seconds": round(plan.clock.elapsed(), 2)})
    with stage("report"):
        report.write(run)
    summary["seconds"] = round(plan.clock.elapsed(), 2)
    run.write("summary", summary)
    return Result(run, chosen.model, summary)
