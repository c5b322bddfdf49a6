"""Accuracies of images that belong together: intervals and tests by group, against closed forms and simulation."""

from itertools import product
from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, t

from saccade.errors import InputError
from saccade.metrics import accuracy_interval, design_effect, effective_size, judged, wilson_interval
from saccade.study.compare import compare, mcnemar, sign_flips

RNG = np.random.default_rng(5)
RIGHT_N = RNG.random(60) < 0.8
GROUPS_N = RNG.integers(0, 13, 60)


def design_effect_by_leaving_out(value_N: NDArray[np.float64], groups_N: NDArray[np.int64]) -> float:
    """The jackknife as its name says: the mean computed again without each group."""
    groups, n = np.unique(groups_N), len(value_N)
    mean = value_N.mean()
    without = np.array([value_N[groups_N != group].mean() for group in groups])
    grouped = (len(groups) - 1) / len(groups) * np.sum((without - mean) ** 2)
    single = np.sum((value_N - mean) ** 2) / n / (n - 1)
    weight = np.max((value_N - mean) ** 2) / 2 / n / (n - 1)
    together = sum(np.sum(groups_N == group) ** 2 for group in groups) / n
    return float((grouped + weight * together) / (single + weight))


def test_the_interval_is_wilsons_with_as_many_images_as_tell_as_much() -> None:
    effect = design_effect_by_leaving_out(RIGHT_N.astype(np.float64), GROUPS_N)
    assert effect > 1
    assert design_effect(RIGHT_N, GROUPS_N) == pytest.approx(effect, rel=1e-12)
    few = t.ppf(0.975, 59) / t.ppf(0.975, len(np.unique(GROUPS_N)) - 1)
    size = 60 / effect * few**2
    assert effective_size(RIGHT_N, GROUPS_N) == pytest.approx(size, rel=1e-12)
    p, z = RIGHT_N.mean(), norm.ppf(0.975)
    middle, half = p + z * z / 2 / size, z * sqrt(p * (1 - p) / size + (z / 2 / size) ** 2)
    expected = [(middle + sign * half) / (1 + z * z / size) for sign in (-1, 1)]
    assert accuracy_interval(RIGHT_N, GROUPS_N) == pytest.approx(expected, abs=1e-12)


def test_images_that_stand_alone_have_the_interval_of_wilson_to_the_bit() -> None:
    plain = wilson_interval(int(RIGHT_N.sum()), 60)
    alone_N = np.random.default_rng(1).permutation(60) + 7
    assert accuracy_interval(RIGHT_N) == accuracy_interval(RIGHT_N, alone_N) == plain
    assert design_effect(RIGHT_N, alone_N) == 1
    told = judged(RIGHT_N, alone_N)
    assert told == judged(RIGHT_N) == {
        "accuracy": RIGHT_N.mean(), "interval": list(plain), "images": 60, "groups": None, "design_effect": None
    }  # fmt: skip


def test_groups_that_answer_as_one_count_as_one_image_and_no_group_narrows() -> None:
    groups_N = np.repeat(np.arange(40), 5)
    asone_N = np.repeat(np.random.default_rng(2).random(40) < 0.7, 5)
    assert design_effect(asone_N, groups_N) == pytest.approx(5, rel=0.03)
    assert design_effect(np.tile([True, False, True, False, True], 40), groups_N) == 1
    assert design_effect(np.ones(200), groups_N) == 5
    low, high = accuracy_interval(np.ones(200, bool), groups_N)
    assert (low < wilson_interval(200, 200)[0], high) == (True, 1)
    told = judged(asone_N, groups_N)
    assert (told["images"], told["groups"]) == (200, 40)


def test_one_group_tells_nothing_and_a_handful_little() -> None:
    right_N = np.random.default_rng(6).permutation(100) >= 10
    assert accuracy_interval(right_N, np.zeros(100, int)) == (0, 1)
    assert judged(right_N, np.zeros(100, int))["design_effect"] is None
    widths = [np.diff(accuracy_interval(right_N, np.arange(100) % groups))[0] for groups in (2, 3, 5, 20, 50)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0.5


def test_groups_that_are_no_groups_of_the_images_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"Groups of shape \(3,\) cannot be those of values of shape \(60,\); give one"
    ):
        accuracy_interval(RIGHT_N, np.arange(3))


