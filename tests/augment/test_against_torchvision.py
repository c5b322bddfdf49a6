"""Augmentations that torchvision has too, on the same amounts; and those it lacks against SciPy and closed forms."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

from saccade import augment
from saccade.augment import colours, textures, warps

N, SIDE = 6, 21
Change = Callable[..., Tensor]


def rng(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = N, h: int = SIDE, w: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (n, h, w, 3), generator=rng(3), dtype=torch.uint8)


def first(x_NHWC: Tensor) -> Tensor:
    """Return (N, C, H, W) in 0…1, as torchvision takes floats."""
    return x_NHWC.permute(0, 3, 1, 2).float() / 255


def last(x_NCHW: Tensor) -> Tensor:
    return 255 * x_NCHW.permute(0, 2, 3, 1)


def each(change: Change, x_NHWC: Tensor, amount_N: Tensor) -> Tensor:
    """Return what torchvision makes of each image by itself, in 0…255."""
    return last(torch.stack([change(x, float(a)) for x, a in zip(first(x_NHWC), amount_N, strict=True)]))


def reflected(x_CHW: Tensor, change: Change, margin: int) -> Tensor:
    """Return the middle of what torchvision makes of an image that goes on beyond its border, reflected."""
    padded = torch.from_numpy(np.pad(x_CHW.numpy(), ((0, 0), (margin, margin), (margin, margin)), mode="reflect"))
    middle: Tensor = tv.center_crop(change(padded), list(x_CHW.shape[1:]))
    return middle


AMOUNTS = torch.tensor([-0.9, -0.4, -0.05, 0.1, 0.45, 0.8], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "change"),
    [("brightness", tv.adjust_brightness), ("contrast", tv.adjust_contrast), ("saturation", tv.adjust_saturation)],
)
def test_linear_colours_are_torchvisions(name: str, change: Change) -> None:
    x_NHWC = images().float()
    out = colours.LINEAR[name](colours.Colours.of(x_NHWC), AMOUNTS)(x_NHWC)
    torch.testing.assert_close(out, each(change, x_NHWC, 1 + AMOUNTS), atol=1e-3, rtol=0)


def test_hue_is_torchvisions() -> None:
    x_NHWC = images().float()
    x_NHWC[0, :4] = 128.0  # grey has no hue
    out = colours.hue_turned(x_NHWC, AMOUNTS / 2)
    torch.testing.assert_close(out, each(tv.adjust_hue, x_NHWC, AMOUNTS / 2), atol=0.01, rtol=0)


def test_bytes_are_rounded_to_the_nearest() -> None:
    x_NHWC = images()
    out = colours.brightness(colours.Colours.of(x_NHWC), AMOUNTS)(x_NHWC)
    exact = (x_NHWC.double() * (1 + AMOUNTS[:, None, None, None])).clamp(0, 255)
    assert float((out.double() - exact).abs().max()) <= 0.5 + 1e-4


def test_pca_colour_adds_the_training_colours_own_axes() -> None:
    mixing_33 = np.array([[40.0, 35, 30], [10, 0, -10], [1, -2, 1]])
    pixels = np.random.default_rng(0).normal(size=(40, 25, 25, 3)) @ mixing_33 + 128
    axes_33 = augment.colour_axes(torch.from_numpy(pixels)).numpy()
    covariance_33 = np.cov(pixels.reshape(-1, 3).T, bias=True)
    np.testing.assert_allclose(axes_33.T @ axes_33, covariance_33, rtol=1e-8)
    values_3 = np.linalg.eigvalsh(covariance_33)[::-1]
    np.testing.assert_allclose(np.linalg.norm(axes_33, axis=1), np.sqrt(values_3), rtol=1e-6)
    grey = torch.full((4000, 1, 1, 3), 128.0)
    moved = augment.apply(grey, {"pca": 0.1}, rng(), torch.from_numpy(axes_33)).numpy().reshape(-1, 3) - 128
    np.testing.assert_allclose(np.cov(moved.T), 0.01 * covariance_33, rtol=0.15, atol=0.2)


@pytest.mark.parametrize("degrees", [-170.0, -30.0, 7.0, 90.0])
def test_rotate_is_torchvisions(degrees: float) -> None:
    x_NHWC = images()
    out = warps.sampled(x_NHWC.float(), warps.turned(torch.full((N,), degrees)))
    turn = lambda x: tv.rotate(x, degrees, interpolation=InterpolationMode.BILINEAR)  # noqa: E731
    expected = last(torch.stack([reflected(x, turn, SIDE - 1) for x in first(x_NHWC)]))
    torch.testing.assert_close(out, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("axis", [0, 1])
def test_shear_is_torchvisions(axis: int) -> None:
    x_NHWC, degrees = images(), -17.0
    slope_N = torch.full((N,), math.tan(math.radians(degrees)), dtype=torch.float64)
    none_N = torch.zeros(N, dtype=torch.float64)
    out = warps.sampled(x_NHWC.float(), warps.slanted(*((slope_N, none_N) if axis == 0 else (none_N, slope_N))))
    slant = lambda x: tv.affine(  # noqa: E731
        x, 0, [0, 0], 1.0, [degrees, 0.0] if axis == 0 else [0.0, degrees], InterpolationMode.BILINEAR
    )
    expected = last(torch.stack([reflected(x, slant, SIDE - 1) for x in first(x_NHWC)]))
    torch.testing.assert_close(out, expected, atol=0.02, rtol=0)


def test_crop_is_torchvisions_within_the_part() -> None:
    x_NHWC = images(w=30)
    top, left, h, w = 5, 9, 12, 16
    share = [torch.full((N,), value, dtype=torch.float64) for value in (w / 30, h / SIDE)]
    right, down = (
        torch.full((N,), value, dtype=torch.float64) for value in (left + w / 2 - 15, top + h / 2 - SIDE / 2)
    )
    out = warps.sampled(x_NHWC.float(), warps.cropped(share[0], share[1], right, down))
    expected = last(tv.resized_crop(first(x_NHWC), top, left, h, w, [SIDE, 30], antialias=True))
    torch.testing.assert_close(out[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=0.02, rtol=0)


def test_perspective_is_torchvisions_within_the_image() -> None:
    x_NHWC = images(h=24, w=24)
    starts = [[0, 0], [23, 0], [23, 23], [0, 23]]
    ends = [[3, 1], [20, 4], [21, 22], [1, 19]]
    corners = [torch.tensor(points, dtype=torch.float64) - 12 for points in (ends, starts)]
    out = warps.sampled(x_NHWC.float(), warps.projected(*corners).expand(N, 3, 3))
    expected = tv.perspective(first(x_NHWC), starts, ends, InterpolationMode.BILINEAR)
    whole = tv.perspective(torch.ones(1, 24, 24), starts, ends, InterpolationMode.BILINEAR)[0] > 1 - 1e-6
    assert int(whole.sum()) > 200
    torch.testing.assert_close(out[:, whole], last(expected)[:, whole], atol=0.05, rtol=0)


@pytest.mark.parametrize("bend", [-0.4, 0.3])
def test_lens_is_the_formula_sampled_by_scipy(bend: float) -> None:
    x_NHWC = images(h=18, w=25).float()
    out = warps.sampled(x_NHWC, torch.eye(3).repeat(N, 1, 1), torch.full((N,), bend))
    y, x = np.meshgrid(np.arange(18) - 8.5, np.arange(25) - 12.0, indexing="ij")
    factor = 1 + bend * ((x**2 + y**2) / (8.5**2 + 12.0**2) - 1)
    places = np.stack([y * factor + 8.5, x * factor + 12.0])
    for image, changed in zip(x_NHWC.numpy(), out.numpy(), strict=True):
        for c in range(3):
            exact = ndimage.map_coordinates(image[..., c].astype(float), places, order=1, mode="mirror")
            np.testing.assert_allclose(changed[..., c], exact, atol=0.02)


@pytest.mark.parametrize(("sd", "radius"), [(0.6, 2), (2.5, 8)])
def test_blur_is_torchvisions(sd: float, radius: int) -> None:
    x_NHWC = images().float()
    out = textures.blurred(x_NHWC, torch.full((N,), sd, dtype=torch.float64), radius)
    expected = last(tv.gaussian_blur(first(x_NHWC), [2 * radius + 1] * 2, [sd, sd]))
    torch.testing.assert_close(out, expected, atol=0.01, rtol=0)


def test_noise_is_torchvisions() -> None:
    x_NHWC = images().float()
    drawn = torch.randn(first(x_NHWC).shape, generator=rng(1))
    out = textures.noisy(x_NHWC, torch.full((N,), 25.5, dtype=torch.float64), drawn.permute(0, 2, 3, 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = v2.GaussianNoise(sigma=0.1)(first(x_NHWC).contiguous())
    torch.testing.assert_close(out, last(expected), atol=1e-3, rtol=0)


def test_several_warps_cost_one_sampling_of_their_product() -> None:
    x_NHWC = images().float()
    out = augment.apply(x_NHWC, {"rotate": 20.0, "stretch": 0.2}, rng(5))
    draws, size = rng(5), (N, SIDE, SIDE)
    turn, scale = warps.rotate(size, 20.0, draws), warps.stretch(size, 0.2, draws)
    assert torch.equal(out, warps.sampled(x_NHWC, turn @ scale))


def test_amounts_are_uniform_up_to_the_strength() -> None:
    matrices = warps.rotate((4000, 5, 5), 30.0, rng())
    degrees = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]).rad2deg().numpy()
    assert stats.kstest(degrees, stats.uniform(-30, 60).cdf).pvalue > 1e-3
