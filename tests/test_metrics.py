"""The metrics against scikit-learn, SciPy and plain loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import binomtest
from sklearn import metrics as theirs

from saccade import metrics
from saccade.errors import InputError

RNG = np.random.default_rng(0)
P_NK = RNG.dirichlet([0.5] * 5, 400)
LABELS = np.array([RNG.choice(5, p=0.5 * p + 0.1) for p in P_NK])
PREDICTED = P_NK.argmax(1)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (3, 10), (0, 50), (50, 50), (861, 1000)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_wilson_interval_is_that_of_scipy(successes: int, n: int, confidence: float) -> None:
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    ours = metrics.wilson_interval(successes, n, confidence)
    assert ours == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_labels_are_scored_as_scikit_learn_scores_them() -> None:
    confusion = metrics.confusion_KK(PREDICTED, LABELS, 5)
    np.testing.assert_array_equal(confusion, theirs.confusion_matrix(LABELS, PREDICTED))
    assert metrics.accuracy(PREDICTED, LABELS) == pytest.approx(theirs.accuracy_score(LABELS, PREDICTED))
    assert metrics.macro_f1(confusion) == pytest.approx(theirs.f1_score(LABELS, PREDICTED, average="macro"))
    expected = theirs.precision_recall_fscore_support(LABELS, PREDICTED)
    ours = [(row.precision, row.recall, row.f1, row.images) for row in metrics.per_class(confusion)]
    np.testing.assert_allclose(np.array(ours).T, expected)
    assert metrics.log_loss(P_NK, LABELS) == pytest.approx(theirs.log_loss(LABELS, P_NK))
    alone = [theirs.log_loss([label], p_NK, labels=range(5)) for label, p_NK in zip(LABELS, P_NK[:, None], strict=True)]
    np.testing.assert_allclose(metrics.losses_N(P_NK, LABELS), alone)


def test_classes_that_are_absent_count_nowhere() -> None:
    labels, predicted = np.array([0, 0, 1]), np.array([0, 1, 1])
    confusion = metrics.confusion_KK(predicted, labels, 4)
    assert confusion.shape == (4, 4)
    assert metrics.macro_f1(confusion) == pytest.approx(theirs.f1_score(labels, predicted, average="macro"))
    assert metrics.per_class(confusion)[3] == metrics.ClassMetrics(0, 0.0, 0.0, 0.0)


def test_a_certain_mistake_has_a_finite_loss() -> None:
    assert metrics.log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(2.0**-52))


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_is_that_of_a_loop(bins: int) -> None:
    probabilities = np.round(P_NK, 2)  # so that some confidences fall on an edge
    error, rows = metrics.calibration(probabilities, LABELS, bins)
    total = 0.0
    for row, low in zip(rows, range(bins), strict=True):
        inside = [
            (p.max(), p.argmax() == label)
            for p, label in zip(probabilities, LABELS, strict=True)
            if np.linspace(0, 1, bins + 1)[low] < p.max() <= np.linspace(0, 1, bins + 1)[low + 1]
        ]
        assert row.images == len(inside)
        if inside:
            confidence, accuracy = sum(c for c, _ in inside) / len(inside), sum(r for _, r in inside) / len(inside)
            assert (row.confidence, row.accuracy) == pytest.approx((confidence, accuracy))
            total += len(inside) / len(LABELS) * abs(confidence - accuracy)
    assert error == pytest.approx(total)


def test_wrong_use_is_told() -> None:
    with pytest.raises(InputError, match="2 predictions cannot be held against 3 labels"):
        metrics.accuracy(np.array([0, 1]), np.array([0, 1, 1]))
    with pytest.raises(InputError, match="5 successes of 3 are no proportion; give a whole number from 0 to n"):
        metrics.wilson_interval(5, 3)


def test_lists_are_taken_as_arrays() -> None:
    right: Any = [0, 1, 1]
    wrong: Any = [0, 1, 0]
    p_NK: Any = [[0.5, 0.5]]
    assert metrics.accuracy(right, wrong) == pytest.approx(2 / 3)
    assert metrics.confusion_KK(right, wrong, 2).tolist() == [[1, 1], [0, 1]]
    labels: Any = [1]
    assert metrics.log_loss(p_NK, labels) == pytest.approx(np.log(2))


P_ROW = np.array([[0.3, 0.7]])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: metrics.accuracy(np.zeros((2, 1)), np.zeros(2)), "Predictions of shape (2, 1) were given; expected"),
        (lambda: metrics.accuracy(np.zeros(2), np.zeros((2, 1))), "Labels of shape (2, 1) were given; expected is"),
        (lambda: metrics.accuracy(np.eye(3), np.arange(3)), "Predictions of shape (3, 3) were given; expected is one"),
        (lambda: metrics.accuracy(np.array(["cat"]), np.array([0])), "give both as whole numbers, or both as names."),
        (lambda: metrics.confusion_KK(np.array([0, 2, 1]), np.array([0, 0, 1]), 2), "Predictions hold 2, which is no"),
        (lambda: metrics.confusion_KK(np.array([0, 1]), np.array([0, -1]), 2), "Labels hold -1, which is no class;"),
        (lambda: metrics.log_loss(P_ROW, np.array([-1])), "Labels hold -1, which is no class; give whole numbers from"),
        (lambda: metrics.log_loss(P_ROW, np.array([2])), "Labels hold 2, which is no class; give whole numbers from 0"),
        (lambda: metrics.log_loss(P_ROW, np.array([True])), "Labels such as True are no classes; give whole numbers"),
        (lambda: metrics.log_loss(P_ROW, np.array([[1]])), "Labels of shape (1, 1) were given; expected is one an"),
        (lambda: metrics.log_loss(P_ROW[0], np.array([1, 0])), "Scores of shape (2,) were given; expected is one a"),
        (lambda: metrics.calibration(P_ROW, np.array([[1]])), "Labels of shape (1, 1) were given; expected is one an"),
        (lambda: metrics.calibration(np.nan * P_ROW, np.array([1])), "Scores hold what is no finite number; look for"),
        (lambda: metrics.best_temperature(np.nan * P_ROW, np.array([1])), "Scores hold what is no finite number; look"),
        (lambda: metrics.best_temperature(P_ROW, np.array([[1]])), "Labels of shape (1, 1) were given; expected is"),
    ],
)
def test_what_would_give_a_wrong_number_is_refused(wrong: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        wrong()
    assert said in str(caught.value)


def test_the_best_temperature_is_that_of_a_search_over_smoothed_log_loss() -> None:
    scores = 5 * np.log(P_NK + 1e-3) - 1e4  # far too sure, and far from zero
    smoothed = np.full(scores.shape, 1 / 402 / 4)
    smoothed[np.arange(400), LABELS] = 1 - 1 / 402

    def loss(log_temperature: float) -> float:
        return -float((smoothed * log_softmax(scores / np.exp(log_temperature), axis=1)).sum(1).mean())

    start = min(np.linspace(np.log(0.05), np.log(20), 30), key=loss)
    expected = minimize(lambda point: loss(point[0]), start, method="Nelder-Mead", options={"xatol": 1e-7})
    assert metrics.best_temperature(scores, LABELS) == pytest.approx(min(np.exp(expected.x[0]), 20), rel=1e-3)
