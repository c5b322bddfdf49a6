"""Paths of penalties over folds: what scikit-learn's cross-validation finds, and ends that the best is not at."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.model_selection import PredefinedSplit, cross_val_predict, cross_validate

from saccade.classifiers import Descent, LinearClassifier, Optimum
from saccade.errors import TrainingError
from saccade.events import Event, Finding, Progress, listening
from saccade.study import paths
from saccade.study.folds import Setting, best

FOLD_N = np.random.default_rng(0).choice(3, 240, p=[0.5, 0.3, 0.2])
OPTIMUM = Optimum(tolerance=1e-5, max_iterations=5000)


@pytest.fixture(scope="module")
def problem() -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return 240 rows of which a straight line tells three classes apart, mostly."""
    rng = np.random.default_rng(1)  # its own: this is set up again wherever tests of other files ran in between
    x = rng.normal(size=(240, 9))
    return x, (x[:, :3] + rng.normal(size=(240, 3)) * 0.7).argmax(1)


def strengths(settings: list[Setting]) -> list[float]:
    return [setting.values["strength"] for setting in settings]


@pytest.mark.parametrize(
    ("loss", "penalty"), [("softmax", "l2"), ("hinge", "l2"), ("squared_hinge", "elastic_net"), ("softmax", "l1")]
)
def test_a_path_is_what_scikit_learn_cross_validates(
    problem: tuple[NDArray[Any], NDArray[np.int64]], loss: str, penalty: str
) -> None:
    x, y = problem
    given = LinearClassifier(loss, penalty=penalty, beta=0.5, solver=OPTIMUM)
    (found,) = paths.linear(x, y, FOLD_N, [given], (0.01, 0.1))
    assert [setting.values for setting in found] == [
        {"loss": loss, "penalty": penalty, "strength": strength} for strength in (0.1, 0.01)
    ]
    for setting in found:
        alone = LinearClassifier(loss, penalty=penalty, beta=0.5, strength=setting.values["strength"], solver=OPTIMUM)
        theirs = cross_validate(alone, x, y, cv=PredefinedSplit(FOLD_N))["test_score"]
        np.testing.assert_allclose(setting.accuracies, theirs, atol=0.022)  # an image of 48 between two optima


def test_the_path_goes_on_until_the_best_lies_between_two_others() -> None:
    rng, thirds = np.random.default_rng(1), np.arange(240) % 3
    means = 0.2 * rng.normal(size=(3, 150))  # told apart by all columns a little: weights had better be small
    strong, free = paths.linear(
        means[thirds] + rng.normal(size=(240, 150)), thirds, FOLD_N,
        [LinearClassifier(solver=OPTIMUM), LinearClassifier(penalty="none", solver=Optimum())],
    )  # fmt: skip
    assert best(strong).values["strength"] > paths.FIRST[0]
    assert best(strong).values["strength"] < strengths(strong)[0]
    assert strengths(strong) == [each for each in paths.PATH if paths.FIRST[-1] <= each <= strengths(strong)[0]]
    assert strengths(free) == [0.0]
    x = rng.normal(size=240)
    steps = (x > -0.2).astype(np.int64) + (x > 0.2)  # of which the middle one is won by weights that are large
    (weak,) = paths.linear(x[:, None], steps, FOLD_N, [LinearClassifier(solver=OPTIMUM)])
    assert strengths(weak)[-1] < paths.FIRST[-1]
    assert best(weak).values["strength"] > strengths(weak)[-1] or strengths(weak)[-1] == paths.PATH[-1]
    assert set(strengths(weak)) <= set(paths.PATH)


def test_descent_takes_the_strength_its_optimum_was_best_at(problem: tuple[NDArray[Any], NDArray[np.int64]]) -> None:
    x, y = problem
    descents = [LinearClassifier(solver=Descent(batch_size=8, learning_rate=rate, epochs=3)) for rate in (0.1, 1e-3)]
    optimum, *both = paths.linear(x, y, FOLD_N, [LinearClassifier(solver=OPTIMUM), *descents])
    for descent, rate, settings in zip(descents, (0.1, 1e-3), both, strict=True):
        (setting,) = settings
        at = best(optimum).values["strength"]
        assert setting.values == {"loss": "softmax", "penalty": "l2", "strength": at, "learning_rate": rate}
        alone = descent.set_params(strength=at)
        with pytest.warns(UserWarning, match="minimum was not reached"):
            predicted = cross_val_predict(alone, x, y, cv=PredefinedSplit(FOLD_N))
        np.testing.assert_array_equal(setting.predicted_N, predicted)
    (alone_at_each,) = paths.linear(x, y, FOLD_N, descents[:1], (0.3, 0.003))
    assert strengths(alone_at_each) == [0.3, 0.003]


def test_a_hinges_temperature_is_that_of_held_out_images(problem: tuple[NDArray[Any], NDArray[np.int64]]) -> None:
    x, y = problem
    both = [LinearClassifier(loss, solver=OPTIMUM) for loss in ("hinge", "softmax")]
    (hinge,), (softmax,) = paths.linear(x, y, FOLD_N, both, (0.01,))
    assert softmax.temperature == 1.0
    logs = []
    for fold in range(3):
        held = np.isin(FOLD_N, fold)
        scores = LinearClassifier("hinge", strength=0.01, solver=OPTIMUM).fit(x[~held], y[~held]).scores(x[held])
        wrong = 1 / (held.sum() + 2)
        target = np.full(scores.shape, wrong / 2)
        target[np.arange(len(scores)), y[held]] = 1 - wrong
        logs.append(
            minimize_scalar(
                lambda t, scores=scores, target=target: -np.sum(target * log_softmax(scores / np.exp(t), axis=1)),
                bounds=(-3, 3),
                method="bounded",
            ).x
        )
    assert hinge.temperature == pytest.approx(np.exp(np.mean(logs)), rel=1e-3)


def test_descent_that_runs_off_is_left_out_and_told(problem: tuple[NDArray[Any], NDArray[np.int64]]) -> None:
    x, y = problem
    rates = [
        LinearClassifier("squared_hinge", solver=Descent(batch_size=1, learning_rate=rate, epochs=2))
        for rate in (1e300, 1e-3)
    ]
    told: list[Event] = []
    with listening(told.append):
        off, there = paths.linear(x, y, FOLD_N, rates, (0.1,), task="rows")
    assert off == []
    assert best(there).mean > 0.5
    details = [event.detail for event in told if isinstance(event, Finding)]
    assert details == ["rows: descent ran off to infinity at the learning rates 1e+300"]
    progress = [event for event in told if isinstance(event, Progress)]
    assert {(event.task, event.unit, event.total) for event in progress} == {("rows", "fits", 6)}
    assert any(event.detail.startswith("squared hinge, l2, learning rate 0.001: objective ") for event in progress)
    with pytest.raises(TrainingError, match=r"ran off to infinity at the learning rates 1e\+300; give smaller ones"):
        paths.linear(x, y, FOLD_N, rates[:1], (0.1,))


def test_a_class_that_lies_in_one_fold_alone(problem: tuple[NDArray[Any], NDArray[np.int64]]) -> None:
    x, _ = problem
    y = (np.arange(240) == np.flatnonzero(FOLD_N == 1)[0]).astype(np.int64)
    for loss in ("softmax", "hinge"):
        (found,) = paths.linear(x, y, FOLD_N, [LinearClassifier(loss)], (0.1,))
        assert (found[0].predicted_N[FOLD_N == 1] == 0).all()
        assert found[0].mean == pytest.approx((2 + 1 - 1 / (FOLD_N == 1).sum()) / 3, abs=0.03)
