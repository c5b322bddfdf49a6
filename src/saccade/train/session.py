"""A network and its training images, ready to be checked, timed and trained."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from saccade.data.batches import Images, Order, StoredImages
from saccade.device import Stream, derived_seed, generator
from saccade.errors import InputError, ModelError, SettingError
from saccade.events import Finding
from saccade.nn import pretrained, zoo
from saccade.nn.transfer import Transfer
from saccade.optim import (
    DECOUPLED,
    DEFAULTS,
    LBFGS,
    Average,
    Optimizer,
    Schedule,
    Snapshots,
    build_optimizer,
    cycled,
    decayed,
    decaying,
    evenly,
    held,
    penalized,
    penalty,
    recompute_statistics,
    schedule,
    shrunk,
)
from saccade.settings import TrainSettings
from saccade.train.balance import Loss, loss_of, order_of
from saccade.train.budget import Pace
from saccade.train.checkpoint import Checkpoint
from saccade.train.course import Course
from saccade.train.forward import Forward
from saccade.train.full_batch import FullBatch, without_noise
from saccade.train.loop import Training
from saccade.train.parts import Parts
from saccade.train.patience import Patience
from saccade.train.preparing import preparing
from saccade.train.watch import Watch

STATISTICS, TOGETHER = 2048, 256
"""Training images at the most that batch norm's statistics are computed anew from, and how many at once."""


