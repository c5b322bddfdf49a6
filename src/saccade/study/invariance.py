"""Which augmentations keep the class of one's own images, and how strong: measured by a network that saw none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from saccade import augment
from saccade.classifiers.network import NetworkClassifier
from saccade.data.parts import Parts
from saccade.device import generator
from saccade.events import Progress, emit
from saccade.strengths import STRENGTHS
from saccade.study.baselines import stratified_share
from saccade.study.symmetry import judge

TRAIN, VALIDATION = 1500, 400
"""Images at the most: enough to tell, and seconds on any machine."""
SIDE = 32
PASSES = 12.0
LEVELS = (0.25, 0.5, 1.0)
"""Shares of an augmentation's strong strength that are tried."""
WHOLE = ("mirror", "upside_down")
"""What is done to an image or is not: tried on every image, as half of them would show half of the harm."""


@dataclass(frozen=True)
class Level:
    """What one strength of an augmentation does: the accuracy on images so changed, and the verdict on it."""

    strength: float
    accuracy: float
    verdict: str


@dataclass(frozen=True)
class Invariance:
    """One augmentation: its levels, weakest first, and `kept`, the strongest of which all up to it keep the class.

    `accuracy` is that on the images as they are; `verdict` is "yes" where some strength keeps the class, else
    "no", or "undecided" where there are too few images to tell.
    """

    name: str
    unit: str
    levels: tuple[Level, ...]
    accuracy: float
    images: int

    @property
    def kept(self) -> float:
        """The strongest strength of which it and all weaker ones keep the class; 0 where none does."""
        kept = 0.0
        for level in self.levels:
            if level.verdict != "yes":
                break
            kept = level.strength
        return kept

    @property
    def verdict(self) -> str:
        """Return "yes", "no" or "undecided"."""
        return "yes" if self.kept else self.levels[0].verdict

    @property
    def why(self) -> str:
        """Say what was measured."""
        first, last = self.levels[0], self.levels[-1]
        told = f"{self.accuracy:.0%} of {self.images} validation images are labelled right as they are"
        if len(self.levels) == 1:
            return f"{told}, {first.accuracy:.0%} when all are so changed"
        return f"{told}, {first.accuracy:.0%} at {first.strength:.3g} and {last.accuracy:.0%} at {last.strength:.3g}"


def tried(name: str) -> tuple[float, ...]:
    """Return the strengths of an augmentation that are tried and shown, weakest first."""
    return (1.0,) if name in WHOLE else tuple(level * STRENGTHS[name].strong for level in LEVELS)


def invariances(parts: Parts, seed: int = 0, names: Sequence[str] = tuple(STRENGTHS)) -> list[Invariance]:
    """Return, for each augmentation, how far a network that never saw it still labels images so changed as before.

    A small ConvNet is trained for a fixed number of passes over at most 1,500 training images, and labels at most
    400 validation images as they are and changed at each strength; no clock is asked, so the answer repeats. A
    strength keeps the class where it is sure that no more than a third of what is gained over chance is lost (see
    `symmetry.judge`). "no" means that the change may make another class of an image, as of a 6 upside down, or that
    the network would have to be shown such images first: it is taken for the former, which costs little, while
    mislabelled training images cost much. Emits Progress.
    """
    train, validation = stratified_share(parts.train, TRAIN), stratified_share(parts.validation, VALIDATION)
    side = min(SIDE, max(8, int(np.median(train.images.pixels.sizes(train.images.keys).min(1)))))
    emit(Progress(task="train", done=0, total=1))
    plain = {"width": 0.5, "seed": seed, "translate": 0.0, "precision": "float32"}
    network = NetworkClassifier(epochs=PASSES, settings=plain).fit(train.squares(side), train.labels_N)
    emit(Progress(task="train", done=1, total=1))
    x_NHWC, labels_N = torch.from_numpy(validation.squares(side)), validation.labels_N
    axes_33 = augment.colour_axes(torch.from_numpy(train.squares(side)))
    right_N = network.predict(x_NHWC.numpy()) == labels_N
    found = []
    for number, name in enumerate(names):
        emit(Progress(task="augment", done=number, total=len(names), detail=name))
        levels = []
        for strength in tried(name):
            changed = augment.apply(x_NHWC, {name: strength}, generator(seed, "probe", name), axes_33)
            levels.append(_level(strength, right_N, network.predict(changed.numpy()) == labels_N, labels_N))
        unit = STRENGTHS[name].unit
        found.append(Invariance(name, unit, tuple(levels), float(right_N.mean()), len(labels_N)))
    emit(Progress(task="augment", done=len(names), total=len(names)))
    return found


def as_settings(found: Sequence[Invariance]) -> Mapping[str, float]:
    """Return the usual strength of each augmentation, or a weaker one where no more keeps the class."""
    return {each.name: min(each.kept, STRENGTHS[each.name].usual) for each in found if each.kept}


def _level(
    strength: float, right_N: NDArray[np.bool_], changed_N: NDArray[np.bool_], labels_N: NDArray[np.int64]
) -> Level:
    answer = judge(right_N, changed_N, chance=float(np.bincount(labels_N).max() / len(labels_N)))
    return Level(strength, answer.mirrored_accuracy, answer.verdict)
