"""One table of activations, normalisations, poolings and initialisations against closed forms in float64."""

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import erf, expit
from scipy.stats import norm as normal
from torch import Tensor, nn

from saccade.errors import ModelError, SettingError
from saccade.nn.activations import ACTIVATIONS, activation, gain, pieces
from saccade.nn.blocks import Blocks, Residual, global_pool_2d, norm_1d, norm_2d, pool_2d
from saccade.nn.init import INITIALISATIONS, SMALL, initialise
from saccade.nn.layers import FractionalMaxPool
from saccade.settings import TrainSettings

Floats = NDArray[np.float64]
Pair = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def choices(name: str) -> set[str]:
    """Return the names that a setting of `saccade train` takes."""
    schema = TrainSettings.model_json_schema()["properties"][name]
    return {value for each in schema.get("anyOf", [schema]) for value in each.get("enum", [])}


# f and f', neither through PyTorch.
CLOSED: dict[str, Pair] = {
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
    "prelu": (lambda z: np.where(z > 0, z, 0.25 * z), lambda z: np.where(z > 0, 1.0, 0.25)),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(z)), lambda z: np.where(z > 0, 1.0, np.exp(z))),
    "gelu": (
        lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
        lambda z: (1 + erf(z / np.sqrt(2))) / 2 + z * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
    ),
    "silu": (lambda z: z * expit(z), lambda z: expit(z) * (1 + z * (1 - expit(z)))),
}


def gradient(module: nn.Module, x: Tensor, upstream: Tensor) -> tuple[Floats, Floats]:
    """Return a module's output and the gradient of its product with `upstream`."""
    x = x.clone().requires_grad_()
    y = module(x)
    y.backward(upstream)
    assert x.grad is not None
    return y.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("name", CLOSED)
def test_an_activation_is_its_formula(name: str) -> None:
    value, slope = CLOSED[name]
    z = torch.linspace(-8, 8, 400, dtype=torch.float64)
    y, grad = gradient(activation(name).double(), z, torch.full_like(z, 3.0))
    np.testing.assert_allclose(y, value(z.numpy()), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(grad, 3 * slope(z.numpy()), rtol=1e-9, atol=1e-14)


def test_maxout_is_the_larger_piece_and_hands_the_gradient_to_it() -> None:
    draw = np.random.default_rng(0)
    x, upstream = draw.normal(size=(5, 8, 3, 2)), draw.normal(size=(5, 4, 3, 2))
    y, grad = gradient(activation("maxout"), torch.from_numpy(x), torch.from_numpy(upstream))
    first = x[:, :4] > x[:, 4:]
    np.testing.assert_array_equal(y, np.where(first, x[:, :4], x[:, 4:]))
    np.testing.assert_array_equal(grad, np.concatenate([first * upstream, ~first * upstream], axis=1))


def test_prelus_slope_is_learnt() -> None:
    module = activation("prelu").double()
    module(torch.tensor([-2.0, -1.0, 3.0], dtype=torch.float64)).sum().backward()
    [slope] = module.parameters()
    assert slope.grad is not None
    assert float(slope.grad) == -3.0


def test_the_table_is_that_of_the_settings() -> None:
    assert set(ACTIVATIONS) == {*CLOSED, "maxout"} == choices("activation")
    assert set(INITIALISATIONS) == choices("init")
    assert {name: pieces(name) for name in ACTIVATIONS} == dict.fromkeys(ACTIVATIONS, 1) | {"maxout": 2}
    for name in choices("norm"):
        norm_2d(name, 4)
    for name, width in product(choices("pool"), (2, 3)):
        pool_2d(name, width)
    for name in choices("global_pool"):
        global_pool_2d(name)
    assert set(Blocks.of(TrainSettings(activation="tanh", depth=4)).chosen) == {"activation", "depth"}


@pytest.mark.parametrize("name", CLOSED)
def test_a_gain_is_the_integral_of_the_square(name: str) -> None:
    square, _ = quad(lambda z: CLOSED[name][0](np.float64(z)) ** 2 * normal.pdf(z), -12, 12, points=[0], limit=200)
    assert gain(name) == pytest.approx(square**-0.5, rel=1e-7)


def test_gains_that_are_known() -> None:
    assert gain("relu") == pytest.approx(math.sqrt(2), rel=1e-7)
    for name, slope in (("leaky_relu", 0.01), ("prelu", 0.25)):
        assert gain(name) == pytest.approx(nn.init.calculate_gain("leaky_relu", slope), rel=1e-7)
    draw = np.random.default_rng(0).normal(size=(2, 400_000))
    assert np.square(draw.max(0)).mean() ** -0.5 == pytest.approx(gain("maxout"), rel=5e-3)


AXES = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}


