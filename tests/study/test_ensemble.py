"""Averages of classifiers: the greedy choice against a search over all weights, and when an average is refused."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade import metrics
from saccade.study.ensemble import bootstrap_interval, ensemble

K = 4


def member(labels_N: NDArray[np.int64], skill: float, seed: int) -> NDArray[np.float64]:
    """Return probabilities of a classifier that knows the label by `skill` and errs by itself."""
    rng = np.random.default_rng(seed)
    scores_NK = rng.normal(size=(len(labels_N), K))
    scores_NK[np.arange(len(labels_N)), labels_N] += skill
    powers_NK = np.exp(scores_NK)
    return np.asarray(powers_NK / powers_NK.sum(1, keepdims=True))


def log_loss(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
    return float(-np.log(probabilities_NK[np.arange(len(labels_N)), labels_N]).mean())


def test_independent_members_are_averaged_nearly_as_well_as_any_weights_could() -> None:
    labels_N = np.random.default_rng(0).integers(0, K, 600)
    members = [member(labels_N, skill, seed) for seed, skill in enumerate((1.5, 1.3, 1.2))]
    found = ensemble(members, labels_N)
    assert found.accepted
    assert sum(found.weights) == pytest.approx(1)
    mine = log_loss(np.sum([w * m for w, m in zip(found.weights, members, strict=True)], axis=0), labels_N)
    grid = [weights for weights in product(np.linspace(0, 1, 11), repeat=3) if abs(sum(weights) - 1) < 1e-9]
    best = min(log_loss(np.sum([w * m for w, m in zip(each, members, strict=True)], axis=0), labels_N) for each in grid)
    alone = min(log_loss(each, labels_N) for each in members)
    assert best <= mine < best + 0.05 * (alone - best)
    assert found.gain == pytest.approx(alone - mine)


def test_the_standard_error_is_that_of_the_paired_differences() -> None:
    labels_N = np.random.default_rng(1).integers(0, K, 300)
    members = [member(labels_N, 1.0, 10), member(labels_N, 1.0, 11)]
    found = ensemble(members, labels_N)
    average_NK = np.sum([w * m for w, m in zip(found.weights, members, strict=True)], axis=0)
    best = min(members, key=lambda each: log_loss(each, labels_N))
    rows = np.arange(len(labels_N))
    saved_N = np.log(average_NK[rows, labels_N]) - np.log(best[rows, labels_N])
    assert found.standard_error == pytest.approx(np.std(saved_N, ddof=1) / np.sqrt(len(saved_N)))


def test_a_member_that_knows_nothing_is_left_out() -> None:
    labels_N = np.random.default_rng(2).integers(0, K, 400)
    good, useless = member(labels_N, 4.0, 3), np.full((400, K), 1 / K)
    found = ensemble([useless, good], labels_N)
    assert found.weights == (0.0, 1.0)
    assert not found.accepted
    assert found.why == "no average has a lower validation log loss than the best classifier alone"


def test_a_gain_within_its_noise_is_refused() -> None:
    labels_N = np.random.default_rng(3).integers(0, K, 12)
    members = [member(labels_N, 0.5, 20), member(labels_N, 0.5, 21)]
    refused = ensemble(members, labels_N)
    many_N = np.random.default_rng(3).integers(0, K, 4000)
    accepted = ensemble([member(many_N, 0.5, 20), member(many_N, 0.5, 21)], many_N)
    assert accepted.accepted
    assert accepted.gain > accepted.standard_error
    assert not refused.accepted
    assert refused.why.endswith("not enough to keep")
    assert refused.accepted == (refused.gain > refused.standard_error and refused.accuracy >= refused.best_accuracy)


def test_accuracy_is_never_below_the_best_member_where_accepted() -> None:
    for seed in range(60):
        labels_N = np.random.default_rng(seed).integers(0, K, 50)
        members = [member(labels_N, skill, 100 * seed + n) for n, skill in enumerate((1.0, 1.2, 0.8))]
        found = ensemble(members, labels_N)
        best = max(float((each.argmax(1) == labels_N).mean()) for each in members)
        assert not found.accepted or found.accuracy >= best


def test_one_image_tells_nothing() -> None:
    members = [np.array([[0.6, 0.4]]), np.array([[0.7, 0.3]])]
    assert not ensemble(members, np.array([0])).accepted


def test_the_interval_of_a_gain_is_the_normal_one_of_many_images() -> None:
    labels_N = np.random.default_rng(5).integers(0, K, 3000)
    found = ensemble([member(labels_N, 1.0, 30), member(labels_N, 1.0, 31)], labels_N)
    half = 1.96 * found.standard_error
    assert found.interval == pytest.approx((found.gain - half, found.gain + half), abs=0.15 * half)
    assert bootstrap_interval(np.array([0.25])) == (0.25, 0.25)


def test_a_certain_mistake_costs_a_member_what_it_costs_in_every_table() -> None:
    labels_N = np.array([0, 1, 1])
    sure_NK, unsure_NK = np.eye(2)[[0, 0, 1]], np.full((3, 2), 0.5)
    found = ensemble([sure_NK, unsure_NK], labels_N)
    assert found.losses[0] == pytest.approx(-np.log(2.0**-52) / 3)
    assert found.losses == tuple(metrics.log_loss(each, labels_N) for each in (sure_NK, unsure_NK))


def test_disagreement_is_the_mean_over_the_pairs_of_those_averaged() -> None:
    labels_N = np.random.default_rng(6).integers(0, K, 500)
    members = [member(labels_N, 1.5, seed) for seed in (40, 41, 42)]
    found = ensemble(members, labels_N)
    assert all(found.weights)
    said = [each.argmax(1) for each in members]
    pairs = [(said[0] != said[1]).mean(), (said[0] != said[2]).mean(), (said[1] != said[2]).mean()]
    assert found.disagreement == pytest.approx(np.mean(pairs))
    assert found.losses == pytest.approx([log_loss(each, labels_N) for each in members])
    assert found.best == int(np.argmin(found.losses))
