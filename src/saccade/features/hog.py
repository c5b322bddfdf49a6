"""Histograms of oriented gradients: where edges run in which direction (Dalal and Triggs, 2005)."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from saccade.errors import SettingError, did_you_mean
from saccade.features.base import Bytes, Features, ImageFeatures, at_least

EPSILON = 1e-5
CLIP = 0.2
REACH = 511  # gradients of bytes lie within -255 and 255
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
        at_least("orientations", self.orientations, 1)
        least = at_least("cell", self.cell, 1) * at_least("block", self.block, 1)
        if min(x_NHWC.shape[1:3]) < least:
            raise SettingError(
                f"Images of {x_NHWC.shape[1]} x {x_NHWC.shape[2]} pixels have no block of {self.block} x {self.block} "
                f"cells of {self.cell} pixels; give a smaller cell or block, or images of at least {least} pixels."
            )

    def _rows(self, x_NHWC: Bytes) -> Features:
        cells = cell_histograms(x_NHWC, self.orientations, self.cell)
        return blocks(cells, self.block, self.norm).reshape(len(x_NHWC), -1).numpy()


def cell_histograms(x_NHWC: Bytes, orientations: int, cell: int) -> Tensor:
    """Return the mean length of gradient by orientation in each cell, (N, rows, columns, orientations) float32."""
    length_NHW, code_NHW = _gradients(torch.from_numpy(np.ascontiguousarray(x_NHWC)))
    count, height, width = length_NHW.shape
    rows, columns = height // cell, width // cell
    inside = slice(None), slice(rows * cell), slice(columns * cell)
    bin_NHW = _table(orientations)[code_NHW[inside]]
    row, column = torch.arange(rows * cell) // cell, torch.arange(columns * cell) // cell
    cell_HW = row[:, None] * columns + column
    place_NHW = (torch.arange(count)[:, None, None] * (rows * columns) + cell_HW) * orientations + bin_NHW
    sums = torch.bincount(place_NHW.flatten(), length_NHW[inside].flatten(), count * rows * columns * orientations)
    return sums.view(count, rows, columns, orientations).float() / cell**2


def blocks(cells: Tensor, block: int, norm: str = "L2-Hys") -> Tensor:
    """Return normalised blocks of cells, (N, rows, columns, block, block, orientations)."""
    found = cells.unfold(1, block, 1).unfold(2, block, 1).permute(0, 1, 2, 4, 5, 3)
    flat = found.reshape(*found.shape[:3], -1)
    if norm.startswith("L1"):
        flat = flat / (flat.sum(-1, keepdim=True) + EPSILON)
        flat = flat.sqrt() if norm == "L1-sqrt" else flat
    else:
        flat = _unit(flat)
        flat = _unit(flat.clamp(max=CLIP)) if norm == "L2-Hys" else flat
    return flat.view(found.shape)


def _unit(flat: Tensor) -> Tensor:
    return flat / (flat.square().sum(-1, keepdim=True) + EPSILON**2).sqrt()


def _gradients(x_NHWC: Tensor) -> tuple[Tensor, Tensor]:
    """Return the length of each pixel's gradient, float32, and the whole number that codes its direction."""
    x_CNHW = x_NHWC.permute(3, 0, 1, 2).to(torch.int16, memory_format=torch.contiguous_format)
    down, right = torch.zeros_like(x_CNHW), torch.zeros_like(x_CNHW)
    torch.sub(x_CNHW[:, :, 2:], x_CNHW[:, :, :-2], out=down[:, :, 1:-1])
    torch.sub(x_CNHW[..., 2:], x_CNHW[..., :-2], out=right[..., 1:-1])
    squared = down.float().square_().add_(right.float().square_())
    most, down_NHW, right_NHW = squared[0], down[0], right[0]
    for channel in range(1, len(x_CNHW)):
        more = squared[channel] > most
        most = torch.where(more, squared[channel], most)
        down_NHW = torch.where(more, down[channel], down_NHW)
        right_NHW = torch.where(more, right[channel], right_NHW)
    return most.sqrt(), down_NHW.int().mul_(REACH).add_(right_NHW).add_(REACH * REACH // 2)


@cache
def _table(orientations: int) -> Tensor:
    """Return the bin of every direction that bytes have, by the code of `_gradients`."""
    reach = np.arange(-(REACH // 2), REACH // 2 + 1)
    degrees = np.rad2deg(np.arctan2(reach[:, None], reach)) % 180
    # As scikit-image asks it: bin i holds what is at least 180 i / n and below 180 (i + 1) / n.
    edges = 180.0 / orientations * np.arange(1, orientations)
    return torch.from_numpy(np.searchsorted(edges, degrees.ravel(), side="right"))
