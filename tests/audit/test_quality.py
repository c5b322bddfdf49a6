"""Findings about single images, classes, parts and labels, each planted among ordinary ones."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.special import softmax

from saccade import audit, data
from saccade.audit import labels
from saccade.data.arrays import stacked
from saccade.data.sketch import sketch
from saccade.events import Finding, listening
from saccade.settings import DataSettings
from tests.audit.test_near import textured
from tests.photos import encoded, photo, photo_folder

Bytes = NDArray[np.uint8]


def findings(images: data.ImageSet) -> dict[str, tuple[str, ...]]:
    heard: list[object] = []
    with listening(heard.append):
        audit.quality(images)
        audit.balance(images)
    found: dict[str, tuple[str, ...]] = {}
    for event in heard:
        if isinstance(event, Finding):
            found[event.kind] = (*found.get(event.kind, ()), *event.paths)
    return found


def blurred(x: Bytes) -> Bytes:
    return np.asarray(Image.fromarray(x).filter(ImageFilter.GaussianBlur(6)))


def test_planted_faults_of_single_images_are_found_and_nothing_else(tmp_path: Path) -> None:
    root = photo_folder(tmp_path, 20, size=(80, 72))
    ordinary = photo(0, (80, 72), seed=9)
    shapes = {
        "blank": np.full((72, 80, 3), 90, np.uint8),
        "dark": (ordinary * 0.16).astype(np.uint8),
        "bright": (255 - (255.0 - ordinary) * 0.16).astype(np.uint8),
        "blurred": blurred(ordinary),
        "tiny": photo(0, (6, 6)),
        "thin": photo(0, (720, 72)),
        "grey": np.repeat(ordinary.mean(2, keepdims=True), 3, 2).astype(np.uint8),
    }
    for name, x_HWC in shapes.items():
        (root / "disc" / f"{name}.png").write_bytes(encoded(x_HWC, "PNG"))
    (root / "disc" / "really a png.jpg").write_bytes(encoded(ordinary, "PNG"))
    images = data.integrity(data.open(root))
    found = findings(images)
    short = {kind: tuple(path.partition("/")[2].partition(".")[0] for path in paths) for kind, paths in found.items()}
    assert short == {
        "wrong-extension": ("really a png",),
        "extreme-size": ("tiny", "thin"),
        "blank": ("blank",),
        "dark": ("dark",),
        "bright": ("bright",),
        "blurred": ("blurred",),
        "grey": ("grey",),
    }


def test_a_source_that_is_all_dark_or_all_grey_is_not_flagged() -> None:
    dark = data.from_arrays((textured(40) // 8).astype(np.uint8), np.arange(40) % 2)
    assert findings(dark) == {}
    grey = data.from_arrays(textured(40)[..., 0], np.arange(40) % 2)
    assert findings(grey) == {}


def test_what_most_images_are_is_no_exception_to_be_left_out() -> None:
    x_NHWC = textured(40)
    x_NHWC[:12] = 90
    assert findings(data.from_arrays(x_NHWC, np.arange(40) % 2)).keys() == {"faint"}
    x_NHWC[4:12] = textured(8)
    assert findings(data.from_arrays(x_NHWC, np.arange(40) % 2)).keys() == {"blank"}


def test_what_shows_by_its_colour_alone_is_not_blank() -> None:
    x_NHWC = textured(40)
    x_NHWC[0] = (200, 60, 60)
    x_NHWC[1] = x_NHWC[0]
    x_NHWC[1, 8:24, 8:24] = (60, 124, 104)  # as bright: 0.299 R + 0.587 G + 0.114 B
    assert findings(data.from_arrays(x_NHWC, np.arange(40) % 2)) == {"blank": ("arrays/00",)}


def test_imbalance_is_told_with_its_numbers() -> None:
    images = data.from_arrays(textured(60), ["a"] * 50 + ["b"] * 10)
    assert findings(images)["imbalance"] == ("b",)
    assert "imbalance" not in findings(data.from_arrays(textured(60), ["a"] * 49 + ["b"] * 11))


@pytest.mark.parametrize("width", [2, 4, 8])
def test_sharpness_falls_with_the_width_of_edges(width: int) -> None:
    ramp = np.interp(np.arange(64), [32 - width / 2, 32 + width / 2], [20, 220])
    x_HWC = np.repeat(np.repeat(ramp[None, :, None], 64, 0), 3, 2).astype(np.uint8)
    # One ramp of `width` equal steps: two bends of one step beside `width` slopes of one step.
    assert sketch(x_HWC).sharpness == pytest.approx(np.sqrt(2 / width), rel=0.1)


def test_parts_that_differ_are_told_apart_and_parts_drawn_alike_are_not() -> None:
    x_NHWC = textured(400)
    labels_N = np.arange(400) % 2

    def area(validation: Bytes) -> tuple[float | None, list[str]]:
        parts = [("train", x_NHWC[:200], labels_N[:200]), ("validation", validation, labels_N[200:])]
        images = stacked(parts, name="two", settings=DataSettings())
        heard: list[object] = []
        with listening(heard.append):
            value = audit.shift(images.select(range(200)), images.select(range(200, 400)))
        return value, [event.detail for event in heard if isinstance(event, Finding)]

    same, told = area(x_NHWC[200:])
    assert same is not None
    assert 0.35 < same < 0.65
    assert told == []
    darker, told = area((x_NHWC[200:] // 2).astype(np.uint8))
    assert darker is not None
    assert darker > 0.95
    assert "validation images are " in told[0]
    assert told[0].endswith("what is chosen on validation may not be best elsewhere")
    few = data.from_arrays(x_NHWC[:20], labels_N[:20])
    assert audit.shift(few, few) is None


def test_planted_wrong_labels_are_the_ones_doubted() -> None:
    rng = np.random.default_rng(1)
    true_N = rng.integers(0, 3, 600)
    x_ND = (rng.normal(size=(600, 8)) + 3 * np.eye(3, 8)[true_N]).astype(np.float32)
    given_N = true_N.copy()
    wrong = rng.permutation(600)[:30]
    given_N[wrong] = (given_N[wrong] + 1) % 3
    noisy = labels.Noisy.of(labels.out_of_fold(x_ND, given_N, np.arange(600)), given_N)
    assert noisy.probabilities_NK.shape == (600, 3)
    np.testing.assert_allclose(noisy.probabilities_NK.sum(1), 1, atol=1e-6)
    assert noisy.share == pytest.approx(0.05, abs=0.02)
    doubted = set(noisy.suspects().tolist())
    assert len(doubted & set(wrong.tolist())) >= 20
    assert len(doubted - set(wrong.tolist())) <= 5
    told = labels.describe(noisy, given_N, [f"{i}" for i in range(600)], ("a", "b", "c"))
    right = sum("abc"[true_N[int(each.key)]] == each.predicted for each in told)
    assert right >= 0.8 * len(told)
    assert [each.label for each in told] == ["abc"[given_N[int(each.key)]] for each in told]


def test_predictions_of_an_image_never_come_from_its_group() -> None:
    # Every image is unique but for its twin with the other label: only leakage could name its own label.
    rng = np.random.default_rng(2)
    one = rng.normal(size=(100, 400)).astype(np.float32)
    labels_N = rng.integers(0, 2, 100)
    x_ND, twice_N = np.concatenate([one, one]), np.concatenate([labels_N, labels_N])
    leaky = labels.out_of_fold(x_ND, twice_N, np.arange(200))
    honest = labels.out_of_fold(x_ND, twice_N, np.tile(np.arange(100), 2))
    assert (leaky.argmax(1) == twice_N).mean() > 0.8
    assert (honest.argmax(1) == twice_N).mean() < 0.7


def test_the_share_of_wrong_labels_and_the_temperature_are_the_likeliest() -> None:
    rng = np.random.default_rng(3)
    scores_NK = rng.normal(size=(4_000, 5)) * 4
    chance_NK = softmax(scores_NK, axis=1)
    labels_N = (chance_NK.cumsum(1) > rng.random((4_000, 1))).argmax(1)
    wrong_N = rng.random(4_000) < 0.08
    given_N = (labels_N + wrong_N * rng.integers(1, 5, 4_000)) % 5
    noisy = labels.Noisy.of(scores_NK * 3, given_N)  # three times too sure
    assert noisy.share == pytest.approx(0.08, abs=0.015)
    np.testing.assert_allclose(noisy.probabilities_NK, chance_NK, atol=0.1)
    assert noisy.wrong_N.sum() == pytest.approx(wrong_N.sum(), rel=0.2)
    found = noisy.suspects()
    assert wrong_N[found].mean() == pytest.approx(noisy.wrong_N[found].mean(), abs=0.06)
    assert labels.Noisy.of(scores_NK, labels_N).share < 0.01


def test_nothing_is_doubted_by_what_knows_nothing() -> None:
    rng = np.random.default_rng(4)
    for classes in (2, 10):
        labels_N = rng.integers(0, classes, 300)
        noisy = labels.Noisy.of(rng.normal(size=(300, classes)), labels_N)
        assert not len(noisy.suspects())
        against_NK = -3.0 * np.eye(classes)[labels_N]  # nor by what is always wrong
        assert not len(labels.Noisy.of(against_NK, labels_N).suspects())


def test_the_only_image_of_a_class_is_not_doubted() -> None:
    rng = np.random.default_rng(6)
    labels_N = np.append(np.arange(200) % 2, 2)
    x_ND = (rng.normal(size=(201, 4)) + 4 * labels_N[:, None]).astype(np.float32)
    x_ND[-1] = x_ND[0]  # it looks like an image of another class
    noisy = labels.Noisy.of(labels.out_of_fold(x_ND, labels_N, np.arange(201)), labels_N)
    assert 200 not in noisy.suspects()


def test_a_classifier_is_fitted_to_some_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "ROWS", 40)
    rng = np.random.default_rng(7)
    labels_N = rng.permutation(np.repeat([0, 1, 2], [150, 45, 5]))
    assert np.bincount(labels_N[labels._sample(labels_N)]).tolist() == [30, 9, 1]
    x_ND = (rng.normal(size=(200, 4)) + 6 * np.eye(3, 4)[labels_N]).astype(np.float32)
    told_NK = labels.out_of_fold(x_ND, labels_N, np.arange(200))
    assert (told_NK.argmax(1) == labels_N).mean() > 0.95


def test_colours_of_a_sketch_are_those_of_jpeg() -> None:
    x_HWC = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    red, green, blue = x_HWC.reshape(8, 4, 8, 4, 3).mean((1, 3)).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    expected = np.stack([128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402], 2)
    found = np.frombuffer(sketch(x_HWC).chroma, np.uint8).reshape(8, 8, 2)
    np.testing.assert_allclose(found, expected, atol=1.5)
