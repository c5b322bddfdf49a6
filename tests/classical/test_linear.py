"""The linear family against scikit-learn's optima, quadratic and linear programs, hand loops and its conventions."""

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import check_grad, linprog, minimize
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from saccade.classifiers import Descent, LinearClassifier, Optimum
from saccade.classifiers.kernels import native
from saccade.classifiers.losses import NAMES
from saccade.classifiers.objective import Objective
from saccade.classifiers.penalties import Penalty
from saccade.classifiers.standardised import Standardised, on_all_cores
from saccade.classifiers.standardised_bytes import StandardisedBytes, standardised
from saccade.errors import InputError, SettingError, TrainingError
from saccade.events import Event, Progress, listening

RNG = np.random.default_rng(0)
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

FAMILY = [
    LinearClassifier(),
    LinearClassifier("hinge", solver=Optimum(tolerance=1e-3)),
    LinearClassifier("squared_hinge", penalty="elastic_net", beta=0.5),
    LinearClassifier("softmax", penalty="l1", class_weight="balanced"),
    LinearClassifier("hinge", penalty="none", solver=Descent(batch_size=8, learning_rate=0.05, epochs=20)),
]


@parametrize_with_checks(FAMILY)  # type: ignore[untyped-decorator]
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # descent at a fixed rate never settles
def test_scikit_learn_conventions(estimator: LinearClassifier, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def problem(count: int = 2500, features: int = 12) -> tuple[Floats, Labels]:
    mixing = RNG.normal(size=(features, features))
    x = RNG.normal(size=(count, features)) @ mixing * 5 + 100
    y = ((x - 100) @ RNG.normal(size=(features, 4)) + RNG.gumbel(size=(count, 4)) * 9).argmax(1)
    return np.column_stack([x, np.full(count, 7.0)]), y  # one feature is constant


def standard(x: Floats) -> Floats:
    return np.asarray(StandardScaler().fit_transform(x))


@pytest.mark.parametrize("strength", [1e-4, 1e-1])
@pytest.mark.parametrize("weights", [None, "balanced", {0: 1.0, 1: 3.0, 2: 0.5, 3: 1.0}])
def test_reaches_the_optimum_of_scikit_learn_in_float64(strength: float, weights: Any) -> None:
    x, y = problem()
    z = standard(x)
    theirs = LogisticRegression(C=1 / (2 * strength * len(x)), tol=1e-10, max_iter=5000, class_weight=weights).fit(z, y)
    ours = LinearClassifier(strength=strength, class_weight=weights, solver=Optimum(tolerance=1e-8)).fit(x, y)
    assert ours.converged_
    np.testing.assert_allclose(ours.weights_, theirs.coef_, atol=5e-5)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(z), atol=1e-5)
    if weights is None:
        loss = -np.mean(log_softmax(theirs.decision_function(z), axis=1)[np.arange(len(y)), y])
        assert ours.objective_ == pytest.approx(loss + strength * np.sum(theirs.coef_**2), rel=1e-10)


def test_bytes_in_float32_come_within_a_ten_thousandth() -> None:
    x = np.clip(RNG.normal(120, 40, (1500, 1, 1, 3)) + RNG.normal(0, 20, (1500, 6, 6, 3)), 0, 255).astype(np.uint8)
    y = (x[:, :3].mean((1, 2, 3)) - x[:, 3:].mean((1, 2, 3)) + RNG.normal(0, 3, 1500) > 0).astype(int)
    images = LinearClassifier(strength=1e-3).fit(x, y)
    exact = LinearClassifier(strength=1e-3, solver=Optimum(tolerance=1e-9)).fit(x.reshape(1500, -1) * 1.0, y)
    assert images.weights_.dtype == np.float32
    assert images.converged_
    assert images.objective_ == pytest.approx(exact.objective_, rel=1e-4)
    np.testing.assert_allclose(images.predict_proba(x), exact.predict_proba(x.reshape(1500, -1) * 1.0), atol=0.02)


