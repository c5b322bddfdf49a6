"""Baselines, mirror symmetry and evaluation on real digits and on images made for the purpose."""

from time import perf_counter

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from saccade import data
from saccade.data import Parts
from saccade.settings import DataSettings
from saccade.study.baselines import baselines, stratified_order
from saccade.study.evaluate import evaluate
from saccade.study.symmetry import judge, mirror_symmetric
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


def right(count: int, of: int = 100) -> NDArray[np.bool_]:
    return np.arange(of) < count


@pytest.mark.parametrize(
    ("plain", "mirrored", "of", "symmetric", "verdict", "why"),
    [
        (90, 80, 100, True, "yes", "90% of 100 validation images right, and 80% mirrored: mirroring keeps"),
        (90, 30, 100, False, "no", "mirroring makes something else of them"),
        (12, 3, 100, True, "undecided", "hardly above the commonest class"),
        (4, 1, 5, False, "undecided", "too few to tell"),
        (10, 10, 10, True, "yes", "mirroring keeps their class"),
    ],
)
def test_the_verdict_needs_a_loss_that_is_large_and_no_accident(
    plain: int, mirrored: int, of: int, symmetric: bool, verdict: str, why: str
) -> None:
    result = judge(right(plain, of), right(mirrored, of), chance=0.1)
    assert (result.symmetric, result.verdict) == (symmetric, verdict)
    assert why in result.why


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
