"""Whether training and validation images can be told apart, by a simple classifier: then they were not drawn alike."""

import numpy as np
from numpy.typing import NDArray

from saccade.data.imageset import ImageSet
from saccade.events import Finding, emit

MOST, FEWEST = 2_000, 30
"""Images of each part that are compared, and below which nothing can be said."""
TOLD_APART = 0.6
"""Area under the ROC curve (0.5 is chance) whose lower bound must lie above for a warning."""
FACTS = (
    ("larger", "smaller"),
    ("wider", "taller"),
    ("brighter", "darker"),
    ("richer in contrast", "poorer in contrast"),
    ("sharper", "less sharp"),
    ("more colourful", "less colourful"),
)


def shift(train: ImageSet, validation: ImageSet) -> float | None:
    """Return how well the parts are told apart (area under the ROC curve, out of fold); None for too few images.

    Compared are sizes, shapes, light, sharpness, colour, and the coarse picture. Emits a Finding of the kind
    "shift" that says what differs most.
    """
    # Imported late: together they take a second, which a short fit needs for its network.
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, validation = _share(train), _share(validation)
    if min(len(train), len(validation)) < FEWEST:
        return None
    facts_NF = np.concatenate([_facts(train), _facts(validation)])
    coarse_ND = np.concatenate([_coarse(train), _coarse(validation)])
    held_N = np.repeat([0, 1], [len(train), len(validation)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    x_ND = np.concatenate([facts_NF, coarse_ND], 1)
    scores_N = cross_val_predict(model, x_ND, held_N, cv=folds, method="decision_function")
    area = float(roc_auc_score(held_N, scores_N))
    if area - 2.6 * _standard_error(area, len(train), len(validation)) > TOLD_APART:
        spread = facts_NF.std(0) + 1e-9
        gaps = (facts_NF[held_N == 1].mean(0) - facts_NF[held_N == 0].mean(0)) / spread
        most = int(np.abs(gaps).argmax())
        what = f"; validation images are {FACTS[most][int(gaps[most] < 0)]}" if abs(gaps[most]) > 0.3 else ""
        detail = (
            f"training and validation images can be told apart (area under the curve {area:.2f}, chance is 0.50){what}"
            ": what is chosen on validation may not be best elsewhere"
        )
        emit(Finding(kind="shift", detail=detail, severity="warning"))
    return area


def _share(images: ImageSet) -> ImageSet:
    if len(images) <= MOST:
        return images
    return images.select(np.sort(np.random.default_rng(0).permutation(len(images))[:MOST]))


def _facts(images: ImageSet) -> NDArray[np.float64]:
    sketches = [images.pixels.facts(key).sketch for key in images.keys]
    grey_ND = images.sketches().reshape(len(images), -1)
    width, height = np.log(images.pixels.sizes(images.keys)).T
    return np.stack(
        [width + height, width - height, grey_ND.mean(1), grey_ND.std(1),
         np.array([each.sharpness for each in sketches]), np.array([each.colour for each in sketches])], 1
    )  # fmt: skip


def _coarse(images: ImageSet) -> NDArray[np.float64]:
    cells_N44 = images.sketches().reshape(len(images), 4, 8, 4, 8).mean((2, 4))
    return np.asarray(cells_N44.reshape(len(images), -1))


def _standard_error(area: float, one: int, other: int) -> float:
    """Return the standard error of an area under the ROC curve (Hanley and McNeil 1982)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (one - 1) * (q1 - area**2) + (other - 1) * (q2 - area**2)
    return float(np.sqrt(max(variance, 0.0) / (one * other)))
