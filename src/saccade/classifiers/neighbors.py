"""k nearest neighbours: exact, fast on bytes, every k answered by one pass."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from saccade.classifiers.distances import nearest
from saccade.classifiers.inputs import checked, checked_pair
from saccade.classifiers.kernels import Metric
from saccade.errors import InputError, SettingError, did_you_mean

Array = NDArray[Any]
METRICS: tuple[Metric, ...] = ("l1", "l2")
WEIGHTS = ("uniform", "distance")
VOTES = 1 << 24  # pairs of neighbours compared at once


class KNearestNeighbors(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Label an image as most of its `k` nearest training images are labelled (lecture 2).

    `metric` "l1" is sum |a - b|, "l2" sqrt(sum (a - b)^2), over the raw values. Neighbours are exact: on
    uint8 those of integer arithmetic, on anything else those of float64. Of equally near images the one
    that came first counts as nearer; a tied vote goes to the class of the nearest among the tied. `weights`
    "uniform" gives each neighbour one vote, "distance" 1 / distance, or, where some are at distance 0, one vote
    to each of those alone. Images stay uint8 and the distances are computed in blocks, so memory does not grow
    with their number.

    Attributes: `classes_`, `x_` (the training images, N x D), `y_` (index of their class), `image_shape_` or
    None, `images_` (the training images in their own shape, which `kneighbors` gives the places of).

    >>> x = np.array([[0, 0], [0, 9], [9, 9]], np.uint8)
    >>> KNearestNeighbors(k=1).fit(x, ["low", "mixed", "high"]).predict(np.array([[8, 9]], np.uint8))
    array(['high'], dtype='<U5')
    """

    classes_: Array
    x_: Array
    y_: Array
    image_shape_: tuple[int, ...] | None

    def __init__(self, k: int = 5, metric: str = "l2", weights: str = "uniform") -> None:
        self.k = k
        self.metric = metric
        self.weights = weights

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Remember images (N, H, W, C) or a matrix (N, D), and their labels.

        Raises SettingError for unknown metrics or weights and a k below 1, InputError for fewer samples than k
        and for what is not a finite matrix with a label a row.
        """
        _check(self.k, self.metric, self.weights)
        x_ND, labels = checked_pair(self, x, y)
        if len(x_ND) < self.k:
            raise InputError(
                f"k = {self.k} neighbours cannot be found among {len(x_ND)} sample(s) (n_samples={len(x_ND)}); "
                "give a smaller k or more images."
            )
        self.x_ = x_ND if x_ND.dtype.kind in "uif" else x_ND.astype(np.float64)
        self.classes_, self.y_ = np.unique(labels, return_inverse=True)
        return self

    def kneighbors(self, x: ArrayLike, n_neighbors: int | None = None) -> tuple[Array, Array]:
        """Return float64 distances_Nk and the indices_Nk of the nearest training images, nearest first.

        `n_neighbors` is `k` where not given. Raises InputError where there are fewer training images.
        """
        check_is_fitted(self)
        k = self.k if n_neighbors is None else n_neighbors
        metric = _check(k, self.metric, self.weights)
        x_ND = checked(self, x)
        if len(self.x_) < k:
            raise InputError(
                f"k = {k} neighbours cannot be found among {len(self.x_)} training images; give a smaller k."
            )
        distances, indices = nearest(x_ND, self.x_, k, metric)
        return np.sqrt(distances) if metric == "l2" else distances.astype(np.float64), indices

    @property
    def images_(self) -> Array:
        """The training images in the shape they were given in: `images_[indices_Nk]` are the neighbours."""
        check_is_fitted(self)
        return self.x_.reshape(len(self.x_), *(self.image_shape_ or (-1,)))

    def predict(self, x: ArrayLike) -> Array:
        """Return the label of each image."""
        return self.predict_each(x, [self.k])[0]

    def predict_each(self, x: ArrayLike, ks: Sequence[int]) -> list[Array]:
        """Return what `predict` would return for each k of `ks`, by one search for the largest."""
        distances_Nk, indices_Nk = self.kneighbors(x, max(ks))
        labels_Nk = self.y_[indices_Nk]
        return [self.classes_[vote(labels_Nk[:, :k], self._votes(distances_Nk[:, :k]))] for k in ks]

    def predict_proba(self, x: ArrayLike) -> Array:
        """Return the share of each class in the neighbours' votes, (N, K).

        The winner of a tie is put ahead by one millionth, so that the largest share is what `predict` says.
        """
        distances_Nk, indices_Nk = self.kneighbors(x)
        labels_Nk, votes_Nk = self.y_[indices_Nk], self._votes(distances_Nk)
        row = np.arange(len(labels_Nk))
        shares_NK = np.zeros((len(labels_Nk), len(self.classes_)))
        np.add.at(shares_NK, (row[:, None], labels_Nk), votes_Nk / votes_Nk.sum(1, keepdims=True))
        shares_NK[row, vote(labels_Nk, votes_Nk)] += 1e-6
        return np.asarray(shares_NK / shares_NK.sum(1, keepdims=True))

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and the plain values that `from_state` makes this classifier of."""
        check_is_fitted(self)
        shape = None if self.image_shape_ is None else list(self.image_shape_)
        more = {"classes": self.classes_.tolist(), "image_shape": shape}
        return {"x": self.x_, "y": self.y_}, {"params": self.get_params(), **more}

    @classmethod
    def from_state(cls, tensors: dict[str, Array], config: dict[str, Any]) -> Self:
        """Return the classifier that `to_state` described."""
        classes, shape = np.array(config["classes"]), config["image_shape"] or [-1]
        x = tensors["x"].reshape(len(tensors["x"]), *shape)
        return cls(**config["params"]).fit(x, classes[tensors["y"]])

    def _votes(self, distances_Nk: Array) -> Array:
        """Return how much each neighbour's vote counts."""
        if self.weights == "uniform":
            return np.ones_like(distances_Nk)
        same_Nk = distances_Nk == 0
        # Held against the nearest, as 1 / distance is infinite for the smallest floats.
        by_distance_Nk = distances_Nk[:, :1] / np.where(same_Nk, 1, distances_Nk)
        return np.where(same_Nk.any(1, keepdims=True), same_Nk, by_distance_Nk)


