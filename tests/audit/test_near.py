"""Near-duplicates: planted ones are found, others are not, and the split keeps them on one side."""

from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.fft import dctn
from scipy.spatial import cKDTree

from saccade import audit, data
from saccade.audit import near
from saccade.audit.agreement import Looks
from saccade.audit.windows import FRAMES, WHOLE, sampled
from saccade.data.arrays import stacked
from saccade.data.splits import fold_numbers
from saccade.events import Finding, Progress, listening
from saccade.settings import DataSettings
from tests.photos import photo

Bytes = NDArray[np.uint8]


def textured(count: int, side: int = 32) -> Bytes:
    """Return pictures whose amplitudes fall with the frequency, as those of photos do: (N, S, S, 3)."""
    rng = np.random.default_rng(5)
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    falloff = 1 / np.maximum(np.hypot(fy, fx), 1 / side)
    waves = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, 3, side, side))) * falloff).real
    mixed = waves.mean(1, keepdims=True) * 0.8 + waves * 0.2
    scaled = 128 + 45 * mixed / mixed.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray(np.clip(scaled, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1))


def jpeg(x: Bytes) -> Bytes:
    buffer = BytesIO()
    Image.fromarray(x).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def resized(x: Bytes) -> Bytes:
    small = Image.fromarray(x).resize((20, 20), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((32, 32), Image.Resampling.BICUBIC))


def cropped(x: Bytes) -> Bytes:
    return np.asarray(Image.fromarray(x).crop((2, 2, 30, 30)).resize((32, 32), Image.Resampling.BICUBIC))


def looks(x_NHWC: Bytes) -> Looks:
    images = data.from_arrays(x_NHWC, np.arange(len(x_NHWC)) % 2)
    return Looks(images.sketches(), images.chroma())


