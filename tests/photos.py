"""Images that look a little like photos, whose classes can be learnt, for tests: made from seeds, never downloaded."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CLASSES = ("disc", "square", "stripes")
"""Shapes drawn by `photo`; classes beyond these repeat them in another colour."""
_COLOURS = ((200, 60, 50), (60, 90, 200), (70, 170, 80), (210, 180, 60))


def photo(label: int, size: tuple[int, int] = (48, 40), *, seed: int = 0) -> NDArray[np.uint8]:
    """Return an RGB picture (height, width, 3) of class `label`: a coloured shape on a gradient, with noise.

    `size` is (width, height). Place, scale and shade vary with `seed`; shape and colour tell the class.
    """
    rng = np.random.default_rng([seed, label])
    width, height = size
    corners = rng.uniform(60, 200, (2, 2, 3))
    across, down = np.linspace(0, 1, width)[None, :, None], np.linspace(0, 1, height)[:, None, None]
    top, bottom = (corners[row, 0] * (1 - across) + corners[row, 1] * across for row in (0, 1))
    canvas = Image.fromarray((top * (1 - down) + bottom * down).astype(np.uint8))
    colour = np.clip(np.array(_COLOURS[label % len(_COLOURS)]) + rng.integers(-25, 26, 3), 0, 255)
    _draw(ImageDraw.Draw(canvas), label % len(CLASSES), (width, height), tuple(map(int, colour)), rng)
    return np.clip(np.asarray(canvas) + rng.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


def _draw(
    draw: ImageDraw.ImageDraw, shape: int, size: tuple[int, int], colour: tuple[int, ...], rng: np.random.Generator
) -> None:
    width, height = size
    side = min(size) * rng.uniform(0.5, 0.8)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    box = (left, top, left + side, top + side)
    if shape == 0:
        draw.ellipse(box, fill=colour)
    elif shape == 1:
        draw.rectangle(box, fill=colour)
    else:
        for offset in np.arange(0, side, max(side / 4, 2)):
            draw.rectangle((left, top + offset, left + side, top + offset + side / 8), fill=colour)


def encoded(x_HWC: NDArray[np.uint8], format: str = "JPEG", **options: object) -> bytes:
    """Return a picture as the bytes of a file."""
    buffer = BytesIO()
    Image.fromarray(x_HWC).save(buffer, format, **options)
    return buffer.getvalue()


def photo_folder(
    root: Path,
    counts: Mapping[str, int] | int = 10,
    *,
    size: tuple[int, int] = (48, 40),
    suffix: str = ".jpg",
    seed: int = 0,
) -> Path:
    """Write `root/class/0000.jpg` … and return `root`: a number of images for each class by name (or three classes)."""
    if isinstance(counts, int):
        counts = dict.fromkeys(CLASSES, counts)
    for label, (name, count) in enumerate(counts.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture = photo(label, size, seed=seed * 100_000 + index)
            Image.fromarray(picture).save(folder / f"{index:04d}{suffix}", quality=90)
    return root


def split_folder(root: Path, counts: Sequence[int] = (12, 4, 4), *, size: tuple[int, int] = (48, 40)) -> Path:
    """Write `root/train|validation|test/class/…` with that many images a class in each part, and return `root`."""
    for seed, (part, count) in enumerate(zip(("train", "validation", "test"), counts, strict=True)):
        photo_folder(root / part, count, size=size, seed=seed)
    return root


def messy_folder(root: Path) -> dict[str, str]:
    """Write 300 images of three classes with faults planted, and return fault → the file's name within `root`.

    `truncated`, `empty`, `text`: cannot be read. `cmyk`, `deep` (16-bit PNG), `rotated` (EXIF 6): are
    converted. `copy` equals `original`. `hidden` is a .DS_Store, `class` a class folder without images.
    """
    photo_folder(root, {"disc": 97, "square": 98, "stripes": 98})
    planted = {
        "truncated": "disc/truncated.jpg",
        "empty": "disc/empty.jpg",
        "text": "square/notes.jpg",
        "cmyk": "square/cmyk.jpg",
        "deep": "stripes/deep.png",
        "rotated": "stripes/rotated.jpg",
        "original": "disc/0000.jpg",
        "copy": "disc/copy of 0000.jpg",
        "hidden": ".DS_Store",
        "class": "triangle",
    }
    at = {fault: root / name for fault, name in planted.items()}
    whole = encoded(photo(0, seed=900))
    at["truncated"].write_bytes(whole[: len(whole) // 2])
    at["empty"].write_bytes(b"")
    at["text"].write_text("These are my notes about the squares.\n")
    Image.fromarray(photo(1, seed=901)).convert("CMYK").save(at["cmyk"])
    grey = photo(2, seed=902).mean(axis=2)
    Image.fromarray((grey * 257).astype(np.uint16)).save(at["deep"])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo(2, seed=903)).save(at["rotated"], exif=exif)
    at["copy"].write_bytes(at["original"].read_bytes())
    at["hidden"].write_bytes(b"\0\0\0\1Bud1")
    at["class"].mkdir()
    return planted
