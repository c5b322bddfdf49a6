"""What single images, and classes, are doubtful for: format, size, light, sharpness, colour, balance."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.audit.duplicates import BLANK
from saccade.data.imageset import ImageSet
from saccade.data.sketch import contrast
from saccade.events import Finding, emit

_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png", ".apng"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
    "BMP": {".bmp", ".dib"},
    "DIB": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "AVIF": {".avif", ".heif", ".heic"},
    "JPEG2000": {".jp2", ".j2k"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
    "ICO": {".ico"},
    "TGA": {".tga"},
    "QOI": {".qoi"},
    "MPO": {".jpg", ".jpeg", ".jpe", ".jfif"},
}
SMALLEST, UNUSUAL, LONGEST = 8, 8, 4
"""Short side in pixels below which nothing is seen; factor on the usual side; ratio of the sides."""
DIM, GLARING = 40, 215
"""Luminance below which all of a dark image lies but 5 %, and above which all of a bright one."""
BLURRED, GREY = 0.3, 1.5
"""Sharpness and colour (`data.sketch`) below which an image counts as blurred, as grey."""
FEW = 0.2
"""Share of blank images up to which they are exceptions, to be left out, and not what the source is of."""
UNBALANCED = 5
"""Ratio of the largest to the smallest class from which it is told."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class _Looks:
    """The images' facts as arrays."""

    sizes_N2: NDArray[np.int64]
    sharpness_N: NDArray[np.float64]
    colour_N: NDArray[np.float64]
    low_N: NDArray[np.float64]
    high_N: NDArray[np.float64]
    flat_N: Flags
    blank_N: Flags


def quality(images: ImageSet) -> None:
    """Emit what is doubtful about single images, each judged by its own facts and by what is usual in the source.

    Findings of the kinds "wrong-extension", "extreme-size", "blank" or "faint", "dark", "bright", "blurred" and "grey".
    """
    looks = _looks(images)
    _tell(images, "wrong-extension", _wrong_extension(images), "the content is of another format than the name says")
    for flagged_N, detail in _sizes(looks):
        _tell(images, "extreme-size", flagged_N, detail)
    if looks.blank_N.mean() > FEW:
        _tell(images, "faint", looks.blank_N, "hardly anything is to be seen, in so many images that none is left out")
    else:
        _tell(images, "blank", looks.blank_N, "nothing is to be seen: every pixel has about the same colour")
    seen_N = ~looks.blank_N
    dark_N = seen_N & (looks.high_N < DIM) & (np.median(looks.high_N) > 2 * DIM)
    _tell(images, "dark", dark_N, "too dark: hardly a pixel is brighter than a sixth of white")
    bright_N = seen_N & (looks.low_N > GLARING) & (np.median(looks.low_N) < GLARING - DIM)
    _tell(images, "bright", bright_N, "too bright: hardly a pixel is darker than five sixths of white")
    usual = float(np.median(looks.sharpness_N))
    blurred_N = ~looks.flat_N & (looks.sharpness_N < BLURRED) & (looks.sharpness_N < usual / 2)
    _tell(images, "blurred", blurred_N, f"blurred: edges several times wider than usual here (sharpness {usual:.2f})")
    grey_N = looks.colour_N < GREY
    if 0 < grey_N.mean() < 0.5:
        _tell(images, "grey", grey_N & seen_N, "grey images among coloured ones", severity="note")
    elif 0.5 <= grey_N.mean() < 1:
        _tell(images, "grey", ~grey_N & seen_N, "coloured images among grey ones", severity="note")


def balance(images: ImageSet) -> None:
    """Emit a Finding of the kind "imbalance" where the largest class has many times the images of the smallest."""
    counts = images.class_counts()
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] >= UNBALANCED * counts[least]:
        detail = (
            f'"{images.classes[most]}" has {counts[most]:,} images and "{images.classes[least]}" {counts[least]:,}: '
            "accuracy says little of small classes, look at macro F1"
        )
        emit(Finding(kind="imbalance", detail=detail, paths=(images.classes[least],), severity="warning"))


def _looks(images: ImageSet) -> _Looks:
    sketches = [images.pixels.facts(key).sketch for key in images.keys]
    grey_NHW = images.sketches()
    flat_N = contrast(grey_NHW) < BLANK
    quarter_ND = grey_NHW[:, ::2, ::2].reshape(len(images), -1)  # enough for two percentiles
    ends = (quarter_ND.shape[1] // 20, -quarter_ND.shape[1] // 20)
    low_N, high_N = np.partition(quarter_ND, ends, axis=1)[:, ends].T.astype(np.float64)
    return _Looks(
        sizes_N2=images.pixels.sizes(images.keys),
        sharpness_N=np.array([each.sharpness for each in sketches]),
        colour_N=np.array([each.colour for each in sketches]),
        low_N=low_N,
        high_N=high_N,
        flat_N=flat_N,
        blank_N=flat_N & (images.chroma().std((1, 2)).max(-1) < BLANK),
    )


def _wrong_extension(images: ImageSet) -> Flags:
    def wrong(key: str) -> bool:
        suffix = os.path.splitext(key)[1].lower()  # noqa: PTH122 (a name within an archive is no path of this system)
        right = _SUFFIXES.get(images.pixels.facts(key).format)
        return right is not None and bool(suffix) and suffix not in right

    return np.array([wrong(key) for key in images.keys])


def _sizes(looks: _Looks) -> Iterator[tuple[Flags, str]]:
    short_N, long_N = looks.sizes_N2.min(1), looks.sizes_N2.max(1)
    usual = float(np.median(short_N))
    tiny_N = (short_N < SMALLEST) & (usual >= SMALLEST) | (short_N < usual / UNUSUAL)
    yield tiny_N, f"much smaller than usual here (a short side of {usual:.0f} px)"
    yield short_N > usual * UNUSUAL, f"much larger than usual here (a short side of {usual:.0f} px)"
    aspect_N = long_N / short_N
    long_and_thin_N = (aspect_N > LONGEST) & (aspect_N > 2 * np.median(aspect_N))
    yield long_and_thin_N, f"one side is more than {LONGEST} times the other: little is left of it as a square"


def _tell(images: ImageSet, kind: str, flagged_N: Flags, detail: str, *, severity: str = "warning") -> None:
    if flagged_N.any():
        keys = tuple(images.keys[i] for i in np.flatnonzero(flagged_N))
        emit(Finding(kind=kind, detail=detail, paths=keys, severity=severity))
