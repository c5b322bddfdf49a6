"""Splits: fractions, classes, groups, given parts, and the seal on the test part."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade import audit, data
from saccade.data.pixels import Pixels
from saccade.errors import InputError, RunError, SettingError, SourceError
from saccade.events import Finding, listening
from saccade.ledger import Ledger
from saccade.settings import DataSettings
from tests.photos import split_folder


def image_set(
    labels: list[int], *, parts: Sequence[str | None] = (), groups: Sequence[str | None] = ()
) -> data.ImageSet:
    """Return distinct tiny images with these labels."""
    count = len(labels)
    x_NHW = np.arange(count * 16).reshape(count, 4, 4) % 251 + (np.arange(count) // 251)[:, None, None]
    images = data.from_arrays(x_NHW.astype(np.uint8), labels, name="x")
    given = tuple(parts or [None] * count)
    return data.ImageSet(**{**vars(images), "given_parts": given, "groups": tuple(groups or [None] * count)})


def alone(images: data.ImageSet) -> NDArray[np.int64]:
    return np.arange(len(images))


def split(
    images: data.ImageSet, groups_N: NDArray[np.int64] | None = None, **settings: Any
) -> tuple[data.Parts, list[Finding]]:
    heard: list[object] = []
    with listening(heard.append):
        parts = data.split(images, alone(images) if groups_N is None else groups_N, DataSettings(**settings))
    return parts, [event for event in heard if isinstance(event, Finding)]


@pytest.mark.parametrize("seed", range(5))
def test_no_image_goes_to_a_later_part_than_it_may(seed: int) -> None:
    images = image_set([0] * 20 + [1] * 20 + [2] * 6)
    latest_N = np.array([*([0] * 10 + [1] * 4 + [2] * 6) * 2, *[0] * 6])
    groups_N = alone(images)
    groups_N[14] = 13  # one that may be tested on stays with one that may not
    heard: list[object] = []
    with listening(heard.append):
        parts = data.split(images, groups_N, DataSettings(seed=seed), latest_N=latest_N)
    numbers = {row[0]: ("train", "validation", "test").index(row[3]) for row in parts.rows()}
    part_N = np.array([numbers[key] for key in images.keys])
    assert (part_N <= latest_N).all()
    assert part_N[13] == part_N[14] <= 1
    for part in (1, 2):
        assert np.bincount(images.labels_N[part_N == part], minlength=3).tolist() == [3, 3, 0]
    assert [(event.kind, event.paths) for event in heard if isinstance(event, Finding)] == [
        ("missing-class", ("2",)),
        ("missing-class", ("2",)),
    ]


@pytest.mark.parametrize(("images", "count"), [(17, 20), (25, 10), (14, 10), (6, 3)])
def test_folds_are_as_even_as_can_be(images: int, count: int) -> None:
    labels_N = np.repeat([0, 1], images)
    fold_N = data.folds(image_set(labels_N.tolist()), np.arange(2 * images), count, seed=3)
    for held_N in (fold_N, fold_N[labels_N == 0], fold_N[labels_N == 1]):
        sizes = np.bincount(held_N, minlength=count)
        assert sizes.max() - sizes.min() <= 1
    assert np.bincount(fold_N, minlength=count).min() >= 1


@pytest.mark.parametrize("fold", ["6/5", "0/5", "-1/5", "x", "1.5/5", "1/1", "1/2/3"])
def test_a_fold_that_is_none_is_refused(fold: str) -> None:
    parts, _ = split(image_set([0, 1] * 20))
    with pytest.raises(SettingError) as refused:
        data.hold_out(parts, alone(parts.known.images), fold, 0)
    assert str(refused.value) == f'The fold cannot be "{fold}": expected which of how many, such as 2/5.'


def test_groups_are_one_for_each_image() -> None:
    images = image_set([0, 1] * 10)
    parts, _ = split(images)
    few_N = np.arange(7)
    with pytest.raises(InputError, match=r"There are 7 groups for 20 images; give a number for each image\."):
        split(images, few_N)
    with pytest.raises(InputError, match="There are 7 groups for 20 images"):
        data.folds(images, few_N, 2, seed=0)
    with pytest.raises(InputError, match=f"There are 7 groups for {len(parts.known)} images"):
        data.hold_out(parts, few_N, "1/2", 0)


def part_of(parts: data.Parts) -> dict[str, str]:
    return {key: part for key, _, _, part in parts.rows()}


def test_each_class_is_split_by_the_fractions_to_the_nearest_image() -> None:
    parts, findings = split(image_set([0] * 100 + [1] * 37 + [2] * 9))
    assert findings == []
    assert parts.train.images.class_counts().tolist() == [70, 37 - 6 - 6, 9 - 1 - 1]
    assert parts.validation.images.class_counts().tolist() == [15, 6, 1]
    assert len(parts.test) == 15 + 6 + 1
    rows = list(parts.rows())
    assert len({key for key, *_ in rows}) == len(rows) == 146


def test_the_seed_decides() -> None:
    labels = [i % 3 for i in range(90)]
    images = image_set(labels)
    first = part_of(split(images)[0])
    assert part_of(split(images)[0]) == first
    assert part_of(split(images, seed=1)[0]) != first


def test_groups_never_cross_and_their_classes_stay_balanced() -> None:
    rng = np.random.default_rng(0)
    labels = [0] * 300 + [1] * 200
    groups_N = np.sort(rng.integers(0, 60, 500))
    groups_N[300:] += 100  # one class a group
    parts, findings = split(image_set(labels), groups_N)
    assert findings == []
    part = part_of(parts)
    sides = [part[f"x/{i:03d}"] for i in range(500)]
    for group in np.unique(groups_N):
        assert len({sides[i] for i in np.flatnonzero(groups_N == group)}) == 1
    for label, count in ((0, 300), (1, 200)):
        for name, fraction in (("train", 0.7), ("validation", 0.15), ("test", 0.15)):
            share = sum(side == name for side, own in zip(sides, labels, strict=True) if own == label)
            assert share == pytest.approx(fraction * count, abs=8)


def test_duplicates_and_named_groups_are_united() -> None:
    # 0-1 are copies, 1-2 one patient, 2-3 copies: all four belong together.
    labels = [0] * 20 + [1] * 20
    groups_N = np.arange(40)
    groups_N[1], groups_N[3] = 0, 2
    names: list[str | None] = [None, "p", "p", *[None] * 37]
    for seed in range(8):
        part = part_of(split(image_set(labels, groups=names), groups_N, seed=seed)[0])
        assert len({part[f"x/{i:02d}"] for i in range(4)}) == 1


def test_a_class_of_few_groups_is_told_of_by_what_is_kept_together() -> None:
    images = image_set([0] * 40 + [1] * 30 + [2] * 30, groups=[None] * 40 + ["v"] * 20 + ["w"] * 10 + [None] * 30)
    heard: list[object] = []
    alike_N = alone(images)
    alike_N[70:90], alike_N[90:] = 70, 90
    with listening(heard.append):
        parts = data.split(images, alone(images), DataSettings(), alike_N)
    small = [event for event in heard if isinstance(event, Finding) and event.kind == "small-class"]
    assert [finding.paths for finding in small] == [("1",), ("2",)]
    assert {finding.detail.split('" ')[1] for finding in small} == {
        "has too few groups for training, validation and test: its 30 images are 2 groups, each kept together"
    }
    assert parts.validation.images.class_counts()[1:].tolist() == [0, 0]


def test_small_classes_are_told_and_always_trained_on() -> None:
    parts, findings = split(image_set([0] * 20 + [1] + [2] * 2 + [3] * 3))
    assert parts.train.images.class_counts().tolist() == [14, 1, 1, 1]
    assert parts.validation.images.class_counts().tolist() == [3, 0, 0, 1]
    assert len(parts.test) == 3 + 0 + 1 + 1
    small = {finding.paths[0]: finding.detail for finding in findings if finding.kind == "small-class"}
    assert list(small) == ["1", "2"]
    assert (
        small["1"]
        == 'class "1" has only 1 different image: too few for training, validation and test, so it stays in training'
    )
    assert small["2"].endswith(
        "has only 2 different images: too few for training, validation and test, so one stays in training"
    )
    missing = {
        finding.detail.split(" the ")[1]: finding.paths for finding in findings if finding.kind == "missing-class"
    }
    assert missing == {
        "validation part: nothing is measured for them there": ("1", "2"),
        "test part: nothing is measured for them there": ("1",),
    }


def test_large_groups_leave_no_part_without_a_class() -> None:
    groups_N = np.array([0] * 50 + [1] * 49 + [2] + list(range(10, 30)))
    parts, _ = split(image_set([0] * 100 + [1] * 20), groups_N)
    assert (parts.train.images.class_counts() > 0).all()
    assert (parts.validation.images.class_counts() > 0).all()
    ledger_free = [row for row in parts.rows() if row[3] == "test"]
    assert {row[2] for row in ledger_free} == {"0", "1"}


def test_a_large_test_fraction_still_leaves_every_class_one_image_to_train_on() -> None:
    parts, _ = split(image_set([0] * 10 + [1] * 3), test_fraction=0.7, validation_fraction=0.2)
    assert parts.train.images.class_counts().tolist() == [1, 1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("train", "validation", "test"), {"train": 40, "validation": 40, "test": 40}),
        (("train", "train", "test"), {"train": 80 - 12, "validation": 12, "test": 40}),
        (("train", "validation", "train"), {"train": 80 - 12, "validation": 40, "test": 12}),
        ((None, "validation", None), {"train": 80 - 12, "validation": 40, "test": 12}),
        (("train", "train", "train"), {"train": 120 - 36, "validation": 18, "test": 18}),
    ],
)
def test_given_parts_are_kept_and_missing_ones_taken_from_training(
    given: tuple[str | None, ...], expected: dict[str, int]
) -> None:
    images = image_set([0, 1] * 60, parts=[*([given[0]] * 40), *([given[1]] * 40), *([given[2]] * 40)])
    parts, findings = split(images)
    assert findings == []
    part = part_of(parts)
    assert {name: list(part.values()).count(name) for name in expected} == expected
    for key, own in zip(images.keys, images.given_parts, strict=True):
        if own in ("validation", "test"):
            assert part[key] == own


def test_a_named_group_across_given_parts_is_a_leak() -> None:
    images = image_set(
        [0, 1, 0, 1, 0, 1], parts=["train"] * 3 + ["validation", "test", "test"], groups=["p", *[None] * 4, "p"]
    )
    images = data.ImageSet(**{**vars(images), "labels_N": np.array([0, 1, 0, 0, 0, 1])})
    parts, findings = split(images)
    assert parts.train.images.keys == ("x/1", "x/2")
    assert (findings[0].kind, findings[0].paths) == ("leak", ("x/0",))


def test_a_class_that_is_only_tested_is_told() -> None:
    images = image_set([0, 1, 0, 1, 0, 2], parts=["train", "train", "validation", "validation", "test", "test"])
    _, findings = split(images)
    told = [(finding.detail, finding.paths) for finding in findings if "train part" in finding.detail]
    assert told == [("classes without an image in the train part: they cannot be learned", ("2",))]


def test_what_cannot_be_split_gets_a_clear_sentence() -> None:
    with pytest.raises(
        SourceError, match=r"x has too few images to split \(2 in 2 classes: none is left for validation\)"
    ):
        split(image_set([0, 1]))
    with pytest.raises(SourceError, match=r"\(8 in 2 classes: none is left .*; give at least 3 groups of each class"):
        split(image_set([0, 1] * 4, groups=["a"] * 4 + ["b"] * 4))
    with pytest.raises(SourceError, match="x has no training images"):
        split(image_set([0, 1], parts=["test", "test"]))
    with pytest.raises(
        SettingError, match=r"test_fraction 0\.5 and validation_fraction 0\.5 leave nothing to train on"
    ):
        split(image_set([0, 1] * 9), test_fraction=0.5, validation_fraction=0.5)


def test_images_of_the_test_part_are_out_of_reach_before_it_is_unsealed(tmp_path: Path) -> None:
    images = data.integrity(data.open(split_folder(tmp_path / "photos")))
    parts, _ = split(images, audit.duplicates(images))
    tested = [key for key, part in part_of(parts).items() if part == "test"]
    assert len(tested) == len(parts.test) == 12
    for part in (parts.train, parts.validation):
        assert not set(tested) & part.images.pixels.keys
        with pytest.raises(InputError, match="it may belong to another part"):
            part.images.pixels.squares(tested, 8)
        with pytest.raises(InputError, match="it may belong to another part"):
            part.images.pixels.read(tested[0])
    public = [name for name in dir(parts.test) if not name.startswith("_")]
    assert public == ["content_hash", "name", "record", "unseal"]
    held = [getattr(parts.test, name) for name in public if name not in ("record", "unseal")]
    assert all(isinstance(value, str) for value in held)
    assert not any(isinstance(thing, data.ImageSet | data.Part | Pixels) for thing in gc.get_referents(parts.test))


def test_every_unsealing_is_a_counted_look(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state" / "ledger.jsonl")
    folder = split_folder(tmp_path / "photos")
    looks: list[dict[str, str]] = []
    for run in ("runs/1", "runs/2", "runs/3"):
        images = data.integrity(data.open(folder))
        parts, _ = split(images, audit.duplicates(images))
        assert len(ledger.looks(parts.test.content_hash)) == len(looks)
        part, looks = parts.test.unseal(ledger, run=run, command="fit")
        assert part.name == "test"
        assert part.content_hash == parts.test.content_hash
        assert part.squares(8).shape == (12, 8, 8, 3)
        assert part.classes == parts.classes
        folder = folder.rename(tmp_path / run.replace("/", "-"))  # the same images in another place are no fresh ones
    assert [(look["run"], look["command"]) for look in looks] == [
        ("runs/1", "fit"),
        ("runs/2", "fit"),
        ("runs/3", "fit"),
    ]


def test_a_look_that_cannot_be_recorded_is_not_given(tmp_path: Path) -> None:
    parts, _ = split(image_set([0, 1] * 10))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="ledger of test looks cannot be written"):
        parts.test.unseal(Ledger(tmp_path / "file" / "ledger.jsonl"), run="r", command="fit")


def test_parts_select_and_record() -> None:
    parts, _ = split(image_set([0, 1] * 20))
    few = parts.train.select([3, 0])
    assert few.images.keys == (parts.train.images.keys[3], parts.train.images.keys[0])
    assert few.labels_N.tolist() == parts.train.labels_N[[3, 0]].tolist()
    key, digest, label, name = next(parts.rows())
    assert (key, digest, name) == (parts.train.images.keys[0], parts.train.images.hashes()[0], "train")
    assert label == parts.train.classes[parts.train.labels_N[0]]


def test_a_mask_selects_where_it_is_true() -> None:
    parts, _ = split(image_set([0, 1] * 20))
    images = parts.train.images
    mask_N = images.labels_N == 1
    assert images.select(mask_N).keys == images.select(np.flatnonzero(mask_N)).keys
    assert set(parts.train.select(mask_N.tolist()).labels_N.tolist()) == {1}
    assert images.select([-1]).keys == images.keys[-1:]
    assert len(images.select([])) == len(images.select(np.zeros(len(images), bool))) == 0


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        ([True, False], r"shape \(2,\) and type bool\."),
        (np.zeros(0, bool), r"shape \(0,\) and type bool\."),
        ([0, 6], r"shape \(2,\) and type int64 that goes from 0 to 6\."),
        ([-7], r"shape \(1,\) and type int64 that goes from -7 to -7\."),
        ([0.5], r"shape \(1,\) and type float64\."),
        (["x/0"], r"shape \(1,\) and type <U3\."),
        ([[0, 1]], r"shape \(1, 2\) and type int64 that goes from 0 to 1\."),
    ],
)
def test_places_where_there_is_no_image_are_refused(wrong: Any, given: str) -> None:
    told = "Images are selected by their places, from 0 to 5, or by a mask, one bool for each of the 6; given is an "
    with pytest.raises(InputError, match=f"{told}array of {given}"):
        image_set([0, 1] * 3).select(wrong)
