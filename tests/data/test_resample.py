"""Resizing in machine code against Pillow's, to the bit."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from saccade.data import scale
from saccade.data.resample import LEAST, resampled
from saccade.data.scale import resized, square

BILINEAR = Image.Resampling.BILINEAR
SIZES = [(40, 30, 20, 20), (6, 6, 6, 6), (100, 7, 6, 93), (7, 100, 93, 6), (61, 47, 61, 20), (30, 200, 64, 64),
         (533, 400, 224, 224), (20, 20, 33, 50), (64, 50, 10, 9)]  # fmt: skip


def random(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def pillows(image: Image.Image, tall: int, wide: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return Pillow's image, resized along rows, then along columns: which goes first, Pillow chooses by the sizes."""
    return np.asarray(image.resize((wide, image.height), BILINEAR).resize((wide, tall), BILINEAR))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("height", "width", "tall", "wide"), SIZES)
def test_every_pixel_is_that_of_pillow(height: int, width: int, tall: int, wide: int, mirrored: bool) -> None:
    x_HWC, out_HWC = random(height, width, 3), np.empty((tall, wide, 3), np.uint8)
    resampled(x_HWC, out_HWC, mirrored=mirrored)
    expected = pillows(Image.fromarray(x_HWC), tall, wide)
    assert np.array_equal(out_HWC, expected[:, ::-1] if mirrored else expected)


@pytest.mark.parametrize(("top", "left", "height", "width"), [(0, 0, 6, 6), (3, 5, 37, 25), (20, 1, 20, 29)])
def test_a_window_is_resized_as_if_it_were_cut_out(top: int, left: int, height: int, width: int) -> None:
    x_HWC, out_NHWC = random(40, 30, 3), np.full((3, 16, 16, 3), 7, np.uint8)
    resampled(x_HWC[top : top + height, left : left + width], out_NHWC[1])
    window = Image.fromarray(x_HWC).crop((left, top, left + width, top + height))
    assert np.array_equal(out_NHWC[1], pillows(window, 16, 16))
    assert (out_NHWC[[0, 2]] == 7).all()  # nothing else is written


@pytest.mark.parametrize("shape", [(600, 40), (40, 30), (LEAST - 1, 40), (40, LEAST - 1), (3, 2)])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_many_images_are_resized_as_few_are(
    shape: tuple[int, int], fit: scale.Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    x_HWC = random(*shape, 3)
    few, turned = square(x_HWC, 24, fit), square(x_HWC.transpose(1, 0, 2), 24, fit)
    monkeypatch.setattr(scale, "MANY", 0)
    assert np.array_equal(square(x_HWC, 24, fit), few)
    assert np.array_equal(square(x_HWC.transpose(1, 0, 2), 24, fit), turned)
    both = resized(x_HWC, 5, 9), resized(x_HWC, 5, 9, mirrored=True)
    assert np.array_equal(both[0], both[1][:, ::-1])


def test_threads_do_not_get_in_each_others_way() -> None:
    images = [random(100 + 7 * number, 90, 3) for number in range(12)]

    def run(x_HWC: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
        out_HWC = np.empty((50, 50, 3), np.uint8)
        resampled(x_HWC, out_HWC)
        return out_HWC.tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, images * 5)) == [run(x_HWC) for x_HWC in images] * 5