def normalised(x_NCHW: Floats, name: str) -> Floats:
    """Return x normalised by the formula (x - mean) / √(variance + 1e-5)."""
    if name == "none":
        return x_NCHW
    if name == "group":  # as many groups as 32 and the channels have in common
        groups = math.gcd(32, x_NCHW.shape[1])
        split = x_NCHW.reshape(len(x_NCHW), groups, -1)
        return normal_over(split, (2,)).reshape(x_NCHW.shape)
    return normal_over(x_NCHW, AXES[name])


def normal_over(x: Floats, axes: tuple[int, ...]) -> Floats:
    return np.asarray((x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5))


def numerical(function: Callable[[Floats], Floats], x: Floats, upstream: Floats) -> Floats:
    """Return the gradient of the sum of upstream · function(x), by centred differences."""
    grad, step = np.zeros_like(x), 1e-5
    for place in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[place] += step
        behind[place] -= step
        grad[place] = (upstream * (function(ahead) - function(behind))).sum() / (2 * step)
    return grad


@pytest.mark.parametrize("name", ["batch", "layer", "instance", "group", "none"])
def test_a_normalisation_is_its_formula(name: str) -> None:
    draw = np.random.default_rng(1)
    x, upstream = draw.normal(3, 2, (3, 6, 2, 3)), draw.normal(size=(3, 6, 2, 3))
    module = norm_2d(name, 6).double()
    y, grad = gradient(module, torch.from_numpy(x), torch.from_numpy(upstream))
    np.testing.assert_allclose(y, normalised(x, name), atol=1e-12)
    np.testing.assert_allclose(grad, numerical(lambda x: normalised(x, name), x, upstream), atol=1e-7)
    parameters = dict(module.named_parameters())
    expected = {} if name == "none" else {"weight": 6, "bias": 6}
    assert {each: len(value) for each, value in parameters.items()} == expected
    if name in ("batch", "layer", "group", "none"):
        flat, rows = norm_1d(name, 6).double(), x[:, :, 0, 0]
        by_formula = normalised(rows[:, :, None, None], name)[:, :, 0, 0]
        np.testing.assert_allclose(flat(torch.from_numpy(rows)).detach().numpy(), by_formula, atol=1e-12)


def test_batch_norm_predicts_by_its_running_mean_and_variance() -> None:
    module, x = norm_2d("batch", 4).double(), torch.randn(8, 4, 3, 3, dtype=torch.float64)
    module(x)
    mean, var = 0.1 * x.mean((0, 2, 3)), 0.9 + 0.1 * x.var((0, 2, 3), correction=1)
    expected = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(module.eval()(x), expected)


def windows(x_NCHW: Floats, kernel: int, stride: int) -> Floats:
    return np.lib.stride_tricks.sliding_window_view(x_NCHW, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]


