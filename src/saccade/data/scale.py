"""Sizes and value ranges: how pixels are shrunk, fitted to a square, and turned into 8 bits."""

import itertools
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.data.resample import LEAST, resampled
from saccade.errors import SettingError
from saccade.settings import Interpolation

GAP = 3.0
"""Beyond twice this factor, images are box-averaged by a whole one before they are resized."""
KEPT_SHORT_SIDE = 288
"""Decoded images are reduced by whole factors as long as their short side stays at least this."""
KEPT_LONG_SIDE = 32 * KEPT_SHORT_SIDE
"""And until their long side is at most this, so that no thin strip takes much memory."""
PADDING = (128, 128, 128)
"""What `pad` fills a square with: the middle grey."""

BACKGROUND = (255, 255, 255, 255)
"""What transparent parts are laid on: white."""

MANY = 256
"""Images resized in one process for which machine code is worth the quarter of a second that it takes to make."""
Fit = Literal["stretch", "crop", "pad"]
_RESAMPLING: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def reduction(width: int, height: int) -> int:
    """Return the whole factor by which an image is reduced before it is kept: its short side stays 288 to 575.

    >>> reduction(4000, 3000), reduction(1000, 600), reduction(32, 32)
    (10, 2, 1)
    """
    return max(1, min(width, height) // KEPT_SHORT_SIDE, -(-max(width, height) // KEPT_LONG_SIDE))


def reduced(image: Image.Image) -> Image.Image:
    """Return an image as it is kept: every pixel the mean of a square of `reduction` pixels' side."""
    factor = reduction(*image.size)
    return image if factor == 1 else image.reduce(factor)


def shrink(image: Image.Image, size: tuple[int, int], how: Interpolation = "bilinear") -> Image.Image:
    """Resize to `(width, height)`, antialiased; large factors are box-averaged first."""
    return image if image.size == size else image.resize(size, _RESAMPLING[how], reducing_gap=GAP)


_resized = itertools.count()


def resized(
    x_HWC: NDArray[np.uint8], height: int, width: int, how: Interpolation = "bilinear", *, mirrored: bool = False
) -> NDArray[np.uint8]:
    """Return uint8 RGB pixels, or a window of some, resized along rows, then along columns; `mirrored` left to right.

    Once many are asked for bilinearly, machine code does it in a quarter of Pillow's time, with the same pixels to the
    bit. What `shrink` averages over boxes first, Pillow resizes in one go.

    >>> resized(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), 1, 1).tolist()
    [[[5, 6, 7]]]
    """
    tall, wide = x_HWC.shape[:2]
    alike = min(wide, width) >= LEAST and wide < 2 * GAP * width and tall < 2 * GAP * height
    if alike and how == "bilinear" and next(_resized) >= MANY:
        out_HWC = np.empty((height, width, 3), np.uint8)
        resampled(x_HWC, out_HWC, mirrored=mirrored)
        return out_HWC
    image = Image.fromarray(x_HWC)
    small_HWC = np.asarray(shrink(shrink(image, (width, tall), how) if alike else image, (width, height), how))
    return small_HWC[:, ::-1] if mirrored else small_HWC


def square(
    x_HWC: NDArray[np.uint8], side: int, fit: Fit = "stretch", how: Interpolation = "bilinear"
) -> NDArray[np.uint8]:
    """Return uint8 RGB pixels as a `(side, side, 3)` square.

    `stretch` scales both sides, `crop` cuts out the largest square in the middle, `pad` adds grey
    bars. An image that has the size already is returned as it is. Raises SettingError where the side is below 1,
    or `fit` or `how` is none of those.

    >>> square(np.zeros((20, 30, 3), np.uint8), 8, "pad")[0, 0, 0]
    np.uint8(128)
    """
    check_square(side, fit, how)
    height, width = x_HWC.shape[:2]
    if height == width == side:
        return x_HWC
    if fit == "stretch" or height == width:
        return resized(x_HWC, side, side, how)
    if fit == "crop":
        short = min(width, height)
        left, top = (width - short) // 2, (height - short) // 2
        return resized(x_HWC[top : top + short, left : left + short], side, side, how)
    wide, tall = _scaled(width, height, side / max(width, height))
    left, top = (side - wide) // 2, (side - tall) // 2
    canvas_HWC = np.full((side, side, 3), PADDING, np.uint8)
    canvas_HWC[top : top + tall, left : left + wide] = resized(x_HWC, tall, wide, how)
    return canvas_HWC


def check_square(side: int, fit: Fit, how: Interpolation) -> None:
    """Raise SettingError where there are no squares of that side, or none made so."""
    if side < 1:
        raise SettingError(f"There is no image of side {side}; give at least 1.")
    choices: Any = ((fit, get_args(Fit), "fitted to a square"), (how, tuple(_RESAMPLING), "resized"))
    for given, known, what in choices:
        if given not in known:
            raise SettingError(f'An image cannot be {what} by "{given}"; give one of {", ".join(known)}.')


def thumbnail(x_HWC: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return the picture with its longer side at most `side`, aspect kept, never enlarged."""
    height, width = x_HWC.shape[:2]
    size = _scaled(width, height, min(1.0, side / max(width, height)))
    return np.asarray(shrink(Image.fromarray(x_HWC), size))


def on_white(x_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGBA pixels (H, W, 4) as RGB, transparent parts laid on white."""
    rgba = Image.fromarray(np.ascontiguousarray(x_HWC))
    return np.asarray(composite(rgba))


def composite(rgba: Image.Image) -> Image.Image:
    """Return an RGBA image as RGB, laid on the background colour."""
    return Image.alpha_composite(Image.new("RGBA", rgba.size, BACKGROUND), rgba).convert("RGB")


def to_uint8(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Return numbers of any type as 8 bits, by a rule that looks at the type and the range.

    bool: 0 and 255. Whole numbers: as they are where all lie in 0..255 (and the type is not
    uint16); by 257 where all lie in 0..65535; else spread from lowest to highest. Floats: spread
    from lowest to highest; NaN counts as the lowest.

    >>> to_uint8(np.array([0, 257, 65535], np.uint16))
    array([  0,   1, 255], dtype=uint8)
    """
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        return x.astype(np.uint8) * np.uint8(255)
    low, high = _range(x)
    if x.dtype.kind in "iu" and low >= 0 and high <= 65535:
        if high <= 255 and (x.dtype.kind, x.dtype.itemsize) != ("u", 2):
            return x.astype(np.uint8)
        return ((x.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return spread(x, low, high)


def spread(x: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map `low` to 0 and `high` to 255, clip and round; what is not a number counts as `low`."""
    unit = (np.nan_to_num(x.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    return np.rint(np.clip(unit, 0.0, 1.0) * 255.0).astype(np.uint8)


def _range(x: NDArray[Any]) -> tuple[float, float]:
    finite = x[np.isfinite(x)] if x.dtype.kind == "f" else x
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _scaled(width: int, height: int, factor: float) -> tuple[int, int]:
    return max(1, round(width * factor)), max(1, round(height * factor))
