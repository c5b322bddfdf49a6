"""`saccade transfer`: measure the data against a network's knowledge, advise a cell of the lecture's table, run it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from saccade import study
from saccade.classifiers import Member, Model, NetworkClassifier
from saccade.device import resolve_device
from saccade.errors import ModelError
from saccade.events import listening, stage
from saccade.interrupts import goes_on
from saccade.nn import pretrained
from saccade.nn.published import Pretrained
from saccade.recipe import cells
from saccade.recipe.candidates import Candidate, Judge
from saccade.recipe.cells import LAYERS, Ground
from saccade.recipe.conclusion import Outcome, Result, conclude
from saccade.recipe.idle import refuse_idle
from saccade.recipe.licences import marked, tell_licence
from saccade.recipe.material import Material, discarded_on_refusal, gather, in_force
from saccade.recipe.network import train_network
from saccade.recipe.plan import Plan, may_flip
from saccade.recipe.stages import finished
from saccade.recipe.summary import Diary
from saccade.settings import TransferSettings
from saccade.study.adviser import CELLS
from saccade.study.transfer import Probe
from saccade.train.budget import Clock


def transfer(
    source: str | Path,
    settings: TransferSettings,
    *,
    out: Path | None = None,
    clock: Clock | None = None,
    resume: bool = False,
) -> Result:
    """Transfer from a pretrained network as the advised cell of the lecture's table says; the test part stays sealed.

    The linear classifier that every cell begins with stays a candidate, and, where images are different, one on all
    stages: what is best on validation is the run's model. With `resume` the run in `out` goes on where it was
    interrupted; one that is finished is returned as it is.
    Raises InputError, before anything is written, where source, settings, weights or `out` cannot be used;
    TrainingError where the loss stops being a number.
    """
    if resume:
        settings = in_force(settings, out)
        if (result := finished(out, source, settings.device)) is not None:
            return result
    refuse_idle(settings)
    weights = found(settings)
    pretrained.load(weights)
    resolve_device(settings.device)
    clock = clock or Clock(None)
    with (
        listening(diary := Diary()),
        gather(source, settings, out, resume=resume) as material,
        discarded_on_refusal(material),
        goes_on(material.run.path),
    ):
        tell_licence(weights)
        plan = (Plan.resume if material.resumed else Plan)(material.run, clock, settings.seed)
        ground = _ground(material, weights, settings, plan)
        cell = ground.advice.cell if settings.cell == "auto" else settings.cell
        candidates = _run_cell(ground, cell, plan)
        judge = Judge.of(material.parts.train, material.parts.validation)
        with stage("choose") as record:
            best = judge.best(candidates)
            best = replace(best, model=marked(best.model, weights))
            best.model.save(material.run.model)
            record.outcome, record.validation_accuracy = best.name, judge.accuracy(best)
        more = {"transfer": {**ground.advice.plain(), "run": cell}, "weights": weights.plain()}
        return conclude(Outcome("transfer", best, candidates, judge, more=more), material, plan, diary)


def found(settings: TransferSettings) -> Pretrained:
    """Return the weights to transfer from; raises ModelError where there are none."""
    weights = pretrained.find(settings.pretrained)
    if weights is None:
        raise ModelError(
            "There are no weights to transfer from on this machine: --from resnet18 downloads some where there is a "
            "network, --from FILE takes yours, --from run/PATH those of an earlier run."
        )
    if weights.settings and settings.size not in (None, weights.size):
        raise ModelError(
            f"The run's network takes images of {weights.size} px, and size={settings.size} was given; leave it out."
        )
    return weights


def _ground(material: Material, weights: Pretrained, settings: TransferSettings, plan: Plan) -> Ground:
    parts = material.parts
    with stage("features") as record:
        flip = may_flip(parts, plan)
        groups_N = np.array([material.groups[key] for key in parts.train.images.keys])
        seen = material.seen.count(parts.train)
        ground = cells.prepared(parts, weights, settings, flip=flip, groups_N=groups_N, seen=seen)
        record.outcome = f"{len(ground.widths)} stages of {weights.model} at {ground.forward.side} px"
    with stage("advice") as record:
        plan.decide("cell", ground.advice.cell, ground.advice.why)
        record.outcome = CELLS[ground.advice.cell]
    return ground


def _run_cell(ground: Ground, cell: str, plan: Plan) -> list[Candidate]:
    """Return a cell's linear classifier, and, where the cell fine-tunes, the network trained on from it.

    With it comes the linear classifier on all stages, where these tell classes better than the last.
    """
    simple, probe = _linear(ground, cell)
    if cell not in LAYERS:
        return [simple]
    others = [] if ground.advice.similar else [_linear(ground, "stages")[0]]
    return [simple, *others, train_network(ground.parts, cells.tuning(ground, cell), plan, begin=probe.forward.network)]


def _linear(ground: Ground, cell: str) -> tuple[Candidate, Probe]:
    """Return the linear classifier of a cell, on all stages or on top, as a candidate and with its features."""
    on_all = cell == "stages"
    with stage("linear on all stages" if on_all else "linear") as record:
        probe = cells.linear(ground, cell)
        settings = ground.settings.model_copy(update={"stages": tuple(ground.widths) if on_all else ()})
        classes = ground.parts.classes
        classifier = NetworkClassifier.of(probe.forward, settings, len(classes))
        member = Member.of(f"{probe.name}, all stages" if on_all else probe.name, classifier)
        validation_NK = np.exp(study.log_probabilities(probe.forward, probe.held_VND))
        model = Model((member,), classes, settings.fit_to_square)
        candidate = Candidate(model, validation_NK, {"penalty": probe.penalty, "size": settings.size})
        accuracy = float((validation_NK.argmax(1) == ground.parts.validation.labels_N).mean())
        record.validation_accuracy, record.outcome = accuracy, f"{member.name}: {accuracy:.1%}"
    return candidate, probe
