"""The main path: from a source of labelled images to a chosen, evaluated and reported classifier."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from saccade.classifiers import Model
from saccade.data import Parts
from saccade.device import Usage, resolve_device, use_threads
from saccade.errors import RunError
from saccade.events import Finding, emit, listening, stage
from saccade.files import write_atomic
from saccade.interrupts import goes_on
from saccade.ledger import Ledger
from saccade.nn import pretrained, zoo
from saccade.nn.published import Pretrained
from saccade.recipe import contest as contests
from saccade.recipe import plan as planning
from saccade.recipe.candidates import Candidates, Judge
from saccade.recipe.conclusion import REPORT_SECONDS, Outcome, Result, conclude
from saccade.recipe.contest import Contest
from saccade.recipe.evaluation import keep, look_once, without
from saccade.recipe.licences import marked, tell_licence
from saccade.recipe.material import discarded_on_refusal, gather, in_force, origin
from saccade.recipe.network import train_network
from saccade.recipe.plan import Plan
from saccade.recipe.rounds import average, choose, classical, networks
from saccade.recipe.summary import Diary
from saccade.run import Run
from saccade.settings import FitSettings, TrainSettings
from saccade.train.budget import Clock

NO_WEIGHTS = (
    "No pretrained weights lie on this machine, so the networks start from scratch; photos gain most by them: "
    "--pretrained resnet18 downloads some where there is a network, --pretrained FILE takes yours."
)


def fit(
    source: str | Path,
    settings: FitSettings,
    *,
    out: Path | None = None,
    clock: Clock | None = None,
    resume: bool = False,
) -> Result:
    """Turn labelled images into the best classifier the budget buys, evaluated once and reported.

    With `resume` the run in `out` goes on where it was interrupted, with the time it had left; one that
    is finished is returned as it is. Raises InputError, before anything is written, where source,
    settings or `out` cannot be used.
    """
    if resume:
        settings = in_force(settings, out)
        if (result := finished(out, source, settings.device)) is not None:
            return result
    clock = Clock(settings.budget) if clock is None else replace(clock, budget=settings.budget)
    ledger = Ledger.default().ready()
    usage = Usage()
    resolve_device(settings.device)
    weights = pretrained.find(settings.pretrained)
    if weights is not None and settings.pretrained != "auto":
        pretrained.load(weights)  # what was asked for is refused now, if it cannot be used
    with (
        listening(diary := Diary()),
        gather(source, settings, out, resume=resume) as material,
        goes_on(material.run.path),
    ):
        parts, run = material.parts, material.run
        plan = (Plan.resume if material.resumed else Plan)(run, clock, settings.seed)
        plan.keep("report", REPORT_SECONDS)
        diary.keep_in(run.path / "candidates" / "diary.json")
        tell_licence(weights)
        if weights is None and settings.pretrained == "auto":
            emit(Finding(kind="weights", detail=NO_WEIGHTS))
        judge = Judge.of(parts.train, parts.validation)
        kept = Candidates(run, settings.device)
        contest = Contest(parts, settings, plan, kept, judge, seen=material.seen, groups=material.groups)
        baselines, simple = classical(contest)
        plan.choose_threads(usage)
        found = networks(contest, weights, simple)
        candidates = [simple, *found.candidates]
        averaged = average(contest, candidates)
        with stage("choose") as record:
            chosen = choose(contest, candidates, averaged, found)
            chosen = replace(chosen, model=marked(chosen.model, weights))
            chosen.model.save(run.model)
            record.validation_accuracy = contest.judge.accuracy(chosen)
            record.outcome = f"{chosen.name}: {record.validation_accuracy:.1%}"
        with stage("evaluate") as record:
            seen = look_once(chosen.model, parts.test, ledger, contest.candidates, run)
            test = {**keep(seen, run, chosen.model), **without(seen, material.leaked)}
            record.outcome = f"test accuracy {test['accuracy']:.1%}"
        more = {**_told(weights), **({"transfer": found.advice.plain()} if found.advice else {})}
        outcome = Outcome("fit", chosen, candidates, contest.judge, baselines, averaged, found, test, more)
        result = conclude(outcome, material, plan, diary)
        contest.candidates.discard()
        return result


def train(
    source: str | Path,
    settings: TrainSettings,
    *,
    out: Path | None = None,
    clock: Clock | None = None,
    resume: bool = False,
    one_of_several: bool = False,
) -> Result:
    """Train one network with explicit settings; the test part stays sealed.

    With `resume` the run in `out` goes on where it was interrupted, to the same weights; one that is
    finished is returned as it is. Where a signal ends it, it says how it goes on, unless it is `one_of_several`, which
    go on together. Raises InputError, before anything is written, where source, settings or `out` cannot be used;
    TrainingError where the loss stops being a number.
    """
    weights = weights_of(settings)
    settings = pretrained.suited(settings, weights)
    zoo.check_choices(settings)
    if resume:
        settings = in_force(settings, out)
        if (result := finished(out, source, settings.device)) is not None:
            return result
        weights = weights_of(settings)
    if settings.epochs is None and settings.budget is None:
        settings = settings.model_copy(update={"budget": FitSettings().budget})
    clock = Clock(settings.budget) if clock is None else replace(clock, budget=settings.budget)
    resolve_device(settings.device)
    if settings.replay is not None:
        planning.recorded_pace(Path(settings.replay), settings.model)
    use_threads(settings.threads)
    with (
        listening(diary := Diary()),
        gather(source, settings, out, resume=resume) as material,
        goes_on(None if one_of_several else material.run.path),
    ):
        plan = (Plan.resume if material.resumed else Plan)(material.run, clock, settings.seed)
        plan.keep("report", REPORT_SECONDS)
        tell_licence(weights)
        with discarded_on_refusal(material):
            with stage("plan"):
                settings = _resolved(settings, material.parts, plan)
                write_atomic(material.run.settings, settings.to_yaml())
            trained = train_network(material.parts, settings, plan)
        trained = replace(trained, model=marked(trained.model, weights))
        trained.model.save(material.run.model)
        judge = Judge(material.parts.validation.labels_N)
        outcome = Outcome("train", trained, [trained], judge, more=_told(weights))
        return conclude(outcome, material, plan, diary)


def _resolved(settings: TrainSettings, parts: Parts, plan: Plan) -> TrainSettings:
    """Return the settings with nothing left open; saccade's own networks get the side and width that time allows."""
    timed = settings.epochs is None and settings.replay is None and settings.pretrained is None
    open_ = settings.size is None or (settings.width is None and settings.model == "convnet")
    if timed and open_ and settings.model in zoo.OWN:
        return contests.resolved_by(*contests.speed(parts, settings, plan), parts, settings, plan)
    return planning.resolve(settings, parts, plan)


