"""`saccade augment`: a sheet of what each augmentation does to a source's images, and which keep their class."""

from collections.abc import Mapping, Sequence
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
from saccade.palette import LIGHT
from saccade.recipe.material import parts_of
from saccade.recipe.pictures import sheet
from saccade.recipe.plan import native_side
from saccade.report import picture, render_augmentations
from saccade.run import make_folder, refuse_place
from saccade.settings import DataSettings
from saccade.strengths import APART, STRENGTHS
from saccade.study.baselines import stratified_share
from saccade.study.invariance import Invariance, as_settings, tried
from saccade.train.preparing import COLOURED
from saccade.words import plural

SHOWN, ON_SHEET = 10, 5
"""Images in a row of the page, and of these on the sheet."""
CELL, GAP, TITLE, LABEL, MARGIN = 80, 4, 34, 64, 32
PANEL = LABEL + ON_SHEET * (CELL + GAP) - GAP
"""Pixels of the sheet: an image's side at the most, between two, above a panel's rows, before them, between panels."""


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
        rows = _rows(parts, settings.seed)
        drawn = _png(_sheet(rows))
        pictures = {name: [picture(sheet(x_NHWC, SHOWN)) for x_NHWC in each] for name, each in rows.items()}
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
        write_atomic(folder / "augment.html", render_augmentations(told, pictures))
        write_json(folder / "augment.json", told)
    return told


def assignment(found: list[Invariance]) -> str:
    """Return options of `saccade train` that name what keeps the class, each at its usual strength at the most.

    Whether to mirror is left to `train`, which measures it by other classifiers, where it is undecided here.
    """
    strengths = as_settings(found)
    # upside_down is left to the owner: to be recognised upside down is one thing, to be photographed so another.
    left = {*APART, "upside_down"}
    mine = ", ".join(f"{name}: {strength:.3g}" for name, strength in strengths.items() if name not in left)
    mirror = next((each.verdict for each in found if each.name == "mirror"), None)
    options = {"yes": ["--flip"], "no": ["--no-flip"]}.get(mirror or "", [])
    options += [f"--{name} {strengths[name]:.3g}" for name in ("translate", "cutout") if name in strengths]
    return " ".join([*options, f"--set augment='{{{mine}}}'"] if mine else options)


def _told(found: Invariance) -> dict[str, Any]:
    return {**asdict(found), "verdict": found.verdict, "kept": found.kept, "why": found.why}


def _rows(parts: Parts, seed: int) -> dict[str, list[NDArray[np.uint8]]]:
    """Return training images (N, S, S, 3) as they are, and after each augmentation, once a strength."""
    side = _side(parts.train)
    x_NHWC = torch.from_numpy(_shown(parts.train, seed).squares(side))
    axes_33 = augment.colour_axes(torch.from_numpy(stratified_share(parts.train, COLOURED).squares(side)))
    rows = {"original": [_enlarged(x_NHWC)]}
    for name in STRENGTHS:
        rows[name] = [
            _enlarged(augment.apply(x_NHWC, {name: strength}, generator(seed, "preview", name), axes_33))
            for strength in tried(name)
        ]
    return rows


def _shown(part: Part, seed: int) -> Part:
    """Return some images, of as many classes as there is room for."""
    order = np.random.default_rng(derived_seed(seed, "preview")).permutation(len(part))
    labels_N = part.labels_N[order]
    turn_N = np.array([int((labels_N[:place] == label).sum()) for place, label in enumerate(labels_N[:2000])])
    return part.select(np.sort(order[: len(turn_N)][np.argsort(turn_N, kind="stable")[:SHOWN]]))


def _side(part: Part) -> int:
    """Return the side that images are changed at: their own, up to that of a cell."""
    return min(CELL, max(8, native_side(part)))


def _enlarged(x_NHWC: torch.Tensor) -> NDArray[np.uint8]:
    """Return images with each pixel repeated, as often as a cell has room for."""
    factor = max(1, CELL // x_NHWC.shape[1])
    return x_NHWC.numpy().repeat(factor, 1).repeat(factor, 2)


def _sheet(rows: Mapping[str, Sequence[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Return a panel for each augmentation, one below another in two columns, as one picture (h, w, 3)."""
    panels = [_panel(name, each) for name, each in rows.items()]
    ends = np.cumsum([len(panel) for panel in panels])
    first = int(np.searchsorted(ends, ends[-1] / 2)) + 1  # so that the second column is no longer than the first
    left, right = np.concatenate(panels[:first]), np.concatenate(panels[first:])
    right = np.pad(right, ((0, len(left) - len(right)), (0, 0), (0, 0)), constant_values=255)
    between = np.full((len(left), MARGIN, 3), 255, np.uint8)
    half = MARGIN // 2
    return np.pad(np.concatenate([left, between, right], 1), ((half, 0), (half, half), (0, 0)), constant_values=255)


def _panel(name: str, rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return some images of each row, the row's strength before them, under the augmentation's name and unit."""
    count = len(rows[0])
    shown = np.linspace(0, count - 1, min(count, ON_SHEET)).round().astype(np.int64)
    step = rows[0].shape[1] + GAP
    image = Image.new("RGB", (PANEL, TITLE + step * len(rows) + MARGIN - GAP), "white")
    draw = ImageDraw.Draw(image)
    small = ImageFont.load_default(13)
    draw.line((0, 0, PANEL, 0), fill=LIGHT["line"])
    draw.text((0, TITLE - 9), name, fill=LIGHT["ink"], font=ImageFont.load_default(18), anchor="ls")
    unit = STRENGTHS[name].unit if name in STRENGTHS else "training images"
    draw.text((PANEL, TITLE - 9), unit, fill=LIGHT["quiet"], font=small, anchor="rs")
    strengths = tried(name) if name in STRENGTHS else (0.0,)
    for place, (x_NHWC, strength) in enumerate(zip(rows, strengths, strict=True)):
        top = TITLE + place * step
        image.paste(Image.fromarray(sheet(x_NHWC[shown], ON_SHEET, gap=GAP)), (LABEL, top))
        if len(rows) > 1:
            middle = (LABEL - 10, top + (step - GAP) // 2)
            draw.text(middle, f"{strength:.3g}", fill=LIGHT["ink"], font=small, anchor="rm")
    return np.asarray(image)


def _png(pixels_HW3: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "PNG")
    return buffer.getvalue()
