"""Damaged files of every format: decoded as Pillow does, or refused with a reason; scripts/mutate.py does thousands."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from saccade.data import decode
from saccade.errors import DecodeError
from scripts.mutate import by_pillow, mutated, originals
from tests.photos import encoded, photo

WHOLE = dict(originals())


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_files_are_read_as_pillow_does_or_refused_with_a_reason(name: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(12):
        data = mutated(WHOLE[name], rng)
        expected = by_pillow(data)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(decode(data).x_HWC, expected)
        else:
            with suppress(DecodeError):  # nothing else may be raised
                decode(data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_eight_orientations_are_those_of_pillow(orientation: int, format: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(0), format, exif=exif)
    path = tmp_path / "x"
    path.write_bytes(data)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(decode(data).x_HWC, expected)


def test_a_header_that_says_more_than_9216_pixels_is_no_other_picture_but_the_same_reduced() -> None:
    high = bytearray(encoded(np.full((8, 16, 3), 90, np.uint8)))
    place = high.index(b"\xff\xc0") + 5  # the height, in the frame's header
    high[place : place + 2] = (12_000).to_bytes(2, "big")
    assert decode(bytes(high)).x_HWC.shape == (6_000, 8, 3)
    assert decode(bytes(high)).size == (16, 12_000)
    assert by_pillow(bytes(high)) is None
