"""A network and its training images, ready to be checked, timed and trained."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade import augment
from saccade.data.batches import Batch, Images, Order
from saccade.device import derived_seed, generator
from saccade.nn import zoo
from saccade.optim import DEFAULTS, Schedule, build_optimizer, schedule
from saccade.settings import TrainSettings
from saccade.train.budget import Pace
from saccade.train.forward import Forward
from saccade.train.loop import Training, train
from saccade.train.watch import Watch


@dataclass(frozen=True)
class Session:
    """One training of a network on `images`, whose `names` are for the watch to blame.

    `settings` are resolved: size, batch_size and flip are given.
    """

    forward: Forward
    images: Images
    names: Sequence[str]
    settings: TrainSettings

    @classmethod
    def start(
        cls, settings: TrainSettings, images: Images, sample_NHWC: Tensor, *, classes: int, names: Sequence[str]
    ) -> "Session":
        """Return a session with a new network, its statistics fitted to a sample of the training images.

        Raises ModelError when the network is unknown or cannot take images of this size.
        """
        assert settings.size is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(settings.seed, "weights"))
            network = zoo.build(settings.model, classes=classes, side=settings.size, width=settings.width)
            zoo.fit_to(network, sample_NHWC)
        if min(settings.batch_size or 1, len(images)) == 1:
            zoo.check_trains(network, settings.model, settings.size, 1)
        return cls(Forward.of(network, settings), images, names, settings)

    @property
    def network(self) -> nn.Module:
        """The network being trained."""
        return self.forward.network

    @property
    def batch_size(self) -> int:
        """Images a step, at most as many as there are."""
        assert self.settings.batch_size is not None
        return min(self.settings.batch_size, len(self.images))

    def steps(self, epochs: float) -> int:
        """Steps in so many passes over the images, at least one."""
        return max(1, round(epochs * len(self.images) / self.batch_size))

    def training(self) -> Training:
        """Return the ingredients of the training loop, from the first batch on."""
        settings = self.settings
        return Training(
            forward=self.forward,
            batches=self.images.batches(Order(len(self.images), self.batch_size, settings.seed)),
            prepare=self._prepare(generator(settings.seed, "augment")),
            loss=self.loss,
            optimizer=build_optimizer(self.rule, self.network, settings.learning_rate, settings.weight_decay),
            rate=self.schedule,
        )

    def loss(self, scores_NK: Tensor, y_N: Tensor) -> Tensor:
        """Return the cross-entropy with smoothed labels, one value an image (lecture 3)."""
        return F.cross_entropy(scores_NK, y_N, reduction="none", label_smoothing=self.settings.label_smoothing)

    @property
    def rule(self) -> str:
        """The optimizer's name: the one asked for, or what suits the network."""
        return self.settings.optimizer or zoo.optimizer_for(self.network)

    @property
    def schedule(self) -> Schedule:
        """The factor on every learning rate, by progress."""
        warmup = self.settings.warmup
        return schedule(self.settings.schedule, DEFAULTS[self.rule].warmup if warmup is None else warmup)

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate at a progress, for the record."""
        highest = self.settings.learning_rate or DEFAULTS[self.rule].learning_rate
        return highest * self.schedule(progress)

    def run(self, pace: Pace) -> Iterator[tuple[int, float, Watch]]:
        """Train; yield `(steps done, progress, the watch)` after each step."""
        torch.manual_seed(derived_seed(self.settings.seed, "dropout"))
        watch = Watch(lambda indices: [self.names[i] for i in indices])
        for done, progress in train(self.training(), pace, watch):
            yield done, progress, watch

    def side_at(self, progress: float) -> int:
        """Return the side of the training images: smaller at first, which is cheaper, then full."""
        return zoo.side_at(self.network, self.forward.side, progress) if self.settings.grow else self.forward.side

    def without_views(self) -> "Session":
        """Return the same session, predicting from each image alone."""
        settings = self.settings.model_copy(update={"views": False})
        return replace(self, forward=replace(self.forward, views=False), settings=settings)

    def on_trial(self) -> "Session":
        """Return the same session around a copy of the network, to be thrown away."""
        return replace(self, forward=replace(self.forward, network=copy.deepcopy(self.network)))

    def _prepare(self, rng: torch.Generator) -> Callable[[Batch, float], Tensor]:
        settings = self.settings

        def prepare(batch: Batch, progress: float) -> Tensor:
            x = batch.x_NHWC
            if x.dtype == torch.uint8:
                if settings.flip:
                    x = augment.mirror(x, alternating(batch, settings.seed))
                if settings.translate:
                    x = augment.translate(x, settings.translate, rng)
                if settings.cutout:
                    x = augment.cutout(x, settings.cutout, rng)
            return self.forward.to_input(x, self.side_at(progress))

        return prepare


def alternating(batch: Batch, seed: int) -> Tensor:
    """Return which images of a batch to mirror: a coin an image, turned over every epoch.

    Within any two epochs each image is then seen both ways (Jordan, 2024).
    """
    coin_N = (batch.index_N * 2654435761 + derived_seed(seed, "mirror") % 2**31) >> 16
    return (coin_N + batch.epoch_N) % 2 == 1
