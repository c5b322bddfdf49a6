"""Baselines, mirror symmetry and evaluation on real digits and on images made for the purpose."""

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, rotate
from sklearn.metrics import accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from saccade import data
from saccade.data import Parts
from saccade.settings import DataSettings
from saccade.study.baselines import baselines, stratified_order
from saccade.study.evaluate import evaluate
from saccade.study.symmetry import LOST, excess, judge, mirror_symmetric
from saccade.train.budget import Clock


def parts_of(images: data.ImageSet) -> Parts:
    images = data.integrity(images)
    return data.split(images, np.arange(len(images)), DataSettings())


@pytest.fixture(scope="module")
def digits() -> Parts:
    return parts_of(data.open("digits"))


@pytest.fixture(scope="module")
def blobs() -> Parts:
    """Colours in three shades of noise: as right mirrored as not."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 4000)
    x = rng.integers(0, 200, (4000, 16, 16, 3), np.uint8)
    x[np.arange(4000), :, :, labels] += 20
    return parts_of(data.from_arrays(x, labels, name="blobs"))


def test_baselines_use_everything_where_there_is_time(digits: Parts) -> None:
    found = baselines(digits, Clock(None), 8)
    assert [each.name.split("(")[-1] for each in found] == [
        *("L1)", "L2)", "linear softmax"),
        "linear softmax on edges and colours",
    ]
    assert all(each.note == "" and each.model_size == 8 and each.validation_accuracy > 0.95 for each in found)
    x, labels = digits.validation.squares(8), digits.validation.labels_N
    for each in found:
        assert each.validation_accuracy == pytest.approx(each.classifier.score(x, labels))
        assert each.interval[0] < each.validation_accuracy < each.interval[1]
    train = digits.train.squares(8).reshape(len(digits.train), -1).astype(np.float64)
    flat = x.reshape(len(x), -1).astype(np.float64)
    for each, metric in zip(found, ["manhattan", "euclidean"], strict=False):
        accuracies = [
            accuracy_score(
                labels, KNeighborsClassifier(k, metric=metric).fit(train, digits.train.labels_N).predict(flat)
            )
            for k in (1, 3, 5, 9, 15)
        ]
        assert each.validation_accuracy == pytest.approx(max(accuracies), abs=2 / len(labels))


def test_baselines_leave_out_what_does_not_fit_and_say_so(blobs: Parts) -> None:
    baselines(blobs, Clock(100), 16)  # so that compiling does not count
    begun = perf_counter()
    found = baselines(blobs, Clock(0.5), 16)
    assert perf_counter() - begun < 1.0
    for each in found:
        assert f"of {len(blobs.train):,} training images" in each.note
        assert len(each.classifier.classes_) == 3


def test_every_beginning_of_the_order_has_the_shares_of_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [900, 99, 1])
    order = stratified_order(labels)
    assert sorted(order) == list(range(1000))
    assert set(labels[order[:3]]) == {0, 1, 2}
    assert np.bincount(labels[order[:100]]).tolist() == pytest.approx([90, 10, 1], abs=1)


def test_digits_are_not_mirrored_and_blobs_are(digits: Parts, blobs: Parts) -> None:
    result = mirror_symmetric(digits)
    assert (result.symmetric, result.verdict) == (False, "no")
    assert "mirroring makes something else of them" in result.why
    result = mirror_symmetric(blobs)
    assert (result.symmetric, result.verdict) == (True, "yes")
    assert "mirroring keeps their class" in result.why


def slanted(degrees: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return noise (32, 32, 3) smoothed along a line so many degrees from upright, leaning to the right."""
    upright = gaussian_filter1d(rng.normal(size=(64, 64)), 2.0, axis=0)
    z = rotate(upright, -degrees, reshape=False, mode="wrap")[16:48, 16:48]
    z = z / z.std() + 0.5 * rng.normal(size=z.shape)
    return np.repeat(np.clip(128 + 40 * z, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def coloured(inside: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a shape (32, 32) as an image, shape and ground each of any colour, shifted by up to 3 pixels."""
    shape, ground = rng.integers(0, 256, (2, 3), np.uint8)
    return np.roll(np.where(inside[..., None], shape, ground), rng.integers(-3, 4, 2), axis=(0, 1))


def letter(right: bool) -> NDArray[np.bool_]:
    """Return the shape of a b, whose bowl is on the right of its stem, or of a d."""
    y, x = np.mgrid[:32, :32]
    bowl = np.hypot(y - 20, x - 16)
    b = ((bowl < 6) & (bowl > 3)) | ((np.abs(x - 11) < 2) & (y > 5) & (y < 26))
    return np.asarray(b if right else b[:, ::-1])


def symbol(kind: int) -> NDArray[np.bool_]:
    """Return the shape of a square, a cross or a ring, each its own mirror image."""
    y, x = np.abs(np.mgrid[:32, :32] - 15.5)
    far, near = np.maximum(y, x), np.minimum(y, x)
    return np.asarray([far < 8, (near < 3) & (far < 10), np.abs(np.hypot(y, x) - 8) < 2][kind])


def drawn(kind: str, count: int) -> Parts:
    """Return so many images of a kind, split: textures and letters change their class in the mirror."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % (2 if kind == "letters" else 3)
    draws: dict[str, Callable[[int], NDArray[np.uint8]]] = {
        "textures": lambda label: slanted([-15.0, 0.0, 15.0][label], rng),
        "letters": lambda label: coloured(letter(label == 0), rng),
        "symbols": lambda label: coloured(symbol(label), rng),
        "noise": lambda _: rng.integers(0, 256, (32, 32, 3), np.uint8),
    }
    return parts_of(data.from_arrays(np.stack([draws[kind](label) for label in labels.tolist()]), labels, name=kind))


@pytest.mark.parametrize("kind", ["textures", "letters"])
def test_what_edges_tell_and_pixels_do_not_is_not_mirrored_where_the_mirror_changes_it(kind: str) -> None:
    result = mirror_symmetric(drawn(kind, 600))
    assert (result.symmetric, result.verdict) == (False, "no")
    assert "a linear classifier on HOG labels" in result.why


def test_symmetric_symbols_in_any_colours_are_mirrored() -> None:
    result = mirror_symmetric(drawn("symbols", 600))
    assert (result.symmetric, result.verdict) == (True, "yes")
    assert result.mirrored_accuracy == pytest.approx(result.accuracy, abs=0.1)


def test_one_class_to_learn_from_leaves_the_neighbours_to_ask() -> None:
    """As `baselines` may, which learns from validation images too."""
    parts = drawn("letters", 60)
    alone = parts.train.images.select(np.flatnonzero(parts.train.labels_N == 0))
    result = mirror_symmetric(replace(parts, train=data.Part("train", alone)))
    assert "nearest neighbours label" in result.why


def test_what_no_classifier_tells_apart_is_mirrored_and_not_said_to_be_photos() -> None:
    result = mirror_symmetric(drawn("noise", 600))
    assert (result.symmetric, result.verdict) == (True, "undecided")
    assert "hardly above the commonest class" in result.why
    assert "photos are" not in result.why


@pytest.mark.parametrize(("shape", "count"), [((32, 32, 3), 12), ((5, 7, 3), 12), ((31, 50, 3), 60)])
def test_few_and_small_images_of_any_shape_are_judged(shape: tuple[int, ...], count: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (count, *shape), np.uint8)
    result = mirror_symmetric(parts_of(data.from_arrays(x, np.arange(count) % 2, name="few")))
    assert result.verdict in ("yes", "no", "undecided")
    assert mirror_symmetric(parts_of(data.from_arrays(x, np.arange(count) % 2, name="few"))) == result


def right(count: int, of: int = 100) -> NDArray[np.bool_]:
    return np.arange(of) < count


@pytest.mark.parametrize(
    ("plain", "mirrored", "of", "symmetric", "verdict", "why"),
    [
        (90, 80, 100, True, "yes", "90% of 100 validation images right, and 80% mirrored: mirroring keeps"),
        (90, 30, 100, False, "no", "mirroring makes something else of them"),
        (12, 3, 100, True, "undecided", "hardly above the commonest class"),
        (4, 1, 5, False, "undecided", "too few to tell whether mirroring keeps their class, but it seems not to"),
        (5, 4, 8, True, "undecided", "too few to tell whether mirroring keeps their class, but it seems to"),
        (85, 76, 500, True, "undecided", "too few to tell"),
        (10, 10, 10, True, "yes", "mirroring keeps their class"),
    ],
)
def test_the_verdict_needs_a_loss_that_is_large_or_small_and_no_accident(
    plain: int, mirrored: int, of: int, symmetric: bool, verdict: str, why: str
) -> None:
    result = judge(right(plain, of), right(mirrored, of), chance=0.1)
    assert (result.symmetric, result.verdict) == (symmetric, verdict)
    assert why in result.why


def test_what_hardly_anything_is_gained_of_is_not_said_to_keep_its_class() -> None:
    result = judge(right(28, 500), right(21, 500), chance=1 / 150)
    assert result.verdict == "undecided"


@pytest.mark.parametrize(("accuracy", "lost", "won"), [(0.9, 0.35, 0.05), (0.5, 0.2, 0.1), (0.3, 0.12, 0.1)])
def test_the_bounds_of_the_excess_are_wrong_in_one_of_twenty_on_each_side(
    accuracy: float, lost: float, won: float
) -> None:
    rng, chance, rounds = np.random.default_rng(0), 0.1, 2000
    outcomes = rng.choice(4, (rounds, 150), p=[1 - accuracy - won, won, lost, accuracy - lost])
    found = np.array([excess(each >= 2, each % 2 == 1, chance) for each in outcomes])
    true = lost - won - LOST * (accuracy - chance)
    assert np.mean(found[:, 0] > true) == pytest.approx(0.05, abs=0.015)
    assert np.mean(found[:, 2] < true) == pytest.approx(0.05, abs=0.015)
    assert found[:, 1].mean() == pytest.approx(true, abs=0.01)


def test_evaluation_holds_what_the_summary_needs() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet([1] * 3, 200), rng.integers(0, 3, 200)
    keys = [f"{i}.png" for i in range(200)]
    result = evaluate(probabilities, labels, ["ant", "bee", "cat"], keys)
    wrong = int((probabilities.argmax(1) != labels).sum())
    assert result["accuracy"] == pytest.approx(1 - wrong / 200)
    assert np.sum(result["confusion"]) == 200
    assert np.trace(result["confusion"]) == 200 - wrong
    assert [row["class"] for row in result["per_class"]] == ["ant", "bee", "cat"]
    assert len(result["calibration"]) == 15
    assert len(result["mistakes"]) == 24
    confidence = [row["probability"] for row in result["mistakes"]]
    assert confidence == sorted(confidence, reverse=True)
    for row in result["mistakes"]:
        i = keys.index(row["path"])
        assert row["label"] == ["ant", "bee", "cat"][labels[i]] != row["predicted"]
        assert row["probability"] == probabilities[i].max()
