"""Random resized crops: where they lie, and that they are a function of seed and step alone."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade import data
from saccade.data.batches import Batch, Order, StoredImages
from saccade.data.crops import Crops, Drawn, cut
from saccade.data.parts import Part
from saccade.errors import SettingError
from saccade.settings import DataSettings
from tests.photos import photo_folder


def windows(
    crops: Crops, height: int, width: int, images: int = 3000
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array([drawn.window(height, width) for drawn in crops.draw(images, seed=0)])


@pytest.mark.parametrize(
    "wrong",
    [{"least": -1.0}, {"least": 0.0}, {"least": 2.0}, {"least": np.nan}, {"ratio": 0.5}, {"mirrored": 1.5}],
    ids=str,
)
def test_crops_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingError, match=r"expected least above 0 and at most 1, ratio at least 1, mirrored from 0"):
        Crops(**wrong)
    assert Crops(least=1.0, ratio=1.0, mirrored=1.0).draw(1, seed=0)[0].window(5, 5) == (0, 0, 5, 5)


@pytest.mark.parametrize(("height", "width"), [(400, 400), (533, 400), (32, 32), (50, 400), (1, 1)])
def test_windows_lie_within_the_image(height: int, width: int) -> None:
    top_N, left_N, height_N, width_N = windows(Crops(), height, width).T
    assert min(top_N.min(), left_N.min()) >= 0
    assert min(height_N.min(), width_N.min()) >= 1
    assert (top_N + height_N <= height).all()
    assert (left_N + width_N <= width).all()


def test_area_shape_and_place_are_spread_as_they_should_be() -> None:
    # A wide image holds every shape of up to a third of its area, so that none is drawn again.
    top_N, left_N, height_N, width_N = windows(Crops(least=0.05, ratio=2.0), 1000, 1000).T
    free = height_N * width_N < 0.3 * 1000**2
    assert np.quantile((height_N * width_N)[free] / 1e6, [0.02, 0.5, 0.98]) == pytest.approx(
        [0.055, 0.175, 0.295], abs=0.02
    )
    logarithms = np.log2(width_N / height_N)[free]
    assert np.quantile(logarithms, [0.02, 0.5, 0.98]) == pytest.approx([-0.96, 0, 0.96], abs=0.06)
    for start_N, length_N in ((top_N, height_N), (left_N, width_N)):
        assert (start_N[free] / (1000 - length_N[free])).mean() == pytest.approx(0.5, abs=0.03)


def test_where_no_shape_fits_the_middle_is_taken() -> None:
    assert Drawn(((1.0, 4 / 3),)).window(40, 400) == (0, 173, 40, 53)
    assert Drawn(((1.0, 4 / 3),)).window(400, 40) == (173, 0, 53, 40)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_is_cut_out_and_resized_as_pillow_does(mirrored: bool) -> None:
    x_HWC = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    drawn = Drawn(((0.25, 1.2),), (0.3, 0.9), mirrored)
    top, left, height, width = drawn.window(60, 50)
    window = Image.fromarray(x_HWC).crop((left, top, left + width, top + height))
    box = window.resize((24, height), Image.Resampling.BILINEAR).resize((24, 24), Image.Resampling.BILINEAR)
    assert np.array_equal(cut(x_HWC, 24, drawn), np.asarray(box)[:, ::-1] if mirrored else np.asarray(box))


def test_a_share_is_mirrored() -> None:
    assert np.mean([drawn.mirrored for drawn in Crops(mirrored=0.3).draw(5000, seed=1)]) == pytest.approx(0.3, abs=0.03)
    assert not any(drawn.mirrored for drawn in Crops().draw(50, seed=1))


def test_batches_of_crops_depend_on_seed_and_step_alone(tmp_path: Path) -> None:
    source = photo_folder(tmp_path / "photos", 5)

    def batches(workers: int, memory: float, seed: int = 1, first: int = 0) -> list[Batch]:
        part = Part("train", data.open(source, DataSettings(memory=memory)))
        stream = StoredImages(part, 16, workers, crops=Crops()).batches(Order(len(part), 4, seed), first)
        return list(islice(stream, 6))

    expected = [batch.x_NHWC for batch in batches(0, 0.0)]
    for workers, memory in ((1, 1.0), (3, 0.0)):
        assert all(np.array_equal(x, batch.x_NHWC) for x, batch in zip(expected, batches(workers, memory), strict=True))
    assert np.array_equal(batches(2, 0.0, first=4)[0].x_NHWC, expected[4])
    assert not np.array_equal(batches(2, 0.0, seed=2)[0].x_NHWC, expected[0])


def test_the_same_images_without_crops_are_whole(tmp_path: Path) -> None:
    part = Part("train", data.open(photo_folder(tmp_path / "photos", 5), DataSettings()))
    stream = StoredImages(part, 16, 0, crops=Crops()).whole.batches(Order(len(part), 15, 0), end=1)
    (batch,) = stream
    assert np.array_equal(batch.x_NHWC, part.squares(16)[batch.index_N])
