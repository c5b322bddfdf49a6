"""A classifier of images by their features: both together are one estimator, and one saved member of a model."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from saccade.classifiers.linear import LinearClassifier
from saccade.features import ImageFeatures, Stacked
from saccade.features.base import images, under

Array = NDArray[Any]


def _has_probabilities(model: "FeatureClassifier") -> bool:
    return hasattr(getattr(model, "classifier_", model.classifier or LinearClassifier()), "predict_proba")


class FeatureClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A linear classifier of images (N, H, W, C) uint8 on their features, which are learnt from the same images.

    As scikit-learn's Pipeline of the two would be, and can be saved without pickle. `features` is a list of
    kinds, stacked and standardised, those of the mirror image counted in where it is `mirrored` (see `Stacked`);
    `classifier` a linear classifier.

    Attributes: `features_`, `classifier_`, `classes_`.

    >>> import numpy as np
    >>> from saccade.features import HOG
    >>> from sklearn.datasets import load_digits
    >>> x, y = load_digits(return_X_y=True)
    >>> x = (x.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
    >>> model = FeatureClassifier([HOG(cell=2)], LinearClassifier(strength=1e-2)).fit(x[:900], y[:900])
    >>> bool(model.score(x[900:], y[900:]) > 0.9)
    True
    """

    features_: Stacked
    classifier_: LinearClassifier

    def __init__(
        self,
        features: list[ImageFeatures],
        classifier: LinearClassifier | None = None,
        mirrored: bool = False,
    ) -> None:
        self.features = features
        self.classifier = classifier
        self.mirrored = mirrored

    def fit(self, x: ArrayLike, y: ArrayLike) -> Self:
        """Learn the features, then the classifier. Raises what either raises for bad images, labels or settings."""
        self.features_ = Stacked(self.features, self.mirrored)
        x_ND = self.features_.fit_transform(images(x))
        self.classifier_ = clone(self.classifier or LinearClassifier()).fit(x_ND, y)
        return self

    @classmethod
    def of(cls, features: Stacked, classifier: LinearClassifier) -> Self:
        """Return the classifier that features and a classifier of them, both fitted, make together."""
        made = cls([*features.parts], classifier, features.mirrored)
        made.features_, made.classifier_ = features, classifier
        return made

    @property
    def classes_(self) -> Array:
        """The labels it was trained on."""
        return self.classifier_.classes_

    def predict(self, x: ArrayLike) -> Array:
        """Return the label of each image."""
        check_is_fitted(self, "classifier_")
        return self.classifier_.predict(self.features_.transform(x))

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, x: ArrayLike) -> Array:
        """Return the probability of each class, (N, K), in float64; where its classifier has one."""
        check_is_fitted(self, "classifier_")
        return np.asarray(self.classifier_.predict_proba(self.features_.transform(x)))

    def to_state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Return the arrays and the plain values that `from_state` makes this classifier of."""
        check_is_fitted(self, "classifier_")
        tensors: dict[str, Array] = {}
        configs: dict[str, Any] = {}
        for name, part in (("features", self.features_), ("classifier", self.classifier_)):
            state, configs[name] = part.to_state()
            tensors |= {f"{name}.{key}": value for key, value in state.items()}
        return tensors, configs

    @classmethod
    def from_state(cls, tensors: dict[str, Array], config: dict[str, Any]) -> Self:
        """Return the classifier that `to_state` described."""
        features = Stacked.from_state(under("features", tensors), config["features"])
        return cls.of(features, LinearClassifier.from_state(under("classifier", tensors), config["classifier"]))
