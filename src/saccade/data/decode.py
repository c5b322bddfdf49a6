"""The bytes of one image file become uint8 RGB pixels, by one fixed rule that no setting changes."""

import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from saccade.data.scale import composite, reduced, reduction, to_uint8
from saccade.errors import DecodeError

Uint8 = NDArray[np.uint8]

# Formats Pillow decodes by itself; those that start other programs (EPS) or hold no photos are left out.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO", "DIB", "TGA", "QOI")
MAX_PIXELS = 178_956_970
"""Images with more pixels by their header are refused (the limit at which Pillow, too, sees a bomb)."""

SEVERAL_FRAMES = "of several frames: only the first is used"
TRANSPARENT = "transparent parts laid on white"
DEEP = "16-bit values scaled to 8 bits"
NARROW = f"{DEEP}, of which they use an eighth at the most: nearly black; fill the 16 bits to keep what is in them"

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = tuple(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))


@dataclass(frozen=True, eq=False, slots=True)
class Decoded:
    """One decoded image: `x_HWC` uint8 RGB (read-only), the file's upright `(width, height)`, what was converted.

    `format` is Pillow's name of the file's format, or empty where there is no file.
    """

    x_HWC: Uint8
    size: tuple[int, int]
    notes: tuple[str, ...] = ()
    format: str = ""


def decode(data: bytes) -> Decoded:
    """Decode one image file to uint8 RGB, upright, at the size it is kept (`scale.reduction`).

    Grey and palette images become RGB; transparent parts are laid on white; CMYK is converted by
    R = (255 - C)(255 - K) / 255; whole numbers beyond 8 bits are divided by 257, floats spread from
    their lowest to their highest value (`scale.to_uint8`); EXIF orientation is applied; of an
    animation the first frame is taken.
    Raises DecodeError with the reason alone: empty, not an image, cut short, more than `MAX_PIXELS` pixels.
    """
    return _decode_plain_jpeg(data) or _decode_any(data)


def decode_image(image: Image.Image) -> Decoded:
    """Return an image that Pillow holds as `decode` returns one that is a file; `image` itself is left as it is.

    Raises DecodeError with the reason alone.
    """
    with _plain_words():
        return _upright_rgb(image.copy())


