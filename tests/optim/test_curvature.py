"""Newton, conjugate gradients, L-BFGS and spectra against linear algebra and scikit-learn on the same losses."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from saccade.errors import InputError, TrainingError
from saccade.events import Event, Finding, listening
from saccade.nn.blocks import Blocks
from saccade.nn.convnets import ConvNet
from saccade.nn.layers import WhiteningConv
from saccade.optim import LBFGS, Objective
from saccade.optim.curvature import (
    Spectrum,
    conjugate_gradients,
    exact_spectrum,
    krylov_spectrum,
    lanczos,
    mean_spectrum,
    newton_step,
    noise_scale,
)

EIGENVALUES = np.array([-3.0, -0.5, 0.01, 0.2, 1.0, 1.5, 4.0, 40.0])


def quadratic(eigenvalues: NDArray[np.float64], seed: int = 0) -> tuple[Objective, Tensor, Tensor]:
    """Return f(x) = (x - c)'A(x - c) / 2 in two parts, A and c; A has these eigenvalues."""
    draw = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(draw.normal(size=(len(eigenvalues), len(eigenvalues))))
    a_DD = torch.from_numpy((vectors * eigenvalues) @ vectors.T)
    centre_D = torch.from_numpy(draw.normal(size=len(eigenvalues)))
    first, second = (
        nn.Parameter(torch.from_numpy(draw.normal(size=shape))) for shape in ((3,), (len(eigenvalues) - 3, 1))
    )

    def parts() -> Iterator[Tensor]:
        away_D = torch.cat([first, second.flatten()]) - centre_D
        yield away_D @ a_DD @ away_D / 8
        yield 3 * (away_D @ a_DD @ away_D) / 8

    return Objective([first, second], parts), a_DD, centre_D


def test_value_gradient_product_and_hessian_of_a_quadratic() -> None:
    objective, a_DD, centre_D = quadratic(EIGENVALUES)
    away_D = objective.position() - centre_D
    value, slope_D = objective.slope()
    assert value == pytest.approx(float(away_D @ a_DD @ away_D) / 2)
    torch.testing.assert_close(slope_D, a_DD @ away_D)
    torch.testing.assert_close(objective.product(away_D), a_DD @ away_D)
    torch.testing.assert_close(objective.hessian(), a_DD)
    objective.move_to(centre_D)
    assert torch.equal(objective.position(), centre_D)
    assert objective.slope()[0] == 0


