"""k nearest neighbours: exact, fast on bytes, every k answered by one pass."""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from saccade.classifiers.distances import nearest
from saccade.classifiers.kernels import Metric
from saccade.errors import InputError, SettingError, did_you_mean

Array = NDArray[Any]
METRICS: tuple[Metric, ...] = ("l1", "l2")
VOTES = 1 << 24  # pairs of neighbours compared at once


class KNearestNeighbors(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Label an image as most of its `k` nearest training images are labelled (lecture 2).

    `metric` "l1" is sum |a - b|, "l2" sqrt(sum (a - b)^2), over the raw values. Neighbours are exact: on
    uint8 those of integer arithmetic, on anything else those of float64. Of equally near images the one
    that came first counts as nearer; a tied vote goes to the class of the nearest among the tied. Images
    stay uint8 and the distances are computed in blocks, so memory does not grow with their number.

    Attributes: `classes_`, `x_` (the training images, N x D), `y_` (index of their class).

    >>> x = np.array([[0, 0], [0, 9], [9, 9]], np.uint8)
    >>> KNearestNeighbors(k=1).fit(x, ["low", "mixed", "high"]).predict(np.array([[8, 9]], np.uint8))
    array(['high'], dtype='<U5')
    """

    classes_: Array
    x_: Array
    y_: Array

    def __init__(self, k: int = 5, metric: str = "l2") -> None:
        self.k = k
        self.metric = metric

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Remember images (N, H, W, C) or a matrix (N, D), and their labels.

        Raises SettingError for an unknown metric or a k below 1, InputError for fewer samples than k, and
        ValueError, by scikit-learn's rules, for what is not a finite matrix with a label a row.
        """
        _check(self.k, self.metric)
        x_ND, labels = validate_data(self, flat(x), y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # many classes of few images are no regression
            check_classification_targets(labels)
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
        distances, indices = self._nearest(x, self.k if n_neighbors is None else n_neighbors)
        return np.sqrt(distances) if self.metric == "l2" else distances.astype(np.float64), indices

    def predict(self, x: ArrayLike) -> Array:
        """Return the label of each image."""
        return self.predict_each(x, [self.k])[0]

    def predict_each(self, x: ArrayLike, ks: Sequence[int]) -> list[Array]:
        """Return what `predict` would return for each k of `ks`, by one search for the largest."""
        labels_Nk = self._labels(x, max(ks))
        return [self.classes_[vote(labels_Nk[:, :k])] for k in ks]

    def predict_proba(self, x: ArrayLike) -> Array:
        """Return the share of each class among the neighbours, (N, K).

        The winner of a tie is put ahead by one millionth, so that the largest share is what `predict` says.
        """
        labels_Nk = self._labels(x, self.k)
        row = np.arange(len(labels_Nk))
        shares_NK = np.zeros((len(labels_Nk), len(self.classes_)))
        np.add.at(shares_NK, (row[:, None], labels_Nk), 1 / self.k)
        shares_NK[row, vote(labels_Nk)] += 1e-6
        return np.asarray(shares_NK / shares_NK.sum(1, keepdims=True))

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and the plain values that `from_state` makes this classifier of."""
        check_is_fitted(self)
        return {"x": self.x_, "y": self.y_}, {**self.get_params(), "classes": self.classes_.tolist()}

    @classmethod
    def from_state(cls, tensors: dict[str, Array], config: dict[str, Any]) -> Self:
        """Return the classifier that `to_state` described."""
        classes = np.array(config["classes"])
        return cls(k=config["k"], metric=config["metric"]).fit(tensors["x"], classes[tensors["y"]])

    def _labels(self, x: ArrayLike, k: int) -> Array:
        _, indices_Nk = self._nearest(x, k)
        return self.y_[indices_Nk]

    def _nearest(self, x: ArrayLike, k: int) -> tuple[Array, Array]:
        check_is_fitted(self)
        metric = _check(k, self.metric)
        x_ND = validate_data(self, flat(x), reset=False)
        if len(self.x_) < k:
            raise InputError(
                f"k = {k} neighbours cannot be found among {len(self.x_)} training images; give a smaller k."
            )
        return nearest(x_ND, self.x_, k, metric)


def vote(labels_Nk: Array) -> Array:
    """Return the commonest of each row of labels, nearest first; of equally common ones that of the nearest.

    >>> vote(np.array([[2, 0, 1, 1, 0]]))
    array([0])
    """
    count, k = labels_Nk.shape
    chosen = np.empty(count, np.int64)
    size = max(1, VOTES // (k * k))
    for start in range(0, count, size):
        block = labels_Nk[start : start + size]
        agreeing = (block[:, :, None] == block[:, None, :]).sum(2)
        chosen[start : start + size] = block[np.arange(len(block)), agreeing.argmax(1)]
    return chosen


def flat(x: ArrayLike) -> ArrayLike:
    """Return images (N, H, W) or (N, H, W, C) as a matrix (N, D), and anything else as it is."""
    return x.reshape(len(x), -1) if isinstance(x, np.ndarray) and x.ndim in (3, 4) else x


def _check(k: int, metric: str) -> Metric:
    if not (isinstance(k, int | np.integer) and k >= 1):
        raise SettingError(f"k = {k} is not a number of neighbours; give a whole number of at least 1.")
    for known in METRICS:
        if metric == known:
            return known
    raise SettingError(f'There is no metric "{metric}"; give l1 or l2.{did_you_mean(str(metric), METRICS)}')
