"""Augmentations that move or hide pixels; every image of a batch draws its own amount."""

import torch
from torch import Generator, Tensor


def mirror(x_NHWC: Tensor, chosen_N: Tensor) -> Tensor:
    """Return the batch with the images where `chosen_N` is true mirrored left to right (lecture 7).

    >>> mirror(torch.tensor([[[[1], [2]]]]), torch.tensor([True])).flatten().tolist()
    [2, 1]
    """
    return torch.where(chosen_N[:, None, None, None], x_NHWC.flip(2), x_NHWC)


def translate(x_NHWC: Tensor, strength: float, generator: Generator) -> Tensor:
    """Shift each image by up to `strength` times its side in both directions (lecture 7).

    Whole pixels, drawn uniformly; what moves in is the image's own border, reflected.
    """
    n, h, w, _ = x_NHWC.shape
    rows_NH = _shifted(n, h, strength, generator)
    cols_NW = _shifted(n, w, strength, generator)
    image_N = torch.arange(n)
    index = (image_N[:, None, None], rows_NH[:, :, None], cols_NW[:, None, :])
    return x_NHWC[tuple(part.to(x_NHWC.device) for part in index)]


def cutout(x_NHWC: Tensor, strength: float, generator: Generator) -> Tensor:
    """Blank a square with the mean colour, of `strength` times the image's side (DeVries and Taylor, 2017).

    Its centre is uniform over the image, so that it may hang over the border.
    """
    n, h, w, _ = x_NHWC.shape
    inside_NH = _window(n, h, strength, generator)
    inside_NW = _window(n, w, strength, generator)
    hidden = (inside_NH[:, :, None] & inside_NW[:, None, :])[..., None].to(x_NHWC.device)
    mean = x_NHWC.float().mean((0, 1, 2)).to(x_NHWC.dtype)
    return torch.where(hidden, mean, x_NHWC)


def _shifted(images: int, side: int, strength: float, generator: Generator) -> Tensor:
    """Return index_NS: where each row (or column) of each shifted image comes from, reflected into range."""
    most = min(round(strength * side), side - 1)
    shift_N = torch.randint(-most, most + 1, (images,), generator=generator)
    place_NS = torch.arange(side) + shift_N[:, None]
    return (side - 1) - ((side - 1) - place_NS.abs()).abs()


def _window(images: int, side: int, strength: float, generator: Generator) -> Tensor:
    """Return inside_NS: which rows (or columns) fall within a window around a random centre."""
    length = round(strength * side)
    centre_N = torch.randint(0, side, (images,), generator=generator)
    place_NS = torch.arange(side) - centre_N[:, None] + length // 2
    return (place_NS >= 0) & (place_NS < length)
