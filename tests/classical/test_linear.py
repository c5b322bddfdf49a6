"""The linear softmax against scikit-learn's optimum, SciPy and its own conventions."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from saccade.classifiers.linear import LinearSoftmax
from saccade.classifiers.objective import Objective, on_all_cores
from saccade.errors import InputError, SettingError

RNG = np.random.default_rng(0)


@parametrize_with_checks([LinearSoftmax()])  # type: ignore[untyped-decorator]
def test_scikit_learn_conventions(estimator: LinearSoftmax, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def problem(count: int = 2500, features: int = 12) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    mixing = RNG.normal(size=(features, features))
    x = RNG.normal(size=(count, features)) @ mixing * 5 + 100
    x[:, 3] = 7
    return x, ((x - 100) @ RNG.normal(size=(features, 4)) + RNG.gumbel(size=(count, 4)) * 9).argmax(1)


@pytest.mark.parametrize("penalty", [1e-4, 1e-1])
def test_reaches_the_optimum_of_scikit_learn_in_float64(penalty: float) -> None:
    x, y = problem()
    z = StandardScaler().fit_transform(x)
    theirs = LogisticRegression(C=1 / (2 * penalty * len(x)), tol=1e-10, max_iter=5000).fit(z, y)
    ours = LinearSoftmax(penalty=penalty, tolerance=1e-8).fit(x, y)
    assert ours.stopped_ == "tolerance"
    np.testing.assert_allclose(ours.weights_, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(z), atol=1e-5)
    loss = -np.mean(log_softmax(theirs.decision_function(z), axis=1)[np.arange(len(y)), y])
    assert ours.objective_ == pytest.approx(loss + penalty * np.sum(theirs.coef_**2), rel=1e-10)


def test_bytes_in_float32_come_within_a_ten_thousandth() -> None:
    x = np.clip(RNG.normal(120, 40, (1500, 1, 1, 3)) + RNG.normal(0, 20, (1500, 6, 6, 3)), 0, 255).astype(np.uint8)
    y = (x[:, :3].mean((1, 2, 3)) - x[:, 3:].mean((1, 2, 3)) + RNG.normal(0, 3, 1500) > 0).astype(int)
    images = LinearSoftmax(penalty=1e-3).fit(x, y)
    exact = LinearSoftmax(penalty=1e-3, tolerance=1e-9).fit(x.reshape(1500, -1).astype(np.float64), y)
    assert images.weights_.dtype == np.float32
    assert images.stopped_ == "tolerance"
    assert images.objective_ == pytest.approx(exact.objective_, rel=1e-4)
    np.testing.assert_allclose(images.predict_proba(x), exact.predict_proba(x.reshape(1500, -1) * 1.0), atol=0.02)


def test_gradient_is_that_of_differences() -> None:
    x, y = problem(300, 5)
    with on_all_cores() as pool:
        objective = Objective.of(x, y, 4, pool)
        point = RNG.normal(size=24)
        error = check_grad(
            lambda p: objective(p.reshape(4, 6), 0.1)[0], lambda p: objective(p.reshape(4, 6), 0.1)[1].ravel(), point
        )
        np.testing.assert_allclose(objective.mean_D, x.mean(0), rtol=1e-13)
        np.testing.assert_allclose(objective.scale_D, StandardScaler().fit(x).scale_, rtol=1e-9)
    assert error < 1e-5


def test_a_path_is_the_same_as_one_at_a_time() -> None:
    x, y = problem()
    settings = LinearSoftmax(tolerance=1e-9)
    path = settings.fit_path(x, y, [1.0, 1e-2])
    assert path[-1] is settings
    for model, penalty in zip(path, [1.0, 1e-2], strict=True):
        assert model.penalty == penalty
        alone = LinearSoftmax(penalty=penalty, tolerance=1e-9).fit(x, y)
        np.testing.assert_allclose(model.weights_, alone.weights_, atol=1e-6)


def test_says_why_it_stopped() -> None:
    x, y = problem()
    assert LinearSoftmax(time_limit=0.0).fit(x, y).stopped_ == "time"
    assert LinearSoftmax(max_iterations=2, tolerance=1e-9).fit(x, y).stopped_ == "iterations"
    assert LinearSoftmax(tolerance=0.0).fit(x, y).stopped_ == "precision"
    assert len(LinearSoftmax(time_limit=0.0).fit_path(x, y, [1.0, 0.1, 0.01])) == 1


def test_templates_are_the_rows_of_weights() -> None:
    x = RNG.integers(0, 100, (200, 4, 5, 3), np.uint8)
    y = np.arange(200) % 2
    x[y == 1, 2, 3, 0] += 150
    templates = LinearSoftmax().fit(x, y).templates()
    assert templates.shape == (2, 4, 5, 3)
    assert templates[1, 2, 3, 0] == 255
    assert templates[0, 2, 3, 0] == 0
    with pytest.raises(InputError, match=r"fitted to images \(N, H, W, C\); this one was fitted to a matrix"):
        LinearSoftmax().fit(x.reshape(200, -1), y).templates()


def test_state_makes_the_same_classifier() -> None:
    x, y = RNG.integers(0, 256, (60, 4, 4, 3), np.uint8), np.array(["cat", "dog", "eel"] * 20)
    model = LinearSoftmax().fit(x, y)
    again = LinearSoftmax.from_state(*model.to_state())
    np.testing.assert_array_equal(model.predict_proba(x), again.predict_proba(x))
    np.testing.assert_array_equal(model.predict(x), again.predict(x))
    assert again.stopped_ == model.stopped_
    assert again.templates().shape == (3, 4, 4, 3)


def test_wrong_use_is_told() -> None:
    with pytest.raises(InputError, match='All labels are of one class, "a"; a classifier needs two or more'):
        LinearSoftmax().fit([[0.0], [1.0]], ["a", "a"])
    with pytest.raises(SettingError, match=r"The penalty cannot be -1; give a number of at least 0"):
        LinearSoftmax(penalty=-1).fit([[0.0], [1.0]], ["a", "b"])