def pooled(x_NCHW: Floats, kernel: int, stride: int, formula: Callable[..., Floats]) -> Floats:
    return formula(windows(x_NCHW, kernel, stride), axis=(4, 5))


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 3)])
def test_pooling_is_its_formula(kernel: int, stride: int) -> None:
    draw = np.random.default_rng(2)
    x = draw.permutation(np.linspace(-1, 1, 2 * 3 * 9 * 9)).reshape(2, 3, 9, 9)  # no two nearly the same
    seen = windows(x, kernel, stride)
    upstream = draw.normal(size=seen.shape[:4])
    for name, formula in (("max", np.max), ("average", np.mean)):
        y, grad = gradient(pool_2d(name, kernel, stride), torch.from_numpy(x), torch.from_numpy(upstream))
        np.testing.assert_allclose(y, formula(seen, axis=(4, 5)), atol=1e-14)
        assert y.shape == (2, 3, (9 - kernel) // stride + 1, (9 - kernel) // stride + 1)
        expected = numerical(partial(pooled, kernel=kernel, stride=stride, formula=formula), x, upstream)
        np.testing.assert_allclose(grad, expected, atol=1e-7)
    for name, formula in (("max", np.max), ("average", np.mean)):
        y, grad = gradient(global_pool_2d(name), torch.from_numpy(x), torch.ones(2, 3, dtype=torch.float64))
        np.testing.assert_allclose(y, formula(x, axis=(2, 3)), atol=1e-14)
        np.testing.assert_allclose(grad.sum((2, 3)), 1.0)


def test_fractional_max_pooling_takes_windows_by_chance_in_training_alone() -> None:
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(4, 2, 20, 13)))
    module = FractionalMaxPool(2, 0.5**0.5)
    torch.manual_seed(0)
    first, second = module(x), module(x)
    assert first.shape == (4, 2, 14, 9)
    assert not torch.equal(first, second)
    module.eval()
    assert torch.equal(module(x), module(x))
    rows = np.lib.stride_tricks.sliding_window_view(x.numpy(), (2, 2), axis=(2, 3)).max((4, 5))
    for given in (first, module(x)):  # each output is the maximum of one of the windows, in their order
        for image, channel in np.ndindex(4, 2):
            assert set(given[image, channel].flatten().tolist()) <= set(rows[image, channel].flatten().tolist())
            assert given[image, channel].max() <= x[image, channel].max()
    assert FractionalMaxPool(2, 0.7)(torch.ones(1, 1, 1, 1)).shape == (1, 1, 1, 1)


STANDARD_DEVIATIONS: dict[str, Callable[[int, int, str], float]] = {
    "small": lambda fan_in, fan_out, name: SMALL,
    "xavier": lambda fan_in, fan_out, name: 1 / math.sqrt(fan_in),
    "glorot": lambda fan_in, fan_out, name: math.sqrt(2 / (fan_in + fan_out)),
    "he": lambda fan_in, fan_out, name: gain(name) / math.sqrt(fan_in),
}


@pytest.mark.parametrize("activated", ["relu", "tanh"])
@pytest.mark.parametrize("name", STANDARD_DEVIATIONS)
def test_an_initialisation_has_its_standard_deviation(name: str, activated: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(12, 300, 5), nn.Linear(400, 500), nn.Linear(300, 100))
    fixed = nn.Linear(3, 3).requires_grad_(False)
    before = fixed.weight.clone()
    initialise(nn.Sequential(fixed, *network), name, activated)
    assert torch.equal(fixed.weight, before)
    fans = [(12 * 25, 300 * 25, activated), (400, 500, activated), (300, 100, "last")]
    for layer, (fan_in, fan_out, follows) in zip(network, fans, strict=True):
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        expected = STANDARD_DEVIATIONS[name](fan_in, fan_out, activated)
        if follows == "last" and name == "he":
            expected = 1 / math.sqrt(fan_in)
        values = layer.weight.detach().double()
        assert float(values.std()) == pytest.approx(expected, rel=6 / math.sqrt(2 * values.numel()))
        assert abs(float(values.mean())) < 6 * expected / math.sqrt(values.numel())
        assert layer.bias is not None
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [
        (nn.Conv1d(40, 300, 5), 40 * 5, 300 * 5),
        (nn.Conv3d(12, 100, 3), 12 * 27, 100 * 27),
        (nn.ConvTranspose1d(40, 300, 5), 40 * 5, 300 * 5),
        (nn.ConvTranspose2d(12, 300, 5, stride=2), 12 * 25, 300 * 25),
        (nn.ConvTranspose2d(12, 300, 5, groups=3), 4 * 25, 300 * 25),
    ],
)
@pytest.mark.parametrize("name", STANDARD_DEVIATIONS)
def test_every_kind_of_convolution_is_initialised(name: str, layer: nn.Module, fan_in: int, fan_out: int) -> None:
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.ones_(parameter)
    initialise(layer, name, "relu", scores=False)
    weight, bias = layer.get_parameter("weight").detach().double(), layer.get_parameter("bias")
    expected = STANDARD_DEVIATIONS[name](fan_in, fan_out, "relu")
    assert float(weight.std()) == pytest.approx(expected, rel=6 / math.sqrt(2 * weight.numel()))
    assert not bias.any()


