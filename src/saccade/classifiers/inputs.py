"""What is given to a classifier, checked by scikit-learn's rules and told in one sentence."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from saccade.errors import InputError

Array = NDArray[Any]


def flat(x: ArrayLike) -> ArrayLike:
    """Return images (N, H, W) or (N, H, W, C) as a matrix (N, D), and anything else as it is."""
    return x.reshape(len(x), -1) if isinstance(x, np.ndarray) and x.ndim in (3, 4) and len(x) else x


def image_shape(x: ArrayLike) -> tuple[int, ...] | None:
    """Return (H, W, C) of images (N, H, W, C), (H, W) of (N, H, W), and None for anything else."""
    return x.shape[1:] if isinstance(x, np.ndarray) and x.ndim in (3, 4) else None


def checked(estimator: BaseEstimator, x: ArrayLike) -> Array:
    """Return images or a matrix to predict as a matrix (N, D).

    Raises InputError, which is a ValueError, where it is empty, not finite, not numeric or of another
    number of features than the estimator was fitted to.
    """
    _not_empty(x)
    fitted = getattr(estimator, "image_shape_", None)
    given = image_shape(x)
    if fitted and given and fitted != given:
        raise InputError(f"Images of shape {given} given; this {type(estimator).__name__} was fitted to {fitted}.")
    try:
        return np.asarray(validate_data(estimator, flat(x), reset=False))
    except ValueError as error:
        raise InputError(_sentence(error)) from error


def checked_pair(estimator: BaseEstimator, x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Return images or a matrix to fit as a matrix (N, D), and the label of each; notes the images' shape.

    Raises InputError, which is a ValueError, where they are empty, not finite, not numeric or of unequal number, or
    labels are of types that have no common order.
    """
    _not_empty(x)
    try:
        x_ND, labels = validate_data(estimator, flat(x), y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # many classes of few images are no regression
            _check_targets(labels)
    except ValueError as error:
        raise InputError(_sentence(error)) from error
    estimator.image_shape_ = image_shape(x)
    return np.asarray(x_ND), np.asarray(labels)


def _check_targets(labels: Array) -> None:
    try:
        check_classification_targets(labels)
    except TypeError as error:  # they cannot be sorted
        found = sorted({type(label).__name__ for label in labels})
        raise InputError(
            f"The labels are of the types {', '.join(found)}; give names alone, or whole numbers alone, one an image."
        ) from error


def _not_empty(x: ArrayLike) -> None:
    if image_shape(x) is not None and not np.size(x):
        raise InputError(f"No images given: found 0 in an array of shape {np.shape(x)}; give at least one.")


def _sentence(error: ValueError) -> str:
    """Return scikit-learn's message in one line, without its advice on estimators for missing values."""
    first, *more = str(error).strip().splitlines()
    return " ".join(" ".join([first, *more]).split()) if first.endswith(":") else first
