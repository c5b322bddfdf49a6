"""Comparisons on the same images against enumeration, closed forms and published figures."""

from itertools import chain, combinations, product
from math import comb, factorial, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest

from saccade.errors import InputError
from saccade.study.compare import compare, holm, mcnemar, paired_interval

TABLES = [(30, 2, 5, 3), (300, 12, 3, 57), (1, 1, 7, 12), (0, 4, 9, 0), (10, 0, 0, 5), (0, 0, 0, 8), (2, 9, 8, 1)]


@pytest.mark.parametrize(("won", "lost"), [(0, 1), (3, 0), (5, 5), (7, 2), (1, 9)])
def test_mcnemar_counts_the_splits_as_uneven_as_the_one_seen(won: int, lost: int) -> None:
    n = won + lost
    splits = [abs(2 * sum(who) - n) >= abs(won - lost) for who in product((0, 1), repeat=n)]
    assert mcnemar(won, lost) == pytest.approx(sum(splits) / 2**n)


def test_mcnemar_without_a_difference_is_certain_of_nothing() -> None:
    assert mcnemar(0, 0) == 1.0


def test_mcnemar_of_many_is_the_binomial_tail() -> None:
    tail = sum(comb(1000, k) for k in range(461)) / 2**1000
    assert mcnemar(540, 460) == mcnemar(460, 540) == pytest.approx(2 * tail)


def test_interval_is_the_published_one() -> None:
    """The airway data of Fagerland, Lydersen and Laake (Stat. Med. 33, 2014): 1, 1, 7, 12; Newcombe's interval."""
    assert paired_interval(1, 1, 7, 12) == pytest.approx((-0.507, -0.026), abs=5e-4)


@pytest.mark.parametrize("table", TABLES)
def test_interval_is_newcombes_from_scipys_wilson_intervals_and_numpys_correlation(
    table: tuple[int, int, int, int],
) -> None:
    both, won, lost, neither = table
    n = sum(table)
    first = np.repeat([1, 1, 0, 0], table)
    second = np.repeat([1, 0, 1, 0], table)
    (p, l_p, u_p), (q, l_q, u_q) = (
        (x.mean(), wilson.low, wilson.high)
        for x in (first, second)
        for wilson in [binomtest(int(x.sum()), n).proportion_ci(method="wilson")]
    )
    phi = 0.0
    if 0 < p < 1 and 0 < q < 1:
        spread = first.std() * second.std()
        phi = np.mean((first - p) * (second - q)) / spread
        if phi > 0:
            phi = max(phi - 1 / (2 * n * spread), 0)
    low = p - q - sqrt((p - l_p) ** 2 - 2 * phi * (p - l_p) * (u_q - q) + (u_q - q) ** 2)
    high = p - q + sqrt((u_p - p) ** 2 - 2 * phi * (u_p - p) * (q - l_q) + (q - l_q) ** 2)
    assert paired_interval(both, won, lost, neither) == pytest.approx((max(low, -1), min(high, 1)), abs=1e-12)


@pytest.mark.parametrize("table", TABLES)
def test_interval_turns_with_the_runs_and_has_a_width(table: tuple[int, int, int, int]) -> None:
    both, won, lost, neither = table
    low, high = paired_interval(both, won, lost, neither)
    assert paired_interval(both, lost, won, neither) == pytest.approx((-high, -low))
    assert -1 <= low < (won - lost) / sum(table) < high <= 1


def test_interval_of_many_images_is_the_normal_one() -> None:
    both, won, lost, neither = 15_000, 1_500, 1_000, 2_500
    n, z = 20_000, NormalDist().inv_cdf(0.975)
    half = z * sqrt(won + lost - (won - lost) ** 2 / n) / n
    expected = ((won - lost) / n - half, (won - lost) / n + half)
    assert paired_interval(both, won, lost, neither) == pytest.approx(expected, abs=0.02 * half)


@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.1, 0.1), (0.6, 0.15, 0.05, 0.2), (0.3, 0.4, 0.1, 0.2)])
def test_interval_covers_the_truth_as_often_as_it_says(shares: tuple[float, float, float, float]) -> None:
    n = 24
    covered = 0.0
    for a, b, c in product(range(n + 1), repeat=3):
        if (d := n - a - b - c) < 0:
            continue
        ways = factorial(n) // (factorial(a) * factorial(b) * factorial(c) * factorial(d))
        chance = ways * np.prod(np.power(shares, (a, b, c, d)))
        low, high = paired_interval(a, b, c, d)
        covered += chance * (low <= shares[1] - shares[2] <= high)
    assert 0.94 < covered < 0.99


def test_holm_is_the_closed_test_with_bonferroni() -> None:
    """Believed is what every set of hypotheses that holds it rejects, each set at its smallest p times its size."""
    rng = np.random.default_rng(0)
    for m in (1, 2, 3, 5):
        for _ in range(20):
            p = np.round(rng.uniform(0, 0.5, m), 2).tolist()
            subsets = list(chain.from_iterable(combinations(range(m), size) for size in range(1, m + 1)))
            closed = [max(min(1, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in range(m)]
            assert holm(p) == pytest.approx(closed)


def test_holm_of_nothing() -> None:
    assert holm([]) == []


def test_compare_counts_as_a_loop_does() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random(200) < 0.8, rng.random(200) < 0.7
    compared = compare(first, second)
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    counts = (compared.both, compared.first_alone, compared.second_alone, compared.neither)
    assert counts == tuple(pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False)))
    assert compared.images == 200
    assert (compared.first_accuracy, compared.second_accuracy) == pytest.approx((first.mean(), second.mean()))
    assert compared.difference == pytest.approx(first.mean() - second.mean())
    assert compared.interval == paired_interval(*counts)
    assert compared.p == binomtest(counts[1], counts[1] + counts[2]).pvalue


def test_wrong_use_is_told() -> None:
    with pytest.raises(InputError, match="2 answers cannot be held against 3; give two classifiers' answers"):
        compare(np.ones(2, bool), np.ones(3, bool))
    with pytest.raises(InputError, match=r"0 answers cannot be held against 0; .* at least one"):
        compare(np.ones(0, bool), np.ones(0, bool))