def _decode_plain_jpeg(data: bytes) -> Decoded | None:
    """Decode a grey or colour JPEG that stands upright to the same pixels as Pillow, sooner; None for any other.

    Whatever is wrong with one is left for Pillow to name.
    """
    header = _jpeg_header(data)
    if header is None or not 0 < header.width * header.height <= MAX_PIXELS or header.turned:
        return None
    size = header.width, header.height
    factor = reduction(*size)
    # What Pillow's `draft` does: whole blocks of 8 become 4, 2 or 1 pixels, as long as that is large enough.
    scale = next(each for each in (8, 4, 2, 1) if each <= min(side // -(-side // factor) for side in size))
    least = {"min_width": -(-size[0] // scale), "min_height": -(-size[1] // scale)} if scale > 1 else {}
    try:
        x_HWC = simplejpeg.decode_jpeg(data, "RGB", **least)
    except (ValueError, RuntimeError, MemoryError):
        return None
    if reduction(x_HWC.shape[1], x_HWC.shape[0]) > 1:
        x_HWC = _array(reduced(Image.fromarray(x_HWC)))
    x_HWC.flags.writeable = False
    return Decoded(x_HWC, size, format="JPEG")


class _Header(NamedTuple):
    width: int
    height: int
    exif: bytes

    @property
    def turned(self) -> bool:
        """Say whether EXIF gives another orientation than upright, or cannot be read."""
        if not self.exif:
            return False
        exif = Image.Exif()
        try:
            exif.load(self.exif)
            return bool(exif.get(_ORIENTATION_TAG, 1) != 1)
        except Exception:  # noqa: BLE001 (on broken bytes Pillow's readers raise whatever comes)
            return True


_TOLD_APART: Mapping[int, tuple[bytes, bool]] = {0xE1: (b"Exif\0\0", True), 0xE2: (b"MPF\0", False)}
"""Segments that are plain only where they begin so, or do not: XMP may turn a picture, MPF holds several."""


def _jpeg_header(data: bytes) -> _Header | None:
    """Return the size and the EXIF of a JPEG that needs no other special care, else None."""
    if data[:2] != b"\xff\xd8":
        return None
    position, found, exif = 2, None, b""
    with suppress(IndexError):
        while data[position] == 0xFF:
            marker = data[position + 1]
            end = position + 2 + (data[position + 2] << 8 | data[position + 3])
            if marker == 0xDA:  # the scan begins: all that could matter has been seen
                return found and found._replace(exif=exif)
            if marker in (0xC0, 0xC2) and data[position + 4] == 8 and data[position + 9] in (1, 3) and found is None:
                height, width = (data[at] << 8 | data[at + 1] for at in (position + 5, position + 7))
                found = _Header(width, height, b"")
            elif marker in _TOLD_APART:
                start, plain = _TOLD_APART[marker]
                if data.startswith(start, position + 4) != plain:
                    return None
                exif = data[position + 4 : end] if plain else exif
            elif marker not in (0xC4, 0xDB, 0xDD, 0xE0, 0xED, 0xFE):  # Adobe, anything unusual
                return None
            position = end
    return None


def _decode_any(data: bytes) -> Decoded:
    if not data:
        raise DecodeError("the file is empty (0 bytes)")
    with _plain_words(data), Image.open(BytesIO(data), formats=_formats()) as image:
        return _upright_rgb(image)


@contextmanager
def _plain_words(data: bytes = b"") -> Iterator[None]:
    """Silence Pillow's warnings, and turn whatever it raises into DecodeError with a reason."""
    with _quiet():
        try:
            yield
        except DecodeError:
            raise
        except Image.DecompressionBombError:
            raise DecodeError(_too_large()) from None
        except UnidentifiedImageError:
            raise DecodeError(_not_an_image(data)) from None
        except Exception as error:  # noqa: BLE001 (on broken bytes Pillow's readers raise whatever comes)
            raise DecodeError(_damaged(error)) from None


@cache
def _formats() -> tuple[str, ...]:
    """Return those of FORMATS that this build of Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _upright_rgb(image: Image.Image) -> Decoded:
    if image.width * image.height > MAX_PIXELS:
        raise DecodeError(_too_large())
    full = image.size
    deep = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    # Pillow turns TIFFs upright itself while loading. Others must be loaded first: the EXIF of a PNG comes last.
    already = _orientation(image) if image.format == "TIFF" else 1
    if (factor := reduction(*full)) > 1:  # JPEGs are decoded at 1/2, 1/4 or 1/8 where that is large enough
        image.draft(None, (-(-full[0] // factor), -(-full[1] // factor)))
    image.load()
    rgb, note = _rgb(image)
    rgb = reduced(rgb)
    if (turn := _UPRIGHT.get(_orientation(image))) is not None:
        rgb = rgb.transpose(turn)
    notes = (
        note or (DEEP if deep else ""),
        "turned upright as its EXIF orientation says" if turn is not None or already > 1 else "",
        SEVERAL_FRAMES if _several_frames(image) else "",
    )
    size = full[::-1] if turn in _SIDEWAYS else full
    return Decoded(_array(rgb), size, tuple(filter(None, notes)), image.format or "")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; damaged EXIF is no reason to lose a picture, and counts as 1."""
    with suppress(Exception):
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        return orientation if orientation in _UPRIGHT else 1
    return 1


def _several_frames(image: Image.Image) -> bool:
    """Say whether this is an animation or has pages; phone photos that carry a second picture (MPO) do not count."""
    with suppress(Exception):
        return image.format != "MPO" and bool(getattr(image, "is_animated", False))
    return False


def _rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """Return the loaded image as RGB, and what was done if that is worth telling."""
    if image.mode.startswith("I;16"):
        x_HW = np.asarray(image)
        return Image.fromarray(to_uint8(x_HW)).convert("RGB"), NARROW if x_HW.max() < 2**13 else DEEP
    if image.mode == "I":
        return _from_numbers(image), "whole numbers beyond 8 bits scaled to 8 bits"
    if image.mode == "F":
        return _from_numbers(image), "floating-point values scaled from their lowest to their highest"
    if image.has_transparency_data:
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        if rgba.getchannel("A").getextrema() == (255, 255):
            return rgba.convert("RGB"), ""
        return composite(rgba), TRANSPARENT
    if image.mode == "RGB":
        return image, ""
    return image.convert("RGB"), "CMYK turned into RGB" if image.mode == "CMYK" else ""


def _from_numbers(image: Image.Image) -> Image.Image:
    return Image.fromarray(to_uint8(np.asarray(image))).convert("RGB")


def _array(image: Image.Image) -> Uint8:
    """Return an RGB image's pixels, read-only; `tobytes` is cheaper than `np.asarray`."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)


def _too_large() -> str:
    return f"it has more than {MAX_PIXELS // 10**6} million pixels"


def _not_an_image(data: bytes) -> str:
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "HEIC photos cannot be read; save it as JPEG or PNG"
    with suppress(UnicodeDecodeError):
        if data[:2048].decode("ascii").isprintable() or data[:2048].decode("ascii").split():
            return "not an image: it holds text"
    return "not an image in a known format, or damaged from its first bytes on"


def _damaged(error: Exception) -> str:
    text = str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, EOFError) or re.search("truncated|not enough|end of file|EOF", text, re.IGNORECASE):
        return "the file is cut short"
    # Numbers and bytes are left out, so that files with the same fault are told of together.
    text = re.sub("[0-9]+", "N", re.sub(r"""[: ]*b(["']).*\1""", "", text))
    return f"the file is damaged ({text.strip('. ') or type(error).__name__})"


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filters = warnings.catch_warnings()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings (odd EXIF, many pixels) while any thread decodes.

    `warnings.catch_warnings` alone restores the wrong filters where threads overlap; here the first
    thread in sets them and the last one out restores them.
    """
    global _quiet_depth, _quiet_filters  # noqa: PLW0603
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.simplefilter("ignore")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_filters.__exit__(None, None, None)
