"""Split into training, validation and test part: stratified, seeded, and no group on two sides."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saccade.data.imageset import ImageSet
from saccade.data.parts import Part, Parts, SealedPart
from saccade.device import derived_seed
from saccade.errors import InputError, SettingError, SourceError
from saccade.events import Finding, emit
from saccade.settings import DataSettings
from saccade.values import checked_fold
from saccade.words import plural

# Where images of one group lie in several given parts, the later part keeps its own.
PARTS = ("train", "validation", "test")
_FEWEST = 3
ENOUGH_TO_CHOOSE = 5_000
"""Validation images taken at the most where a test part is given: they tell an accuracy to within 1.4 %."""


def split(
    images: ImageSet,
    groups_N: NDArray[np.int64],
    settings: DataSettings,
    alike_N: NDArray[np.int64] | None = None,
    latest_N: NDArray[np.int64] | None = None,
) -> Parts:
    """Return the three parts: given ones are kept, missing ones are taken from the training images.

    `groups_N` numbers images that must stay on one side (see `audit.duplicates`); they are united
    with the source's own groups. `alike_N`, coarser, keeps near-duplicates on one side of what is
    split here, while given parts keep theirs: what is alike is a matter of judgement. `latest_N` is
    the last part that each image may be taken for, an index into PARTS (see `recipe.provenance`). Each part
    taken has its fraction of every class, to the nearest image, as far as these allow; every class
    keeps at least one image to train on.
    Emits Findings of the kinds "leak", "small-class" and "missing-class".
    Raises SourceError where there are no training images or too few to split, SettingError where
    the fractions leave nothing to train on, InputError where there is not a group for each image.
    """
    united_N = united(groups_N, images.groups)
    part_N = given_numbers(images)
    dropped_N = crossing(part_N, united_N)
    _tell_leaks(images, dropped_N & ~crossing(part_N, groups_N))
    part_N[dropped_N] = -1
    if dropped_N.any() and not (part_N == 0).any():
        raise SourceError(
            f"Every training image of {images.source} is also in its validation or test part: what is validated on "
            "training images says nothing about new ones; give other images for validation."
        )
    wanted = _wanted(part_N, settings, images.source)
    if wanted:
        pool = np.flatnonzero(part_N == 0)
        kept_N = united_N if alike_N is None else united(alike_N, images.groups)
        seed = settings.seed if settings.split_seed is None else settings.split_seed
        part_N[pool] = _assign(
            images.labels_N[pool], kept_N[pool], None if latest_N is None else latest_N[pool], wanted, seed
        )
        _tell_small(images.select(pool), kept_N[pool])
    selected = [images.select(np.flatnonzero(part_N == number)) for number in range(3)]
    for name, part in zip(PARTS, selected, strict=True):
        if len(part) == 0 and latest_N is not None and (known := int((latest_N < len(PARTS) - 1).sum())):
            raise SourceError(
                f"{known:,} of the {len(images):,} images of {images.source} were used to train or choose the run "
                f"whose weights are asked for, and the others are too few to leave any for {name}; give more images "
                "that it has not seen, or other weights."
            )
        if len(part) == 0:
            apart = _apart(images)
            raise SourceError(
                f"{images.source} has too few images to split ({len(images):,} in "
                f"{plural(len(images.classes), 'class')}: none is left for {name}); give at least {_FEWEST} {apart} of "
                "each class."
            )
    _tell_missing(selected)
    train, validation, test = (Part(name, part) for name, part in zip(PARTS, selected, strict=True))
    return Parts(train, validation, SealedPart(test))


def hold_out(parts: Parts, groups_N: NDArray[np.int64], fold: str, seed: int) -> Parts:
    """Return the same parts but for validation: fold "i/K" of the training and validation images is held out for it.

    `groups_N` numbers those images that must stay together. Raises SettingError where `fold` is none, such as "6/5",
    and what `folds` raises.
    """
    try:
        number, count = map(int, checked_fold(fold).split("/"))
    except ValueError as error:
        raise SettingError(f'The fold cannot be "{fold}": {error}.') from error
    images = parts.known.images
    held_N = folds(images, groups_N, count, seed) == number - 1
    train, validation = (images.select(np.flatnonzero(held_N == held)) for held in (False, True))
    return replace(parts, train=Part("train", train), validation=Part("validation", validation))


def folds(images: ImageSet, groups_N: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each image, 0 to `count` - 1: stratified, seeded, and no group in two folds.

    Groups are united as `split` does. Raises SettingError where there are fewer groups than folds, or less
    than two folds, InputError where there is not a group for each image; emits a Finding "small-class" where a class
    has fewer groups than there are folds.
    """
    united_N = united(groups_N, images.groups)
    different = len(np.unique(united_N))
    apart = _apart(images)
    if not 2 <= count <= different:
        instead = f"give a number from 2 to {different}" if different > 1 else "give images of more"
        raise SettingError(f"{count} folds cannot be made of {different} {apart}; {instead}.")
    fold_N = fold_numbers(images.labels_N, united_N, count, derived_seed(seed, "folds"))
    for label, name in enumerate(images.classes):
        held = len(np.unique(fold_N[images.labels_N == label]))
        if 0 < held < count:
            detail = f'class "{name}" lies in {held} of {count} folds alone: too few {apart} for more'
            emit(Finding(kind="small-class", detail=detail, paths=(name,)))
    return fold_N


