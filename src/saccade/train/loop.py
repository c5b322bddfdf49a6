"""The training loop: sample a batch, run it forward, run the loss backward, update (lecture 6)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from torch import Generator, Tensor, nn

from saccade.data.batches import Batch
from saccade.optim import Optimizer
from saccade.optim.average import Average, Snapshots
from saccade.optim.schedules import Schedule
from saccade.train.budget import Pace
from saccade.train.forward import Forward
from saccade.train.full_batch import FullBatch, descend
from saccade.train.labels import scored
from saccade.train.parts import Parts
from saccade.train.watch import Watch


@dataclass(frozen=True)
class Training:
    """What a network is trained with.

    `prepare(batch, progress)` gives the network's input, augmented by `draws` and on its device, and its labels:
    y_N, or target_NK where they are mixed; `loss(scores_NK, y)` gives one loss an image; `rate(progress)` scales
    every learning rate. A batch is run through in `parts`, one after another; gradients longer than `clip` are
    shortened to it; `thaw(progress)` lets more of a pretrained network be trained; an `average` of the weights is
    kept, and is what the network has in the end, its statistics made anew by `refresh`; `snapshots` are taken of
    it. Where `full` is given, every step is of all images, by its own rule, and none of the rest holds.
    """

    forward: Forward
    batches: Iterator[Batch]
    prepare: Callable[[Batch, float], tuple[Tensor, Tensor]]
    draws: Generator
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Optimizer
    rate: Schedule
    parts: Parts = field(default_factory=Parts)
    clip: float | None = None
    thaw: Callable[[float], None] | None = None
    average: Average | None = None
    refresh: Callable[[], None] = lambda: None
    snapshots: Snapshots | None = None
    full: FullBatch | None = None


def train(training: Training, pace: Pace, watch: Watch) -> Iterator[tuple[int, float]]:
    """Train the network in place for as long as `pace` goes on, yielding `(steps done, progress)` after each.

    Raises TrainingError, through `watch`, when a loss is not a finite number, InputError when the network gives no
    score for a label.
    """
    if training.full is not None:
        yield from descend(training.full, pace, watch)
        return
    network, optimizer, average = training.forward.network, training.optimizer, training.average
    for step, progress in pace:
        if training.snapshots is not None:
            training.snapshots.before(progress)
        if training.thaw is not None:
            training.thaw(progress)
        network.train()
        factor = training.rate(progress)
        watch.begin(step, network, factor)
        batch = next(training.batches)
        x, y = training.prepare(batch, progress)
        y = y.to(training.forward.device)
        loss_N = training.parts.each(partial(backward, training, watch, batch), x, y, optimizer.zero_grad)
        if training.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), training.clip)
        optimizer.step(pace.rate * factor)
        if average is not None:
            average.update(progress)
        watch(step, loss_N, batch.index_N)
        optimizer.zero_grad()
        yield step + 1, progress
    watch.read()
    if average is not None:
        average.install()
        training.refresh()


def backward(training: Training, watch: Watch, batch: Batch, x: Tensor, y: Tensor) -> Tensor:
    """Add to each gradient that of a part of a batch; return the part's losses, one an image."""
    with training.forward.computing(), watch.seeing():
        scores = training.forward.network(x)
    with scored(batch, scores.shape[-1], watch.names):
        loss_N = training.loss(scores.float(), y)
    (loss_N.sum() / len(batch.y_N)).backward()
    return loss_N.detach()
