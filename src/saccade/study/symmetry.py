"""Whether training images may be mirrored left to right without becoming something else."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from saccade.classifiers.neighbors import KNearestNeighbors
from saccade.data.parts import Parts
from saccade.metrics import wilson_interval
from saccade.study.baselines import SIDE, stratified_share

TRAIN, VALIDATION = 2000, 500  # images at the most: enough to tell, and cheap on large photos
NEIGHBORS = 5
LOST = 1 / 3
LEVEL = 0.05


@dataclass(frozen=True)
class SymmetryResult:
    """Whether to mirror, how that was settled ("yes", "no" or "undecided"), and the numbers behind it."""

    symmetric: bool
    verdict: str
    accuracy: float
    mirrored_accuracy: float
    images: int
    why: str


def mirror_symmetric(parts: Parts) -> SymmetryResult:
    """Return whether mirror images keep their class, as nearest neighbours see it on validation images.

    Five neighbours among at most 2,000 training images label 500 validation images and the same mirrored; no
    clock is asked, so the answer repeats. See `judge` for what is made of it.
    """
    train, validation = stratified_share(parts.train, TRAIN), stratified_share(parts.validation, VALIDATION)
    side = min(SIDE, int(np.median(train.images.pixels.sizes(train.images.keys).min(1))))
    model = KNearestNeighbors(k=min(NEIGHBORS, len(train)), metric="l1").fit(train.squares(side), train.labels_N)
    x_NHWC, labels_N = validation.squares(side), validation.labels_N
    right_N = model.predict(x_NHWC) == labels_N
    mirrored_N = model.predict(np.ascontiguousarray(x_NHWC[:, :, ::-1])) == labels_N
    return judge(right_N, mirrored_N, chance=float(np.bincount(labels_N).max() / len(labels_N)))


def judge(right_N: NDArray[np.bool_], mirrored_N: NDArray[np.bool_], *, chance: float) -> SymmetryResult:
    """Return the answer from which images, and which of the same images mirrored, were labelled right.

    "no" where mirroring loses more than a third of what is gained over `chance`, the share of the commonest
    class, and an exact McNemar test at 5 % (binomial over the images on which the two differ) says that this
    is no accident. Photos lose something too, as near copies of training images are no longer found: up to a
    quarter (CIFAR-10, clothing); letters, of which half are symmetric, lose 0.44 to 0.56 of it, digits 0.6 to 0.8.
    "undecided" where such a loss may be an accident: then images are not mirrored; and where the labels are no
    better than chance: then they are, because what nearest neighbours cannot tell apart are photos, and few of
    them, which gain most by it, while signs are what neighbours are good at.
    """
    images, accuracy, mirrored = len(right_N), float(right_N.mean()), float(mirrored_N.mean())
    lost, won = int((right_N & ~mirrored_N).sum()), int((mirrored_N & ~right_N).sum())
    accident = float(binomtest(lost, lost + won, alternative="greater").pvalue) if lost + won else 1.0
    if wilson_interval(int(right_N.sum()), images)[0] <= chance:
        symmetric, verdict, reason = (
            True,
            "undecided",
            f"hardly above the commonest class ({chance:.0%}), as photos are",
        )
    elif accuracy - mirrored <= LOST * (accuracy - chance):
        symmetric, verdict, reason = True, "yes", "mirroring keeps their class"
    elif accident >= LEVEL:
        symmetric, verdict, reason = False, "undecided", "too few to tell whether mirroring keeps their class"
    else:
        symmetric, verdict, reason = False, "no", "mirroring makes something else of them"
    why = f"nearest neighbours label {accuracy:.0%} of {images} validation images right, and {mirrored:.0%} mirrored"
    return SymmetryResult(symmetric, verdict, accuracy, mirrored, images, f"{why}: {reason}")