@dataclass(frozen=True)
class Session:
    """One training of a network on `images`, whose `names`, one an image, are for the watch to blame.

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
        if settings.optimizer == "lbfgs":
            settings = without_noise(settings)
        assert settings.size is not None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(settings.seed, "weights"))
            network = _network(settings, classes, images, sample_NHWC)
        if 1 in (settings.batch_size or 1, len(images)):
            zoo.check_trains(network, settings.model, settings.size, 1)
        return cls(Forward.of(network, settings), images, names, settings)

    @property
    def network(self) -> nn.Module:
        """The network being trained."""
        return self.forward.network

    @property
    def batch_size(self) -> int:
        """Images a step, at most as many as there are; all of them where the rule is lbfgs.

        Raises InputError where there are none, SettingError where settings have no batch_size.
        """
        together = at_once(self)
        return len(self.images) if self.rule == "lbfgs" else together

    def steps(self, epochs: float) -> int:
        """Steps in so many passes over the images, at least one.

        Raises SettingError where `epochs` are not above 0, and what `batch_size` raises.
        """
        if not 0 < epochs < math.inf:
            raise SettingError(f"Images cannot be passed over {epochs} times; give a number of epochs above 0.")
        return max(1, round(epochs * len(self.images) / self.batch_size))

    def training(self, first: int = 0) -> Training:
        """Return the ingredients of the training loop, from the batch of the step `first` on."""
        settings, draws = self.settings, generator(self.settings.seed, "augment")
        full = full_batch(self) if self.rule == "lbfgs" else None
        return Training(
            forward=self.forward,
            batches=self.images.batches(order_of(settings, self.images, self.batch_size), first),
            prepare=preparing(self.forward, self.images, settings, draws, self.side_at),
            draws=draws,
            loss=self.loss,
            optimizer=Optimizer(full.rule) if full else _optimizer(self),
            rate=self.schedule,
            parts=Parts(settings.accumulate),
            clip=settings.clip,
            thaw=_thaw(self),
            average=_average(self),
            refresh=partial(refresh_statistics, self),
            snapshots=Snapshots(self.network, settings.snapshots) if settings.snapshots > 1 else None,
            full=full,
        )

    @cached_property
    def loss(self) -> Loss:
        """The loss of scores (N, K) and labels (N,), or shares of them (N, K), one value an image."""
        return loss_of(self.settings, self.images)

    @property
    def rule(self) -> str:
        """The optimizer's name: the one asked for, or what suits the network."""
        return self.settings.optimizer or zoo.optimizer_for(self.network)

    @property
    def schedule(self) -> Schedule:
        """The factor on every learning rate, by progress; one_cycle is its own warm-up, a line search its own rate.

        It runs once for each snapshot, and stays level where weights are averaged evenly.
        """
        name = "constant" if self.rule == "lbfgs" else self.settings.schedule
        once = schedule(name, _warmup(self))
        if self.settings.swa:
            return held(once, 1 - self.settings.swa)
        return once if self.settings.snapshots == 1 else cycled(once, self.settings.snapshots)

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate at a progress, for the record."""
        return self.highest_rate * self.schedule(progress)

    @property
    def highest_rate(self) -> float:
        """The learning rate before any schedule: the one asked for, or what suits the rule and the network."""
        return self.settings.learning_rate or DEFAULTS[self.rule].learning_rate

    def run(self, pace: Pace) -> Iterator[tuple[int, float, Watch]]:
        """Train; yield `(steps done, progress, the watch)` after each step.

        Raises InputError where not every image has a name or a score for its label, TrainingError where a loss is
        no finite number.
        """
        course = self.course(pace)
        for done, progress in course:
            yield done, progress, course.watch

    def course(
        self, pace: Pace, kept: Checkpoint | None = None, *, tell: Callable[[Finding], None] = lambda finding: None
    ) -> Course:
        """Return the training ready to begin; with a checkpoint, to go on after it, as `pace` already does.

        What the watch finds is kept in its `told`, and handed to `tell` at once. Raises InputError where not every
        image has a name.
        """
        if len(self.names) != len(self.images):
            raise InputError(
                f"There are {len(self.names)} names for {len(self.images)} images; give one an image, in the order of "
                "the images: the watch tells by them on which ones training went wrong."
            )
        self.network.zero_grad(set_to_none=True)  # of a step that was broken off
        watch = Watch(lambda indices: [self.names[i] for i in indices], epoch=self.steps(1.0), tell=tell)
        patience = Patience(self.network, self.settings.patience) if self.settings.snapshots == 1 else None
        stream = Stream(derived_seed(self.settings.seed, "dropout"), self.forward.device)
        course = Course(lasting(self, pace.planned).training(pace.step), pace, watch, stream, patience)
        if kept is not None:
            course.restore(kept)
        return course

    def side_at(self, progress: float, full: int | None = None) -> int:
        """Return the side of training images: smaller at first, which is cheaper, then `full`, by default its own.

        Full ones come with the end of the first cycle, so that every snapshot knows them.
        """
        full, progress = full or self.forward.side, min(1.0, progress * self.settings.snapshots)
        return zoo.side_at(self.network, full, progress) if self.settings.grow else full

    def seeing(self, **views: Any) -> "Session":
        """Return the same session, predicting from other `views` or `test_views`, as settings have them."""
        settings = self.settings.model_copy(update=views)
        forward = replace(self.forward, views=bool(settings.views), further=settings.test_views - 1)
        return replace(self, forward=forward, settings=settings)

    def on_trial(self) -> "Session":
        """Return the same session around a copy of the network, to be thrown away."""
        return replace(self, forward=replace(self.forward, network=copy.deepcopy(self.network)))


def lasting(session: Session, steps: int) -> Session:
    """Return a session for so many steps: without a warm-up that would be the first step alone, at the rate 0."""
    if not 0 < _warmup(session) * steps <= session.settings.snapshots:
        return session
    return replace(session, settings=session.settings.model_copy(update={"warmup": 0.0}))


def _warmup(session: Session) -> float:
    """Return the share of each cycle over which learning rates rise: the one asked for, or what suits."""
    default = 0.0 if session.settings.schedule == "one_cycle" else DEFAULTS[session.rule].warmup
    return default if session.settings.warmup is None else session.settings.warmup


def at_once(session: Session) -> int:
    """Return how many images are drawn at once: those of a step, or, where the rule is lbfgs, of a part of it."""
    size, images = session.settings.batch_size, len(session.images)
    if size is None:
        raise SettingError("The settings do not say how many images a step is of; give batch_size, such as 64.")
    if not images:
        raise InputError("There are no images to train on; give at least one.")
    return images if size == "all" else min(size, images)


def full_batch(session: Session) -> FullBatch:
    """Return the loss over all of a session's images and the rule L-BFGS, both without any noise."""
    trainable = [parameter for parameter in session.network.parameters() if parameter.requires_grad]
    together, added = at_once(session), penalty_of(session)
    return FullBatch(session.forward, session.images, session.loss, together, added, LBFGS(trainable))


