"""The small pictures of a run's folder: inputs as the network sees them, and mistakes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.data import Part
from saccade.device import derived_seed
from saccade.run import Run

SHEET_COLUMNS, SHEET_ROWS, SHEET_CELL = 8, 3, 96
THUMBNAIL = 160


def draw_inputs(run: Run, train: Part, side: int, seed: int) -> str:
    """Save a sheet of training images at the side the classifier sees; return its name within the run."""
    rng = np.random.default_rng(derived_seed(seed, "sheet"))
    chosen = rng.permutation(len(train))[: SHEET_COLUMNS * SHEET_ROWS]
    x_NHWC = train.select(np.sort(chosen)).squares(side)
    factor = max(1, round(SHEET_CELL / side))
    cells = x_NHWC.repeat(factor, 1).repeat(factor, 2)
    return save(run, "inputs.png", sheet(cells, SHEET_COLUMNS))


def sheet(x_NHWC: NDArray[np.uint8], columns: int, *, gap: int = 4) -> NDArray[np.uint8]:
    """Lay images (N, S, S, 3) out in rows on white: returns one picture (h, w, 3)."""
    side = x_NHWC.shape[1]
    rows = -(-len(x_NHWC) // columns)
    canvas = np.full((rows * (side + gap) - gap, min(columns, len(x_NHWC)) * (side + gap) - gap, 3), 255, np.uint8)
    for place, image in enumerate(x_NHWC):
        top, left = (place // columns) * (side + gap), (place % columns) * (side + gap)
        canvas[top : top + side, left : left + side] = image
    return canvas


def draw_each(run: Run, part: Part, keys: Sequence[str], prefix: str) -> list[str]:
    """Save a thumbnail of each image; return their names within the run."""
    names = []
    for place, key in enumerate(keys, 1):
        x_HWC = part.images.pixels.thumbnail(key, THUMBNAIL)
        factor = max(1, 64 // max(x_HWC.shape[:2]))
        names.append(save(run, f"{prefix}-{place:02}.png", x_HWC.repeat(factor, 0).repeat(factor, 1)))
    return names


def save(run: Run, name: str, x_HWC: NDArray[np.uint8]) -> str:
    """Write one picture as PNG; return its name within the run."""
    Image.fromarray(np.ascontiguousarray(x_HWC)).save(run.pictures / name)
    return f"{run.pictures.name}/{name}"
