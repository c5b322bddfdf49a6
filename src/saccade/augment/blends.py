"""Augmentations that put two images, and their labels, into one."""

import math

import numpy as np
import torch
from torch import Generator, Tensor

from saccade.augment.draws import as_given, per_image
from saccade.errors import InputError, SettingError


def mixup(x_NHWC: Tensor, strength: float, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Average each image with another of the batch: λ x + (1 - λ) x', λ ~ Beta(strength, strength) an image.

    Returns the images, the index_N of the other image, and λ_N, float64, which is the share of the image's own
    label (Zhang et al., 2018; see `targets`). At strength 0, λ is 1. Raises SettingError for a strength below 0, or
    not finite.
    """
    share_N, other_N = _drawn(x_NHWC, strength, generator)
    if strength == 0:
        return x_NHWC, other_N, share_N
    own, other_NHWC = per_image(share_N, x_NHWC), x_NHWC[other_N.to(x_NHWC.device)]
    mixed = as_given(own * x_NHWC.float() + (1 - own) * other_NHWC.float(), x_NHWC)
    return mixed, other_N, share_N


def cutmix(x_NHWC: Tensor, strength: float, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Put a rectangle of another image of the batch in each, of 1 - λ of its area, λ ~ Beta(strength, strength).

    Returns what `mixup` does; the rectangle's centre is uniform over the image, and the share of the label is that
    of the pixels that are left where it hangs over the border (Yun et al., 2019). Raises SettingError as it does.
    """
    _, h, w, _ = x_NHWC.shape
    share_N, other_N = _drawn(x_NHWC, strength, generator)
    if strength == 0:
        return x_NHWC, other_N, share_N
    inside_NH = _within(h, (1 - share_N).sqrt(), generator)
    inside_NW = _within(w, (1 - share_N).sqrt(), generator)
    share_N = 1 - (inside_NH.sum(1) * inside_NW.sum(1)).double() / (h * w)
    there = (inside_NH[:, :, None] & inside_NW[:, None, :])[..., None].to(x_NHWC.device)
    return torch.where(there, x_NHWC[other_N.to(x_NHWC.device)], x_NHWC), other_N, share_N


def targets(y_N: Tensor, other_N: Tensor, share_N: Tensor, classes: int) -> Tensor:
    """Return target_NK, float32: `share_N` of each image's own label, and the rest of the other image's.

    Raises InputError unless each image has one label, one other image and one share.

    >>> targets(torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([0.75, 1.0]), 3).tolist()
    [[0.75, 0.0, 0.25], [0.0, 0.0, 1.0]]
    """
    if not y_N.shape == other_N.shape == share_N.shape or y_N.ndim != 1:
        shapes = ", ".join(str(tuple(each.shape)) for each in (y_N, other_N, share_N))
        raise InputError(f"Labels, other images and shares of shapes {shapes} do not fit; give one of each an image.")
    own_NK = torch.nn.functional.one_hot(y_N, classes)
    share_N1 = share_N.to(y_N.device, torch.float32)[:, None]
    return share_N1 * own_NK + (1 - share_N1) * own_NK[other_N.to(y_N.device)]


def _drawn(x_NHWC: Tensor, strength: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return share_N and other_N; torch draws no Beta from a generator, so NumPy does, from a seed of it."""
    if not 0 <= strength < math.inf:
        raise SettingError(f"Images cannot be mixed at the strength {strength:g}; give a finite number, at least 0.")
    n = len(x_NHWC)
    seed = int(torch.randint(2**62, (), generator=generator))
    share_N = np.random.default_rng(seed).beta(strength, strength, n) if strength else np.ones(n)
    return torch.from_numpy(share_N), torch.randperm(n, generator=generator)


def _within(side: int, share_N: Tensor, generator: Generator) -> Tensor:
    """Return inside_NS: which rows (or columns) fall within a window of so much of the side."""
    centre_N = torch.randint(0, side, share_N.shape, generator=generator)
    half_N = (share_N * side).long() // 2
    place_NS = torch.arange(side) - centre_N[:, None]
    return (place_NS >= -half_N[:, None]) & (place_NS < half_N[:, None])
