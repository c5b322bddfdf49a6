"""Multinomial logistic regression on pixels or features: a softmax over s = W x + b."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from saccade.classifiers.neighbors import flat
from saccade.classifiers.objective import BLOCK, Objective, on_all_cores, through
from saccade.errors import InputError, SettingError

Array = NDArray[Any]


class LinearSoftmax(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Softmax classifier (lectures 2 and 3) at the minimum of its mean cross-entropy plus `penalty` * sum W^2.

    Each feature is standardised inside; W is that of standardised features, the bias is not penalised.
    L-BFGS runs, in coordinates in which the data's covariance is round, until no derivative is larger than
    `tolerance`, or `max_iterations` or `time_limit` seconds are over: `stopped_` says which. Computes in
    float32 for uint8 and float32 input, else in float64.

    Attributes: `classes_`, `weights_` (K, D), `bias_` (K), `mean_` and `scale_` (D), `objective_`,
    `gradient_` (its largest absolute derivative), `n_iter_`, `stopped_` ("tolerance", "time", "iterations",
    or "precision": no further descent can be told from rounding), `image_shape_` (H, W, C) or None.

    >>> x = np.array([[0.0], [1.0], [3.0], [4.0]])
    >>> LinearSoftmax(penalty=0.01).fit(x, ["low", "low", "high", "high"]).predict([[0.5], [9.0]])
    array(['low', 'high'], dtype='<U4')
    """

    classes_: Array
    weights_: Array
    bias_: Array
    mean_: Array
    scale_: Array
    objective_: float
    gradient_: float
    n_iter_: int
    stopped_: str
    image_shape_: tuple[int, ...] | None

    def __init__(
        self,
        penalty: float = 1e-3,
        tolerance: float = 1e-4,
        max_iterations: int = 1000,
        time_limit: float | None = None,
    ) -> None:
        self.penalty = penalty
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.time_limit = time_limit

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Find W and b from images (N, H, W, C) or a matrix (N, D), and their labels.

        Raises SettingError for a penalty below 0, InputError for labels of one class only, and ValueError,
        by scikit-learn's rules, for what is not a finite matrix with a label a row.
        """
        self.fit_path(x, y, [self.penalty])
        return self

    def fit_path(self, x: ArrayLike, y: ArrayLike, penalties: Sequence[float]) -> "list[LinearSoftmax]":
        """Return one fitted classifier for each penalty, each started from the one before; fits itself to the last.

        Statistics of the data are taken once; the order from strong to weak is the fast one. The time limit
        is for all together: penalties it leaves no time for are left out, but for the first.
        """
        end = perf_counter() + (np.inf if self.time_limit is None else self.time_limit)
        for penalty in penalties:
            if not penalty >= 0:
                raise SettingError(f"The penalty cannot be {penalty}; give a number of at least 0.")
        shape = x.shape[1:] if isinstance(x, np.ndarray) and x.ndim == 4 else None
        x_ND, labels = validate_data(self, flat(x), y)
        check_classification_targets(labels)
        classes, y_N = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f'All labels are of one class, "{classes[0]}"; a classifier needs two or more.')
        fitted: list[LinearSoftmax] = []
        with on_all_cores() as pool:
            data = Objective.of(x_ND, y_N, len(classes), pool)
            start = np.zeros((len(classes), x_ND.shape[1] + 1))
            for penalty in penalties:
                if fitted and perf_counter() > end:
                    break
                model = self if len(fitted) == len(penalties) - 1 else LinearSoftmax(**self.get_params())
                model.set_params(penalty=penalty)
                model.classes_, model.image_shape_, model.n_features_in_ = classes, shape, x_ND.shape[1]
                start = model._minimise(data, start, end)
                fitted.append(model)
        return fitted

    def predict(self, x: ArrayLike) -> Array:
        """Return the label of each image."""
        check_is_fitted(self)
        labels: Array = self.classes_[self._scores(x).argmax(1)]
        return labels

    def predict_proba(self, x: ArrayLike) -> Array:
        """Return the probability of each class, (N, K), in float64: softmax of the scores."""
        check_is_fitted(self)
        scores_NK = self._scores(x).astype(np.float64)
        powers_NK = np.exp(scores_NK - scores_NK.max(1, keepdims=True))
        return np.asarray(powers_NK / powers_NK.sum(1, keepdims=True))

    def templates(self) -> Array:
        """Return the rows of W as pictures (K, H, W, C) uint8: grey is 0, each class scaled to its largest weight.

        Raises InputError where it was fitted to features, not to images.
        """
        check_is_fitted(self)
        if self.image_shape_ is None:
            raise InputError(
                "Templates are of a classifier fitted to images (N, H, W, C); this one was fitted to a matrix."
            )
        largest_K = np.abs(self.weights_).max(1, keepdims=True)
        unit_KD = self.weights_ / np.where(largest_K > 0, largest_K, 1)
        return np.rint(127.5 + 127.5 * unit_KD).astype(np.uint8).reshape(-1, *self.image_shape_)

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and the plain values that `from_state` makes this classifier of."""
        check_is_fitted(self)
        tensors = {"weights": self.weights_, "bias": self.bias_, "mean": self.mean_, "scale": self.scale_}
        fitted = {"objective": self.objective_, "gradient": self.gradient_, "n_iter": self.n_iter_}
        shape = None if self.image_shape_ is None else list(self.image_shape_)
        more = {"stopped": self.stopped_, "image_shape": shape, "classes": self.classes_.tolist()}
        return tensors, {"params": self.get_params(), **fitted, **more}

    @classmethod
    def from_state(cls, tensors: dict[str, Array], config: dict[str, Any]) -> Self:
        """Return the classifier that `to_state` described."""
        model = cls(**config["params"])
        model.weights_, model.bias_ = tensors["weights"], tensors["bias"]
        model.mean_, model.scale_ = tensors["mean"], tensors["scale"]
        model.objective_, model.gradient_, model.n_iter_ = config["objective"], config["gradient"], config["n_iter"]
        model.stopped_, model.classes_ = config["stopped"], np.array(config["classes"])
        model.image_shape_ = None if config["image_shape"] is None else tuple(config["image_shape"])
        model.n_features_in_ = model.weights_.shape[1]
        return model

    def _scores(self, x: ArrayLike) -> Array:
        x_ND = validate_data(self, flat(x), reset=False)
        weights_DK = (self.weights_ / self.scale_).T
        blocks = (x_ND[start : start + BLOCK] for start in range(0, len(x_ND), BLOCK))
        return np.concatenate([(block - self.mean_) @ weights_DK + self.bias_ for block in blocks])

    def _minimise(self, data: Objective, start: Array, end: float) -> Array:
        """Run L-BFGS from `start`, W and b side by side in columns, and return where it ended."""
        root = data.root(self.penalty)
        seen: dict[str, Any] = {}

        def function(flat_v: Array) -> tuple[float, Array]:
            point = flat_v.reshape(start.shape).astype(data.mean_D.dtype)
            point[:, :-1] = through(root, point[:, :-1], transposed=True)
            objective, slope = data(point, self.penalty)
            seen.update(point=point, objective=objective, gradient=float(np.abs(slope).max()))
            slope[:, :-1] = through(root, slope[:, :-1])
            return objective, slope.astype(np.float64).ravel()

        def callback(_: Array) -> None:
            if seen["gradient"] <= self.tolerance or perf_counter() > end:
                raise StopIteration

        first = start.copy()
        if root is not None:
            first[:, :-1] = start[:, :-1] @ root
        options = {"maxiter": self.max_iterations, "maxfun": 10 * self.max_iterations, "ftol": 0.0, "gtol": 0.0}
        found = minimize(function, first.ravel(), jac=True, method="L-BFGS-B", callback=callback, options=options)
        function(found.x)
        self.objective_, self.gradient_, self.n_iter_ = seen["objective"], seen["gradient"], int(found.nit)
        self.stopped_ = self._why(end)
        self.weights_, self.bias_ = seen["point"][:, :-1].copy(), seen["point"][:, -1].copy()
        self.mean_, self.scale_ = data.mean_D, data.scale_D
        return np.asarray(seen["point"], np.float64)

    def _why(self, end: float) -> str:
        if self.gradient_ <= self.tolerance:
            return "tolerance"
        if perf_counter() > end:
            return "time"
        return "iterations" if self.n_iter_ >= self.max_iterations else "precision"
