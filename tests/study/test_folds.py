"""Cross-validation against scikit-learn's on the same folds, and folds that respect classes and groups."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import PredefinedSplit, cross_val_predict, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from saccade import data
from saccade.classifiers import FeatureClassifier, KNearestNeighbors, LinearClassifier
from saccade.errors import InputError, SettingError
from saccade.events import Event, Finding, listening
from saccade.features import HOG, Stacked
from saccade.study import folds as validating
from tests.data.test_splits import image_set

KS = (1, 2, 4, 9)


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[Any], ...]:
    """Return 600 images (N, 8, 8, 1), their labels, and a fold of each, of unequal sizes."""
    x, y = load_digits(return_X_y=True)
    fold_N = np.random.default_rng(0).choice(3, 600, p=[0.5, 0.3, 0.2])
    return (x[:600].reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8), y[:600], fold_N


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_neighbours_are_cross_validated_as_scikit_learn_does(digits: tuple[NDArray[Any], ...], metric: str) -> None:
    x, y, fold_N = digits
    found = validating.neighbors(x, y, fold_N, metric, KS)  # type: ignore[arg-type]
    for k, setting in zip(KS, found, strict=True):
        assert setting.values == {"k": k}
        ours = cross_validate(KNearestNeighbors(k=k, metric=metric), x, y, cv=PredefinedSplit(fold_N))["test_score"]
        np.testing.assert_allclose(setting.accuracies, ours)
        assert setting.mean == pytest.approx(ours.mean())
        assert setting.sd == pytest.approx(ours.std(ddof=1))
    theirs = KNeighborsClassifier(1, metric={"l1": "manhattan", "l2": "euclidean"}[metric], algorithm="brute")
    expected = cross_val_predict(theirs, x.reshape(600, -1).astype(float), y, cv=PredefinedSplit(fold_N))
    assert (found[0].predicted_N == expected).mean() > 0.995  # equally near images may come in another order


def test_features_and_classifier_are_scikit_learns_pipeline(digits: tuple[NDArray[Any], ...]) -> None:
    x, y, fold_N = digits
    together = FeatureClassifier([HOG(cell=2)], LinearClassifier(strength=0.01))
    pipeline = make_pipeline(Stacked([HOG(cell=2)]), LinearClassifier(strength=0.01))
    split = PredefinedSplit(fold_N)
    np.testing.assert_array_equal(
        cross_val_predict(together, x, y, cv=split), cross_val_predict(pipeline, x, y, cv=split)
    )
    fitted = together.fit(x, y)
    np.testing.assert_allclose(fitted.predict_proba(x), pipeline.fit(x, y).predict_proba(x))
    assert clone(together).get_params()["features"][0].get_params() == HOG(cell=2).get_params()
    again = FeatureClassifier.from_state(*fitted.to_state())
    np.testing.assert_array_equal(again.predict_proba(x), fitted.predict_proba(x))


def test_a_classifier_of_features_needs_some(digits: tuple[NDArray[Any], ...]) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'features'"):
        FeatureClassifier()  # type: ignore[call-arg]
    with pytest.raises(InputError, match="There are no features to stack; give one kind or more"):
        FeatureClassifier([]).fit(*digits[:2])


def test_refusals(digits: tuple[NDArray[Any], ...]) -> None:
    x, y, fold_N = digits
    with pytest.raises(InputError, match="expected a number an image, and two folds or more"):
        validating.neighbors(x, y, np.zeros(600, np.int64), "l1", [1])
    with pytest.raises(InputError, match="600 labels and 599 numbers of 3 folds given"):
        validating.neighbors(x, y, fold_N[:-1], "l1", [1])
    with pytest.raises(InputError, match="k = 590 neighbours cannot be found among"):
        validating.neighbors(x, y, fold_N, "l1", [590])


@pytest.mark.parametrize("count", [2, 5, 7])
def test_folds_have_every_class_alike_and_no_group_in_two(count: int) -> None:
    rng = np.random.default_rng(count)
    labels = sorted(rng.choice(4, 300, p=[0.4, 0.3, 0.2, 0.1]).tolist())
    numbers = rng.integers(0, 150, 300)
    images = image_set(labels, groups=[f"g{n}" if n < 20 else None for n in numbers])
    groups_N = np.where(numbers < 60, numbers, 1000 + np.arange(300))
    fold_N = data.folds(images, groups_N, count, 0)
    assert set(fold_N) == set(range(count))
    for group in range(60):
        assert len(np.unique(fold_N[numbers == group])) <= 1
    for label in range(4):
        shares = np.bincount(fold_N[images.labels_N == label], minlength=count) / labels.count(label)
        assert shares.max() - shares.min() < 0.16
    assert (data.folds(images, groups_N, count, 0) == fold_N).all()
    assert (data.folds(images, groups_N, count, 1) != fold_N).any()


def test_folds_that_cannot_be() -> None:
    images = image_set([0, 0, 0, 1, 1, 1])
    for count in (1, 5):
        with pytest.raises(SettingError, match=f"{count} folds cannot be made of 3 different images"):
            data.folds(images, np.arange(6) // 2, count, 0)


def test_groups_are_named_where_they_are_too_few_for_folds() -> None:
    images = replace(image_set([0, 1] * 4), groups=("a",) * 4 + ("b",) * 4)
    with pytest.raises(SettingError, match=r"^5 folds cannot be made of 2 groups; give a number from 2 to 2\.$"):
        data.folds(images, np.arange(8), 5, 0)
    with pytest.raises(SettingError, match=r"^2 folds cannot be made of 1 groups; give images of more\.$"):
        data.folds(replace(images, groups=("a",) * 8), np.arange(8), 2, 0)


def test_a_class_with_fewer_images_than_folds_is_told() -> None:
    images = image_set([0] * 10 + [1] * 10 + [2])
    told: list[Event] = []
    with listening(told.append):
        fold_N = data.folds(images, np.arange(21), 5, 0)
    assert len(set(fold_N)) == 5
    details = [each.detail for each in told if isinstance(each, Finding) and each.kind == "small-class"]
    assert details == ['class "2" lies in 1 of 5 folds alone: too few different images for more']