def fold_numbers(labels_N: NDArray[np.int64], groups_N: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Return each image's fold, 0 to `count` - 1: stratified as far as groups allow, no group in two folds.

    Large groups first, each to the fold with the fewest of its classes, of these to the one with the fewest images:
    no fold stays empty where there are groups enough.

    >>> fold_numbers(np.array([0, 0, 0, 0]), np.array([5, 5, 6, 7]), 2, seed=0).tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    True
    """
    held: list[Counter[int]] = [Counter() for _ in range(count)]
    sizes = [0] * count
    fold_N = np.zeros(len(labels_N), np.int64)
    for group in _shuffled(_groups(labels_N, groups_N), seed):
        alike = [sum(n * fold[label] for label, n in group.counts.items()) for fold in held]
        fold = min(range(count), key=lambda number: (alike[number], sizes[number]))
        held[fold].update(group.counts)
        sizes[fold] += len(group.members)
        fold_N[group.members] = fold
    return fold_N


def given_numbers(images: ImageSet) -> NDArray[np.int64]:
    """Return the number of each image's given part, an index into PARTS; those without one are for training."""
    return np.array([PARTS.index(part or "train") for part in images.given_parts], np.int64)


def crossing(part_N: NDArray[np.int64], groups_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which images have a member of their group in a later part, and so must be left out of theirs.

    >>> crossing(np.array([0, 2, 0]), np.array([7, 7, 8]))
    array([ True, False, False])
    """
    _, index_N = np.unique(groups_N, return_inverse=True)
    last = np.full(index_N.max(initial=-1) + 1, -1)
    np.maximum.at(last, index_N, part_N)
    return part_N < last[index_N]


def united(groups_N: NDArray[np.int64], names: Sequence[str | None]) -> NDArray[np.int64]:
    """Return group numbers in which images are together where a number or a name is the same (union-find).

    Raises InputError where they are not as many.
    """
    if len(groups_N) != len(names):
        raise InputError(f"There are {len(groups_N):,} groups for {len(names):,} images; give a number for each image.")
    parent = list(range(len(groups_N)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[int | str, int] = {}
    for i, (number, name) in enumerate(zip(groups_N.tolist(), names, strict=True)):
        for label in (number, name):
            if label is not None:
                a, b = root(i), root(first.setdefault(label, i))
                parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(len(parent))], np.int64)


def _wanted(part_N: NDArray[np.int64], settings: DataSettings, source: str) -> dict[int, float]:
    """Return which parts must be taken from training, and their fractions of it."""
    present = set(np.unique(part_N).tolist())
    if 0 not in present:
        raise SourceError(f"{source} has no training images (its parts are given, and none is for training).")
    fractions = {2: settings.test_fraction, 1: settings.validation_fraction}
    if 2 in present:
        fractions[1] = min(fractions[1], ENOUGH_TO_CHOOSE / int((part_N == 0).sum()))
    wanted = {number: fraction for number, fraction in fractions.items() if number not in present}
    if sum(wanted.values()) >= 1:
        raise SettingError(
            f"test_fraction {settings.test_fraction} and validation_fraction {settings.validation_fraction} leave "
            "nothing to train on; give fractions whose sum is below 1."
        )
    return wanted


@dataclass
class _Group:
    """Images that stay together: how many of each class, and the last part that all of them may go to."""

    members: list[int]
    counts: dict[int, int]
    part: int = 0
    latest: int = len(PARTS) - 1


def _assign(
    labels_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
    latest_N: NDArray[np.int64] | None,
    wanted: dict[int, float],
    seed: int,
) -> NDArray[np.int64]:
    """Return each image's part: those with least choice, then large groups first, to the part that lacks most of it."""
    groups = _groups(labels_N, groups_N)
    if latest_N is not None:
        for group in groups:
            group.latest = int(latest_N[group.members].min())
    shuffled = sorted(_shuffled(groups, seed), key=lambda group: group.latest)
    lack = _targets(labels_N, groups, wanted)
    for group in shuffled:
        group.part = max(
            (part for part in lack if part <= group.latest),
            key=lambda part: sum(n * lack[part][label] for label, n in group.counts.items()),
        )
        for label, n in group.counts.items():
            lack[group.part][label] -= n
    _fill_gaps(shuffled, wanted)
    part_N = np.zeros(len(labels_N), np.int64)
    for group in groups:
        part_N[group.members] = group.part
    return part_N


def _shuffled(groups: list[_Group], seed: int) -> list[_Group]:
    """Return groups in a random order, the large ones first."""
    order = np.random.default_rng(derived_seed(seed, "split")).permutation(len(groups))
    return sorted((groups[i] for i in order), key=lambda group: -len(group.members))


def _groups(labels_N: NDArray[np.int64], groups_N: NDArray[np.int64]) -> list[_Group]:
    groups: dict[int, _Group] = {}
    for i, (number, label) in enumerate(zip(groups_N.tolist(), labels_N.tolist(), strict=True)):
        if (group := groups.get(number)) is None:
            groups[number] = _Group([i], {label: 1})
        else:
            group.members.append(i)
            group.counts[label] = group.counts.get(label, 0) + 1
    return list(groups.values())


def _targets(
    labels_N: NDArray[np.int64], groups: list[_Group], wanted: dict[int, float]
) -> dict[int, dict[int, float]]:
    """Return part → class → number of images aimed at; training is named first, and so wins ties."""
    of_class = Counter(label for group in groups for label in group.counts)
    targets: dict[int, dict[int, float]] = {part: {} for part in (0, *wanted)}
    for label, images in Counter(labels_N.tolist()).items():
        left = images
        for rank, (part, fraction) in enumerate(wanted.items()):
            least = 1 if of_class[label] >= rank + 2 else 0
            aim = max(least, round(fraction * images)) if least else 0
            targets[part][label] = aim = min(aim, left - 1)
            left -= aim
        targets[0][label] = left
    return targets


def _fill_gaps(groups: list[_Group], wanted: dict[int, float]) -> None:
    """Move a small group where large ones left a part without a class; training comes last, and so is sure of each."""
    labels = sorted({label for group in groups for label in group.counts})
    for part in (*wanted, 0):
        held = {
            p: Counter(label for group in groups if group.part == p for label in group.counts) for p in (0, *wanted)
        }
        for label in labels:
            if held[part][label]:
                continue
            spare = [
                group
                for group in groups
                if group.part != part
                and part <= group.latest
                and label in group.counts
                and (part == 0 or all(held[group.part][other] > 1 for other in group.counts))
            ]
            if spare:
                moved = min(spare, key=lambda group: len(group.members))
                held[moved.part].subtract(moved.counts.keys())
                held[part].update(moved.counts.keys())
                moved.part = part


def _tell_leaks(images: ImageSet, dropped_N: NDArray[np.bool_]) -> None:
    if dropped_N.any():
        keys = tuple(images.keys[i] for i in np.flatnonzero(dropped_N))
        detail = "images whose group also lies in a later part: left out, so that the later part stays whole"
        emit(Finding(kind="leak", detail=detail, paths=keys, severity="warning"))


def _apart(images: ImageSet) -> str:
    """Return what is never taken apart, in words: groups where images have some, else images that are not copies."""
    return "groups" if any(images.groups) else "different images"


def _tell_small(pool: ImageSet, kept_N: NDArray[np.int64]) -> None:
    """Name the classes of fewer groups, of images that stay together, than there are parts."""
    for label, name in enumerate(pool.classes):
        kept_M = kept_N[pool.labels_N == label]
        images, groups = len(kept_M), len(np.unique(kept_M))
        if not 0 < groups < _FEWEST:
            continue
        if groups == images:
            where = "it stays in training" if groups == 1 else "one stays in training"
            has = f"has only {plural(images, 'different image')}: too few for training, validation and test, so {where}"
        else:
            those = f"its {plural(images, 'image')} are {plural(groups, 'group')}, each kept together"
            has = f"has too few groups for training, validation and test: {those}"
        emit(Finding(kind="small-class", detail=f'class "{name}" {has}', paths=(name,), severity="warning"))


def _tell_missing(parts: Sequence[ImageSet]) -> None:
    """Name the classes that a part has no image of."""
    some = np.sum([part.class_counts() for part in parts], axis=0) > 0
    for name, part in zip(PARTS, parts, strict=True):
        absent = tuple(part.classes[label] for label in np.flatnonzero(some & (part.class_counts() == 0)))
        if absent:
            what = "they cannot be learned" if name == "train" else "nothing is measured for them there"
            detail = f"classes without an image in the {name} part: {what}"
            emit(Finding(kind="missing-class", detail=detail, paths=absent, severity="warning"))
