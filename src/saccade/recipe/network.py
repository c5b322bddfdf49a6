"""Training one network within a run: checked first, paced, watched, recorded, validated."""

import copy
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from saccade import metrics, study
from saccade.data import Crops, Part, Parts
from saccade.data.batches import ArrayImages, Images, Order, StoredImages
from saccade.device import cores, resolve_device
from saccade.errors import DivergedError, SettingError, TrainingError
from saccade.events import Finding, Progress, emit, stage
from saccade.files import write_atomic
from saccade.interrupts import held_back
from saccade.recipe.activities import Activities
from saccade.recipe.candidates import Candidate, test_time
from saccade.recipe.finishing import finished, viewed
from saccade.recipe.plan import Plan, recorded_pace
from saccade.recipe.record import Record
from saccade.settings import TrainSettings
from saccade.train import timing
from saccade.train.budget import Decision, Pace, decisions_of
from saccade.train.checkpoint import Checkpoint
from saccade.train.course import Course
from saccade.train.forward import Forward
from saccade.train.look import Sample
from saccade.train.reading import read_history
from saccade.train.recovery import Recovery
from saccade.train.session import Session, at_once, lasting
from saccade.words import plural

SAMPLE = 5000
GLANCE = 1000
MOST_EPOCHS = 60.0
CHECK_SHARE = 0.03
VIEWS_SHARE = 0.1
WORTH_BEGINNING = 0.15
NO_TIME = "The budget left no time to train a network; give a longer one."


def train_network(
    parts: Parts, settings: TrainSettings, plan: Plan, *, begin: nn.Module | None = None, stop: bool = False
) -> Candidate:
    """Train the network that resolved `settings` describe on the training part, from the weights of `begin` on.

    Where there are checkpoints it goes on from the newest, with the settings it was begun with.
    Raises TrainingError when the clock has left no time worth beginning, the loss stops being a number
    at a lower learning rate too, or, if it is to `stop` there, the watch finds it hopeless; ModelError when
    the network does not fit; SettingError when there are more snapshots to take than steps.
    """
    record = Record.open(plan.run, settings.model)
    kept = record.kept
    if kept is not None:
        settings = TrainSettings(**kept.plain["settings"])
        step = kept.plain["pace"]["step"] + 1
        plan.decide("resumed after step", step, "the newest whole checkpoint")
        emit(Finding(kind="resume", detail=f"{settings.model} goes on after step {step}, the last that was saved."))
    elif plan.run.network(settings.model).exists():
        emit(Finding(kind="resume", detail=f"{settings.model} begins anew: none of its steps was saved yet."))
    budget = plan.clock.budget if settings.epochs is None and settings.replay is None else None
    if kept is None and budget is not None and plan.left() < WORTH_BEGINNING * budget:
        raise TrainingError(NO_TIME)
    validation = parts.validation
    with stage("check") as checking:
        session = start(parts.train, settings, begin=begin)
        verdict = checked(session, plan, len(parts.classes), kept, fitted=begin is not None)
        checking.outcome = verdict.tell()
    with stage("train") as training:
        session, pace = paced(session, parts, plan, kept)
        write_atomic(plan.run.network(settings.model), session.settings.to_yaml())
        _refuse_few(pace.steps, settings.snapshots if kept is None else 1)
        activities = Activities.of(session, validation, kept)
        before = settled(session, verdict, activities)
        course = run(session, pace, validation, plan, record, settled=before, stop=stop)
        done = pace.step
        training.outcome = _length(session, done) + _stopped(course)
    with stage("validate") as validating:
        session = viewed(session, validation, plan)
        found = finished(session, course, validation, plan)
        right_N = found.validation_NK.argmax(1) == validation.labels_N
        accuracy = float(right_N.mean())
        kept_weights = found.facts["kept_weights"]
        told = f", with the {kept_weights} weights" if kept_weights else ""
        validating.outcome, validating.validation_accuracy = f"validation accuracy {accuracy:.1%}{told}", accuracy
    facts = {
        "name": settings.model,
        "parameters": sum(p.numel() for p in session.network.parameters()),
        "size": settings.size,
        "steps": done,
        "epochs": round(done * session.batch_size / len(session.images), 2),
        "seconds": round(record.seconds, 1),
        "images_per_second": round(done * session.batch_size / record.seconds, 1),
        "validation_accuracy": accuracy,
        "interval": list(metrics.accuracy_interval(right_N, validation.groups_N)),
        "settings": session.settings.model_dump(mode="json"),
        "activations": activities.told(session),
        **found.facts,
        "samples": course.samples.state_dict(),
    }
    # Of a few images what happens once would count too much: no more than three times what was measured before.
    planned = plan.kept.get(test_time(settings.model), math.inf) / max(1, len(parts.test))
    image_seconds = min(validating.seconds / len(validation), 3 * planned)
    return Candidate(found.model, found.validation_NK, facts, image_seconds=image_seconds, **verdict.plain())


