"""Whether training images may be mirrored left to right without becoming something else."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from saccade.classifiers.featured import FeatureClassifier
from saccade.classifiers.linear import LinearClassifier
from saccade.classifiers.neighbors import KNearestNeighbors
from saccade.classifiers.solvers import Optimum
from saccade.data.parts import Part, Parts
from saccade.features import HOG
from saccade.metrics import wilson_interval
from saccade.study.baselines import FEATURED_SIDE, stratified_share

TRAIN, VALIDATION = 2000, 500  # images at the most: enough to tell, and cheap on large photos
NEIGHBORS = 5
CELLS, STRENGTH = 4, 1e-2  # of HOG along a side, and of the penalty: 324 numbers an image, a second on one core
TOLERANCE = 1e-3  # at which the labels no longer change
LOST = 1 / 3
LEVEL = 0.05

Right = NDArray[np.bool_]


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
    """Return whether mirror images keep their class, as the better of two classifiers sees it on validation images.

    Five nearest neighbours on pixels, and a linear softmax on HOG, learn from at most 2,000 training images and
    label 500 validation images and the same mirrored. Which counts is the one that labels more of them right as
    they are: pixels tell nothing of textures, or of signs in any colours, edges little of what is told by colour.
    No clock is asked, so the answer repeats. See `judge` for what is made of it.
    """
    train, validation = stratified_share(parts.train, TRAIN), stratified_share(parts.validation, VALIDATION)
    side = _side(train)
    x_NHWC, labels_N = validation.squares(side), validation.labels_N
    mirrored_NHWC = np.ascontiguousarray(x_NHWC[:, :, ::-1])
    softmax = LinearClassifier(strength=STRENGTH, solver=Optimum(tolerance=TOLERANCE))
    judges: dict[str, KNearestNeighbors | FeatureClassifier] = {
        "nearest neighbours label": KNearestNeighbors(k=min(NEIGHBORS, len(train)), metric="l1")
    }
    if len(np.unique(train.labels_N)) > 1:
        judges["a linear classifier on HOG labels"] = FeatureClassifier([HOG(cell=side // CELLS)], softmax)
    chance, found = float(np.bincount(labels_N).max() / len(labels_N)), []
    learnt_NHWC = train.squares(side)
    for told, model in judges.items():
        model.fit(learnt_NHWC, train.labels_N)
        right_N, mirrored_N = model.predict(x_NHWC) == labels_N, model.predict(mirrored_NHWC) == labels_N
        found.append(judge(right_N, mirrored_N, chance=chance, told=told))
    return max(found, key=lambda each: each.accuracy)


def judge(right_N: Right, mirrored_N: Right, *, chance: float, told: str = "the classifier labels") -> SymmetryResult:
    """Return the answer from which images, and which of the same images mirrored, were labelled right.

    What is asked is whether mirroring loses more than a third of what is gained over `chance`, the share of the
    commonest class: "yes", it keeps the class, or "no", where `excess` says so of the 95 % confidence bound on the
    side that would be wrong. Measured as `mirror_symmetric` does: photos and pictures that may be mirrored lose
    -0.2 to 0.02 of it (CIFAR-10, clothing, tiles of leaves, scattered shapes to be counted), others 0.5 to 1.1
    (digits, words in 150 fonts, letters in any colours, slanted textures, drawn figures).

    "undecided" between the bounds: then images are mirrored where the loss seems to be less than a third, as
    the best guess there is; and where labels are no better than chance, which tells nothing: then they are, too, as
    photos, which are what is classified most, gain by it, the fewer there are the more. `told` begins the reason.
    """
    images, accuracy, mirrored = len(right_N), float(right_N.mean()), float(mirrored_N.mean())
    low, centre, high = excess(right_N, mirrored_N, chance)
    if wilson_interval(int(right_N.sum()), images)[0] <= chance:
        reason = f"hardly above the commonest class ({chance:.0%}), which tells nothing; mirrored, as photos gain by it"
        symmetric, verdict = True, "undecided"
    elif high <= 0:
        symmetric, verdict, reason = True, "yes", "mirroring keeps their class"
    elif low > 0:
        symmetric, verdict, reason = False, "no", "mirroring makes something else of them"
    else:
        symmetric, verdict = centre <= 0, "undecided"
        reason = f"too few to tell whether mirroring keeps their class, but it seems {'' if symmetric else 'not '}to"
    why = f"{told} {accuracy:.0%} of {images} validation images right, and {mirrored:.0%} mirrored"
    return SymmetryResult(symmetric, verdict, accuracy, mirrored, images, f"{why}: {reason}")


def excess(right_N: Right, mirrored_N: Right, chance: float) -> tuple[float, float, float]:
    """Return how much more than LOST of the accuracy over chance mirroring loses: lower bound, estimate, upper bound.

    The mean over images of right - mirrored - LOST (right - chance), in which pairs count as pairs, and what was
    gained is as uncertain as what was lost. Half an image is added to each of the four outcomes, right or wrong as
    it is and mirrored, so that a few images that agree are not taken for certain (Agresti and Min, Statistics in
    Medicine 24, 2005); each bound is exceeded by chance in 5 %.
    """
    outcomes_4 = np.bincount(2 * right_N + mirrored_N, minlength=4) + 0.5
    right_4, mirrored_4 = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    value_4, total = right_4 - mirrored_4 - LOST * (right_4 - chance), float(outcomes_4.sum())
    mean = float(value_4 @ outcomes_4) / total
    margin = NormalDist().inv_cdf(1 - LEVEL) * float(((value_4 - mean) ** 2 @ outcomes_4) ** 0.5) / total
    return mean - margin, mean, mean + margin


def _side(part: Part) -> int:
    """Return the side of the images that are compared: whole cells of HOG, so that mirror images are cut alike."""
    native = int(np.median(part.images.pixels.sizes(part.images.keys).min(1)))
    return max(2 * CELLS, min(FEATURED_SIDE, native) // CELLS * CELLS)
