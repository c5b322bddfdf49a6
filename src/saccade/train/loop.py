"""The training loop: sample a batch, run it forward, run the loss backward, update (lecture 6)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Generator, Tensor

from saccade.data.batches import Batch
from saccade.optim import Optimizer
from saccade.optim.schedules import Schedule
from saccade.train.budget import Pace
from saccade.train.forward import Forward
from saccade.train.watch import Watch


@dataclass(frozen=True)
class Training:
    """What a network is trained with.

    `prepare(batch, progress)` gives the network's input, augmented by `draws` and on its device;
    `loss(scores_NK, y_N)` gives one loss an image; `rate(progress)` scales every learning rate.
    """

    forward: Forward
    batches: Iterator[Batch]
    prepare: Callable[[Batch, float], Tensor]
    draws: Generator
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Optimizer
    rate: Schedule


def train(training: Training, pace: Pace, watch: Watch) -> Iterator[tuple[int, float]]:
    """Train the network in place for as long as `pace` goes on, yielding `(steps done, progress)` after each.

    Raises TrainingError, through `watch`, when a loss is not a finite number.
    """
    network, optimizer = training.forward.network, training.optimizer
    for step, progress in pace:
        network.train()
        batch = next(training.batches)
        with training.forward.computing():
            scores_NK = network(training.prepare(batch, progress))
        loss_N = training.loss(scores_NK.float(), batch.y_N.to(scores_NK.device))
        loss_N.mean().backward()
        optimizer.step(training.rate(progress))
        optimizer.zero_grad()
        watch(step, loss_N, batch.index_N)
        yield step + 1, progress
    watch.read()