@pytest.mark.parametrize("groups", [8, 30, 100])
@pytest.mark.parametrize("accuracy", [0.7, 0.95])
@pytest.mark.parametrize("alike", [0.0, 0.2, 0.6])
def test_nineteen_of_twenty_intervals_hold_the_truth(groups: int, accuracy: float, alike: float) -> None:
    """Groups of 3 to 17 images, whose own accuracies are of a beta distribution with this intraclass correlation."""
    rng = np.random.default_rng([groups, round(100 * accuracy), round(10 * alike)])
    sizes_G = np.linspace(3, 17, groups).round().astype(int)
    groups_N, tries = np.repeat(np.arange(groups), sizes_G), 500
    shape = np.inf if alike == 0 else 1 / alike - 1
    held, naive = 0, 0
    for _ in range(tries):
        own_G = np.full(groups, accuracy) if alike == 0 else rng.beta(accuracy * shape, (1 - accuracy) * shape, groups)
        right_N = rng.random(len(groups_N)) < own_G[groups_N]
        low, high = accuracy_interval(right_N, groups_N)
        held += low <= accuracy <= high
        low, high = accuracy_interval(right_N)
        naive += low <= accuracy <= high
    error = sqrt(0.95 * 0.05 / tries)
    assert held / tries > 0.95 - 3 * error
    assert held / tries < 0.95 + 3 * error or alike == 0 or groups < 30 or accuracy > 0.9
    assert (naive / tries < 0.85) == (alike > 0)


def test_the_sign_flip_test_is_that_of_all_signs() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        groups_N = rng.integers(0, 9, 30)
        differing_N = rng.integers(-1, 2, 30)
        sums = np.bincount(groups_N, differing_N)
        signs = np.array(list(product([-1, 1], repeat=len(sums))))
        expected = np.mean(np.abs(signs @ sums) >= abs(sums.sum()))
        assert sign_flips(differing_N, groups_N) == pytest.approx(expected, abs=1e-12)


def test_the_sign_flip_test_of_single_images_is_mcnemars() -> None:
    for won, lost in [(0, 0), (1, 0), (12, 3), (40, 41), (300, 200)]:
        differing_N = np.repeat([1, -1, 0], [won, lost, 10])
        assert sign_flips(differing_N, np.arange(len(differing_N))) == pytest.approx(mcnemar(won, lost), abs=1e-12)


def test_two_classifiers_are_compared_by_group() -> None:
    first_N, second_N = np.repeat([True, False], [90, 30]), np.repeat([True, False, True], [60, 50, 10])
    groups_N = np.arange(120) // 15
    plain, alone, grouped = compare(first_N, second_N), compare(first_N, second_N, np.arange(120)), compare(
        first_N, second_N, groups_N
    )  # fmt: skip
    assert plain == alone
    assert plain.groups is None
    assert grouped.groups == 8
    assert (grouped.difference, grouped.first_alone) == (plain.difference, plain.first_alone)
    assert plain.p < 0.01 < 0.05 < grouped.p
    assert plain.interval[0] > 0 > grouped.interval[0]
    one = compare(first_N, second_N, np.zeros(120, int))
    assert one.p == pytest.approx(1)
    assert one.interval == (-1, 1)


@pytest.mark.parametrize("alike", [0.0, 0.5])
def test_equal_classifiers_are_rarely_told_apart_by_group(alike: float) -> None:
    """Each classifier is good at other groups; over all groups there are, both are equally good."""
    rng = np.random.default_rng(round(10 * alike))
    groups_N, tries = np.repeat(np.arange(25), 8), 400
    told, held, naive = 0, 0, 0
    for _ in range(tries):
        own_2G = 0.7 + alike * rng.choice([-0.5, 0.5], (2, 25))
        first_N, second_N = rng.random((2, 200)) < own_2G[:, groups_N]
        found = compare(first_N, second_N, groups_N)
        told += found.p < 0.05
        held += found.interval[0] <= 0 <= found.interval[1]
        naive += compare(first_N, second_N).p < 0.05
    error = sqrt(0.95 * 0.05 / tries)
    assert told / tries < 0.05 + 3 * error
    assert held / tries > 0.95 - 3 * error
    assert (naive / tries > 0.1) == (alike > 0)