def test_he_for_relu_is_pytorchs_kaiming_and_glorot_its_xavier() -> None:
    ours, theirs = nn.Conv2d(6, 8, 3), nn.Conv2d(6, 8, 3)
    fills: dict[str, Callable[[Tensor], Tensor]] = {
        "he": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
        "glorot": nn.init.xavier_normal_,
    }
    for name, fill in fills.items():
        torch.manual_seed(5)
        initialise(ours, name, "relu", scores=False)
        torch.manual_seed(5)
        fill(theirs.weight)
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=0)


def test_orthogonal_weights_keep_lengths() -> None:
    layer = nn.Linear(80, 200).double()
    initialise(layer, "orthogonal", "relu", scores=False)
    weight = layer.weight.detach().numpy()
    np.testing.assert_allclose(weight.T @ weight, 2 * np.eye(80), atol=1e-8)


@pytest.mark.parametrize(
    ("activated", "name", "kept"),
    [
        ("relu", "he", True), ("leaky_relu", "he", True), ("tanh", "he", True), ("relu", "orthogonal", True),
        ("relu", "xavier", False), ("tanh", "small", False),
    ],
)  # fmt: skip
def test_the_spread_stays_within_a_factor_of_two_where_theory_says(activated: str, name: str, kept: bool) -> None:
    """At depth 20 and width 2,048 (with fewer for what is slow to draw, and where it need not be shown)."""
    width = 2048 if (activated, name) in (("relu", "he"), ("tanh", "he")) else 512
    torch.manual_seed(0)
    x_ND = torch.randn(64, width)
    squares, layer = [], nn.Linear(width, width)
    with torch.no_grad():
        for _ in range(20):
            initialise(layer, name, activated, scores=False)
            z_ND = layer(x_ND)
            squares.append(float(z_ND.square().mean()))
            x_ND = activation(activated)(z_ND)
    within = [0.5 < square / squares[1] < 2 for square in squares[1:]]
    assert all(within) if kept else not within[-1]
    if (activated, name) == ("relu", "xavier"):  # half is lost at each layer
        assert squares[-1] / squares[1] == pytest.approx(2.0**-18, rel=0.5)


def test_a_zero_branch_leaves_the_input_and_gets_a_gradient() -> None:
    x, branch = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(Residual(3, zero_last=False)(x, branch), x + branch)
    residual = Residual(3, zero_last=True)
    y = residual(x, branch)
    assert torch.equal(y, x)
    y.sum().backward()
    assert residual.scale_C is not None
    assert residual.scale_C.grad is not None
    torch.testing.assert_close(residual.scale_C.grad, branch.sum((0, 2, 3)))


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: activation("rleu"), 'There is no activation "rleu". Did you mean "relu"?'),
        (lambda: norm_2d("batchnorm", 3), 'There is no normalisation "batchnorm". Did you mean "batch"?'),
        (
            lambda: norm_1d("zzz", 3),
            'There is no normalisation "zzz". Known are: batch, layer, group, none.',
        ),
        (lambda: pool_2d("mx"), 'There is no pooling "mx". Did you mean "max"?'),
        (lambda: global_pool_2d("zzz"), 'There is no global pooling "zzz". Known are: max, average.'),
        (lambda: initialise(nn.Linear(2, 2), "hee"), 'There is no initialisation "hee". Did you mean "he"?'),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(attempt: Callable[[], object], sentence: str) -> None:
    with pytest.raises(SettingError) as caught:
        attempt()
    assert str(caught.value) == sentence


def test_instance_norm_needs_places() -> None:
    with pytest.raises(ModelError, match=r"^norm=instance normalises over an image's places, of which .*; give batch"):
        norm_1d("instance", 8)


def test_a_choice_without_meaning_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        Blocks(pool="average").refuse_others("mlp", "depth", "norm")
    assert str(caught.value) == 'The setting pool has no meaning for the network "mlp": it takes depth, norm.'
    with pytest.raises(ModelError, match=r'norm has no meaning for the network "timm/x": it is as it is\.'):
        Blocks(norm="none").refuse_others("timm/x")