def _refuse_few(steps: int, snapshots: int) -> None:
    if steps == 0:
        raise TrainingError(NO_TIME)
    if steps < snapshots:
        raise SettingError(
            f"The training has {plural(steps, 'step')}, too few for snapshots={snapshots}, one at the end of each "
            "cycle; give fewer snapshots, or train for longer."
        )


def checked(
    session: Session, plan: Plan, classes: int, kept: Checkpoint | None, *, fitted: bool = False
) -> study.Verdict:
    """Return the verdict on a session before it is trained, within a share of the time left; or the checkpoint's.

    The network's head may have been `fitted` to the training images. Raises SettingError where the steps are known,
    and too few for the snapshots.
    """
    if kept is not None:
        return study.Verdict.of(kept.plain)
    if session.settings.epochs is not None:
        _refuse_few(session.steps(session.settings.epochs), session.settings.snapshots)
    first = next(session.images.batches(Order(len(session.images), at_once(session), session.settings.seed)))
    end = plan.clock.elapsed() + CHECK_SHARE * plan.left()
    return study.checks(session, first, classes, lambda: end - plan.clock.elapsed(), fitted=fitted)


def _length(session: Session, done: int) -> str:
    """Say how many steps and epochs a training had, and why these are not quite those asked for."""
    epochs, asked = done * session.batch_size / len(session.images), session.settings.epochs
    told = f"{plural(done, 'step')}, {epochs:.1f} epochs"
    if asked is None or done != session.steps(asked) or f"{epochs:.1f}" == f"{asked:.1f}":
        return told
    return f"{told}, the nearest to {asked:g} in whole steps of {session.batch_size} images"


def _stopped(course: Course) -> str:
    """Say which weights were kept where that is settled, and how far L-BFGS still was from the minimum."""
    patience, full = course.patience, course.training.full
    if patience is not None and patience.chosen and course.training.average is None:
        return f"; the weights after epoch {patience.epoch:.1f} are kept, of the lowest validation loss"
    if full is not None and not full.converged:
        return f"; the loss would still fall: the largest derivative is {full.rule.gradient:.1g}"
    return ""


