"""Histograms of oriented gradients: where edges run in which direction (Dalal and Triggs, 2005)."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from saccade.device import cores
from saccade.errors import SettingError, did_you_mean
from saccade.features.base import Bytes, Features, ImageFeatures, at_least
from saccade.features.edges import REACH, kernel

EPSILON = 1e-5
CLIP = 0.2
MOST = 1 << 16  # orientations that a table of 16-bit numbers can tell apart
IMAGES, SHARE = 1024, 64  # images computed at once, and by one core at a time
NORMS = ("L1", "L1-sqrt", "L2", "L2-Hys")


class HOG(ImageFeatures):
    """Histograms of oriented gradients, those of scikit-image's `hog` with the same settings.

    Gradients are central differences, 0 at the border, of the channel in which they are largest; a cell of
    `cell` x `cell` pixels sums their lengths by orientation, 0 to 180 degrees in `orientations` bins, over
    its pixels; each block of `block` x `block` cells, at every place, is normalised by `norm`: "L2-Hys" is
    L2, clipped at 0.2, L2 again. Gradients of bytes are whole numbers, so orientations come from a table.

    >>> x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    >>> HOG(cell=8, block=2).fit_transform(x).shape
    (2, 324)
    """

    def __init__(self, orientations: int = 9, cell: int = 8, block: int = 2, norm: str = "L2-Hys") -> None:
        self.orientations = orientations
        self.cell = cell
        self.block = block
        self.norm = norm

    def _learn(self, x_NHWC: Bytes) -> None:
        if self.norm not in NORMS:
            hint = did_you_mean(self.norm, NORMS)
            raise SettingError(f'There is no normalisation "{self.norm}"; give {", ".join(NORMS)}.{hint}')
        if at_least("orientations", self.orientations, 1) > MOST:
            raise SettingError(f"orientations = {self.orientations} cannot be; give at most {MOST:,}.")
        least = at_least("cell", self.cell, 1) * at_least("block", self.block, 1)
        if min(x_NHWC.shape[1:3]) < least:
            raise SettingError(
                f"Images of {x_NHWC.shape[1]} x {x_NHWC.shape[2]} pixels have no block of {self.block} x {self.block} "
                f"cells of {self.cell} pixels; give a smaller cell or block, or images of at least {least} pixels."
            )

    def _at_once(self) -> int:
        return IMAGES

    def _rows(self, x_NHWC: Bytes) -> Features:
        kernel(x_NHWC.shape[3])  # compiled before threads ask for it

        def share(start: int) -> Features:
            cells = cell_histograms(x_NHWC[start : start + SHARE], self.orientations, self.cell)
            return blocks(cells, self.block, self.norm).reshape(len(cells), -1)

        starts = range(0, len(x_NHWC), SHARE)
        with ThreadPoolExecutor(cores()) as pool:
            return np.concatenate(list(pool.map(share, starts)))


def cell_histograms(x_NHWC: Bytes, orientations: int, cell: int) -> Features:
    """Return the mean length of gradient by orientation in each cell, (N, rows, columns, orientations) float32."""
    x_NHWC = np.ascontiguousarray(x_NHWC)
    count, height, width, channels = x_NHWC.shape
    sums = np.zeros((count, height // cell, width // cell, orientations))
    table = _table(orientations)
    edges = kernel(channels)
    edges(x_NHWC.ctypes.data, count, height, width, cell, orientations, table.ctypes.data, sums.ctypes.data)
    sums /= cell**2
    return sums.astype(np.float32)


def blocks(cells: Features, block: int, norm: str = "L2-Hys") -> Features:
    """Return normalised blocks of cells, (N, rows, columns, block * block * orientations)."""
    found = sliding_window_view(cells, (block, block), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    flat = np.array(found, order="C").reshape(*found.shape[:3], -1)
    if norm.startswith("L1"):
        flat /= flat.sum(-1, keepdims=True) + EPSILON
        return np.sqrt(flat, out=flat) if norm == "L1-sqrt" else flat
    _to_unit(flat)
    if norm == "L2-Hys":
        _to_unit(np.minimum(flat, CLIP, out=flat))
    return flat


def _to_unit(flat: Features) -> None:
    length = np.sqrt(np.einsum("...d,...d->...", flat, flat) + EPSILON**2)
    flat /= length[..., None]


@cache
def _table(orientations: int) -> NDArray[np.uint16]:
    """Return the bin of every direction that bytes have, by the code of `edges`."""
    reach = np.arange(-(REACH // 2), REACH // 2 + 1)
    degrees = np.rad2deg(np.arctan2(reach[:, None], reach)) % 180
    # As scikit-image asks it: bin i holds what is at least 180 i / n and below 180 (i + 1) / n.
    edges = 180.0 / orientations * np.arange(1, orientations)
    return np.searchsorted(edges, degrees.ravel(), side="right").astype(np.uint16)
