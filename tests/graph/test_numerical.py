"""Numerical derivatives against known ones, and kinks told from what is merely steep."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from saccade.graph import derivative, numerical_gradient

SMOOTH: dict[str, tuple[Callable[[float], float], float]] = {
    "polynomial": (lambda t: (3 + t) ** 4, 108.0),
    "exponential": (lambda t: math.exp(5 * t), 5.0),
    "steep": (lambda t: math.tanh(1000 * t), 1000.0),
    "sine": (lambda t: math.sin(1 + t), math.cos(1)),
    "beside a large constant": (lambda t: 1e6 + math.sin(t), 1.0),
    "flat": (lambda t: 7.0, 0.0),
    "next to a kink": (lambda t: max(t + 3e-6, 0.0), 1.0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions_are_differentiated_within_their_uncertainty(name: str) -> None:
    function, known = SMOOTH[name]
    found = derivative(function)
    assert not found.kink
    assert abs(found.value - known) <= found.uncertainty
    assert found.uncertainty <= 1e-4 * max(1.0, abs(known))


@pytest.mark.parametrize(
    ("function", "left", "right"),
    [
        (abs, -1.0, 1.0),
        (lambda t: max(t, 0.0), 0.0, 1.0),
        (lambda t: math.exp(t) + 5 * abs(t), -4.0, 6.0),
        (lambda t: max(0.1 * t, t), 0.1, 1.0),
    ],
)
def test_a_kink_has_two_one_sided_derivatives(function: Callable[[float], float], left: float, right: float) -> None:
    found = derivative(function)
    assert found.kink
    assert [found.left, found.right] == pytest.approx([left, right], abs=1e-5)


def test_where_a_function_ends_there_is_no_derivative() -> None:
    assert derivative(lambda t: math.sqrt(t) if t >= 0 else math.nan).kink


@pytest.mark.parametrize("function", [lambda t: float(t > 0), lambda t: math.tanh(1e9 * t)], ids=["jump", "too steep"])
def test_what_no_step_resolves_counts_as_a_kink(function: Callable[[float], float]) -> None:
    assert derivative(function).kink


@pytest.mark.parametrize(("expected", "looks"), [(math.cos(1) * (1 + 5e-8), 4), (math.cos(1) * (1 + 1e-6), 12)])
def test_a_derivative_as_expected_needs_no_finer_steps(expected: float, looks: int) -> None:
    seen = []

    def noisy(t: float) -> float:
        seen.append(t)
        return 1e3 + math.sin(1 + t)

    found = derivative(noisy, middle=1e3 + math.sin(1), expected=expected)
    assert len(seen) == looks
    assert 0.0 not in seen
    assert abs(found.value - math.cos(1)) <= found.uncertainty


@pytest.mark.parametrize("expected", [0.0, -1.0, 1.0])
def test_no_kink_is_taken_for_what_was_expected(expected: float) -> None:
    assert derivative(abs, expected=expected).kink


def test_rounding_within_a_function_is_no_kink() -> None:
    assert not derivative(lambda t: 1.0 + (100.0 + math.sin(t)) - 100.0).kink


def test_what_is_computed_in_single_precision_is_known_to_be_uncertain() -> None:
    found = derivative(lambda t: float(np.float32(np.float32(2.0) + np.float32(t)) ** 3), eps=float(np.finfo("f4").eps))
    assert abs(found.value - 12.0) <= found.uncertainty < 1.0


def test_the_gradient_of_a_softmax_loss_is_the_closed_form() -> None:
    scores = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    gradient = numerical_gradient(lambda x: x.logsumexp(1).sum(), scores)
    values = scores.double().numpy()
    np.testing.assert_allclose(gradient.numpy(), np.exp(values - logsumexp(values, axis=1, keepdims=True)), rtol=1e-7)
    assert scores.dtype == torch.float32, "the tensor itself is left alone"


def test_a_function_may_work_in_place() -> None:
    gradient = numerical_gradient(lambda x: x.mul_(2).sum(), torch.tensor([1.0, 2.0]))
    np.testing.assert_allclose(gradient.numpy(), [2.0, 2.0], rtol=1e-7)


def test_numbers_of_every_size_get_a_step_that_suits_them() -> None:
    x = torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64)
    np.testing.assert_allclose(numerical_gradient(lambda x: (x * x.log()).sum(), x[1:]), x[1:].log() + 1, rtol=1e-6)
    np.testing.assert_allclose(numerical_gradient(lambda x: x.prod(), x), [1e6, 1.0, 1e-6], rtol=1e-6)