@pytest.mark.parametrize("loss", NAMES)
def test_products_of_bytes_are_those_of_floats(loss: Any) -> None:
    count, features = 5000, 75  # neither fills whole registers or tiles
    x = np.clip(RNG.normal(120, 60, (count, features)), 0, 255).astype(np.uint8)
    x[:, 4], y = 9, RNG.integers(0, 3, count)
    point = RNG.normal(size=(3, features + 1)) * 0.1
    with on_all_cores() as pool:
        exact, ours = Standardised.of(x.astype(np.float64), pool), StandardisedBytes.of(x, pool)
        np.testing.assert_allclose(ours.mean_D, exact.mean_D, rtol=1e-6)
        np.testing.assert_allclose(ours.scale_D, exact.scale_D, rtol=1e-6)
        z = exact.rows(slice(None))
        np.testing.assert_allclose(np.asarray(ours.gram_DD), np.asarray(z.T @ z / count), atol=1e-5)
        value, slope = Objective(exact, y, 3, loss)(point)
        found, found_slope = Objective(ours, y, 3, loss)(point.astype(np.float32))
    assert found == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(found_slope, slope, atol=1e-4)


def test_many_images_reach_the_optimum_through_bytes() -> None:
    x = np.clip(RNG.normal(120, 40, (5000, 1, 1, 3)) + RNG.normal(0, 20, (5000, 6, 6, 3)), 0, 255).astype(np.uint8)
    y = (x[:, :3].mean((1, 2, 3)) - x[:, 3:].mean((1, 2, 3)) + RNG.normal(0, 3, 5000) > 0).astype(int)
    with on_all_cores() as pool:
        assert isinstance(standardised(x.reshape(5000, -1), pool), StandardisedBytes) == native("l2")
    images = LinearClassifier(strength=1e-3).fit(x, y)
    exact = LinearClassifier(strength=1e-3, solver=Optimum(tolerance=1e-9)).fit(x.reshape(5000, -1) * 1.0, y)
    assert images.converged_
    assert images.objective_ == pytest.approx(exact.objective_, rel=1e-4)
    np.testing.assert_allclose(images.predict_proba(x), exact.predict_proba(x.reshape(5000, -1) * 1.0), atol=0.02)


