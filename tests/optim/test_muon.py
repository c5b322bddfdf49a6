"""Muon against float64: its orthogonal factor by the SVD, its update by the same steps in NumPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from saccade.optim.muon import COEFFICIENTS, Muon, orthogonalised

Floats = NDArray[np.float64]


def matrix(rows: int, columns: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, columns))


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6), (64, 300), (1, 9)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_factor_keeps_singular_vectors_and_brings_values_near_one(shape: tuple[int, int], scale: float) -> None:
    given = matrix(*shape)
    u, _, vt = np.linalg.svd(given, full_matrices=False)
    factor = orthogonalised(torch.from_numpy(scale * given)).numpy()
    core = u.T @ factor @ vt.T  # diagonal where the singular vectors are the same
    values = np.diag(core)
    assert values.min() > 0.55
    assert values.max() < 1.3
    assert np.abs(core - np.diag(values)).max() < 0.06
    cosine = (factor * (u @ vt)).sum() / (np.linalg.norm(factor) * np.linalg.norm(u @ vt))
    assert cosine > 0.97


@pytest.mark.parametrize("iterations", [0, 1, 3, 5])
@pytest.mark.parametrize("shape", [(6, 30), (30, 6)])
def test_each_iteration_is_the_quintic_of_the_singular_values(shape: tuple[int, int], iterations: int) -> None:
    given = matrix(*shape)
    u, values, vt = np.linalg.svd(given, full_matrices=False)
    a, b, c = COEFFICIENTS
    values /= np.linalg.norm(given)
    for _ in range(iterations):
        values = a * values + b * values**3 + c * values**5
    expected = u @ np.diag(values) @ vt
    factor = orthogonalised(torch.from_numpy(given), iterations).numpy()
    assert np.linalg.norm(factor - expected) < 0.05 * np.linalg.norm(expected)  # bfloat16


def test_no_gradient_no_direction() -> None:
    assert torch.equal(orthogonalised(torch.zeros(3, 5)), torch.zeros(3, 5))
    assert orthogonalised(torch.ones(3, 5, dtype=torch.float64)).dtype == torch.float64


def newton_schulz(x: Floats, iterations: int) -> Floats:
    """The same iteration, written for float64 and without transposing."""
    a, b, c = COEFFICIENTS
    x = x / np.linalg.norm(x)
    for _ in range(iterations):
        inner = x.T @ x
        x = a * x + x @ (b * inner + c * inner @ inner)
    return x


def test_updates_are_those_of_float64() -> None:
    start = np.random.default_rng(0).normal(size=(10, 4, 3, 3))
    kernel = nn.Parameter(torch.from_numpy(start.copy()))
    rule = Muon([kernel], lr=0.2, momentum=0.6, iterations=3)
    expected, velocity = start, np.zeros_like(start)
    for step in range(4):
        gradient = np.random.default_rng(step + 1).normal(size=start.shape)
        kernel.grad = torch.from_numpy(gradient.copy())
        rule.step()
        velocity = 0.6 * velocity + gradient
        ahead = (gradient + 0.6 * velocity).reshape(10, -1)
        update = newton_schulz(ahead, 3).reshape(start.shape)
        before = expected * np.sqrt(10) / np.linalg.norm(expected)
        expected = before - 0.2 * update
        moved = kernel.detach().numpy() - before
        assert np.linalg.norm(moved + 0.2 * update) < 0.06 * np.linalg.norm(0.2 * update)
    np.testing.assert_allclose(rule.state[kernel]["velocity"].numpy(), velocity, rtol=1e-12)


def test_the_length_of_a_kernel_does_not_matter() -> None:
    start = torch.from_numpy(matrix(8, 18)).reshape(8, 2, 3, 3)
    kernels = [nn.Parameter(start * scale) for scale in (1.0, 1e3)]
    gradient = torch.from_numpy(matrix(8, 18, seed=1)).reshape(8, 2, 3, 3)
    for kernel in kernels:
        kernel.grad = gradient.clone()
    Muon(kernels).step()
    torch.testing.assert_close(kernels[0], kernels[1])


def test_a_kernel_of_zeros_moves_by_the_update_and_stays_without_a_gradient() -> None:
    given = matrix(8, 18)
    moving, still = (nn.Parameter(torch.zeros(8, 2, 3, 3, dtype=torch.float64)) for _ in range(2))
    moving.grad, still.grad = torch.from_numpy(given).reshape(8, 2, 3, 3), torch.zeros_like(still)
    Muon([moving, still], lr=0.2).step()
    expected = -0.2 * newton_schulz(given, 3)
    assert np.linalg.norm(moving.detach().flatten(1).numpy() - expected) < 0.06 * np.linalg.norm(expected)
    assert torch.equal(still, torch.zeros_like(still))


def test_kernels_without_a_gradient_stay() -> None:
    kernel = nn.Parameter(torch.ones(4, 2, 3, 3))
    Muon([kernel]).step()
    assert torch.equal(kernel, torch.ones(4, 2, 3, 3))
