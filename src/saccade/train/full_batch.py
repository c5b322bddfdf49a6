"""Training on all images at every step, by L-BFGS: every source of noise is off, and said to be (lecture 7)."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from saccade.data.batches import Images, InTurn
from saccade.errors import TrainingError
from saccade.events import Finding, emit
from saccade.optim.lbfgs import LBFGS
from saccade.optim.objective import Objective
from saccade.settings import TrainSettings
from saccade.train.budget import Pace
from saccade.train.forward import Forward
from saccade.train.labels import scored
from saccade.train.watch import Watch
from saccade.words import plural

FLAT = 1e-6
"""Where no derivative is larger, training ends."""
NOISE: dict[str, Any] = {
    "flip": False,
    "translate": 0.0,
    "cutout": 0.0,
    "augment": {},
    "mixup": 0.0,
    "cutmix": 0.0,
    "dropout": 0.0,
    "dropconnect": 0.0,
    "stochastic_depth": 0.0,
    "grow": False,
    "precision": "float32",
}
"""The settings without what would make the loss another function at each step."""


@dataclass(frozen=True)
class FullBatch:
    """The loss over the whole training part, a function of the weights alone, and the rule that goes down it.

    `loss(scores_NK, y_N)` gives one loss an image; `batch_size` images are in memory at once. To their mean is
    added `penalty()`, for the size of the weights.
    """

    forward: Forward
    images: Images
    loss: Callable[[Tensor, Tensor], Tensor]
    batch_size: int
    penalty: Callable[[], Tensor]
    rule: LBFGS

    @property
    def converged(self) -> bool:
        """Whether no further step helps: no derivative is larger than FLAT, or rounding hides what is left."""
        return self.rule.gradient <= FLAT or self.rule.stuck

    @property
    def objective(self) -> Objective:
        """The loss, differentiable: dropout is off, and batch norm sees the same batches each time."""
        order = InTurn(len(self.images), self.batch_size, seed=0)
        batches = self.images.batches(order)

        def parts() -> Iterator[Tensor]:
            quiet(self.forward.network)
            for batch in islice(batches, order.parts):
                scores_NK = self.forward.network(self.forward.to_input(batch.x_NHWC))
                with scored(batch, scores_NK.shape[-1], lambda indices: [f"image {index}" for index in indices]):
                    loss_N = self.loss(scores_NK.float(), batch.y_N.to(scores_NK.device))
                yield loss_N.sum() / order.images
            if (added := self.penalty()).requires_grad:
                yield added

        return Objective([each for each in self.forward.network.parameters() if each.requires_grad], parts)


def descend(full: FullBatch, pace: Pace, watch: Watch) -> Iterator[tuple[int, float]]:
    """Train in place, one of the rule's steps for each of the pace's, yielding as `loop.train` does.

    Ends where the loss is flat. Raises TrainingError where it is not a finite number at the start; no step
    makes it one.
    """
    objective = full.objective
    for step, progress in pace:
        loss = full.rule.step(objective)
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss over all training images is {loss} at step {step + 1}; look for extreme values in the "
                "images or in the weights it starts from."
            )
        watch(step, torch.tensor([loss - float(full.penalty().detach())]), torch.tensor([0]))
        if full.converged:
            pace.end()
            reason = "as far as rounding can tell" if full.rule.stuck else "and the loss is flat"
            reached = f"no derivative is larger than {full.rule.gradient:.0e}, {reason}"
            emit(Finding(kind="converged", detail=f"L-BFGS ended after {plural(step + 1, 'step')}: {reached}."))
        yield step + 1, progress
    watch.read()


def quiet(network: nn.Module) -> None:
    """Turn off what is random in a network: all is as in prediction, but batch norm sees the batch unless frozen."""
    norms = (each for each in network.train().modules() if isinstance(each, nn.modules.batchnorm._BatchNorm))
    seeing = [norm for norm in norms if norm.training]
    network.eval()
    for norm in seeing:
        norm.train()


def without_noise(settings: TrainSettings) -> TrainSettings:
    """Return the settings of a training by L-BFGS with every source of noise off, and say which with a Finding."""
    noisy = [name for name, off in NOISE.items() if getattr(settings, name) not in (off, None)]
    detail = (
        "L-BFGS goes down the same loss at every step, over all training images: shuffling and dropout are off"
        + (f", and so are {', '.join(noisy)}" if noisy else "")
        + ". Steps are as long as a line search finds good, whatever the schedule."
    )
    emit(Finding(kind="full batch", detail=detail))
    return settings.model_copy(update=NOISE)