CHANGES: Mapping[str, Callable[[Bytes], Bytes]] = {
    "re-encoded": jpeg,
    "resized": resized,
    "mirrored": lambda x: x[:, ::-1],
    "brightened": lambda x: np.clip(x * 1.2, 0, 255).astype(np.uint8),
    "darkened": lambda x: (x * 0.6).astype(np.uint8),
    "grey": lambda x: np.asarray(Image.fromarray(x).convert("L").convert("RGB")),
    "shifted": lambda x: np.pad(x, ((0, 0), (1, 0), (0, 0)), mode="edge")[:, :32],
    "cropped": cropped,
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_nothing_else(change: str) -> None:
    x_NHWC = textured(400)
    copies = np.stack([CHANGES[change](x) for x in x_NHWC[:20]])
    images = data.from_arrays(np.concatenate([x_NHWC, copies]), np.arange(420) % 2)
    groups_N = audit.duplicates(images)
    alike_N = audit.near_duplicates(images, groups_N).groups_N
    found = {(int(group), i) for i, group in enumerate(alike_N) if group != i}
    planted = {(i, 400 + i) for i in range(20)}
    assert found <= planted
    assert len(found) >= (20 if change != "cropped" else 16)


def shapes(shift: int = 0) -> Bytes:
    """Return one letter-like shape in eight pairs of opposite hues, the luminance the same in all: (8, 32, 32, 3)."""
    drawn, found = Image.new("L", (32, 32)), []
    ImageDraw.Draw(drawn).line([(9 + shift, 4), (9 + shift, 27), (21 + shift, 27), (21 + shift, 16)], 255, 4)
    inside_HW = np.asarray(drawn) > 0
    for hue in np.arange(8) * np.pi / 4:
        colours = [(light, 128 + 34 * sign * np.cos(hue), 128 + 34 * sign * np.sin(hue))
                   for light, sign in ((96, 1), (150, -1))]  # fmt: skip
        x_HWC = np.where(inside_HW[..., None], *np.array(colours[::-1])).round().astype(np.uint8)
        found.append(np.asarray(Image.fromarray(x_HWC, "YCbCr").convert("RGB")))
    return np.stack(found)


@pytest.mark.parametrize("shift", [0, 2])
def test_shapes_of_equal_luminance_in_other_colours_are_no_copies(shift: int) -> None:
    coloured = np.concatenate([shapes()[::2], shapes(shift)[1::2]])
    copies = np.stack([jpeg(x) for x in coloured])
    images = data.from_arrays(np.concatenate([textured(200), coloured, copies]), np.arange(216) % 2)
    np.testing.assert_allclose(images.sketches()[201:204].astype(int) - images.sketches()[200], 0, atol=2)
    alike_N = audit.near_duplicates(images, audit.duplicates(images)).groups_N
    assert alike_N[200:].tolist() == [*range(200, 208)] * 2


def test_small_shapes_at_other_places_of_a_white_picture_are_no_copies() -> None:
    x_NHWC = np.full((206, 32, 32, 3), 255, np.uint8)
    x_NHWC[:200, 4:28, 4:28] = textured(200)[:, 4:28, 4:28]
    for i, (row, column) in enumerate((row, column) for row in (2, 15, 28) for column in (2, 12)):
        x_NHWC[200 + i, row : row + 3, column : column + 3] = (250, 230, 120)
    images = data.from_arrays(x_NHWC, np.arange(206) % 2)
    assert audit.near_duplicates(images, np.arange(206)).groups_N[200:].tolist() == [*range(200, 206)]


def test_pictures_of_another_contrast_by_far_are_no_copies() -> None:
    x_NHWC = textured(100)
    x_NHWC[98] = (128 + (x_NHWC[1].astype(float) - 128) * 0.3).astype(np.uint8)
    x_NHWC[99] = (128 + (x_NHWC[2].astype(float) - 128) * 0.7).astype(np.uint8)
    images = data.from_arrays(x_NHWC, np.arange(100) % 2)
    alike_N = audit.near_duplicates(images, np.arange(100)).groups_N
    assert alike_N[98:].tolist() == [98, 2]


def test_mirrored_pictures_of_another_class_are_no_copies() -> None:
    x_NHWC = textured(104)
    x_NHWC[100:102], x_NHWC[102] = x_NHWC[:2, :, ::-1], x_NHWC[2]
    x_NHWC[103] = jpeg(cropped(x_NHWC[3])[:, ::-1])
    labels = np.zeros(104, int)
    labels[[100, 102, 103]] = 1
    images = data.from_arrays(x_NHWC, labels)
    heard: list[object] = []
    with listening(heard.append):
        alike_N = audit.near_duplicates(images, np.arange(104)).groups_N
    assert alike_N[100:].tolist() == [100, 1, 2, 103]
    conflicts = [event.paths for event in heard if isinstance(event, Finding) and event.kind == "label-conflict"]
    assert conflicts == [(images.keys[2], images.keys[102])]
    labels[:] = np.arange(104) % 4 == 5
    alike_N = audit.near_duplicates(data.from_arrays(x_NHWC, labels), np.arange(104)).groups_N
    assert alike_N[100:].tolist() == [0, 1, 2, 3]


def test_frequencies_are_the_cosine_transform() -> None:
    grey_NHW = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    expected = dctn(grey_NHW.astype(np.float64), axes=(1, 2), norm="ortho")[:, :8, :8].reshape(3, -1)[:, 1:]
    np.testing.assert_allclose(near._frequencies(grey_NHW, 8, WHOLE), expected, atol=1e-3)


def test_whitened_vectors_compare_mirrored_ones_by_the_sign_of_odd_frequencies() -> None:
    grey_NHW = textured(200)[..., 0]
    whitening = near.Whitening.of(grey_NHW, 8)
    v_ND, mirrored_ND = whitening(grey_NHW), whitening(grey_NHW[:, :, ::-1])
    np.testing.assert_allclose(np.where(whitening.odd_D, -v_ND, v_ND), mirrored_ND, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(v_ND, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("few", [1, 10**9])
def test_blocks_find_the_pairs_that_all_products_find(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "BLOCK", 7)
    monkeypatch.setattr(near, "FEW", few)
    monkeypatch.setattr(near, "CANDIDATE", 0.3)
    grey_NHW = textured(200)[..., 0]
    whitening = near.Whitening.of(grey_NHW, 8)
    v_ND = whitening(grey_NHW)
    found = near._candidates(v_ND, v_ND, whitening.odd_D, np.inf, near._Teller(1))
    as_it_is, mirrored = v_ND @ v_ND.T, (v_ND * np.where(whitening.odd_D, -1, 1)) @ v_ND.T
    larger = np.maximum(as_it_is, mirrored)
    expected = np.argwhere(np.triu(larger > 0.3, 1))
    assert sorted(map(tuple, found.pairs_P2.tolist())) == sorted(map(tuple, expected.tolist()))
    np.testing.assert_allclose(found.cosines_P, larger[tuple(found.pairs_P2.T)], atol=1e-5)
    assert len(expected) > 5
    assert found.compared == 1.0


def test_progress_covers_the_windows_too_and_ends_where_it_said() -> None:
    heard: list[Progress] = []
    with listening(lambda event: heard.append(event) if isinstance(event, Progress) else None):
        near.find(looks(textured(60)), work=3 * 60**2)
    assert {event.total for event in heard} == {2.5 * 60**2}  # each pair once, and two windows of each with each
    assert [event.done for event in heard] == sorted(event.done for event in heard)
    assert heard[-1].done == heard[-1].total


def test_work_bounds_the_search_and_says_so() -> None:
    x_NHWC = textured(2000)
    x_NHWC[1999] = np.clip(x_NHWC[1998] * 1.1, 0, 255).astype(np.uint8)
    images = data.from_arrays(x_NHWC, np.arange(2000) % 2)
    heard: list[object] = []
    with listening(heard.append):
        audit.near_duplicates(images, np.arange(2000), work=10)
    [finding] = [event for event in heard if isinstance(event, Finding)]
    assert finding.kind == "near-duplicate"
    assert finding.detail.startswith("none found (of 77%")
    assert finding.detail.endswith("of all pairs, as many as there is time for)")


def planted(parts: int = 1) -> data.ImageSet:
    x_NHWC = textured(300)
    x_NHWC[200:230] = np.stack([jpeg(x) for x in x_NHWC[:30]])
    part = [(None, x_NHWC, np.arange(300) % 3)]
    if parts == 2:
        part = [("train", x_NHWC[:200], np.arange(200) % 3), ("test", x_NHWC[200:], np.arange(100) % 3)]  # type: ignore[list-item]
    return stacked(part, name="planted", settings=DataSettings())


def test_near_duplicates_stay_on_one_side_of_the_split() -> None:
    images = planted()
    alike = audit.near_duplicates(images, audit.duplicates(images))
    parts = data.split(images, alike.groups_N, DataSettings(), alike.groups_N)
    part_of = {row[0]: row[3] for row in parts.rows()}
    assert all(part_of[images.keys[i]] == part_of[images.keys[200 + i]] for i in range(30))
    assert alike.leaked == frozenset()


def test_a_given_split_is_kept_and_its_leaks_named() -> None:
    images = planted(2)
    heard: list[object] = []
    with listening(heard.append):
        groups_N = audit.duplicates(images)
        alike = audit.near_duplicates(images, groups_N)
        parts = data.split(images, groups_N, DataSettings(), alike.groups_N)
    assert alike.leaked == {f"test/{i:02d}" for i in range(30)}
    assert len(parts.train) + len(parts.validation) == 200
    assert len(parts.test) == 100
    [found] = [event for event in heard if isinstance(event, Finding) and event.kind == "near-duplicate"]
    assert found.detail.endswith("of 30 pictures: kept on one side of what is split here")
    [leak] = [event for event in heard if isinstance(event, Finding) and event.kind == "leak"]
    assert set(leak.paths) == alike.leaked
    assert leak.detail == (
        "near-duplicates of images in an earlier given part: left where they are, and measured without them too"
    )


def test_near_duplicates_in_different_classes_are_a_conflict() -> None:
    x_NHWC = textured(100)
    x_NHWC[50:52] = np.stack([jpeg(x) for x in x_NHWC[:2]])
    labels = np.zeros(100, int)
    labels[[50, 60, 70]] = 1
    images = data.from_arrays(x_NHWC, labels)
    heard: list[object] = []
    with listening(heard.append):
        audit.near_duplicates(images, np.arange(100))
    [conflict] = [event for event in heard if isinstance(event, Finding) and event.kind == "label-conflict"]
    assert conflict.paths == (images.keys[0], images.keys[50])
    assert conflict.groups == (2,)
    assert conflict.detail == "look-alikes under two labels: look whether each is right"


def test_a_class_of_images_that_are_all_alike_can_still_be_split() -> None:
    x_NHWC = textured(60)
    for i in range(40, 60):
        x_NHWC[i] = np.clip(x_NHWC[40] * (1 + i / 300), 0, 255).astype(np.uint8)
    images = data.from_arrays(x_NHWC, np.repeat([0, 1, 2], 20))
    heard: list[object] = []
    with listening(heard.append):
        alike = audit.near_duplicates(images, np.arange(60))
    assert len(np.unique(alike.groups_N[40:])) == 20
    details = [event.detail for event in heard if isinstance(event, Finding)]
    assert details == ["classes whose images are all alike: treated as different ones, so that they can be split"]


def test_folds_keep_groups_together_and_classes_even() -> None:
    rng = np.random.default_rng(0)
    labels_N, groups_N = rng.integers(0, 4, 400), rng.integers(0, 150, 400)
    fold_N = fold_numbers(labels_N, groups_N, 5, seed=3)
    assert set(fold_N.tolist()) == set(range(5))
    assert all(len(np.unique(fold_N[groups_N == group])) == 1 for group in np.unique(groups_N))
    counts = np.array([np.bincount(labels_N[fold_N == fold], minlength=4) for fold in range(5)])
    assert np.abs(counts - np.bincount(labels_N) / 5).max() <= 6


def test_blank_images_are_not_alike() -> None:
    x_NHWC = textured(40)
    x_NHWC[30:] = np.arange(10, 20, dtype=np.uint8)[:, None, None, None]
    images = data.from_arrays(x_NHWC, np.arange(40) % 2)
    assert audit.near_duplicates(images, np.arange(40)).groups_N.tolist() == list(range(40))


def test_one_picture_is_like_no_other() -> None:
    images = data.from_arrays(photo(0)[None].repeat(2, 0), [0, 1])
    assert audit.near_duplicates(images, audit.duplicates(images)).groups_N.tolist() == [0, 0]


def test_crops_of_any_place_are_found_whatever_windows_there_are() -> None:
    rng = np.random.default_rng(3)
    x_NHWC = textured(400, 64)
    copies = []
    for x in x_NHWC[:40]:
        side = int(rng.integers(54, 62))
        left, top = rng.integers(0, 64 - side, 2)
        small = Image.fromarray(x).crop((left, top, left + side, top + side))
        copies.append(np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC)))
    images = data.from_arrays(np.concatenate([x_NHWC, np.stack(copies)]), np.arange(440) % 2)
    alike_N = audit.near_duplicates(images, audit.duplicates(images)).groups_N
    found = {(int(group), i) for i, group in enumerate(alike_N) if group != i}
    assert found <= {(i, 400 + i) for i in range(40)}
    assert len(found) >= 38


def test_where_different_pictures_are_very_much_alike_it_takes_more_to_be_a_copy() -> None:
    # Digits of 8 by 8 pixels are no copies of each other, but by the level for photos 58 pairs of 1,797 would be.
    digits = data.integrity(data.open("digits"))
    x_NHWC = digits.pixels.squares(digits.keys[:1200], 8)
    noise = np.random.default_rng(0).normal(0, 2, (40, 8, 8, 3))
    copies = np.clip(x_NHWC[:40] * 0.9 + noise, 0, 255).astype(np.uint8)
    images = data.from_arrays(np.concatenate([x_NHWC, copies]), np.arange(1240) % 2)
    alike_N = audit.near_duplicates(images, np.arange(1240)).groups_N
    assert sum(alike_N[1200 + i] == alike_N[i] for i in range(40)) >= 38
    assert 1200 - len(np.unique(alike_N[:1200])) <= 2


@pytest.mark.parametrize(("spread", "least", "most"), [(0.15, 0.9, 0.9), (0.6, 0.9, 0.97)])
def test_the_level_is_where_hardly_a_pair_of_different_pictures_would_be_left(
    spread: float, least: float, most: float
) -> None:
    # Vectors about a common one: the more that has of them, the more alike they are.
    rng = np.random.default_rng(0)
    v_ND = rng.normal(size=(2000, 40)) + 40**0.5 * spread * rng.normal(size=(2000, 1)) * rng.normal(size=40) / 3
    v_ND /= np.linalg.norm(v_ND, axis=1, keepdims=True)
    level = near.usual_likeness(v_ND.astype(np.float32), np.arange(40) % 2 == 1)
    assert least <= level <= most
    even, odd = v_ND[:, ::2], v_ND[:, 1::2]
    cosines = (even @ even.T + np.abs(odd @ odd.T))[np.triu_indices(2000, 1)]
    assert (cosines > level).sum() <= 1
    assert near.usual_likeness(v_ND[:50].astype(np.float32), np.arange(40) % 2 == 1) == near.ALIKE


def test_where_work_is_short_cropped_copies_across_given_parts_are_looked_for_first() -> None:
    x_NHWC = textured(2_000)
    for place, original in ((0, 1_000), (1_001, 1)):  # a later one was cropped, and an earlier one was
        crop = Image.fromarray(x_NHWC[original]).crop((3, 3, 29, 29))
        x_NHWC[place] = np.asarray(crop.resize((32, 32), Image.Resampling.BICUBIC))
    seen, work = looks(x_NHWC), 2_000**2 / 2 + 100_000
    found = near.find(seen, work, later=2)
    assert set(zip(found.first_P.tolist(), found.second_P.tolist(), strict=True)) == {(0, 1_000), (1, 1_001)}
    assert not len(near.find(seen, work).first_P)


def test_windows_that_share_their_products_are_those_that_are_taken_one_by_one() -> None:
    grey_NHW = textured(80)[..., 0]
    whitening = near.Whitening.of(grey_NHW, 8)
    expected = np.stack([whitening(grey_NHW[:5], (size, right, down)) for size, right, down in FRAMES], axis=1)
    np.testing.assert_allclose(near._window_vectors(grey_NHW[:5], whitening), expected, atol=1e-4)


@pytest.mark.parametrize("side", [8, 32])
def test_windows_lie_at_the_same_place_of_pixels_and_of_cells(side: int) -> None:
    middles = (np.arange(side) + 0.5) * 32 / side  # a slope, in sketch pixels, as it is sampled
    size_P, shift_P = np.array([0.75, 0.5]), np.array([-3.0, 6.5])
    expected = (middles - 16) * size_P[:, None] + 16 + shift_P[:, None]
    np.testing.assert_allclose(sampled(side, size_P, shift_P) @ middles, expected, atol=1e-4)


def neighbours(places_ND: NDArray[np.float64], reach: float) -> NDArray[np.int64]:
    """Return the pairs of points that lie within reach of each other."""
    return np.array(sorted(cKDTree(places_ND).query_pairs(reach)), np.int64)


def test_a_cloud_is_neither_a_film_nor_copies_of_one_picture() -> None:
    rng = np.random.default_rng(0)
    film, copies = neighbours(np.arange(600.0)[:, None], 4), np.argwhere(np.triu(np.ones((80, 80)), 1)) + 600
    square = neighbours(rng.random((3000, 2)), 0.03) + 680
    pairs_P2 = np.concatenate([film, copies, square])
    cloudy_P = near._in_clouds(pairs_P2, 3680)
    assert not cloudy_P[: len(film) + len(copies)].any()
    assert cloudy_P[len(film) + len(copies) :].mean() > 0.99


def test_handwritten_strokes_are_no_copies_of_each_other() -> None:
    rng, strokes = np.random.default_rng(0), []
    for i in range(1200):
        drawn, corners = Image.new("L", (112, 112)), rng.uniform(20, 92, (5, 2))
        if i % 2:
            (x, y), slant, length = rng.normal(56, 3, 2), rng.normal(0.2, 0.4), rng.normal(36, 6)
            ends = (x + slant * length, y - length), (x - slant * length, y + length)
            corners = np.array([ends[0], (x + rng.normal(0, 6), y + rng.normal(0, 4)), ends[1]])
        ImageDraw.Draw(drawn).line([(x, y) for x, y in corners], 255, int(rng.integers(6, 12)), "curve")
        strokes.append(np.asarray(drawn.resize((28, 28), Image.Resampling.BOX)))
    x_NHW = np.stack(strokes)
    x_NHW[1160:] = x_NHW[:40] // 8 * 8  # copies of fewer grey levels
    images = data.from_arrays(x_NHW[..., None].repeat(3, 3), np.arange(1200) % 2)
    alike_N = audit.near_duplicates(images, np.arange(1200)).groups_N
    assert np.bincount(alike_N).max() < 50
    assert (alike_N[1160:] == alike_N[:40]).sum() >= 38
