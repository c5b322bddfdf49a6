"""The small pictures of a run's folder: inputs as the network sees them, templates, mistakes, confused pairs."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.classifiers import LinearClassifier
from saccade.data import Cache, ImageSet, Part
from saccade.device import derived_seed
from saccade.run import Run

SHEET_COLUMNS, SHEET_ROWS, SHEET_CELL = 8, 3, 96
THUMBNAIL, SMALL = 160, 128
PAIR_PICTURES = 4
TEMPLATES = 40  # classes drawn at the most


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


def draw_templates(run: Run, classifier: LinearClassifier, classes: Sequence[str]) -> list[dict[str, str]]:
    """Save each class's row of W as a picture; return the first classes' names, each with its `picture`."""
    drawn = []
    for place, (label, x_HWC) in enumerate(zip(classifier.classes_, classifier.templates(), strict=True), 1):
        if place > TEMPLATES:
            break
        factor = max(1, 64 // x_HWC.shape[0])
        name = save(run, f"template-{place:02}.png", x_HWC.repeat(factor, 0).repeat(factor, 1))
        drawn.append({"class": classes[label], "picture": name})
    return drawn


def save(run: Run, name: str, x_HWC: NDArray[np.uint8]) -> str:
    """Write one picture as PNG; return its name within the run."""
    Image.fromarray(np.ascontiguousarray(x_HWC)).save(run.pictures / name)
    return f"{run.pictures.name}/{name}"


def draw_pairs(
    run: Run, part: Part, probabilities_NK: NDArray[np.float64], pairs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Save thumbnails of images of one class that were taken for another; return the pairs with their `pictures`.

    A pair has the names of its `true` and its `predicted` class; up to four pictures each, the surest mistakes first.
    """
    labels_N, predicted_N, keys = part.labels_N, probabilities_NK.argmax(1), part.images.keys
    drawn = []
    for place, pair in enumerate(pairs, 1):
        true, predicted = part.classes.index(pair["true"]), part.classes.index(pair["predicted"])
        taken = np.flatnonzero((labels_N == true) & (predicted_N == predicted)).tolist()
        taken.sort(key=lambda i: (-probabilities_NK[i].max(), keys[i]))
        names = draw_each(run, part, [keys[i] for i in taken[:PAIR_PICTURES]], f"pair-{place:02}")
        drawn.append({**pair, "pictures": names})
    return drawn


def thumbnails(images: ImageSet, keys: Sequence[str], cache: Cache | None) -> dict[str, bytes]:
    """Return small JPEG pictures of images by name; those of known content come from the cache."""
    drawn, new = {}, {}
    for key in keys:
        name = f"thumbnail {images.pixels.facts(key).hash}"
        if (data := cache.get(name) if cache else None) is None:
            buffer = BytesIO()
            Image.fromarray(images.pixels.thumbnail(key, SMALL)).save(buffer, "JPEG", quality=80)
            data = new[name] = buffer.getvalue()
        drawn[key] = data
    if cache and new:
        cache.put(new)
    return drawn
