"""Training one network within a run: checked first, paced, watched, recorded, validated."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from saccade import study
from saccade.classifiers import Model, NetworkClassifier
from saccade.data import Part, Parts
from saccade.data.batches import ArrayImages, Images, Order, StoredImages
from saccade.device import cores, resolve_device
from saccade.errors import TrainingError
from saccade.events import Finding, Progress, emit, stage
from saccade.files import write_atomic
from saccade.metrics import wilson_interval
from saccade.recipe import plan as planning
from saccade.recipe.plan import Plan, recorded_pace
from saccade.settings import DataSettings, FitSettings, TrainSettings
from saccade.train import timing
from saccade.train.budget import Pace
from saccade.train.session import Session

SAMPLE = 5000
GLANCE = 1000
REPORT_SECONDS = 2.0
MOST_EPOCHS = 60.0
TRAINING_SHARE = 0.85
CHECK_SHARE = 0.05
VIEWS_SHARE = 0.1
WORTH_BEGINNING = 0.15
NO_TIME = "The budget left no time to train a network; give a longer one."
TRIAL_SIDE = 64


@dataclass(frozen=True)
class Trained:
    """A trained network, its accuracy and probabilities (N, K) on the validation part, its checks and its facts."""

    model: Model
    accuracy: float
    validation_NK: NDArray[np.float64]
    checks: list[study.Check]
    facts: dict[str, Any]


def train_network(parts: Parts, settings: TrainSettings, plan: Plan) -> Trained:
    """Train the network that resolved `settings` describe on the training part.

    Raises TrainingError when the clock has left no time worth beginning, or the loss stops being a
    number; ModelError when the network does not fit.
    """
    budget = plan.clock.budget if settings.epochs is None and settings.replay is None else None
    if budget is not None and plan.clock.remaining() - REPORT_SECONDS < WORTH_BEGINNING * budget:
        raise TrainingError(NO_TIME)
    classes = parts.train.images.classes
    validation = parts.validation
    with stage("check") as checking:
        session = start(parts.train, settings)
        first = next(session.images.batches(Order(len(session.images), session.batch_size, settings.seed)))
        end = plan.clock.elapsed() + CHECK_SHARE * plan.clock.remaining()
        verdict = study.checks(session, first, len(classes), lambda: end - plan.clock.elapsed())
        for check in verdict:
            if not check.passed:
                emit(
                    Finding(kind="check", severity="warning", detail=f"{check.name}: {check.measured}. {check.advice}")
                )
        checking.outcome = ", ".join(f"{check.name} {'passed' if check.passed else 'failed'}" for check in verdict)
    with stage("train") as training:
        session, pace = paced(session, parts, plan)
        write_atomic(plan.run.network, session.settings.to_yaml())
        if pace.steps == 0:
            raise TrainingError(NO_TIME)
        done = run(session, pace, validation, plan)
        training.outcome = f"{done} steps, {done * session.batch_size / len(session.images):.1f} epochs"
    with stage("validate") as validating:
        model, validation_NK = calibrated_model(session, validation)
        accuracy = float((validation_NK.argmax(1) == validation.labels_N).mean())
        validating.outcome, validating.validation_accuracy = f"validation accuracy {accuracy:.1%}", accuracy
    facts = {
        "name": settings.model,
        "parameters": sum(p.numel() for p in session.network.parameters()),
        "size": settings.size,
        "steps": done,
        "epochs": round(done * session.batch_size / len(session.images), 2),
        "images_per_second": round(done * session.batch_size / training.seconds, 1),
        "validation_accuracy": accuracy,
        "interval": list(wilson_interval(round(accuracy * len(validation)), len(validation))),
        "settings": session.settings.model_dump(mode="json"),
    }
    return Trained(model, accuracy, validation_NK, verdict, facts)


def calibrated_model(session: Session, validation: Part) -> tuple[Model, NDArray[np.float64]]:
    """Return a session's network as a model, its temperature fitted, and its probabilities on the validation part."""
    classes = len(validation.classes)
    model = Model(
        classifier=NetworkClassifier.of(session.forward, session.settings, classes),
        classes=validation.classes,
        size=session.forward.side,
        fit_to_square=session.settings.fit_to_square,
        name=session.settings.model,
    )
    log_NK = np.log(model.probabilities_of(validation).clip(1e-30))
    forward = session.forward.calibrated(log_NK, validation.labels_N)
    model = replace(model, classifier=NetworkClassifier.of(forward, session.settings, classes))
    return model, softmax(log_NK / forward.temperature, axis=1)