def start(part: Part, settings: TrainSettings, *, begin: nn.Module | None = None) -> Session:
    """Return a session on a part: its images held decoded where they fit into memory, else read as needed.

    The network is a copy of `begin`, or a new one.
    """
    assert settings.size is not None
    crops = Crops(settings.random_crops) if settings.random_crops else None
    side, how = settings.size, settings.interpolation
    held = crops is None and 3 * side**2 * len(part) <= settings.memory * 2**30 / 2
    images: Images
    if held:
        device = resolve_device(settings.device)
        x_NHWC = torch.from_numpy(part.squares(side, how)).to(device)
        images = ArrayImages(x_NHWC, torch.from_numpy(part.labels_N).to(device))
        sample_NHWC = x_NHWC[:: -(-len(part) // SAMPLE)]
    else:
        images = StoredImages(part, side, cores() if settings.workers is None else settings.workers, how, crops)
        sample_NHWC = torch.from_numpy(part.select(np.arange(0, len(part), -(-len(part) // SAMPLE))).squares(side, how))
    if begin is not None:
        return Session(Forward.of(copy.deepcopy(begin), settings), images, part.images.keys, settings)
    return Session.start(settings, images, sample_NHWC, classes=len(part.images.classes), names=part.images.keys)


def paced(session: Session, parts: Parts, plan: Plan, kept: Checkpoint | None = None) -> tuple[Session, Pace]:
    """Return the session and how long to train it: the epochs asked for, or what the clock leaves.

    With a checkpoint the pace goes on from there. Time is kept for validation and test. Where predicting
    from two views would take more than a tenth of what is left, one view must do.
    """
    settings, state = session.settings, kept.plain["pace"] if kept else None
    pace = None if settings.epochs is None else Pace.fixed(session.steps(settings.epochs))
    if settings.replay is not None:
        pace = recorded_pace(Path(settings.replay), settings.model)
        plan.go_back(settings.model, pace.decisions)
    if pace is not None:
        if state:
            pace.load_state_dict(state)
        return session, pace
    plan.go_back(settings.model, decisions_of(state) if state else ())
    few = {"images": min(128, session.batch_size), "steps": 2}
    cost = {side: session.batch_size * timing.image_seconds(session, side, **few) for side in timing.sides(session)}
    plan.decide("seconds a step", {str(side): round(seconds, 4) for side, seconds in cost.items()}, "measured")
    an_image = 1.1 * timing.prediction_seconds(session)
    if settings.views and an_image * (len(parts.validation) + len(parts.test)) > VIEWS_SHARE * plan.left():
        session, an_image = session.seeing(views=False), an_image / 2
        plan.decide("views", False, f"predicting from both would take {2000 * an_image:.1f} ms an image")
    looks = 2 if settings.ema or settings.swa else settings.snapshots
    validating = looks * an_image * len(parts.validation)
    plan.keep(test_time(settings.model), an_image * len(parts.test))
    plan.decide("seconds kept", {name: round(each, 2) for name, each in plan.kept.items()}, "measured speeds")
    pace = Pace.timed(
        lambda: plan.left() - validating,
        lambda progress: cost[session.side_at(progress)],
        partial(plan.pace, settings.model),
        most_steps=sys.maxsize if session.rule == "lbfgs" else session.steps(MOST_EPOCHS),
        state=state,
    )
    return session, pace


def settled(session: Session, verdict: study.Verdict, activities: Activities) -> dict[str, Any]:
    """Return what each checkpoint says of what was before the first step."""
    return {
        "settings": session.settings.model_dump(mode="json"),
        **verdict.plain(),
        "activations": activities.start,
    }


def run(
    session: Session,
    pace: Pace,
    validation: Part,
    plan: Plan,
    record: Record,
    *,
    settled: Mapping[str, Any],
    stop: bool = False,
) -> Course:
    """Train; once an epoch look at some of the validation part and write the history; return the training that was.

    SIGINT and SIGTERM end it after the step at hand, once that is saved.
    """

    def replan(decisions: Sequence[Decision]) -> None:
        plan.go_back(session.settings.model, decisions)
        record.go_back(decisions[-1].step)

    glance = Glance.at(validation, session)
    course = Recovery(session, pace, record.kept, replan)
    begun, each_epoch = plan.clock.elapsed() - record.seconds, session.steps(1.0)
    seen = ""
    with held_back() as signals:
        for done, progress in course:
            record.seconds = plan.clock.elapsed() - begun
            epoch = done * session.batch_size / len(session.images)
            try:
                if done % each_epoch == 0 or done == pace.steps:
                    line = looked(course, glance, done, epoch)
                    rate = pace.rate * lasting(session, pace.planned).learning_rate(progress)
                    place = {"step": done, "epoch": round(epoch, 3), "seconds": round(record.seconds, 3)}
                    record.add({**place, "learning_rate": rate, **line})
                    seen = f", validation {line['validation_accuracy']:.1%}"
                record.keep(course, now=bool(signals), seconds=plan.clock.elapsed(), **settled)
            except DivergedError as error:
                course.go_back(error)
                continue
            if signals:
                signals.act(f"Saved after {done} of {pace.steps} steps")
            if stop and course.watch.hopeless:
                raise TrainingError(f"it was stopped as hopeless. {course.watch.hopeless}")
            loss = "" if course.watch.latest is None else f", loss {course.watch.latest:.3f}"
            emit(
                Progress(
                    task="train", done=done, total=pace.steps, unit="steps", detail=f"epoch {epoch:.1f}{loss}{seen}"
                )
            )
    if course.course.patience is not None:
        course.course.patience.install()
    if not any(each.kind == "overfitting" for each in read_history(record.history())):
        course.passed("overfitting")
    return course.course


def looked(course: Recovery, glance: "Glance", done: int, epoch: float) -> dict[str, Any]:
    """Return the history's figures after so many steps; the pace ends where patience does.

    Raises DivergedError where a loss is no finite number.
    """
    patience = course.course.patience
    with course.course.averaged():
        loss_N, accuracy = glance.losses(course.session)
        validation_loss = float(loss_N.mean())
        if not math.isfinite(validation_loss):
            raise DivergedError(
                f"The loss became infinite after step {done}, on some of {len(glance.labels_N)} validation images; "
                "try a lower learning rate, or precision=float32.",
                done,
            )
        if patience is not None and patience.over(epoch, torch.from_numpy(loss_N), accuracy):
            course.pace.end()
    loss = course.watch.mean()
    course.watch.hold(done - 1, loss, validation_loss)
    figures = {"loss": loss, "validation_accuracy": accuracy, "validation_loss": validation_loss}
    return {**figures, **of_layers(course.watch.samples)}


def of_layers(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the watch's newest look into a step, for the history; nothing before the first."""
    if not samples:
        return {}
    layers = {name: _rounded(asdict(each), "gradient", "update") for name, each in samples[-1].layers.items()}
    activations = {name: _rounded(asdict(each)) for name, each in samples[-1].activations.items()}
    return {"layers": layers, "activations": activations}


def _rounded(values: Mapping[str, float | None], *names: str) -> dict[str, float]:
    """Return the values, of these names or all, that are known, to four figures."""
    return {name: float(f"{value:.4g}") for name in names or values if (value := values[name]) is not None}


@dataclass(frozen=True)
class Glance:
    """Up to GLANCE validation images that a training is measured on, as they are, once an epoch."""

    x_NHWC: torch.Tensor
    labels_N: NDArray[np.int64]

    @classmethod
    def at(cls, validation: Part, session: Session) -> "Glance":
        """Return evenly spaced images of the validation part at the session's size."""
        chosen = np.linspace(0, len(validation) - 1, min(GLANCE, len(validation))).astype(np.int64)
        part = validation.select(chosen)
        return cls(session.forward.images(part), part.labels_N)

    def losses(self, session: Session) -> tuple[NDArray[np.float64], float]:
        """Return the loss on each image (N,), and the accuracy, without views."""
        log_NK = session.forward.log_probabilities(self.x_NHWC, over_views=False).double().numpy()
        losses_N = -log_NK[np.arange(len(log_NK)), self.labels_N]
        return losses_N, float((log_NK.argmax(1) == self.labels_N).mean())
