"""The range test finds the rate at which a known loss falls fastest, repeatably, and where it blows up."""

from itertools import permutations

import numpy as np
import pytest
import torch

from saccade.recipe.checking import of_rates
from saccade.study.checks import learning_rate
from saccade.study.rates import range_test, read_rates
from saccade.train import Session
from tests.study.test_faults import healthy, session

RATES = np.geomspace(1e-5, 10.0, 61)


@pytest.mark.parametrize("seed", range(5))
def test_a_synthetic_curve_is_read_right(seed: int) -> None:
    rng, log = np.random.default_rng(seed), np.log10(RATES)
    losses = 2.3 - 2.0 / (1 + np.exp(-6 * (log + 2))) + 30 * np.maximum(log - 0.3, 0) ** 2
    suggested, limit = read_rates(RATES, losses + 0.02 * rng.standard_normal(len(losses)))
    assert suggested is not None
    assert 3e-3 < suggested < 3e-2
    assert 2 < limit < 5


def test_a_loss_that_never_falls_gives_no_suggestion() -> None:
    suggested, limit = read_rates(RATES, np.full(61, 2.3))
    assert suggested is None
    assert limit == RATES[-1]


def test_a_loss_that_is_no_number_at_the_lowest_rate_gives_no_suggestion() -> None:
    assert read_rates(RATES, np.full(61, np.nan)) == (None, RATES[0])


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_fall(seed: int) -> None:
    losses = 2.3 + 0.1 * np.random.default_rng(seed).standard_normal(61)
    assert read_rates(RATES, losses)[0] is None


@pytest.mark.parametrize("seed", range(20))
def test_the_fastest_fall_is_found_in_noise(seed: int) -> None:
    rng, log = np.random.default_rng(seed), np.log10(RATES)
    losses = 2.3 - 1.5 / (1 + np.exp(-3 * (log + 2))) + 0.1 * rng.standard_normal(len(log))
    suggested, _ = read_rates(RATES, losses)
    assert suggested is not None
    assert 1e-3 < suggested < 1e-1


def at(rate: float | None) -> Session:
    torch.manual_seed(0)
    return session(healthy(), learning_rate=rate)


def test_rates_far_off_are_named_and_the_default_is_not() -> None:
    found = range_test(at(None))
    assert found is not None
    assert found.losses_TR.shape == (3, 60)
    assert found.spread < 10
    assert learning_rate(at(None), found).passed
    high = learning_rate(at(1.0), found)
    assert not high.passed
    assert high.advice.startswith("The learning rate is too high: the loss rises at it; try 0.0")
    low = learning_rate(at(1e-6), found)
    assert not low.passed
    assert low.advice.startswith("The learning rate is too low to learn; try 0.0")


def test_tests_with_other_seeds_suggest_rates_within_the_spread_told() -> None:
    found = []
    for seed in range(10):
        torch.manual_seed(0)
        test = range_test(session(healthy(), seed=seed))
        assert test is not None
        assert test.suggestion is not None
        found.append((test.suggestion, test.spread))
    assert len(set(found)) == 10, "each is of batches of its own"
    within = [rate / spread <= other <= rate * spread for (rate, spread), (other, _) in permutations(found, 2)]
    assert np.mean(within) >= 0.85, "of 0.95, for one network and few seeds"


def test_one_repetition_does_not_tell_how_surely() -> None:
    left = iter([60.0] * 70 + [0.0] * 100_000)
    found = range_test(at(None), seconds=lambda: next(left))
    assert found is not None
    assert len(found.suggestions) == 1
    assert found.spread == np.inf
    assert learning_rate(at(None), found).expected.endswith("(how surely, one repetition cannot tell)")
    told = of_rates(found, 1e-3)
    assert told is not None
    assert told["spread"] is None


def test_without_time_there_is_none() -> None:
    assert range_test(at(None), seconds=lambda: 0.0) is None