def described(model: KNearestNeighbors) -> str:
    """Return what a report calls a classifier.

    >>> described(KNearestNeighbors(k=3, metric="l1"))
    '3 nearest neighbours (L1)'
    """
    return f"{model.k} nearest neighbour{'s' if model.k > 1 else ''} ({model.metric.upper()})"


def vote(labels_Nk: Array, votes_Nk: Array | None = None) -> Array:
    """Return the label with most votes in each row, nearest first; of equals that of the nearest. One vote each.

    >>> vote(np.array([[2, 0, 1, 1, 0]]))
    array([0])
    """
    count, k = labels_Nk.shape
    votes_Nk = np.ones(labels_Nk.shape) if votes_Nk is None else votes_Nk
    chosen = np.empty(count, np.int64)
    size = max(1, VOTES // (k * k))
    for start in range(0, count, size):
        block = labels_Nk[start : start + size]
        agreeing = (block[:, :, None] == block[:, None, :]) * votes_Nk[start : start + size, None, :]
        chosen[start : start + size] = block[np.arange(len(block)), agreeing.sum(2).argmax(1)]
    return chosen


def _check(k: int, metric: str, weights: str) -> Metric:
    if not (isinstance(k, int | np.integer) and k >= 1):
        raise SettingError(f"k = {k} is not a number of neighbours; give a whole number of at least 1.")
    if weights not in WEIGHTS:
        raise SettingError(
            f'There are no weights "{weights}"; give uniform or distance.{did_you_mean(str(weights), WEIGHTS)}'
        )
    for known in METRICS:
        if metric == known:
            return known
    raise SettingError(f'There is no metric "{metric}"; give l1 or l2.{did_you_mean(str(metric), METRICS)}')
