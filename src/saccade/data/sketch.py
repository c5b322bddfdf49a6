"""What is remembered of an image's look: 32 by 32 grey pixels, 8 by 8 colours and a few numbers, whatever its size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.data.scale import resized

SIDE = 32
"""Side of a sketch in pixels."""
CELLS = 8
"""Cells of a sketch's side whose colour is kept."""
ENOUGH = 4 * SIDE
"""Pixels of a side that a sketch is made of; of larger images some are left out evenly."""
LINES = 64
"""Rows, and columns, of a large image that its sharpness is measured on."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """`grey`: SIDE by SIDE bytes of luminance; `chroma`: CELLS by CELLS pairs of bytes, Cb and Cr of JPEG.

    `sharpness` and `colour` are as `sketches` defines them.
    """

    grey: bytes
    chroma: bytes
    sharpness: float
    colour: float


def sketch(x_HWC: NDArray[np.uint8]) -> Sketch:
    """Return the sketch of uint8 RGB pixels: see `sketches`."""
    return sketches(x_HWC[None])[0]


def sketches(x_NHWC: NDArray[np.uint8]) -> list[Sketch]:
    """Return the sketches of uint8 RGB images of one size.

    `sharpness` is the root mean square of second over that of first differences of the luminance along some
    LINES rows and columns: about 1 for fine detail or noise, 1/s for edges blurred over s pixels, whatever the
    contrast; 1 where nothing differs; what rounding to 8 bits adds is taken off. `colour` is the mean range of
    the three channels at a pixel, 0 to 255, on the sketch.

    >>> sketches(np.full((1, 40, 30, 3), 7, np.uint8))[0].sharpness
    1.0
    """
    alike = x_NHWC.shape[1:3] == (SIDE, SIDE)
    step = max(1, min(x_NHWC.shape[1:3]) // ENOUGH)
    small_NHWC = x_NHWC if alike else np.stack([_small(x_HWC) for x_HWC in _thinned(x_NHWC, step, step)])
    red, green, blue = (small_NHWC[..., channel] for channel in range(3))
    highest, lowest = (np.maximum, np.minimum)
    range_NHW = highest(highest(red, green), blue) - lowest(lowest(red, green), blue)
    colour_N = range_NHW.mean((1, 2), dtype=np.float32)
    # Of a small image all rows and columns are looked at, so that its luminance is made once.
    whole_NHW = _luminance(x_NHWC) if max(x_NHWC.shape[1:3]) < 2 * LINES else None
    grey_NHW = whole_NHW if alike and whole_NHW is not None else _luminance(small_NHWC)
    sharpness_N = _sharpness(*_lines(x_NHWC) if whole_NHW is None else (whole_NHW, whole_NHW.swapaxes(1, 2)))
    return [
        Sketch(grey.tobytes(), chroma.tobytes(), float(sharpness), float(colour))
        for grey, chroma, sharpness, colour in zip(grey_NHW, _chroma(small_NHWC), sharpness_N, colour_N, strict=True)
    ]


def _small(x_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return resized(x_HWC, SIDE, SIDE)


def _lines(x_NHWC: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the luminance of about LINES evenly spaced rows, and of as many columns, each along its last axis."""
    down, right = (max(1, side // LINES) for side in x_NHWC.shape[1:3])
    return _luminance(x_NHWC[:, ::down]), _luminance(_thinned(x_NHWC, 1, right)).swapaxes(1, 2)


def _thinned(x_NHWC: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Return every so many rows and columns: pixels are copied whole, which NumPy does twice as fast as their bytes."""
    pixels_NHW = x_NHWC.view("V3")[..., 0]
    return np.ascontiguousarray(pixels_NHW[:, ::down, ::right])[..., None].view(np.uint8)


def _luminance(x_NHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luminance, 0.299 R + 0.587 G + 0.114 B rounded, of images stacked into one for Pillow."""
    stacked = np.ascontiguousarray(x_NHWC).reshape(-1, *x_NHWC.shape[2:])
    return np.asarray(Image.fromarray(stacked).convert("L")).reshape(x_NHWC.shape[:3])


def _chroma(small_NHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return Cb and Cr, as JPEG has them, of the mean colours of cells: (N, CELLS, CELLS, 2)."""
    stacked = Image.fromarray(np.ascontiguousarray(small_NHWC).reshape(-1, SIDE, 3))
    cells = stacked.reduce(SIDE // CELLS).convert("YCbCr")
    return np.asarray(cells).reshape(-1, CELLS, CELLS, 3)[..., 1:]


def _sharpness(rows_NHW: NDArray[np.uint8], columns_NWH: NDArray[np.uint8]) -> NDArray[np.float64]:
    first_N, second_N = np.zeros((2, len(rows_NHW)))
    for lines in (rows_NHW, columns_NWH):
        if lines.shape[2] < 3:
            continue
        wide = lines.astype(np.float32)
        slope = wide[:, :, 1:] - wide[:, :, :-1]
        bend = slope[:, :, 1:] - slope[:, :, :-1]
        rounding = bend[0].size * 6 / 12  # the variance of a bend of rounded values, which have 1/12 each
        first_N += np.einsum("nhw,nhw->n", slope, slope)
        second_N += np.einsum("nhw,nhw->n", bend, bend) - rounding
    flat_N = first_N == 0
    return np.where(flat_N, 1.0, np.sqrt(np.maximum(second_N, 0.0) / np.where(flat_N, 1.0, first_N)))


def contrast(grey_NHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the standard deviation of each sketch's luminance, (N,), without a copy of them all as floats.

    >>> contrast(np.array([[[0, 10]]], np.uint8)).tolist()
    [5.0]
    """
    blocks = (grey_NHW[start : start + 4096] for start in range(0, len(grey_NHW), 4096))
    return np.concatenate([np.zeros(0, np.float32), *(x.std(axis=(1, 2), dtype=np.float32) for x in blocks)])
