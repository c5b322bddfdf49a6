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
