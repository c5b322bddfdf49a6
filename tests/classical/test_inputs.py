"""Unhappy input: one clear sentence each, of scikit-learn's exception types, from every classical classifier."""

from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from saccade.classifiers import KNearestNeighbors, LinearClassifier
from saccade.errors import InputError

KINDS = [KNearestNeighbors(k=1), LinearClassifier()]
X = np.zeros((4, 3))
IMAGES = np.zeros((4, 5, 5, 3), np.uint8)
Y = [0, 1, 0, 1]

WRONG: list[tuple[Any, Any, str]] = [
    ([[0.0], [np.nan]], [0, 1], r"Input X contains NaN\."),
    ([[0.0], [np.inf]], [0, 1], r"Input X contains infinity or a value too large for dtype\('float64'\)\."),
    (X, [0, 1, 0], r"Found input variables with inconsistent numbers of samples: \[4, 3\]"),
    (X, None, r"requires y to be passed, but the target y is None"),
    (X, [0.5, 1.5, 2.5, 0.1], r"Unknown label type: continuous"),
    (X, [[0, 1]] * 4, r"y should be a 1d array, got an array of shape \(4, 2\) instead\."),
    (X, ["cat", 1, None, 2.5], r"The labels are of the types NoneType, float, int, str; give names alone, or whole"),
    (X, ["cat", None, "dog", "cat"], r"The labels are of the types NoneType, str; give names alone, or whole numbers"),
    (X[:0], [], r"Found array with 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 1 is required"),
    (IMAGES[:0], [], r"No images given: found 0 in an array of shape \(0, 5, 5, 3\); give at least one\."),
    (X[:, 0], Y, r"Expected 2D array, got 1D array instead.*Reshape your data"),
    ([["a"], ["b"]], [0, 1], r"dtype='numeric' is not compatible with arrays of bytes/strings"),
    (X + 1j, Y, r"Complex data not supported"),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize(("x", "y", "told"), WRONG)
def test_what_cannot_be_fitted_is_told_in_one_sentence(kind: Any, x: Any, y: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        kind.fit(x, y)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_what_cannot_be_predicted_is_told(kind: Any) -> None:
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        type(kind)().predict(X)
    x = np.random.default_rng(0).integers(0, 256, IMAGES.shape, np.uint8)
    kind.fit(x, Y)
    with pytest.raises(
        InputError, match=rf"Images of shape \(8, 8, 3\) given; this {type(kind).__name__} was fitted to"
    ):
        kind.predict(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=f"X has 7 features, but {type(kind).__name__} is expecting 75 features"):
        kind.predict(np.zeros((2, 7)))
    with pytest.raises(InputError, match="No images given"):
        kind.predict(IMAGES[:0])
    np.testing.assert_array_equal(kind.predict(x), kind.predict(x.reshape(4, -1)))


def test_one_class_is_enough_for_neighbours() -> None:
    assert KNearestNeighbors(k=2).fit(X, ["only"] * 4).predict(X[:1]).tolist() == ["only"]
