"""Losses and penalties against loops in float64, PyTorch, SciPy and closed forms."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import approx_fprime, minimize_scalar
from scipy.special import logsumexp

from saccade.classifiers.losses import NAMES, loss_of
from saccade.classifiers.penalties import Penalty
from saccade.errors import SettingError

RNG = np.random.default_rng(0)
SCORES_NK, Y_N = RNG.normal(0, 3, (40, 5)), RNG.integers(0, 5, 40)


def by_loop(name: str, scores_NK: NDArray[np.float64], y_N: NDArray[np.int64], margin: float) -> list[float]:
    found = []
    for scores_K, y in zip(scores_NK, y_N, strict=True):
        if name == "softmax":
            found.append(float(logsumexp(scores_K) - scores_K[y]))
            continue
        total = 0.0
        for j in range(len(scores_K)):
            if j != y:
                short = max(0.0, scores_K[j] - scores_K[y] + margin)
                total += short if name == "hinge" else short**2
        found.append(total)
    return found


@pytest.mark.parametrize("margin", [1.0, 0.3])
@pytest.mark.parametrize("name", NAMES)
def test_losses_are_those_of_loops_and_gradients_those_of_differences(name: str, margin: float) -> None:
    loss = loss_of(name, margin)
    gradient_NK = SCORES_NK.copy()
    losses_N = loss(gradient_NK, Y_N)
    np.testing.assert_allclose(losses_N, by_loop(name, SCORES_NK, Y_N, margin), rtol=1e-13, atol=1e-14)
    for n in range(len(Y_N)):
        numeric_K = approx_fprime(SCORES_NK[n], lambda s, n=n: loss(s[None].copy(), Y_N[n : n + 1])[0], 1e-7)
        np.testing.assert_allclose(gradient_NK[n], numeric_K, atol=1e-5)


@pytest.mark.parametrize(("name", "power"), [("hinge", 1), ("squared_hinge", 2)])
@pytest.mark.parametrize("margin", [1.0, 2.5])
def test_hinges_are_those_of_pytorch_times_the_classes(name: str, power: int, margin: float) -> None:
    scores = torch.tensor(SCORES_NK, requires_grad=True)
    theirs = 5 * torch.nn.functional.multi_margin_loss(
        scores, torch.from_numpy(Y_N), p=power, margin=margin, reduction="none"
    )
    theirs.sum().backward()
    ours = SCORES_NK.copy()
    np.testing.assert_allclose(loss_of(name, margin)(ours, Y_N), theirs.detach().numpy(), rtol=1e-12)
    assert scores.grad is not None
    np.testing.assert_allclose(ours, scores.grad.numpy(), atol=1e-12)


def test_softmax_is_that_of_pytorch_and_stable() -> None:
    scores_NK = np.array([[1e4, 0.0, -1e4], [1.0, 2.0, 3.0]])
    scores = torch.tensor(scores_NK, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(scores, torch.tensor([1, 2]), reduction="none")
    theirs.sum().backward()
    losses_N = loss_of("softmax")(scores_NK, np.array([1, 2]))
    np.testing.assert_allclose(losses_N, theirs.detach().numpy(), rtol=1e-13)
    assert scores.grad is not None
    np.testing.assert_allclose(scores_NK, scores.grad.numpy(), atol=1e-15)


def test_the_rounded_hinge_lies_below_by_half_its_rounding_at_most() -> None:
    sharp_N = loss_of("hinge")(SCORES_NK.copy(), Y_N)
    round_N = loss_of("hinge", 1.0, 0.2)(gradient_NK := SCORES_NK.copy(), Y_N)
    assert (round_N <= sharp_N).all()
    assert (sharp_N - round_N <= 4 * 0.1 + 1e-12).all()
    for n in range(len(Y_N)):
        numeric_K = approx_fprime(
            SCORES_NK[n], lambda s, n=n: loss_of("hinge", 1.0, 0.2)(s[None].copy(), Y_N[n : n + 1])[0], 1e-7
        )
        np.testing.assert_allclose(gradient_NK[n], numeric_K, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("none", 0.0), ("l2", 0.3 * 5.25), ("l1", 0.3 * 3.5), ("elastic_net", 0.3 * (0.7 * 5.25 + 3.5))],
)
def test_penalties_are_those_of_the_notes(name: str, expected: float) -> None:
    assert Penalty.of(name, 0.3, beta=0.7)(np.array([[2.0, -1.0], [0.0, 0.5]])) == pytest.approx(expected, rel=1e-14)


def test_shrinking_is_the_minimum_it_says() -> None:
    penalty, weights = Penalty(l1=0.8), np.array([2.0, 0.3, -0.1, -3.0, 0.0])
    shrunk = penalty.shrunk(weights, 0.5)
    for w, found in zip(weights, shrunk, strict=True):
        best = minimize_scalar(lambda v, w=w: (v - w) ** 2 / (2 * 0.5) + 0.8 * abs(v), bounds=(-4, 4), method="bounded")
        assert found == pytest.approx(best.x, abs=1e-4)
    assert (shrunk[1:3] == 0).all()
    assert Penalty(l2=1.0).shrunk(weights, 0.5) is weights


def test_wrong_names_and_numbers_are_told() -> None:
    with pytest.raises(SettingError, match='There is no loss "hinges"; give softmax, hinge, squared_hinge'):
        loss_of("hinges")
    with pytest.raises(SettingError, match="The margin cannot be 0; give a number above 0"):
        loss_of("hinge", 0)
    with pytest.raises(SettingError, match='There is no penalty "l3"; give none, l2, l1, elastic_net'):
        Penalty.of("l3", 1.0)
    with pytest.raises(SettingError, match="The strength of the penalty cannot be -1; give a number of at least 0"):
        Penalty.of("l2", -1)
    with pytest.raises(SettingError, match="The beta of the elastic net cannot be nan"):
        Penalty.of("elastic_net", 1, np.nan)
