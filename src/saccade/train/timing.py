"""What training and prediction cost, measured on a session before it is trained."""

import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import torch

from saccade.device import synchronize
from saccade.train.budget import Pace
from saccade.train.loop import train
from saccade.train.preparing import unchanged
from saccade.train.session import Session
from saccade.train.watch import Watch

FEW, LONG = 8, 1.5
"""Images measured first, and the seconds that more of them may take, to be measured after these."""


def image_seconds(session: Session, side: int, *, images: int = 128, steps: int = 4) -> float:
    """Return the seconds that training on one image of this side takes: the shortest of a few steps, on a copy.

    Measured at `images` a step, or at those of one part where a batch goes through in parts; where that would take
    long, at as many as can be had in time.
    """
    images = max(FEW, images // session.settings.accumulate)
    roughly = _step_seconds(session, side, FEW, 1)
    together = _in_time(images, roughly * steps)
    return roughly if together <= FEW else _step_seconds(session, side, together, steps)


def _in_time(images: int, each: float) -> int:
    """Return how many images to measure, if each takes so many seconds: few take longer each than many do."""
    return min(images, int(LONG / each))


def _step_seconds(session: Session, side: int, images: int, steps: int) -> float:
    """Return the seconds an image, of the shortest of `steps` steps; one more goes before them."""
    # A step of L-BFGS is of all images; each costs what it costs under a rule of small batches.
    plain = {"batch_size": images, "accumulate": 1, **({"optimizer": "sgd"} if session.rule == "lbfgs" else {})}
    trial = replace(session.on_trial(), settings=session.settings.model_copy(update=plain))
    # All layers, thawed or not: what steps cost once they are.
    training = replace(trial.training(), prepare=unchanged(trial.forward, side), average=None, thaw=None)
    times = []
    for _ in train(training, Pace.fixed(steps + 1), Watch()):
        synchronize(session.forward.device)
        times.append(time.perf_counter())
    return min(after - before for before, after in pairwise(times)) / trial.batch_size


def prediction_seconds(session: Session, *, images: int = 256, times: int = 3) -> float:
    """Return the seconds that predicting one image takes, over its views, measured on blank images.

    Measured on `images`, or, where that would take long, on as many as can be had in time.
    """
    side = session.forward.side

    def seconds(count: int) -> float:
        x_NHWC = torch.zeros(count, side, side, 3, dtype=torch.uint8)
        begun = time.perf_counter()
        session.forward.log_probabilities(x_NHWC)
        return (time.perf_counter() - begun) / count

    seconds(FEW)  # the first time is not like the others
    roughly = seconds(FEW)
    together = _in_time(images, roughly * times)
    return roughly if together <= FEW else min(seconds(together) for _ in range(times))


def sides(session: Session, full: int | None = None) -> Counter[int]:
    """Return the sides a session trains on, each with its share of the training in percent.

    `full` is the last of them, its own by default.
    """
    return Counter(session.side_at((percent + 0.5) / 100, full) for percent in range(100))


def mean_pixels(session: Session, full: int | None = None) -> float:
    """Return the mean number of pixels of a session's training images."""
    return sum(percent * side**2 for side, percent in sides(session, full).items()) / 100
