"""What the loss and a step depend on, asked before training: the penalty, the inputs, the batch (lecture 7)."""

from collections.abc import Callable
from dataclasses import replace

import psutil
import torch
from torch import Tensor

from saccade.data.batches import ArrayImages, Batch
from saccade.device import Stream, derived_seed, release_memory
from saccade.errors import TrainingError
from saccade.nn.regularize import without_drops
from saccade.study.check import Check
from saccade.train import timing
from saccade.train.budget import Pace
from saccade.train.loop import train
from saccade.train.preparing import unchanged
from saccade.train.session import Session, at_once, penalty_of
from saccade.train.watch import Watch

HANDFUL = 32
MOST_PENALTY = 10.0
"""Times the loss that the penalty on the weights may be at first."""
STEPS, COUNTED = 40, 5
"""Steps that a handful is learnt for with its pixels and without, and those at the end whose losses count."""
BETTER = 0.9
FREE = 0.9
"""Share of the free memory that a step may take."""


def on_a_handful(session: Session, batch: Batch) -> tuple[Session, ArrayImages]:
    """Return a copy of a session for learning a handful of a batch's images by heart, and the handful."""
    handful = ArrayImages(batch.x_NHWC[:HANDFUL], batch.y_N[:HANDFUL])
    plain = {"label_smoothing": 0.0, "schedule": "constant", "l1": 0.0, "l2": 0.0}
    trial = replace(session.on_trial(), images=handful, settings=session.settings.model_copy(update=plain))
    without_drops(trial.network)
    return trial, handful


def penalty_moderate(session: Session, scores_NK: Tensor, y_N: Tensor) -> Check | None:
    """Compare the loss of untrained scores with and without the penalty on weights; None where there is none.

    Weight decay is a penalty too: see `penalty_of`.
    """
    added = float(penalty_of(session)().detach())
    if not added:
        return None
    loss = float(session.loss(scores_NK, y_N.to(scores_NK.device)).mean())
    passed = added <= MOST_PENALTY * loss
    advice = "The penalty drowns the loss: lower l1, l2 or weight_decay, or make the initial weights smaller."
    return Check(
        "penalty",
        passed,
        f"a penalty of at most {MOST_PENALTY:g} times the loss",
        f"a loss of {loss:.3f} without and {loss + added:.3f} with it",
        "" if passed else advice,
    )


def inputs_matter(session: Session, batch: Batch, seconds: Callable[[], float]) -> Check | None:
    """Ask whether a handful of images is learnt better from its pixels than with all pixels at zero.

    None where `seconds()` ran out, all images are of one class, or the loss stopped being a number.
    """
    if len(batch.y_N[:HANDFUL].unique()) < 2:
        return None
    losses = []
    for x_NHWC in (batch.x_NHWC, torch.zeros_like(batch.x_NHWC)):
        trial, _ = on_a_handful(session, replace(batch, x_NHWC=x_NHWC))
        training, watch = replace(trial.training(), prepare=unchanged(trial.forward)), Watch()
        stream = Stream(derived_seed(session.settings.seed, "zeroed"), session.forward.device)
        try:
            with stream.drawing():
                for step, _ in train(training, Pace.fixed(STEPS), watch):
                    if step == STEPS - COUNTED:
                        watch.mean()  # forgets what was before
                    if seconds() <= 0:
                        return None
        except TrainingError:
            return None
        losses.append(watch.mean())
    seen, zeroed = losses
    passed = seen < BETTER * zeroed
    advice = (
        "The network learns no more from the images than from none: look at what it is given, and whether anything "
        "of it reaches the scores."
    )
    return Check(
        "inputs matter",
        passed,
        f"a lower loss on {len(batch.y_N[:HANDFUL])} images than with their pixels at zero, after {STEPS} steps",
        f"{seen:.3f}, against {zeroed:.3f} with zeros",
        "" if passed else advice,
    )


def step_affordable(session: Session, seconds: Callable[[], float]) -> Check | None:
    """Measure what a step costs at the session's batch size: images a second, and memory; None without time."""
    if seconds() <= 0:
        return None
    side = session.forward.side
    image_seconds = timing.image_seconds(session, side, images=at_once(session), steps=2)
    needed = step_bytes(session)
    release_memory()  # what was measured is kept, and would not count as free
    free = _free(session.forward.device)
    passed = needed <= FREE * free
    epoch = image_seconds * len(session.images)
    return Check(
        "cost of a step",
        passed,
        f"at most {FREE:.0%} of the {_amount(free)} that are free",
        f"{1 / image_seconds:.0f} images/s, {epoch:.1f} s an epoch; about {_amount(needed)} at {at_once(session)} "
        "images a step",
        "" if passed else "A step may not fit into memory: give a smaller --batch-size, or --accumulate 2 or more.",
    )


def step_bytes(session: Session) -> int:
    """Return the bytes that one step of a copy holds: weights, gradients, the rule's state, what backward needs."""
    trial = session.on_trial()
    if trial.rule == "lbfgs":
        trial = replace(trial, settings=session.settings.model_copy(update={"optimizer": "sgd"}))
    training = replace(trial.training(), prepare=unchanged(trial.forward))
    weights = list(trial.network.parameters())
    held = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in weights}

    def pack(kept: Tensor) -> Tensor:
        storage = kept.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        for _ in train(training, Pace.fixed(1), Watch()):
            pass
    states = [state for rule in training.optimizer.state_dict() for state in rule["state"].values()]
    state = sum(value.nbytes for each in states for value in each.values() if isinstance(value, Tensor))
    return sum(held.values()) + sum(each.nbytes for each in weights if each.requires_grad) + state


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else int(psutil.virtual_memory().available)


def _amount(count: int) -> str:
    """Return bytes as text.

    >>> _amount(3_500_000), _amount(12_000_000_000)
    ('4 MB', '12.0 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