def _told(weights: Pretrained | None) -> dict[str, Any]:
    """Return what the summary says of pretrained weights."""
    return {} if weights is None else {"weights": weights.plain()}


def finished(out: Path | None, source: str | Path, device: str) -> Result | None:
    """Return what the run in `out` came to, its model on a device; None where there is none, or work is left.

    Raises RunError where it was of another source.
    """
    run = Run.resume(out)
    if run is None or not run.finished:
        return None
    summary = run.read_summary()
    if origin(source) != summary["source"]:
        raise RunError(
            f"The run in {run.path} is finished, and is of {summary['source']}, not of {source}; "
            "give --out another name to begin one."
        )
    emit(Finding(kind="resume", detail=f"The run in {run.path} is finished: nothing was left to do."))
    Candidates(run).discard()
    return Result(run, Model.load(run.model, device), summary)


def weights_of(settings: TrainSettings) -> Pretrained | None:
    """Return the pretrained weights that settings ask for, if any; raises ModelError as `pretrained.find` does."""
    return None if settings.pretrained is None else pretrained.find(settings.pretrained)


def with_weights(settings: TrainSettings) -> TrainSettings:
    """Return the settings with the network that pretrained weights are of; raises ModelError as `suited` does."""
    return pretrained.suited(settings, weights_of(settings))