def plan_network(parts: Parts, settings: FitSettings, plan: Plan) -> TrainSettings:
    """Return the settings of the network `fit` trains, at a size that the time left affords."""
    shared = {name: getattr(settings, name) for name in (*DataSettings.model_fields, "device", "budget")}
    open_settings = TrainSettings(**shared)
    side = min(planning.full_side(planning.native_side(parts.train)), TRIAL_SIDE)
    trial = open_settings.model_copy(update={"size": side, "batch_size": 128, "flip": False})
    session = start(parts.train.select(np.arange(min(len(parts.train), 256))), trial)
    pixels = side**2 / timing.image_seconds(session, side)
    plan.decide("megapixels a second", round(pixels / 1e6, 3), f"measured at {side} px")
    seconds = TRAINING_SHARE * plan.clock.remaining() / timing.mean_cost(session)
    open_settings = open_settings.model_copy(update={"threads": torch.get_num_threads()})
    return planning.resolve(open_settings, parts, plan, affordable=pixels * seconds)


def start(part: Part, settings: TrainSettings) -> Session:
    """Return a session on a part: its images held decoded where they fit into memory, else read as needed."""
    assert settings.size is not None
    side, held = settings.size, 3 * settings.size**2 * len(part) <= settings.memory * 2**30 / 2
    images: Images
    if held:
        device = resolve_device(settings.device)
        x_NHWC = torch.from_numpy(part.squares(side)).to(device)
        images = ArrayImages(x_NHWC, torch.from_numpy(part.labels_N).to(device))
        sample_NHWC = x_NHWC[:: -(-len(part) // SAMPLE)]
    else:
        images = StoredImages(part, side, cores() if settings.workers is None else settings.workers)
        sample_NHWC = torch.from_numpy(part.select(np.arange(0, len(part), -(-len(part) // SAMPLE))).squares(side))
    return Session.start(settings, images, sample_NHWC, classes=len(part.images.classes), names=part.images.keys)


def paced(session: Session, parts: Parts, plan: Plan) -> tuple[Session, Pace]:
    """Return the session and how long to train it: the epochs asked for, or what the clock leaves.

    Time is kept for validation, test and report. Where predicting from two views would take more
    than a tenth of what is left, one view must do.
    """
    settings = session.settings
    if settings.replay is not None:
        pace = recorded_pace(Path(settings.replay))
        plan.pace(*pace.decisions)
        return session, pace
    if settings.epochs is not None:
        return session, Pace.fixed(session.steps(settings.epochs))
    cost = {side: session.batch_size * timing.image_seconds(session, side) for side in timing.sides(session)}
    plan.decide("seconds a step", {str(side): round(seconds, 4) for side, seconds in cost.items()}, "measured")
    predicting = timing.prediction_seconds(session) * (len(parts.validation) + len(parts.test))
    if settings.views and predicting > VIEWS_SHARE * plan.clock.remaining():
        session = session.without_views()
        plan.decide("views", False, f"predicting from both would take {predicting:.1f} s")
        predicting /= 2
    reserve = REPORT_SECONDS + 1.1 * predicting
    plan.decide("seconds kept for validation, test and report", round(reserve, 2), "measured speed of prediction")
    pace = Pace.timed(
        lambda: plan.clock.remaining() - reserve,
        lambda progress: cost[session.side_at(progress)],
        plan.pace,
        most_steps=session.steps(MOST_EPOCHS),
    )
    return session, pace


def run(session: Session, pace: Pace, validation: Part, plan: Plan) -> int:
    """Train; once an epoch look at some of the validation part and write the history; return the steps done."""
    glance = Glance.at(validation, session)
    begun, each_epoch = plan.clock.elapsed(), session.steps(1.0)
    done, seen = 0, ""
    for done, progress, watch in session.run(pace):
        epoch = done * session.batch_size / len(session.images)
        if done % each_epoch == 0 or done == pace.steps:
            figures = glance(session)
            if not math.isfinite(figures["validation_loss"]):
                raise TrainingError(
                    f"The loss became infinite at step {done}, on some of {len(glance.labels_N)} validation images; "
                    "try a lower learning rate, or precision=float32."
                )
            line = {
                "step": done,
                "epoch": round(epoch, 3),
                "seconds": round(plan.clock.elapsed() - begun, 3),
                "loss": watch.mean(),
                "learning_rate": session.learning_rate(progress),
                **figures,
            }
            plan.run.add_history(line)
            seen = f", validation {figures['validation_accuracy']:.1%}"
        loss = "" if watch.latest is None else f", loss {watch.latest:.3f}"
        emit(Progress(task="train", done=done, total=pace.steps, unit="steps", detail=f"epoch {epoch:.1f}{loss}{seen}"))
    return done


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
        return cls(torch.from_numpy(part.squares(session.forward.side)), part.labels_N)

    def __call__(self, session: Session) -> dict[str, float]:
        """Return `validation_accuracy` and `validation_loss`, without views."""
        log_NK = session.forward.log_probabilities(self.x_NHWC, over_views=False).numpy()
        return {
            "validation_accuracy": float((log_NK.argmax(1) == self.labels_N).mean()),
            "validation_loss": float(-log_NK[np.arange(len(log_NK)), self.labels_N].mean()),
        }