@pytest.mark.parametrize("loss", NAMES)
def test_gradient_is_that_of_differences(loss: Any) -> None:
    x, y = problem(300, 5)
    weight_N = RNG.uniform(0.5, 2, 300)
    with on_all_cores() as pool:
        data = Standardised.of(x, pool)
        objective = Objective(data, y, 4, loss, 0.7, Penalty(l2=0.1), weight_N, rounding=0.5)
        point = RNG.normal(size=28)
        error = check_grad(
            lambda p: objective(p.reshape(4, 7))[0], lambda p: objective(p.reshape(4, 7))[1].ravel(), point
        )
        some = objective.slope_at(point.reshape(4, 7), np.arange(300))
        np.testing.assert_allclose(some, objective(point.reshape(4, 7))[1], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(data.mean_D, x.mean(0), rtol=1e-13)
        np.testing.assert_allclose(data.scale_D, StandardScaler().fit(x).scale_, rtol=1e-9)
    assert error < 2e-5


@pytest.mark.parametrize(("penalty", "beta"), [("l1", 0.0), ("elastic_net", 0.8)])
def test_l1_and_elastic_net_have_the_zeros_of_saga(penalty: str, beta: float) -> None:
    x, y = problem(400, 10)
    y %= 3  # of an even number of classes, W has no single minimum under L1: what all share can move
    z, strength = standard(x), 0.03
    # scikit-learn's C sum loss + (1 - r) / 2 W^2 + r |W|, over C N, is our mean loss + strength (beta W^2 + |W|)
    ratio = 1 / (1 + 2 * beta)
    theirs = LogisticRegression(
        C=ratio / (strength * len(x)), l1_ratio=ratio, solver="saga", tol=1e-9, max_iter=50_000
    ).fit(z, y)
    settings = LinearClassifier(penalty=penalty, strength=strength, beta=beta, solver=Optimum(tolerance=1e-8))
    ours = settings.fit(x, y)
    assert ours.converged_
    np.testing.assert_array_equal(ours.weights_ == 0, theirs.coef_ == 0)
    assert 0 < (ours.weights_ == 0).sum() < ours.weights_.size
    np.testing.assert_allclose(ours.weights_, theirs.coef_, atol=1e-6)
    loss = -np.mean(log_softmax(theirs.decision_function(z), axis=1)[np.arange(len(y)), y])
    total = loss + strength * (beta * np.sum(theirs.coef_**2) + np.sum(np.abs(theirs.coef_)))
    assert ours.objective_ == pytest.approx(total, rel=1e-10)


def program(z_ND: Floats, y_N: Labels, classes: int, margin: float) -> tuple[Floats, Floats]:
    """Return A, b of A (W+, W-, b, xi) <= b: xi_nj >= s_j - s_y + margin for every row and other class."""
    count, features = z_ND.shape
    rows, width = [], classes * features
    for n in range(count):
        for j in range(classes):
            if j == y_N[n]:
                continue
            weights, bias = np.zeros((classes, features)), np.zeros(classes)
            slack = np.zeros((count, classes))
            weights[j], weights[y_N[n]], bias[j], bias[y_N[n]], slack[n, j] = z_ND[n], -z_ND[n], 1, -1, -1
            rows.append(np.concatenate([weights.ravel(), -weights.ravel(), bias, slack.ravel()]))
    a = np.array(rows)
    assert a.shape[1] == 2 * width + classes + count * classes
    return a, np.full(len(a), -margin)


@pytest.mark.parametrize("margin", [1.0, 2.0])
def test_the_hinge_with_l1_is_the_linear_programs_optimum(margin: float) -> None:
    x, y = problem(120, 5)
    z, strength = standard(x), 0.02
    a, b = program(z, y, 4, margin)
    cost = np.concatenate([np.full(2 * 24, strength), np.zeros(4), np.full(480, 1 / 120)])
    bounds = [(0, None)] * 48 + [(None, None)] * 4 + [(0, None)] * 480
    best = linprog(cost, a, b, bounds=bounds)
    solver = Optimum(tolerance=1e-6, max_iterations=50_000)
    ours = LinearClassifier("hinge", margin, "l1", strength, solver=solver).fit(x, y)
    assert ours.objective_ == pytest.approx(best.fun, rel=2e-6)
    assert ours.objective_ >= best.fun - 1e-9


def test_the_hinge_with_l2_is_the_quadratic_programs_optimum() -> None:
    x, y = problem(40, 2)
    y, z, strength = y % 3, standard(x), 0.05
    a, b = program(z, y, 3, 1.0)
    a = np.delete(a, np.s_[9:18], axis=1)  # W itself, not its two parts
    start = np.zeros(a.shape[1])
    start[12:] = 1.0
    best = minimize(
        lambda v: strength * np.sum(v[:9] ** 2) + v[12:].sum() / 40,
        start,
        jac=lambda v: np.concatenate([2 * strength * v[:9], np.zeros(3), np.full(120, 1 / 40)]),
        method="SLSQP",
        bounds=[(None, None)] * 12 + [(0, None)] * 120,
        constraints={"type": "ineq", "fun": lambda v: b - a @ v, "jac": lambda _: -a},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert best.success
    ours = LinearClassifier("hinge", strength=strength, solver=Optimum(tolerance=1e-5, max_iterations=5000)).fit(x, y)
    assert ours.converged_
    assert ours.objective_ == pytest.approx(best.fun, rel=2e-5)
    np.testing.assert_allclose(ours.weights_, best.x[:9].reshape(3, 3), atol=2e-3)


def by_hand(x: Floats, y: Labels, size: int, settings: dict[str, Any], orders: list[Labels]) -> tuple[Floats, Floats]:
    """Descend as the notes write it: for every row, for every class; an L1 term shrinks the weights after a step."""
    z, weights, bias, rate = standard(x), np.zeros((3, x.shape[1])), np.zeros(3), settings["rate"]
    for order in orders:
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            slope, slope_b = 2 * settings["l2"] * weights, np.zeros(3)
            for n in batch:
                scores = weights @ z[n] + bias
                if settings["loss"] == "softmax":
                    gradient = np.exp(scores) / np.exp(scores).sum()
                    gradient[y[n]] -= 1
                else:
                    short = np.maximum(scores - scores[y[n]] + 1, 0)
                    gradient = (short > 0) * 1.0 if settings["loss"] == "hinge" else 2 * short
                    gradient[y[n]] = 0
                    gradient[y[n]] = -gradient.sum()
                slope, slope_b = slope + np.outer(gradient, z[n]) / len(batch), slope_b + gradient / len(batch)
            weights, bias = weights - rate * slope, bias - rate * slope_b
            weights = np.sign(weights) * np.maximum(np.abs(weights) - rate * settings["l1"], 0)
    return weights, bias


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # three epochs are not to reach it
@pytest.mark.parametrize("loss", NAMES)
@pytest.mark.parametrize("size", [1, 7, "all"])
def test_descent_takes_the_steps_of_a_hand_loop(loss: str, size: Any) -> None:
    x, y = problem(60, 3)
    y = y % 3
    rng = np.random.default_rng(5)
    orders = [np.arange(60) if size == "all" else rng.permutation(60) for _ in range(3)]
    settings = {"loss": loss, "rate": 0.03, "l2": 0.05 * 0.4, "l1": 0.05}
    weights, bias = by_hand(x, y, 60 if size == "all" else size, settings, orders)
    solver = Descent(batch_size=size, learning_rate=0.03, epochs=3, seed=5)
    ours = LinearClassifier(loss, penalty="elastic_net", strength=0.05, beta=0.4, solver=solver).fit(x, y)
    np.testing.assert_allclose(ours.weights_, weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.bias_, bias, rtol=1e-9, atol=1e-12)
    assert (ours.n_iter_, ours.stopped_) == (3, "iterations")


def test_full_batch_descent_reaches_the_optimum_and_says_so() -> None:
    x, y = problem(500, 4)
    settings = LinearClassifier(strength=0.1)
    slow = clone(settings).set_params(solver=Descent(batch_size="all", learning_rate=0.5, epochs=3000)).fit(x, y)
    assert slow.converged_
    assert slow.objective_ == pytest.approx(settings.fit(x, y).objective_, rel=1e-5)


def test_a_path_is_the_same_as_one_at_a_time() -> None:
    x, y = problem()
    settings = LinearClassifier(solver=Optimum(tolerance=1e-8))
    path = settings.fit_path(x, y, [1.0, 1e-2])
    assert path[-1] is settings
    for model, strength in zip(path, [1.0, 1e-2], strict=True):
        assert model.strength == strength
        alone = clone(settings).set_params(strength=strength).fit(x, y)
        np.testing.assert_allclose(model.weights_, alone.weights_, atol=1e-6)


def test_says_why_it_stopped_and_warns_where_nobody_asked_it_to() -> None:
    x, y = problem()

    def fitted(**settings: Any) -> LinearClassifier:
        return LinearClassifier(solver=Optimum(**settings)).fit(x, y)

    assert fitted(time_limit=0.0).stopped_ == "time"
    with pytest.warns(ConvergenceWarning, match=r"not reached.*after 2 steps \(iterations\); give more steps"):
        model = fitted(max_iterations=2, tolerance=1e-9)
    assert not model.converged_
    with pytest.warns(ConvergenceWarning, match=r"\(precision\)"):
        fitted(tolerance=0.0)
    with pytest.warns(ConvergenceWarning, match=r"\(precision\)"):
        LinearClassifier("hinge", solver=Optimum(tolerance=1e-13, max_iterations=10**6)).fit(x[:50], y[:50])
    cut = LinearClassifier(solver=Optimum(time_limit=0))
    [only] = cut.fit_path(x, y, [1.0, 0.1, 0.01])
    assert only is cut
    assert cut.strength == 1.0
    assert cut.predict(x).shape == y.shape
    for penalty in ("l1", "l2"):
        online = LinearClassifier(penalty=penalty, solver=Descent(batch_size=1, time_limit=0)).fit(x, y)
        assert online.stopped_ == "time"
    assert LinearClassifier(penalty="l1", solver=Optimum(time_limit=0)).fit(x, y).stopped_ == "time"


def test_progress_is_told() -> None:
    x, y = problem()
    for settings in (LinearClassifier(), LinearClassifier(penalty="l1"), LinearClassifier("hinge")):
        seen: list[Event] = []
        with listening(seen.append):
            settings.fit(x, y)
        steps = [event for event in seen if isinstance(event, Progress)]
        assert steps
        assert all(event.detail.startswith("objective ") and event.done <= event.total for event in steps)


def test_templates_are_the_rows_of_weights() -> None:
    x = RNG.integers(0, 100, (200, 4, 5, 3), np.uint8)
    y = np.arange(200) % 2
    x[y == 1, 2, 3, 0] += 150
    templates = LinearClassifier().fit(x, y).templates()
    assert templates.shape == (2, 4, 5, 3)
    assert templates[1, 2, 3, 0] == 255
    assert templates[0, 2, 3, 0] == 0
    with pytest.raises(InputError, match=r"fitted to images \(N, H, W, C\); this one was fitted to a matrix"):
        LinearClassifier().fit(x.reshape(200, -1), y).templates()


@pytest.mark.parametrize(
    "settings",
    [
        LinearClassifier(),
        LinearClassifier("hinge", class_weight={"cat": 2.0, "eel": 0.5}, solver=Optimum(tolerance=1e-2)),
        LinearClassifier(class_weight={"cat": 2.0, "dog": 0.0}),
        LinearClassifier(penalty="l1", solver=Descent(epochs=2, batch_size="all", tolerance=1e9)),
    ],
)
def test_state_makes_the_same_classifier(settings: LinearClassifier) -> None:
    x, y = RNG.integers(0, 256, (60, 4, 4, 3), np.uint8), np.array(["cat", "dog", "eel"] * 20)
    model = settings.fit(x, y)
    for again in (LinearClassifier.from_state(*model.to_state()), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(model.decision_function(x), again.decision_function(x))
        np.testing.assert_array_equal(model.predict(x), again.predict(x))
        assert again.stopped_ == model.stopped_
        assert again.get_params() == model.get_params()
        assert again.templates().shape == (3, 4, 4, 3)


def test_probabilities_are_the_softmaxs_and_those_of_calibrated_hinges() -> None:
    x, y = problem(200, 4)
    assert not hasattr(LinearClassifier("hinge"), "predict_proba")
    model = LinearClassifier().fit(x, y % 2)
    np.testing.assert_allclose(model.predict_proba(x)[:, 1], 1 / (1 + np.exp(-model.decision_function(x))), rtol=1e-9)
    np.testing.assert_array_equal(model.predict(x) == 1, model.decision_function(x) > 0)


@pytest.mark.parametrize("margin", [1.0, 50.0])
@pytest.mark.parametrize("loss", ["hinge", "squared_hinge"])
def test_calibrated_probabilities_are_the_best_of_any_temperature(loss: str, margin: float) -> None:
    x, y = problem(900, 6)
    names = np.array(["ant", "bee", "cat", "dog"])[y]
    model = LinearClassifier(loss, margin, strength=1e-3, solver=Optimum(tolerance=1e-3)).fit(x[:600], names[:600])
    assert not hasattr(model, "predict_proba")
    sure = model.calibrated(x[600:], names[600:])
    assert not hasattr(model, "predict_proba")
    probabilities = sure.predict_proba(x[600:])
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(sure.classes_[probabilities.argmax(1)], model.predict(x[600:]))
    scores = model.decision_function(x[600:])
    target = np.full(scores.shape, 1 / 302 / 3)
    target[np.arange(300), y[600:]] = 1 - 1 / 302
    grid = margin * np.geomspace(0.05, 20, 3000)
    losses = [-np.mean(np.sum(target * log_softmax(scores / t, axis=1), axis=1)) for t in grid]
    assert grid[3] < sure.temperature_ < grid[-3]
    assert sure.temperature_ == pytest.approx(grid[np.argmin(losses)], rel=0.005)
    again = LinearClassifier.from_state(*sure.to_state())
    np.testing.assert_array_equal(again.predict_proba(x), sure.predict_proba(x))
    assert not hasattr(sure.fit(x, y), "predict_proba")  # other scores, of which nothing is known
    with pytest.raises(InputError, match='The label "eel" is not one this classifier was fitted to: ant, bee, cat'):
        model.calibrated(x[:1], ["eel"])


def test_a_grid_search_over_images_finds_losses_penalties_and_rates() -> None:
    x, y = RNG.integers(0, 200, (90, 4, 4, 3), np.uint8), np.arange(90) % 3
    x[np.arange(90), :, :, y] += 50
    grid: dict[str, list[Any]] = {
        "loss": ["softmax", "squared_hinge"],
        "penalty": ["l2", "l1"],
        "solver": [None, Descent(batch_size="all", learning_rate=0.1, tolerance=1.0)],
    }
    found = GridSearchCV(LinearClassifier(strength=0.01), grid, cv=3).fit(x, y)
    assert found.best_score_ > 0.9
    assert len(found.cv_results_["params"]) == 8


@pytest.mark.parametrize("settings", [{}, {"penalty": "l1"}, {"loss": "hinge"}])
def test_a_class_of_one_image_is_learnt(settings: dict[str, Any]) -> None:
    x, y = np.array([[0.0], [1.0], [2.0], [9.0]]), ["a", "a", "a", "b"]
    assert LinearClassifier(strength=1e-3, **settings).fit(x, y).predict([[9.0], [0.5]]).tolist() == ["b", "a"]


def test_wrong_use_is_told() -> None:
    two = [[0.0], [1.0]]
    with pytest.raises(InputError, match='All labels are of one class, "a"; a classifier needs two or more'):
        LinearClassifier().fit(two, ["a", "a"])
    with pytest.raises(SettingError, match=r"The strength of the penalty cannot be -1; give a number of at least 0"):
        LinearClassifier(strength=-1).fit(two, ["a", "b"])
    with pytest.raises(SettingError, match="L-BFGS needs a smooth objective, and the L1 term is not; give method prox"):
        LinearClassifier(penalty="l1", solver=Optimum(method="lbfgs")).fit(two, ["a", "b"])
    with pytest.raises(SettingError, match="The class weights 'equal' cannot be used: "):
        LinearClassifier(class_weight="equal").fit(two, ["a", "b"])
    for weights in ({"a": -1.0, "b": 2.0}, {"a": np.nan, "b": 1.0}, {"a": np.inf}, {"a": 0.0, "b": 0.0}):
        with pytest.raises(SettingError, match="cannot be used: give finite numbers of at least 0, not all 0"):
            LinearClassifier(class_weight=weights).fit(two, ["a", "b"])
    with pytest.raises(SettingError, match='The setting batch_size cannot be "0"'):
        Descent(batch_size=0)
    x, y = problem(50, 3)
    with pytest.raises(TrainingError, match=r"The loss is not a number after 1 epoch\(s\) at learning rate 1e\+300;"):
        LinearClassifier("squared_hinge", solver=Descent(batch_size=1, learning_rate=1e300)).fit(x, y)
