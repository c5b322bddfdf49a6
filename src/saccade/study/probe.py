"""What a network does with one training batch before it is trained: inputs, activations, scores, first updates."""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from saccade.data.batches import Batch
from saccade.train.budget import Pace
from saccade.train.look import Seen, named
from saccade.train.loop import train
from saccade.train.parts import Parts
from saccade.train.preparing import unchanged
from saccade.train.session import Session
from saccade.train.watch import Watch

STEPS = 3
"""Updates after which every layer should have learnt something, those behind a layer of zeros too."""


@dataclass(frozen=True)
class Probe:
    """What was seen in one forward and backward pass in training mode.

    `first_layer` is the first module called that has a matrix or kernels, `input_rms` the root mean square of
    what it was given. `dead` are the shares of units that were 0 on every image, `saturated` those of values
    at the ends of their range, by module. `gradient_rms` are by parameter; None where no gradient arrived.
    """

    first_layer: str
    input_rms: float
    dead: dict[str, float]
    saturated: dict[str, float]
    scores_NK: Tensor
    gradient_rms: dict[str, float | None]


def first_part(session: Session, batch: Batch) -> Batch:
    """Return as many of a batch's images as training puts through the network at once."""
    images = len(batch.y_N)
    size = -(-images // Parts(session.settings.accumulate).of(images))
    return Batch(batch.x_NHWC[:size], batch.y_N[:size], batch.index_N[:size], batch.epoch_N[:size])


def probe(session: Session, batch: Batch) -> Probe:
    """Return what a copy of the session's network does with the first part of a batch."""
    trial, batch = session.on_trial(), first_part(session, batch)
    network = trial.network.train()
    seen = Seen()
    with named(network, seen), seen:
        scores_NK = network(trial.forward.to_input(batch.x_NHWC)).float()
    trial.loss(scores_NK, batch.y_N.to(scores_NK.device)).mean().backward()
    gradients = {
        name: None if each.grad is None else float(each.grad.cpu().double().square().mean().sqrt())
        for name, each in network.named_parameters()
        if each.requires_grad
    }
    rms = 0.0 if seen.input_ms is None else float(seen.input_ms.sqrt())
    dead, saturated = _shares(seen, 2), _shares(seen, 3)
    return Probe(seen.first_layer, rms, dead, saturated, scores_NK.detach(), gradients)


def first_updates(session: Session) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each parameter of the network before and after a few updates of a copy."""
    plain = session.settings.model_copy(update={"schedule": "constant", "warmup": 0.0})
    trial = replace(session.on_trial(), settings=plain)
    before = {name: each.detach().clone() for name, each in trial.network.named_parameters()}
    # All layers, thawed or not: each is to be seen learning.
    training = replace(trial.training(), prepare=unchanged(trial.forward), thaw=None)
    for _ in train(training, Pace.fixed(STEPS), Watch()):
        pass
    return {name: (before[name], each.detach()) for name, each in trial.network.named_parameters()}


def _shares(seen: Seen, place: int) -> dict[str, float]:
    """Return one of the shares seen, by module, of those that have it."""
    found = {name: float(each[place]) for name, each in seen.activations.items()}
    return {name: share for name, share in found.items() if not math.isnan(share)}
