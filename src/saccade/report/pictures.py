"""Pictures for a page that stands alone: files of the run and small maps, as data URLs."""

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.palette import LIGHT

_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}


@dataclass(frozen=True)
class Picture:
    """An embedded picture: its data URL and its size in pixels."""

    url: str
    width: int
    height: int


def embed(folder: Path, name: str | None) -> Picture | None:
    """Return the picture called `name` within `folder`; None where there is none, or not within it."""
    if not name:
        return None
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    data = path.read_bytes()
    try:
        with Image.open(BytesIO(data), formats=list(_FORMATS)) as image:
            return Picture(data_url(data, _FORMATS[str(image.format)]), *image.size)
    except OSError:
        return None


def picture(pixels_HW3: NDArray[np.uint8]) -> Picture:
    """Return pixels (h, w, 3) as a picture: PNG, or JPEG where that is smaller, as it is of photos."""
    encoded: dict[str, bytes] = {}
    for form in ("PNG", "JPEG"):
        buffer = BytesIO()
        Image.fromarray(pixels_HW3).save(buffer, form, quality=85)  # which PNG has no use for
        encoded[form] = buffer.getvalue()
    smaller = min(encoded, key=lambda each: len(encoded[each]))
    height, width, _ = pixels_HW3.shape
    return Picture(data_url(encoded[smaller], _FORMATS[smaller]), width, height)


def heat(counts_KK: NDArray[np.int64]) -> Picture:
    """Return a confusion matrix as a picture of one pixel a cell, coloured as `charts.confusion` does.

    Empty cells are transparent, so that the page shows through in light and in dark.
    """
    shares_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    pixels_KK4 = np.zeros((*counts_KK.shape, 4), np.uint8)
    pixels_KK4[..., :3] = _rgb(LIGHT["wrong"])
    diagonal = np.arange(len(counts_KK))
    pixels_KK4[diagonal, diagonal, :3] = _rgb(LIGHT["right"])
    pixels_KK4[..., 3] = np.where(counts_KK > 0, 40 + 215 * np.sqrt(shares_KK), 0).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels_KK4).save(buffer, "PNG", optimize=True)
    return Picture(data_url(buffer.getvalue(), "image/png"), len(counts_KK), len(counts_KK))


def _rgb(colour: str) -> list[int]:
    return list(bytes.fromhex(colour[1:]))


def data_url(data: bytes, kind: str) -> str:
    """Return bytes of a media type as a URL that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
