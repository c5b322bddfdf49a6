"""`saccade augment`: a sheet of what each augmentation does to a source's images, and which keep their class."""

from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from saccade import augment, study
from saccade.data import Part, Parts
from saccade.device import derived_seed, generator
from saccade.events import stage
from saccade.files import write_atomic, write_json
from saccade.recipe.material import parts_of
from saccade.recipe.pictures import sheet
from saccade.recipe.plan import native_side
from saccade.report import Picture, picture, render_augmentations
from saccade.run import make_folder, refuse_place
from saccade.settings import DataSettings
from saccade.strengths import APART, STRENGTHS
from saccade.study.baselines import stratified_share
from saccade.study.invariance import Invariance, as_settings, tried
from saccade.train.preparing import COLOURED
from saccade.words import plural

SHOWN, CELL, TITLE = 10, 80, 32


def preview_augmentations(source: str | Path, settings: DataSettings, *, out: Path | None = None) -> dict[str, Any]:
    """Return which augmentations keep the class of a source's images; draw what each does in a folder.

    The test part stays sealed, and pictures are of the training part alone. Raises InputError, before anything is
    written, where source, settings or `out` cannot be used.
    """
    refuse_place(source, out)
    with stage("open") as record:
        parts = parts_of(source, settings)
        record.outcome = f"{plural(len(parts.train), 'training image')}, {plural(len(parts.classes), 'class')}"
    with stage("probe") as record:
        kept = study.invariances(parts, settings.seed)
        record.outcome = f"{sum(each.verdict == 'yes' for each in kept)} of {len(kept)} augmentations keep the class"
    with stage("draw"):
        strips = _strips(parts, settings.seed)
        drawn = _png(_sheet(strips))
        folder = make_folder(out, f"{parts.train.images.name}-augment")
        told = {
            "source": parts.train.images.source,
            "classes": list(parts.classes),
            "augmentations": [_told(each) for each in kept],
            "settings": assignment(kept),
            "folder": str(folder),
            "page": str(folder / "augment.html"),
            "sheet": str(folder / "augment.png"),
        }
        write_atomic(folder / "augment.png", drawn)
        write_atomic(
            folder / "augment.html", render_augmentations(told, {name: _picture(x) for name, x in strips.items()})
        )
        write_json(folder / "augment.json", told)
    return told


def assignment(found: list[Invariance]) -> str:
    """Return options of `saccade train` that name what keeps the class, each at its usual strength at the most."""
    strengths = as_settings(found)
    # upside_down is left to the owner: to be recognised upside down is one thing, to be photographed so another.
    left = {*APART, "upside_down"}
    mine = ", ".join(f"{name}: {strength:.3g}" for name, strength in strengths.items() if name not in left)
    mirror = next((each.verdict for each in found if each.name == "mirror"), None)
    options = ["--flip" if mirror == "yes" else "--no-flip"] if mirror else []
    options += [f"--{name} {strengths[name]:.3g}" for name in ("translate", "cutout") if name in strengths]
    return " ".join([*options, f"--set augment='{{{mine}}}'"] if mine else options)


def _told(found: Invariance) -> dict[str, Any]:
    return {**asdict(found), "verdict": found.verdict, "kept": found.kept, "why": found.why}


def _strips(parts: Parts, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Return a picture (h, w, 3) of training images as they are, and one for each augmentation, a row a strength."""
    side = _side(parts.train)
    x_NHWC = torch.from_numpy(_shown(parts.train, seed).squares(side))
    axes_33 = augment.colour_axes(torch.from_numpy(stratified_share(parts.train, COLOURED).squares(side)))
    strips = {"original": _strip([x_NHWC])}
    for name in STRENGTHS:
        rows = [
            augment.apply(x_NHWC, {name: strength}, generator(seed, "preview", name), axes_33)
            for strength in tried(name)
        ]
        strips[name] = _strip(rows)
    return strips


def _shown(part: Part, seed: int) -> Part:
    """Return some images, of as many classes as there is room for."""
    order = np.random.default_rng(derived_seed(seed, "preview")).permutation(len(part))
    labels_N = part.labels_N[order]
    turn_N = np.array([int((labels_N[:place] == label).sum()) for place, label in enumerate(labels_N[:2000])])
    return part.select(np.sort(order[: len(turn_N)][np.argsort(turn_N, kind="stable")[:SHOWN]]))


def _side(part: Part) -> int:
    """Return the side that images are changed at: their own, up to that of a cell."""
    return min(CELL, max(8, native_side(part)))


def _strip(rows: list[torch.Tensor]) -> NDArray[np.uint8]:
    """Return rows of images (N, S, S, 3), each as wide as N of them, below each other as one picture (h, w, 3)."""
    x_NHWC = torch.cat(rows).numpy()
    factor = max(1, CELL // x_NHWC.shape[1])
    strip = sheet(x_NHWC.repeat(factor, 1).repeat(factor, 2), len(rows[0]))
    return np.pad(strip, ((0, 4), (0, 0), (0, 0)), constant_values=255)


def _sheet(strips: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return all strips below each other, each under its name and strengths."""
    return np.concatenate([part for name, strip in strips.items() for part in (_title(name, strip.shape[1]), strip)])


def _title(name: str, width: int) -> NDArray[np.uint8]:
    image = Image.new("RGB", (width, TITLE), "white")
    strengths = (
        ", ".join(f"{each:.3g}" for each in tried(name)) + f" {STRENGTHS[name].unit}" if name in STRENGTHS else ""
    )
    text = f"{name}   {strengths}"
    ImageDraw.Draw(image).text((2, TITLE - 6), text, fill="black", font=ImageFont.load_default(16), anchor="ls")
    return np.asarray(image)


def _png(pixels_HW3: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "PNG")
    return buffer.getvalue()


def _picture(pixels_HW3: NDArray[np.uint8]) -> Picture:
    return picture(_png(pixels_HW3[:-4]), pixels_HW3.shape[1], pixels_HW3.shape[0] - 4)
