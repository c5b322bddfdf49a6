"""What augmentations draw: one amount an image, on the CPU, so that every device sees the same."""

from collections.abc import Callable, Iterable

import torch
from torch import Generator, Tensor

Strength = float | Tensor
"""The most that any image draws, or each image's own amount (N,), of which nothing but the direction is drawn."""


def uniform(images: int, generator: Generator) -> Tensor:
    """Return u_N in [0, 1), float64."""
    return torch.rand(images, generator=generator, dtype=torch.float64)


def amount(images: int, strength: Strength, generator: Generator) -> Tensor:
    """Return amount_N, float64, uniform from 0 to strength, or the strengths given an image."""
    return strength.double() if isinstance(strength, Tensor) else uniform(images, generator) * strength


def signed(images: int, strength: Strength, generator: Generator) -> Tensor:
    """Return amount_N, float64, uniform from -strength to strength, or ± the strength given an image; 0 at 0.

    >>> sorted(set(signed(50, torch.full((50,), 0.5), torch.Generator().manual_seed(0)).tolist()))
    [-0.5, 0.5]
    """
    way_N = 2 * uniform(images, generator) - 1
    return (way_N.sign() if isinstance(strength, Tensor) else way_N) * strength


def absent(strength: Strength) -> bool:
    """Return whether a strength leaves every image as it is."""
    return not bool((strength > 0).any()) if isinstance(strength, Tensor) else strength == 0


def per_image(value_N: Tensor, like: Tensor) -> Tensor:
    """Return value_N as (N, 1, 1, …), float32, to be broadcast over images on their device."""
    return value_N.to(like.device, torch.float32).view(-1, *[1] * (like.ndim - 1))


def as_given(changed: Tensor, x_NHWC: Tensor) -> Tensor:
    """Return changed images in 0…255 and of the type of those given, bytes rounded to the nearest."""
    clamped = changed.clamp(0, 255)
    return clamped.round().to(torch.uint8) if x_NHWC.dtype == torch.uint8 else clamped.to(x_NHWC.dtype)


def on_those(x_NHWC: Tensor, strengths: Iterable[Strength], change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Replace the images for which any strength is above 0 by `change(them, their places)`; others stay to the bit."""
    chosen_N = torch.zeros(len(x_NHWC), dtype=torch.bool)
    for strength in strengths:
        chosen_N = chosen_N | (torch.as_tensor(strength) > 0)
    place_M = chosen_N.nonzero()[:, 0]
    if len(place_M) == len(x_NHWC):
        return change(x_NHWC, place_M)
    at_M = place_M.to(x_NHWC.device)
    return x_NHWC.index_copy(0, at_M, change(x_NHWC[at_M], place_M))