@pytest.mark.parametrize("exact", [True, False])
def test_newtons_step_lands_on_a_quadratics_minimum(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.optim.curvature.EXACT", 100 if exact else 1)
    objective, _, centre_D = quadratic(np.abs(EIGENVALUES))
    objective.move_to(objective.position() + newton_step(objective))
    torch.testing.assert_close(objective.position(), centre_D, rtol=0, atol=1e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_newton_says_where_there_is_no_minimum_and_damping_finds_one(
    exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.optim.curvature.EXACT", 100 if exact else 1)
    objective, a_DD, centre_D = quadratic(EIGENVALUES)
    with pytest.raises(TrainingError, match=r"has nowhere to go: the loss curves down, by -.*; give a damping above"):
        newton_step(objective)
    with pytest.raises(TrainingError, match=r"curves down, by -(?P<by>.*); give a damping above (?P=by), or") as caught:
        newton_step(objective, damping=0.5)
    advised = float(str(caught.value).partition("a damping above ")[2].partition(",")[0])
    assert 0.5 <= advised <= 3.005
    damped = a_DD + 5 * torch.eye(8, dtype=torch.float64)
    expected = -torch.linalg.solve(damped, a_DD @ (objective.position() - centre_D))
    torch.testing.assert_close(newton_step(objective, damping=5.0), expected, rtol=1e-5, atol=1e-6)


def test_newton_does_not_move_where_the_loss_is_flat() -> None:
    objective, a_DD, centre_D = quadratic(np.array([0.0, 0.0, 1.0, 2.0, 9.0]))
    step_D = newton_step(objective)
    expected = -torch.linalg.pinv(a_DD, rtol=1e-9) @ (a_DD @ (objective.position() - centre_D))
    torch.testing.assert_close(step_D, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_there_is_no_step_where_the_loss_is_no_number(
    exact: bool, wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.optim.curvature.EXACT", 100 if exact else 1)
    x = nn.Parameter(torch.tensor([3.0, 4.0]))
    said = r"^There is no step from here: the loss, its slope or its curvature is no finite number; begin elsewhere\.$"
    losses: list[Callable[[], Tensor]] = [lambda: x.square().sum() * wrong, lambda: x.square().sum() + wrong]
    for loss in losses:
        with pytest.raises(TrainingError, match=said):
            newton_step(Objective([x], lambda: iter([loss()])))  # noqa: B023 (run at once)
    with pytest.raises(TrainingError, match=said):
        conjugate_gradients(lambda v: v, torch.tensor([1.0, wrong]))
    with pytest.raises(TrainingError, match=said):
        conjugate_gradients(lambda v: wrong * v, torch.tensor([1.0, 2.0]))


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_eigenvalues() -> None:
    _, a_DD, centre_D = quadratic(np.array([1.0, 1.0, 5.0, 5.0, 5.0, 7.0]))
    found = conjugate_gradients(lambda v_D: a_DD @ v_D, centre_D, iterations=3)
    torch.testing.assert_close(found.x_D, torch.linalg.solve(a_DD, centre_D), rtol=1e-8, atol=1e-8)
    assert found.residual < 1e-8


@pytest.mark.parametrize("iterations", [0, 3, 20, 10_000])
def test_conjugate_gradients_say_what_is_left(iterations: int) -> None:
    diagonal_D = torch.logspace(0, 6, 200, dtype=torch.float64)
    b_D = torch.ones(200, dtype=torch.float64)
    found = conjugate_gradients(lambda v_D: diagonal_D * v_D, b_D, iterations=iterations)
    left = float((b_D - diagonal_D * found.x_D).norm() / b_D.norm())
    assert found.residual == pytest.approx(left, rel=1e-3, abs=1e-8)
    assert (found.residual <= 1e-6) == (iterations == 10_000)
    assert conjugate_gradients(lambda v_D: v_D, 0 * b_D).residual == 0


def test_a_truncated_newton_step_goes_down_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.optim.curvature.EXACT", 1)
    objective, _, _ = quadratic(np.abs(EIGENVALUES))
    heard: list[Event] = []
    with listening(heard.append):
        newton_step(objective)
    assert heard == []
    before, slope_D = objective.slope()
    with listening(heard.append):
        objective.move_to(objective.position() + newton_step(objective, iterations=2))
    [finding] = heard
    assert isinstance(finding, Finding)
    after, left_D = objective.slope()  # of a quadratic, the slope after the step is what is left of it
    assert 0 < after < before
    share = float(left_D.norm() / slope_D.norm())
    assert f"after 2 iterations {share:.2g} times the slope is left of it" in finding.detail


# spectra


def test_the_spectrum_of_a_quadratic_is_exact_both_ways() -> None:
    objective, _, _ = quadratic(EIGENVALUES)
    whole = exact_spectrum(objective.hessian())
    np.testing.assert_allclose(whole.values_M, EIGENVALUES, rtol=1e-10, atol=1e-12)
    start_D = torch.from_numpy(np.random.default_rng(1).normal(size=8))
    krylov = krylov_spectrum(objective.product, start_D, steps=8)
    np.testing.assert_allclose(krylov.values_M, EIGENVALUES, rtol=1e-8, atol=1e-10)
    assert krylov.shares_M.sum() == pytest.approx(1)
    assert whole.leading(3) == pytest.approx([40, 4, -3])
    assert krylov.leading(3) == pytest.approx([40, 4, -3])
    assert whole.condition == pytest.approx(4000)
    assert whole.negative == pytest.approx(2 / 8)
    assert whole.mean == pytest.approx(EIGENVALUES.mean())
    assert exact_spectrum(torch.diag(torch.tensor([0.0, 0.0, 3.0]))).flat == pytest.approx(2 / 3)


def test_lanczos_ends_where_nothing_is_left_to_find() -> None:
    _, a_DD, centre_D = quadratic(np.array([2.0, 2.0, 2.0, 2.0, 7.0]))
    diagonal_M, side_M = lanczos(lambda v_D: a_DD @ v_D, centre_D, steps=5)
    assert len(diagonal_M) == len(side_M) == 2
    assert side_M[-1] == 0


def test_errors_are_bounds_of_the_error() -> None:
    eigenvalues = np.concatenate([np.linspace(0, 1, 57), [5.0, 5.5, 30.0]])
    objective, _, _ = quadratic(eigenvalues)
    start_D = torch.from_numpy(np.random.default_rng(2).normal(size=60))
    early = krylov_spectrum(objective.product, start_D, steps=6)
    nearest = np.abs(early.values_M[:, None] - eigenvalues).min(1)
    assert (nearest <= early.errors_M + 1e-9).all()
    assert early.errors_M.max() > 1e-3
    assert early.leading(10)[0] == pytest.approx(30, rel=0.01)
    assert len(early.leading(10)) < 6


@pytest.mark.parametrize("steps", [1, 3, 6, 12, 30, 60])
def test_a_condition_number_is_never_said_to_be_larger_than_it_is(steps: int) -> None:
    eigenvalues = np.concatenate([np.linspace(0.2, 1, 57), [5.0, 5.5, 30.0]])
    objective, _, _ = quadratic(eigenvalues)
    for seed in range(20):
        start_D = torch.from_numpy(np.random.default_rng(seed).normal(size=60))
        found = krylov_spectrum(objective.product, start_D, steps).condition
        assert found is None or found <= 150 * (1 + 1e-6)
    assert steps < 60 or found == pytest.approx(150)
    unsure = Spectrum(np.array([0.1, 0.5, 30.0]), np.full(3, 1 / 3), np.array([0.3, 0.5, 40.0]))
    assert unsure.condition is None


class Small(nn.Module):
    """saccade's ConvNet with few channels, on images 8 px wide."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = ConvNet(
            WhiteningConv(3, 3, kernel=2), (4, 4), 4, Blocks(activation="silu", norm="batch", pool="max")
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, 4)."""
        scores_NK: Tensor = self.net(x_NCHW)
        return scores_NK


def small_convnet(dtype: torch.dtype) -> Objective:
    network = Small().to(dtype)
    draw = torch.Generator().manual_seed(1)
    x_NCHW = torch.randn(24, 3, 8, 8, generator=draw).to(dtype)
    y_N = torch.arange(24) % 4

    def parts() -> Iterator[Tensor]:
        for x, y in zip(x_NCHW.split(12), y_N.split(12), strict=True):
            yield nn.functional.cross_entropy(network(x), y, reduction="sum") / 24

    return Objective([each for each in network.parameters() if each.requires_grad], parts)


def test_the_spectrum_of_a_small_convnet_is_that_of_its_whole_hessian() -> None:
    """Of float32 by Lanczos, against the Hessian in float64, each of whose columns is a difference of gradients."""
    truth = small_convnet(torch.float64)
    at_D, columns = truth.position(), []
    for place in range(truth.size):
        ahead, behind = (at_D.clone(), at_D.clone())
        ahead[place] += 1e-5
        behind[place] -= 1e-5
        slopes = []
        for point in (ahead, behind):
            truth.move_to(point)
            slopes.append(truth.slope()[1])
        columns.append((slopes[0] - slopes[1]) / 2e-5)
    expected = np.linalg.eigvalsh(torch.stack(columns).numpy())
    largest = np.abs(expected).max()
    objective = small_convnet(torch.float32)
    np.testing.assert_allclose(exact_spectrum(objective.hessian()).values_M, expected, atol=1e-3 * largest)
    draw = torch.Generator().manual_seed(2)
    probes = [torch.randint(2, (objective.size,), generator=draw).float() * 2 - 1 for _ in range(4)]
    spectra = [krylov_spectrum(objective.product, probe_D, steps=60) for probe_D in probes]
    leading = spectra[0].leading(8)
    assert len(leading) == 8
    order = np.argsort(-np.abs(expected))[:8]
    np.testing.assert_allclose(leading, expected[order], rtol=0.01)
    density = mean_spectrum(spectra)
    assert density.mean == pytest.approx(expected.mean(), abs=0.01 * largest)
    for cut in (-0.05, 0.05, 0.2):
        share = float(density.shares_M[density.values_M < cut * largest].sum())
        assert share == pytest.approx((expected < cut * largest).mean(), abs=0.05)


# gradient noise


def test_the_noise_scale_is_that_of_gradients_drawn_with_known_noise() -> None:
    draw = np.random.default_rng(0)
    mean, sd = draw.normal(size=50), draw.uniform(0.5, 2, size=50)
    truth = (sd**2).sum() / (mean @ mean)  # of one image
    found = []
    for _ in range(50):
        gradients = mean + sd * draw.normal(size=(32, 4, 50))  # 32 batches of 4 images
        scale = noise_scale(torch.from_numpy(gradients.mean(1)), batch_size=4)
        assert scale is not None
        found.append(scale)
    assert np.mean(found) == pytest.approx(truth, rel=0.03)


def test_where_noise_drowns_the_gradient_there_is_no_scale() -> None:
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert noise_scale(gradients, batch_size=8) is None
    with pytest.raises(InputError, match=r"^The noise of gradients shows in two batches or more, and 1 was given;"):
        noise_scale(gradients[:1], batch_size=8)


# L-BFGS


def softmax(dtype: torch.dtype, penalty: float) -> tuple[nn.Linear, Objective]:
    x_ND, y_N = load_digits(return_X_y=True)
    x, y = torch.from_numpy(x_ND / 16).to(dtype), torch.from_numpy(y_N)
    network = nn.Linear(64, 10).to(dtype)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)

    def parts() -> Iterator[Tensor]:
        yield nn.functional.cross_entropy(network(x), y)
        yield penalty / 2 * network.weight.square().sum()

    return network, Objective(list(network.parameters()), parts)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-3), (torch.float32, 1e-2)])
def test_lbfgs_reaches_the_optimum_of_scikit_learns(dtype: torch.dtype, close: float) -> None:
    x_ND, y_N = load_digits(return_X_y=True)
    theirs = LogisticRegression(C=1 / (1e-3 * len(y_N)), tol=1e-9, max_iter=5000).fit(x_ND / 16, y_N)
    log_NK = theirs.predict_log_proba(x_ND / 16)
    expected = -log_NK[np.arange(len(y_N)), y_N].mean() + 1e-3 / 2 * (theirs.coef_**2).sum()
    network, objective = softmax(dtype, 1e-3)
    rule, losses = LBFGS(objective.parameters), []
    for _ in range(400):
        losses.append(rule.step(objective))
        if rule.gradient < 1e-6 or rule.stuck:
            break
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(expected, rel=1e-7 if dtype == torch.float64 else 1e-5)
    assert len(losses) < 300
    largest = float(np.abs(theirs.coef_).max())
    np.testing.assert_allclose(network.weight.detach().double().numpy(), theirs.coef_, atol=close * largest)


def test_lbfgs_on_rosenbrocks_valley() -> None:
    point = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))
    valley = Objective([point], lambda: iter([(1 - point[0]) ** 2 + 100 * (point[1] - point[0] ** 2) ** 2]))
    rule = LBFGS([point])
    assert rule.gradient == np.inf
    steps = 0
    while rule.gradient > 1e-8 and steps < 50:
        rule.step(valley)
        steps += 1
    np.testing.assert_allclose(point.detach().numpy(), [1, 1], rtol=1e-7)


def test_lbfgs_is_stuck_where_no_step_helps_and_stays_there() -> None:
    """At the foot of |x| in steps: the derivative promises a descent that there is not."""
    point = nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
    stairs = Objective([point], lambda: iter([point.sum() + (1 - 2 * point.detach()).abs().sum() * 100]))
    rule = LBFGS([point])
    assert rule.step(stairs) == 0.5
    assert rule.stuck
    assert float(point.detach()) == 0.5
