"""Linear classifiers of pixels or features, s = W x + b, at the minimum of a loss and a penalty of one's choice."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from saccade.classifiers.inputs import checked, checked_pair
from saccade.classifiers.losses import loss_of
from saccade.classifiers.objective import Objective
from saccade.classifiers.penalties import Penalty
from saccade.classifiers.solvers import SOLVERS, Found, Optimum, Solver, solve
from saccade.classifiers.standardised import BLOCK, Standardised
from saccade.classifiers.standardised_bytes import prepared
from saccade.errors import InputError, SettingError
from saccade.metrics import best_temperature

Array = NDArray[Any]


def _has_probabilities(classifier: "LinearClassifier") -> bool:
    return classifier.loss == "softmax" or getattr(classifier, "temperature_", None) is not None


class LinearClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Linear classifier (lectures 2 and 3) at the minimum of its mean loss plus `strength` times its penalty.

    `loss` is "softmax" (cross-entropy), "hinge" (Weston and Watkins' multiclass SVM) or "squared_hinge", the
    last two of a `margin`. `penalty` is "none", "l2" (sum W^2), "l1" (sum |W|) or "elastic_net"
    (sum beta W^2 + |W|). `class_weight` multiplies the losses of a class: a dict by label, or "balanced".
    Each feature is standardised inside; W is that of standardised features, the bias is not penalised.

    `solver` says how: `Optimum()`, the default, goes to the minimum; `Descent(batch_size=…)` is on-line,
    mini-batch or full-batch gradient descent. Each has a tolerance and a time limit; where neither stops it,
    `fit` gives a ConvergenceWarning. Computes in float32 for uint8 and float32 input, else in float64.

    Probabilities are the softmax of the scores; of the hinges, whose scores are no log-probabilities, only after
    `calibrated` has learnt from other images how sure they are.

    Attributes: `classes_`, `weights_` (K, D), `bias_` (K), `mean_` and `scale_` (D), `objective_`,
    `gradient_` (its largest absolute derivative), `n_iter_`, `converged_`, `stopped_` ("tolerance", "time",
    "iterations", or "precision": no further descent can be told from rounding), `image_shape_` or None,
    `temperature_` (what the scores are divided by before the softmax; None where that is not known).

    >>> x = np.array([[0.0], [1.0], [3.0], [4.0]])
    >>> LinearClassifier(strength=0.01).fit(x, ["low", "low", "high", "high"]).predict([[0.5], [9.0]])
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
    temperature_: float | None

    def __init__(
        self,
        loss: str = "softmax",
        margin: float = 1.0,
        penalty: str = "l2",
        strength: float = 1e-3,
        beta: float = 1.0,
        class_weight: dict[Any, float] | str | None = None,
        solver: Solver | None = None,
    ) -> None:
        self.loss = loss
        self.margin = margin
        self.penalty = penalty
        self.strength = strength
        self.beta = beta
        self.class_weight = class_weight
        self.solver = solver

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Find W and b from images (N, H, W, C) or a matrix (N, D), and their labels.

        Raises SettingError for settings that cannot be, InputError for labels of one class only and for what
        is not a finite matrix with a label a row, TrainingError where descent ran off to infinity.
        """
        self.fit_path(x, y, [self.strength])
        if self.stopped_ in ("iterations", "precision"):
            warnings.warn(
                f"The minimum was not reached to the tolerance: the largest derivative is {self.gradient_:.2g} after "
                f"{self.n_iter_} steps ({self.stopped_}); give more steps or a larger tolerance.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def fit_path(
        self,
        x: ArrayLike,
        y: ArrayLike,
        strengths: Sequence[float],
        *,
        data: Standardised | None = None,
        start: "LinearClassifier | None" = None,
    ) -> "list[LinearClassifier]":
        """Return one fitted classifier for each strength, each from the one before; the last is itself.

        Statistics of the data are taken once, or are `data` (`prepared` of the same rows); the order from strong
        to weak is the fast one. `start`, fitted to the same rows, is where the first begins, else at W = 0. The
        time limit is for all together: strengths it leaves no time for are left out, but for the first.
        """
        solver = self.solver or Optimum()
        end = perf_counter() + (np.inf if solver.time_limit is None else solver.time_limit)
        loss_of(self.loss, self.margin)
        penalties = [Penalty.of(self.penalty, strength, self.beta) for strength in strengths]
        x_ND, labels = checked_pair(self, x, y)
        classes, y_N = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f'All labels are of one class, "{classes[0]}"; a classifier needs two or more.')
        weight_N = _weights(self.class_weight, classes, labels)[y_N] if self.class_weight is not None else None
        fitted: list[LinearClassifier] = []
        with prepared(x_ND) if data is None else nullcontext(data) as rows:
            point = np.zeros((len(classes), rows.features + 1)) if start is None else start.point()
            for strength, penalty in zip(strengths, penalties, strict=True):
                if fitted and perf_counter() > end:
                    break
                model = self if len(fitted) == len(strengths) - 1 else LinearClassifier(**self.get_params())
                model.set_params(strength=strength)
                model.classes_, model.image_shape_, model.n_features_in_ = classes, self.image_shape_, rows.features
                objective = Objective(rows, y_N, len(classes), self.loss, self.margin, penalty, weight_N)
                point = model._take(solve(objective, point, solver, end), rows)
                fitted.append(model)
        if 0 < len(fitted) < len(strengths):
            self.__dict__.update(vars(fitted[-1]))
            fitted[-1] = self
        return fitted

    @property
    def converged_(self) -> bool:
        """Whether the minimum was reached to the solver's tolerance."""
        return self.stopped_ == "tolerance"

    def decision_function(self, x: ArrayLike) -> Array:
        """Return the scores W z + b (N, K); of two classes the second's less the first's, (N,)."""
        scores_NK = self.scores(x)
        return np.asarray(scores_NK[:, 1] - scores_NK[:, 0]) if len(self.classes_) == 2 else scores_NK

    def predict(self, x: ArrayLike) -> Array:
        """Return the label of each image."""
        best_N = self.scores(x).argmax(1)
        labels: Array = self.classes_[best_N]
        return labels

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, x: ArrayLike) -> Array:
        """Return the probability of each class, (N, K), in float64: softmax of the scores over the temperature.

        Of the softmax loss, and of what is `calibrated`.
        """
        return np.asarray(softmax(self.scores(x).astype(np.float64) / (self.temperature_ or 1.0), axis=1))

    def calibrated(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Return the same with the temperature that fits images and labels best which it was not fitted to.

        Of a hinge's scores the margin is the unit. Raises InputError where a label is none of its classes.
        """
        scores_NK, labels = self.scores(x), np.asarray(y)
        if strange := set(labels.tolist()) - set(self.classes_.tolist()):
            known = ", ".join(map(str, self.classes_[:10]))
            raise InputError(f'The label "{min(strange, key=str)}" is not one this classifier was fitted to: {known}.')
        unit = 1.0 if self.loss == "softmax" else self.margin
        same = copy(self)
        same.temperature_ = unit * best_temperature(scores_NK / unit, np.searchsorted(self.classes_, labels))
        return same

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
        params = {**self.get_params(), **_plain(self.solver), **_by_place(self.class_weight, self.classes_)}
        fitted = {"objective": self.objective_, "gradient": self.gradient_, "n_iter": self.n_iter_}
        shape = None if self.image_shape_ is None else list(self.image_shape_)
        more = {"stopped": self.stopped_, "image_shape": shape, "classes": self.classes_.tolist()}
        return tensors, {"params": params, **fitted, **more, "temperature": self.temperature_}

    @classmethod
    def from_state(cls, tensors: dict[str, Array], config: dict[str, Any]) -> Self:
        """Return the classifier that `to_state` described."""
        params, classes = config["params"], np.array(config["classes"])
        solver, weights = params["solver"], params["class_weight"]
        if solver is not None:
            solver = SOLVERS[solver["kind"]](**solver["settings"])
        if isinstance(weights, list):
            pairs = zip(classes.tolist(), weights, strict=True)
            weights = {label: weight for label, weight in pairs if weight is not None}
        model = cls(**{**params, "solver": solver, "class_weight": weights})
        model.weights_, model.bias_ = tensors["weights"], tensors["bias"]
        model.mean_, model.scale_ = tensors["mean"], tensors["scale"]
        model.objective_, model.gradient_, model.n_iter_ = config["objective"], config["gradient"], config["n_iter"]
        model.stopped_, model.classes_ = config["stopped"], classes
        model.image_shape_ = None if config["image_shape"] is None else tuple(config["image_shape"])
        model.temperature_ = config["temperature"]
        model.n_features_in_ = model.weights_.shape[1]
        return model

    def scores(self, x: ArrayLike) -> Array:
        """Return the scores W z + b of each class, (N, K)."""
        check_is_fitted(self)
        x_ND = checked(self, x)
        weights_DK = (self.weights_ / self.scale_).T
        blocks = (x_ND[start : start + BLOCK] for start in range(0, len(x_ND), BLOCK))
        return np.concatenate([(block - self.mean_) @ weights_DK + self.bias_ for block in blocks])

    def point(self) -> Array:
        """Return W and b side by side, (K, D + 1): where a solver ended, and may go on from."""
        check_is_fitted(self)
        return np.column_stack([self.weights_, self.bias_])

    def _take(self, found: Found, data: Standardised) -> Array:
        """Keep what a solver found; return its point."""
        self.weights_, self.bias_ = found.point_KD1[:, :-1].copy(), found.point_KD1[:, -1].copy()
        self.mean_, self.scale_ = data.mean_D, data.scale_D
        self.objective_, self.gradient_, self.n_iter_ = found.objective, found.gradient, found.steps
        self.stopped_, self.temperature_ = found.stopped, None
        return found.point_KD1


def _weights(class_weight: dict[Any, float] | str | None, classes: Array, labels: Array) -> Array:
    """Return the factor on the losses of each class."""
    try:
        weights_K = np.asarray(compute_class_weight(class_weight, classes=classes, y=labels))
    except ValueError as error:
        raise SettingError(f"The class weights {class_weight!r} cannot be used: {error}") from error
    if not (np.isfinite(weights_K).all() and (weights_K >= 0).all() and weights_K.any()):
        raise SettingError(
            f"The class weights {class_weight!r} cannot be used: give finite numbers of at least 0, not all 0."
        )
    return weights_K


def _plain(solver: Solver | None) -> dict[str, Any]:
    kind = next((name for name, kind in SOLVERS.items() if isinstance(solver, kind)), None)
    return {"solver": None if solver is None else {"kind": kind, "settings": solver.model_dump()}}


def _by_place(class_weight: dict[Any, float] | str | None, classes: Array) -> dict[str, Any]:
    """Return class weights without their labels as keys, which JSON would turn into text."""
    if not isinstance(class_weight, dict):
        return {}
    return {"class_weight": [class_weight.get(label) for label in classes.tolist()]}
