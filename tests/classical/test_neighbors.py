"""k nearest neighbours against int64 arithmetic and scikit-learn's brute force."""

import pickle
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.utils.estimator_checks import parametrize_with_checks

from saccade.classifiers.neighbors import KNearestNeighbors, vote
from saccade.errors import InputError, SettingError

RNG = np.random.default_rng(0)
SKLEARN = {"l1": "manhattan", "l2": "euclidean"}


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [KNearestNeighbors(metric="l1"), KNearestNeighbors(metric="l2"), KNearestNeighbors(weights="distance")]
)
def test_scikit_learn_conventions(estimator: KNearestNeighbors, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def by_integers(queries: NDArray[np.uint8], rows: NDArray[np.uint8], metric: str) -> NDArray[np.int64]:
    differences = queries.astype(np.int64)[:, None] - rows.astype(np.int64)[None]
    return np.asarray((np.abs(differences) if metric == "l1" else differences**2).sum(2))


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize(
    ("queries", "rows", "features", "levels"),
    [(7, 50, 192, 256), (300, 4200, 20, 3), (1, 5, 1, 2), (3, 30, 40_000, 256)],
)
def test_bytes_are_exact_and_ties_go_to_the_lowest_index(
    metric: str, queries: int, rows: int, features: int, levels: int
) -> None:
    scale = 255 // (levels - 1)
    x = RNG.integers(0, levels, (rows, features), np.uint8) * scale
    q = RNG.integers(0, levels, (queries, features), np.uint8) * scale
    k = min(10, rows)
    distances, indices = KNearestNeighbors(k=k, metric=metric).fit(x, np.arange(rows) % 3).kneighbors(q)
    every = by_integers(q, x, metric)
    expected = np.argsort(every, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(indices, expected)
    true = np.take_along_axis(every, expected, 1)
    np.testing.assert_array_equal(distances, np.sqrt(true) if metric == "l2" else true)


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_extreme_bytes_do_not_overflow(metric: str) -> None:
    x = np.stack([np.zeros(32_768, np.uint8), np.full(32_768, 255, np.uint8)])
    distances, _ = KNearestNeighbors(k=2, metric=metric).fit(x, [0, 1]).kneighbors(x)
    far = 255 * 32_768 if metric == "l1" else 255 * np.sqrt(32_768)
    np.testing.assert_array_equal(distances, [[0, far], [0, far]])


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_floats_agree_with_scikit_learn(metric: str, dtype: type[np.floating[Any]]) -> None:
    x, q = RNG.normal(size=(3000, 17)).astype(dtype), RNG.normal(size=(200, 17)).astype(dtype)
    y = np.arange(3000) % 7
    ours = KNearestNeighbors(k=7, metric=metric).fit(x, y)
    theirs = KNeighborsClassifier(7, algorithm="brute", metric=SKLEARN[metric]).fit(x, y)
    distances, indices = theirs.kneighbors(q)
    np.testing.assert_array_equal(ours.kneighbors(q)[1], indices)
    np.testing.assert_allclose(ours.kneighbors(q)[0], distances, rtol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(q), theirs.predict_proba(q), atol=2e-6)


@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("k", [1, 6])
def test_votes_by_distance_are_those_of_scikit_learn(metric: str, k: int) -> None:
    x, q = RNG.normal(size=(400, 3)), RNG.normal(size=(100, 3))
    x[::5], q[::10] = x[1::5], x[:50:5]  # some at distance 0, and two of them
    y = RNG.integers(0, 4, 400)
    ours = KNearestNeighbors(k, metric, "distance").fit(x, y)
    theirs = KNeighborsClassifier(k, algorithm="brute", metric=SKLEARN[metric], weights="distance").fit(x, y)
    untied = (np.sort(ours.kneighbors(q)[1]) == np.sort(theirs.kneighbors(q)[1])).all(1)
    assert untied.mean() > 0.8  # of equals at the k-th place, each takes its own
    q = q[untied]
    probabilities = theirs.predict_proba(q)
    np.testing.assert_allclose(ours.predict_proba(q), probabilities, atol=3e-6)
    sure = np.sort(probabilities, axis=1)[:, -1] - np.sort(probabilities, axis=1)[:, -2] > 1e-9
    np.testing.assert_array_equal(ours.predict(q)[sure], theirs.predict(q)[sure])
    np.testing.assert_array_equal(ours.predict(q), ours.classes_[ours.predict_proba(q).argmax(1)])


@pytest.mark.parametrize("smallest", [5e-324, 1e-310, 1e-300, 1.0])
def test_votes_by_the_smallest_distances_are_those_of_exact_arithmetic(smallest: float) -> None:
    x, y = np.array([[1.0], [2.0], [4.0], [8.0], [-3.0]]) * smallest, np.array([0, 1, 1, 2, 0])
    model = KNearestNeighbors(5, "l1", "distance").fit(x, y)
    vote_N = [1 / Fraction(abs(float(distance))) for distance in x[:, 0]]
    shares = [float(sum(v for v, label in zip(vote_N, y, strict=True) if label == k) / sum(vote_N)) for k in range(3)]
    np.testing.assert_allclose(model.predict_proba([[0.0]])[0], shares, atol=3e-6)
    assert model.predict([[0.0]]) == [0]


def test_the_nearest_wins_however_near_as_in_scikit_learn() -> None:
    x, y, q = np.array([[0.0], [1.0]]), np.array([0, 1]), np.array([[1e-310]])
    ours = KNearestNeighbors(2, "l1", "distance").fit(x, y)
    theirs = KNeighborsClassifier(2, algorithm="brute", metric="manhattan", weights="distance").fit(x, y)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(ours.predict_proba(q), theirs.predict_proba(q), atol=3e-6)
        assert ours.predict(q) == theirs.predict(q) == [0]


def test_the_nearer_outvotes_the_more() -> None:
    x, y = np.array([[1], [10], [10]], np.uint8), ["near", "far", "far"]
    nearest = np.zeros((1, 1), np.uint8)
    assert KNearestNeighbors(3).fit(x, y).predict(nearest) == ["far"]
    assert KNearestNeighbors(3, weights="distance").fit(x, y).predict(nearest) == ["near"]


def test_neighbours_are_images_that_can_be_shown() -> None:
    x = RNG.integers(0, 256, (50, 6, 6, 3), np.uint8)
    model = KNearestNeighbors(k=3).fit(x, np.arange(50) % 2)
    shown = model.images_[model.kneighbors(x[7:9])[1]]
    assert shown.shape == (2, 3, 6, 6, 3)
    np.testing.assert_array_equal(shown[:, 0], x[7:9])
    assert np.shares_memory(model.images_, x)
    assert KNearestNeighbors(k=1).fit(x.reshape(50, -1), np.arange(50) % 2).images_.shape == (50, 108)


def test_a_grid_search_over_images_finds_k_metric_and_weights() -> None:
    x, y = RNG.integers(0, 200, (90, 4, 4, 3), np.uint8), np.arange(90) % 3
    x[np.arange(90), :, :, y] += 50
    grid = {"k": [1, 5], "metric": ["l1", "l2"], "weights": ["uniform", "distance"]}
    found = GridSearchCV(KNearestNeighbors(), grid, cv=3).fit(x, y)
    assert found.best_score_ > 0.9


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_images_have_the_neighbours_of_scikit_learn(metric: str) -> None:
    x, q = RNG.integers(0, 256, (500, 8, 8, 3), np.uint8), RNG.integers(0, 256, (40, 8, 8, 3), np.uint8)
    theirs = NearestNeighbors(algorithm="brute", metric=SKLEARN[metric]).fit(x.reshape(500, -1).astype(np.float64))
    distances, _ = theirs.kneighbors(q.reshape(40, -1).astype(np.float64), 5)
    ours = KNearestNeighbors(k=5, metric=metric).fit(x, np.arange(500) % 2)
    np.testing.assert_allclose(ours.kneighbors(q)[0], distances, rtol=1e-6)
    assert ours.kneighbors(q, 3)[1].shape == (40, 3)


def test_one_pass_answers_every_k() -> None:
    x, q, y = RNG.integers(0, 4, (90, 5), np.uint8), RNG.integers(0, 4, (30, 5), np.uint8), RNG.integers(0, 4, 90)
    together = KNearestNeighbors(metric="l1").fit(x, y).predict_each(q, [1, 4, 9])
    for k, predicted in zip([1, 4, 9], together, strict=True):
        alone = KNearestNeighbors(k=k, metric="l1").fit(x, y)
        np.testing.assert_array_equal(predicted, alone.predict(q))
        np.testing.assert_array_equal(predicted, alone.classes_[alone.predict_proba(q).argmax(1)])


def test_a_tied_vote_goes_to_the_nearest() -> None:
    labels = RNG.integers(0, 3, (500, 6))
    for row, chosen in zip(labels.tolist(), vote(labels).tolist(), strict=True):
        most = max(row.count(label) for label in row)
        assert chosen == next(label for label in row if row.count(label) == most)


def test_memory_is_that_of_blocks() -> None:
    x = RNG.integers(0, 256, (20_000, 3072), np.uint8)
    model = KNearestNeighbors(k=3, metric="l2").fit(x, np.arange(20_000) % 10)
    assert np.shares_memory(model.x_, x)
    model.predict(x[:4])
    tracemalloc.start()
    model.predict(x[:64])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes / 4


def test_state_makes_the_same_classifier() -> None:
    x, y = RNG.integers(0, 256, (30, 4, 4, 3), np.uint8), np.array(["cat", "dog", "eel"] * 10)
    model = KNearestNeighbors(k=4, metric="l1", weights="distance").fit(x, y)
    for again in (KNearestNeighbors.from_state(*model.to_state()), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(model.predict_proba(x), again.predict_proba(x))
        np.testing.assert_array_equal(model.predict(x), again.predict(x))
        assert again.get_params() == model.get_params()
        assert again.images_.shape == x.shape


def test_wrong_use_is_told() -> None:
    x, y = np.zeros((4, 2), np.uint8), [0, 1, 0, 1]
    with pytest.raises(
        InputError, match=r"k = 5 neighbours cannot be found among 4 sample\(s\).*give a smaller k or more"
    ):
        KNearestNeighbors().fit(x, y)
    with pytest.raises(InputError, match="k = 9 neighbours cannot be found among 4 training images; give a smaller k"):
        KNearestNeighbors(k=2).fit(x, y).kneighbors(x, 9)
    with pytest.raises(SettingError, match="k = 0 is not a number of neighbours; give a whole number of at least 1"):
        KNearestNeighbors(k=0).fit(x, y)
    with pytest.raises(SettingError, match='There is no metric "l3"; give l1 or l2'):
        KNearestNeighbors(k=1, metric="l3").fit(x, y)
    with pytest.raises(SettingError, match='There are no weights "distances"; give uniform or distance'):
        KNearestNeighbors(k=1, weights="distances").fit(x, y)


def test_searching_bytes_needs_neither_torch_nor_numba() -> None:
    program = (
        # the package's own imports, which re-export networks, are left aside
        "import sys, types, saccade, numpy as np; package = types.ModuleType('saccade.classifiers');"
        "package.__path__ = [saccade.__path__[0] + '/classifiers']; sys.modules[package.__name__] = package;"
        "from saccade.classifiers import neighbors; assert 'llvmlite' not in sys.modules;"
        "x = np.zeros((9, 4), np.uint8); neighbors.KNearestNeighbors().fit(x, x[:, 0]).predict(x);"
        "assert not {'torch', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
