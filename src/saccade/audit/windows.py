"""Windows of sketches: where they lie, which are tried, and the matrices that sample them line by line."""

import numpy as np
from numpy.typing import NDArray

from saccade.data.sketch import SIDE

Floats = NDArray[np.float32]
Places = float | NDArray[np.float64]
Frame = tuple[Places, Places, Places]
"""A window of a sketch: its side as a share, and how far its middle is moved right and down, in sketch pixels.

Or one window for each of P sketches, as three arrays (P,)."""

WHOLE: Frame = (1.0, 0.0, 0.0)
WINDOWS: tuple[tuple[float, tuple[float, ...]], ...] = (
    (1.0, (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)),
    (0.9, (-1.5, 0.0, 1.5)),
    (0.8, (-3.0, -1.5, 0.0, 1.5, 3.0)),
)
"""Windows of one picture that are compared with the whole of the other: sides, and the shifts in both directions."""
FRAMES = np.array([(size, right, down) for size, shifts in WINDOWS for down in shifts for right in shifts])
"""The same, (F, 3)."""
CROPS: tuple[Frame, ...] = (
    (0.9, 0.0, 0.0),
    (0.8, 0.0, 0.0),
    *((0.9, x, y) for x in (-1.5, 1.5) for y in (-1.5, 1.5)),
    *((0.8, x, y) for x in (-2.5, 2.5) for y in (-2.5, 2.5)),
)
"""Windows that candidates are found by too, one after the other, where there is time."""


def sampled(side: int, size: Places, shift: Places) -> Floats:
    """Return the matrix (side, side) from a line of so many pixels or cells to those of a window of it.

    The window is sampled `side` times, linearly, its ends repeated; `shift` is in sketch pixels whatever the side.
    Of windows (P,) it is (P, side, side).
    """
    places = (np.arange(side) + 0.5) / side
    size_1, shift_1 = np.asarray(size)[..., None], np.asarray(shift)[..., None]
    at = np.clip(((places - 0.5) * size_1 + 0.5 + shift_1 / SIDE) * side - 0.5, 0, side - 1)
    weights = np.abs(at.astype(np.float32)[..., None] - np.arange(side, dtype=np.float32))
    return np.asarray(np.maximum(np.subtract(1, weights, out=weights), 0, out=weights))


def cosines(count: int, size: Places, shift: Places) -> Floats:
    """Return the matrix (count, SIDE) from a line of pixels to the lowest frequencies of a window of it.

    The transform is the orthonormal DCT-II. Of windows (P,) it is (P, count, SIDE).
    """
    places = (np.arange(SIDE) + 0.5) / SIDE
    transform = np.cos(np.pi * np.arange(count)[:, None] * places) * np.sqrt(2 / SIDE)
    transform[0] /= np.sqrt(2)
    return np.asarray(transform.astype(np.float32) @ sampled(SIDE, size, shift))
