"""Augmentations of what lies between pixels: blur and noise."""

import math

import torch
from torch import Generator, Tensor

from saccade.augment.draws import Strength, absent, amount, as_given, per_image
from saccade.augment.geometry import reflected

REACH = 3.0
"""Standard deviations of a blur that are summed over."""


def blur(x_NHWC: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """Blur each image by a Gaussian whose standard deviation is up to `strength` times its shorter side."""
    sd_N = amount(len(x_NHWC), strength, generator) * min(x_NHWC.shape[1:3])
    most = float(torch.as_tensor(strength).max()) * min(x_NHWC.shape[1:3])
    return x_NHWC if absent(strength) else blurred(x_NHWC, sd_N, max(1, math.ceil(REACH * most)))


def blurred(x_NHWC: Tensor, sd_N: Tensor, radius: int) -> Tensor:
    """Return images blurred by a Gaussian of `sd_N` pixels, cut at `radius`; borders are reflected.

    One sum along the columns and one along the rows, as the Gaussian is a product of two.
    """
    x = x_NHWC.float()
    for axis in (1, 2):
        reach = min(radius, x.shape[axis] - 1)
        offset_K = torch.arange(-reach, reach + 1, dtype=torch.float64)
        # At sd 0 the middle weight is 1 and all others 0: the image stays as it is, to the bit.
        weight_NK = (-0.5 * (offset_K / sd_N.clamp(min=1e-9)[:, None]).square()).exp()
        weight_NK /= weight_NK.sum(1, keepdim=True)
        side = x.shape[axis]
        place = reflected(torch.arange(-reach, side + reach), side).to(x.device)
        padded = x.index_select(axis, place)
        x = torch.zeros_like(x)
        for k in range(2 * reach + 1):
            x += padded.narrow(axis, k, side) * per_image(weight_NK[:, k], x)
    return as_given(x, x_NHWC)


def noise(x_NHWC: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """Add Gaussian noise to every value, of a standard deviation of up to `strength` times the range, 255."""
    sd_N = amount(len(x_NHWC), strength, generator)
    noise_NHWC = torch.randn(x_NHWC.shape, generator=generator)
    return x_NHWC if absent(strength) else noisy(x_NHWC, 255 * sd_N, noise_NHWC)


def noisy(x_NHWC: Tensor, sd_N: Tensor, noise_NHWC: Tensor) -> Tensor:
    """Return images with `sd_N` times the noise added, cut to 0…255."""
    return as_given(x_NHWC.float() + noise_NHWC.to(x_NHWC.device) * per_image(sd_N, x_NHWC), x_NHWC)
