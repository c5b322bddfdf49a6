"""What is remembered of an image's look: 32 by 32 grey pixels and a few numbers, whatever its size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.data.scale import shrink

SIDE = 32
"""Side of a sketch in pixels."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """`grey`: SIDE by SIDE bytes of luminance; `sharpness` and `colour` as `sketch` defines them."""

    grey: bytes
    sharpness: float
    colour: float


def sketch(x_HWC: NDArray[np.uint8]) -> Sketch:
    """Return the sketch of uint8 RGB pixels.

    `sharpness` is the root mean square of second over that of first differences of the luminance along rows
    and columns: about 1 for fine detail or noise, 1/s for edges blurred over s pixels, whatever the contrast;
    1 where nothing differs; what rounding to 8 bits adds is taken off. `colour` is the mean range of the three
    channels at a pixel, 0 to 255, on the sketch.

    >>> sketch(np.full((40, 30, 3), 7, np.uint8)).sharpness
    1.0
    """
    image = Image.fromarray(x_HWC)
    grey = image.convert("L")
    small = shrink(image, (SIDE, SIDE))
    return Sketch(
        grey=(grey if image is small else small.convert("L")).tobytes(),
        sharpness=_sharpness(np.asarray(grey)),
        colour=float(np.ptp(np.asarray(small), axis=2).mean()),
    )


def _sharpness(grey_HW: NDArray[np.uint8]) -> float:
    wide_HW = grey_HW.astype(np.float32)
    first = second = 0.0
    for lines in (wide_HW, wide_HW.T):
        if lines.shape[1] < 3:
            continue
        slope = lines[:, 1:] - lines[:, :-1]
        bend = slope[:, 1:] - slope[:, :-1]
        first += float(np.vdot(slope, slope))
        second += float(np.vdot(bend, bend))
    rounding = 6 / 12 * 2 * grey_HW.size  # the variance of a bend of rounded values, which have 1/12 each
    return float(np.sqrt(max(second - rounding, 0.0) / first)) if first else 1.0


def contrast(grey_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the standard deviation of each sketch's luminance, (N,), without a copy of them all as floats.

    >>> contrast(np.array([[[0, 10]]], np.uint8)).tolist()
    [5.0]
    """
    blocks = (grey_NHW[start : start + 4096] for start in range(0, len(grey_NHW), 4096))
    return np.concatenate([np.zeros(0, np.float32), *(x.std(axis=(1, 2), dtype=np.float32) for x in blocks)])
