"""Augmentations that move or hide whole pixels, without loss; every image of a batch draws its own amount."""

import torch
from torch import Generator, Tensor

from saccade.augment.draws import Strength, signed, uniform


def mirror(x_NHWC: Tensor, chosen_N: Tensor) -> Tensor:
    """Return the batch with the images where `chosen_N` is true mirrored left to right (lecture 7).

    >>> mirror(torch.tensor([[[[1], [2]]]]), torch.tensor([True])).flatten().tolist()
    [2, 1]
    """
    return torch.where(chosen_N[:, None, None, None], x_NHWC.flip(2), x_NHWC)


def mirror_some(x_NHWC: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """Mirror a share of the images left to right, each with probability `strength` (lecture 7)."""
    return mirror(x_NHWC, (uniform(len(x_NHWC), generator) < strength).to(x_NHWC.device))


def upside_down(x_NHWC: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """Mirror a share of the images top to bottom, each with probability `strength`."""
    chosen_N = (uniform(len(x_NHWC), generator) < strength).to(x_NHWC.device)
    return torch.where(chosen_N[:, None, None, None], x_NHWC.flip(1), x_NHWC)


def translate(x_NHWC: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """Shift each image by up to `strength` times its side in both directions (lecture 7).

    Whole pixels, drawn uniformly; what moves in is the image's own border, reflected.
    """
    n, h, w, _ = x_NHWC.shape
    rows_NH = _shifted(n, h, strength, generator)
    cols_NW = _shifted(n, w, strength, generator)
    image_N = torch.arange(n)
    index = (image_N[:, None, None], rows_NH[:, :, None], cols_NW[:, None, :])
    return x_NHWC[tuple(part.to(x_NHWC.device) for part in index)]


def cutout(x_NHWC: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """Blank a square with the mean colour, of `strength` times the image's side (DeVries and Taylor, 2017).

    Its centre is uniform over the image, so that it may hang over the border.
    """
    n, h, w, _ = x_NHWC.shape
    inside_NH = _window(n, h, strength, generator)
    inside_NW = _window(n, w, strength, generator)
    hidden = (inside_NH[:, :, None] & inside_NW[:, None, :])[..., None].to(x_NHWC.device)
    # Bytes are added up exactly, in any order: threads do not change the mean.
    total_C = x_NHWC.sum((0, 1, 2), dtype=torch.float64 if x_NHWC.is_floating_point() else torch.int64)
    return torch.where(hidden, (total_C / (n * h * w)).to(x_NHWC.dtype), x_NHWC)


def reflected(place: Tensor, side: int) -> Tensor:
    """Return indices up to `side` - 1 beyond either end of a row of `side` pixels, reflected into it."""
    return (side - 1) - ((side - 1) - place.abs()).abs()


def _shifted(images: int, side: int, strength: Strength, generator: Generator) -> Tensor:
    """Return index_NS: where each row (or column) of each shifted image comes from, reflected into range."""
    if isinstance(strength, Tensor):
        shift_N = signed(images, (strength * side).round().clamp(max=side - 1), generator).long()
    else:
        most = min(round(strength * side), side - 1)
        shift_N = torch.randint(-most, most + 1, (images,), generator=generator)
    return reflected(torch.arange(side) + shift_N[:, None], side)


def _window(images: int, side: int, strength: Strength, generator: Generator) -> Tensor:
    """Return inside_NS: which rows (or columns) fall within a window around a random centre."""
    length_N = (torch.as_tensor(strength, dtype=torch.float64) * side).round().long().expand(images)
    centre_N = torch.randint(0, side, (images,), generator=generator)
    place_NS = torch.arange(side) - centre_N[:, None] + (length_N // 2)[:, None]
    return (place_NS >= 0) & (place_NS < length_N[:, None])