def penalty_of(session: Session) -> Callable[[], Tensor]:
    """Return what computes, differentiable, all that training adds to the loss for the size of the weights.

    It is the penalty of `l1` and `l2`, and weight decay, λ / 2 Σ w² over the weights it falls on under the session's
    rule; not where that is decoupled from the gradient, for then it is no part of any loss.
    """
    settings, network, rule = session.settings, session.network, session.rule
    matrices = [each for each in decayed(network) if each.requires_grad]
    shrinking = [] if rule in DECOUPLED else shrunk(rule, network)
    decay = DEFAULTS[rule].weight_decay if settings.weight_decay is None else settings.weight_decay
    return lambda: penalty(matrices, settings.l1, settings.l2) + penalty(shrinking, 0.0, decay)


@torch.no_grad()
def refresh_statistics(session: Session) -> None:
    """Compute the running statistics of a session's network anew, over training images as predictions see them."""
    images, forward = session.images, session.forward
    images = images.whole if isinstance(images, StoredImages) else images
    together = min(TOGETHER, len(images))
    batches = images.batches(Order(len(images), together, session.settings.seed))
    some = islice(batches, -(-min(STATISTICS, len(images)) // together))
    with forward.computing():
        recompute_statistics(forward.network, (forward.to_input(batch.x_NHWC) for batch in some))


def _average(session: Session) -> Average | None:
    """Return a new average of the network's weights, of the kind that the settings ask for."""
    settings = session.settings
    if settings.swa:
        return Average(session.network, evenly, 1 - settings.swa)
    return Average(session.network, decaying(settings.ema)) if settings.ema else None


def _network(settings: TrainSettings, classes: int, images: Images, sample_NHWC: Tensor) -> nn.Module:
    """Return the network that settings describe: pretrained, or new and fitted to the images, or a sample of them."""
    assert settings.size is not None
    if settings.pretrained is not None:
        weights = pretrained.find(settings.pretrained)
        if weights is None:
            raise ModelError(
                f'There are no weights for "pretrained={settings.pretrained}" here; give a NAME or a FILE.'
            )
        trunk = pretrained.load(weights)
        network = zoo.transferred(trunk, classes=classes, side=settings.size, stages=settings.stages)
        zoo.standardize_by(network, weights.mean, weights.sd)
        return network
    network = zoo.from_settings(settings, classes)
    zoo.fit_to(network, sample_NHWC, images.chunks())
    return network


def _thaw(session: Session) -> Callable[[float], None] | None:
    """Return what lets the layers of a pretrained network be trained one after another, where settings say so."""
    body, settings = zoo.body(session.network), session.settings
    if not isinstance(body, Transfer) or not settings.thaw:
        return None
    return partial(body.thaw, frozen=settings.frozen, over=settings.thaw)


def _optimizer(session: Session) -> Optimizer:
    """Return the update rule; the lower layers of a pretrained network go slower where the settings say so."""
    body, settings = zoo.body(session.network), session.settings
    if isinstance(body, Transfer) and settings.thaw:
        body.thaw(1.0, settings.frozen, settings.thaw)  # the rule knows all that will ever be trained
    factors = body.depth_factors(settings.lowest_rate) if isinstance(body, Transfer) else {}
    rule = build_optimizer(session.rule, session.network, session.highest_rate, settings.weight_decay, factors)
    return penalized(rule, decayed(session.network), settings.l1, settings.l2)
