"""Checks before training: whether the first loss is what chance gives, and a handful can be memorised."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from saccade.data.batches import ArrayImages, Batch
from saccade.device import derived_seed
from saccade.errors import TrainingError
from saccade.nn.regularize import without_drops
from saccade.train.budget import Pace
from saccade.train.loop import train
from saccade.train.session import Session
from saccade.train.watch import Watch

HANDFUL = 32
MOST_STEPS = 60
ENOUGH = 0.95


@dataclass(frozen=True)
class Check:
    """One question asked before training: what was expected, what was measured, what to do if it failed."""

    name: str
    passed: bool
    expected: str
    measured: str
    advice: str


def checks(session: Session, batch: Batch, classes: int, seconds: Callable[[], float]) -> list[Check]:
    """Return the verdict on a session before it is trained, within `seconds()`; the session is left as it was."""
    asked = (initial_loss(session.on_trial(), batch, classes), overfit_handful(session, batch, seconds))
    return [check for check in asked if check is not None]


@torch.no_grad()
def initial_loss(session: Session, batch: Batch, classes: int) -> Check:
    """Compare the untrained network's loss with that of a guess among K classes, ln K (lecture 7, step 1)."""
    scores_NK = session.network.train()(session.forward.to_input(batch.x_NHWC))
    loss = float(session.loss(scores_NK.float(), batch.y_N.to(scores_NK.device)).mean())
    chance = math.log(classes)
    passed = math.isfinite(loss) and loss < 1.5 * chance + 0.5
    advice = (
        "The untrained network is already sure of wrong answers: look at its initial weights, at the "
        "preprocessing and at the labels before training."
    )
    return Check(
        name="initial loss",
        passed=passed,
        expected=f"about ln {classes} = {chance:.3f}, as from guessing",
        measured=f"{loss:.3f}",
        advice="" if passed else advice,
    )


def overfit_handful(session: Session, batch: Batch, seconds: Callable[[], float]) -> Check | None:
    """Train a copy on a handful of images alone until it knows them by heart (lecture 7, step 2).

    None where `seconds()` ran out before there was an answer.
    """
    torch.manual_seed(derived_seed(session.settings.seed, "handful"))
    trial, handful = _on_a_handful(session, batch)
    training = replace(trial.training(), prepare=lambda drawn, _: (trial.forward.to_input(drawn.x_NHWC), drawn.y_N))
    steps, accuracy, trouble = 0, 0.0, ""
    try:
        for steps, _ in train(training, Pace.fixed(MOST_STEPS), Watch()):
            if steps % 5 == 0:
                accuracy = _known_by_heart(trial, handful)
            if accuracy >= ENOUGH:
                break
            if seconds() <= 0:
                return None
    except TrainingError:
        accuracy, trouble = 0.0, ", when the loss stopped being a number"
    passed = accuracy >= ENOUGH
    advice = (
        "The network cannot even memorise a few images: look for equal images with different labels, "
        "a learning rate that is too low or too high, or too small a network."
    )
    return Check(
        name="overfit a handful",
        passed=passed,
        expected=f"at least {ENOUGH:.0%} of {len(handful)} training images learnt by heart within {MOST_STEPS} steps",
        measured=f"{accuracy:.0%} after {steps} steps{trouble}",
        advice="" if passed else advice,
    )


def _on_a_handful(session: Session, batch: Batch) -> tuple[Session, ArrayImages]:
    handful = ArrayImages(batch.x_NHWC[:HANDFUL], batch.y_N[:HANDFUL])
    plain = {"label_smoothing": 0.0, "schedule": "constant", "l1": 0.0, "l2": 0.0}
    trial = replace(session.on_trial(), images=handful, settings=session.settings.model_copy(update=plain))
    without_drops(trial.network)
    return trial, handful


@torch.no_grad()
def _known_by_heart(trial: Session, handful: ArrayImages) -> float:
    """Return the accuracy on the handful as training sees it: batch norm by the batch."""
    scores_NK = trial.network.train()(trial.forward.to_input(handful.x_NHWC))
    return float((scores_NK.argmax(1).cpu() == handful.y_N.cpu()).float().mean())
