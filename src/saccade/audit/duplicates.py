"""Duplicates: images whose decoded pixels are equal, and those that show the same picture otherwise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from saccade.audit import near
from saccade.audit.agreement import Looks
from saccade.data.imageset import ImageSet
from saccade.data.sketch import contrast
from saccade.data.splits import crossing, given_numbers
from saccade.events import Finding, emit

FEWEST_GROUPS = 3
"""Groups a class must have for three parts to have some of it."""
BLANK = 2.0
"""Standard deviation of the luminance, in grey levels, below which there is no picture to compare."""


def duplicates(images: ImageSet) -> NDArray[np.int64]:
    """Return groups_N: equal numbers where the decoded images are equal.

    Emits a Finding of the kind "duplicate" for all copies, "label-conflict" where copies lie in
    different classes, and "leak" for those that `data.split` leaves out of training or validation
    because a copy lies in a later given part; `paths` list copies of one image one after the other.
    """
    hashes = np.array(images.hashes())
    _, first_N, groups_N, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    groups_N = first_N[groups_N].astype(np.int64)  # named by their first image: no order of hashes in the result
    copies_N = np.flatnonzero(np.isin(groups_N, first_N[counts > 1]))
    copies_N = copies_N[np.argsort(groups_N[copies_N], kind="stable")]
    _tell(images, copies_N, groups_N)
    return groups_N


def _tell(images: ImageSet, copies_N: NDArray[np.int64], groups_N: NDArray[np.int64]) -> None:
    """Emit what is to be said of the images that have copies, sorted by group."""
    if not copies_N.size:
        return
    named = np.array(images.keys, dtype=object)
    sizes = _sizes(groups_N[copies_N])
    detail = f"{copies_N.size:,} images are copies of {len(sizes):,} different ones{_kept(images)}"
    emit(Finding(kind="duplicate", detail=detail, paths=tuple(named[copies_N]), groups=sizes))

    differing_N = groups_N[crossing(images.labels_N, groups_N)]
    conflicting_N = copies_N[np.isin(groups_N[copies_N], differing_N)]
    if conflicting_N.size:
        detail = "exact copies under two labels, of which at most one is right: kept as they are"
        _tell_conflict(detail, named[conflicting_N], groups_N[conflicting_N])

    leaking_N = copies_N[crossing(given_numbers(images), groups_N)[copies_N]]
    if leaking_N.size:
        detail = "images with a copy in a later given part: left out of their own, so that the later part stays whole"
        emit(Finding(kind="leak", detail=detail, paths=tuple(named[leaking_N]), severity="warning"))


def _tell_conflict(detail: str, paths: NDArray[np.object_], groups_N: NDArray[np.int64]) -> None:
    groups = _sizes(groups_N)
    emit(Finding(kind="label-conflict", detail=detail, paths=tuple(paths), severity="warning", groups=groups))


def _kept(images: ImageSet) -> str:
    """Return the words for what is done with copies where all parts, or some of them, are taken here; else none."""
    given = {"validation", "test"} & set(images.given_parts)
    if len(given) == 2:
        return ""
    return ": kept on one side of what is split here" if given else ": kept on one side of the split"


def _sizes(groups_N: NDArray[np.int64]) -> tuple[int, ...]:
    """Return how many images each group has, of images sorted by group."""
    return tuple(np.unique(groups_N, return_counts=True)[1].tolist())


@dataclass(frozen=True)
class Alike:
    """Groups of images that show the same picture, and those that do so across given parts.

    `groups_N` are coarser than the exact duplicates' they come from; `leaked` are images of the validation and
    test part with a near-duplicate in an earlier part.
    """

    groups_N: NDArray[np.int64]
    leaked: frozenset[str] = frozenset()


def near_duplicates(images: ImageSet, groups_N: NDArray[np.int64], *, work: float = 100 * near.A_SECOND) -> Alike:
    """Return which images are near-duplicates of others: see `audit.near`.

    Mirrored ones of another class are none: mirroring makes a "d" of a "b".
    `groups_N` are the exact duplicates', of which one each is compared, those of later given parts first;
    `work` is the number of pairs to compare at the most. Emits a Finding of the kind "near-duplicate" for all,
    "label-conflict" and "leak" where they lie in different classes or given parts; `paths` list those of one
    group one after the other.
    """
    part_N = given_numbers(images)
    looks = Looks(images.sketches(), images.chroma())
    shown_N = np.flatnonzero((groups_N == np.arange(len(images))) & (contrast(looks.grey_NHW) >= BLANK))
    shown_N = shown_N[np.argsort(-part_N[shown_N], kind="stable")]
    if len(shown_N) < 2:
        return Alike(groups_N)
    pairs = near.find(looks.at(shown_N), work, int((part_N[shown_N] > 0).sum()))
    first_P, second_P = shown_N[pairs.first_P], shown_N[pairs.second_P]
    kept_P = ~pairs.mirrored_P | (images.labels_N[first_P] == images.labels_N[second_P])
    alike_N = _joined(groups_N, first_P[kept_P], second_P[kept_P])
    alike_N = _sparing(images, groups_N, alike_N)
    leaked_N = _leaked(part_N, groups_N, alike_N)
    _tell_alike(images, groups_N, alike_N, leaked_N, pairs.compared)
    return Alike(alike_N, frozenset(images.keys[i] for i in np.flatnonzero(leaked_N)))


def _joined(groups_N: NDArray[np.int64], first_P: NDArray[np.int64], second_P: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the groups united where a pair joins them, each named by its first image."""
    images = len(groups_N)
    rows, columns = np.concatenate([np.arange(images), first_P]), np.concatenate([groups_N, second_P])
    links = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(images, images))
    _, component_N = connected_components(links, directed=False)
    _, first, index_N = np.unique(component_N, return_index=True, return_inverse=True)
    return first[index_N].astype(np.int64)


def _sparing(images: ImageSet, groups_N: NDArray[np.int64], alike_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the groups without those of classes whose images are so alike that none could be split."""
    alike_N = alike_N.copy()
    for label, name in enumerate(images.classes):
        mine = images.labels_N == label
        if len(np.unique(alike_N[mine])) < FEWEST_GROUPS <= len(np.unique(groups_N[mine])):
            alike_N[np.isin(alike_N, alike_N[mine])] = groups_N[np.isin(alike_N, alike_N[mine])]
            detail = "classes whose images are all alike: treated as different ones, so that they can be split"
            emit(Finding(kind="near-duplicate", detail=detail, paths=(name,), severity="warning"))
    return alike_N


def _leaked(part_N: NDArray[np.int64], groups_N: NDArray[np.int64], alike_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which images have a near-duplicate in an earlier part that is no exact copy left out of it."""
    part_N = np.where(crossing(part_N, groups_N), 9, part_N)
    _, index_N = np.unique(alike_N, return_inverse=True)
    earliest = np.full(index_N.max() + 1, 9)
    np.minimum.at(earliest, index_N, part_N)
    return (part_N < 9) & (part_N > earliest[index_N])


def _tell_alike(
    images: ImageSet,
    groups_N: NDArray[np.int64],
    alike_N: NDArray[np.int64],
    leaked_N: NDArray[np.bool_],
    compared: float,
) -> None:
    named = np.array(images.keys, dtype=object)
    pictures = np.unique(np.stack([alike_N, groups_N]), axis=1)[0]
    numbers, counts = np.unique(pictures, return_counts=True)
    order_N = np.argsort(alike_N, kind="stable")
    alike = order_N[np.isin(alike_N, numbers[counts > 1])[order_N]]
    part = "" if compared == 1 else f" (of {compared:.0%} of all pairs, as many as there is time for)"
    if alike.size:
        groups = f"{int((counts > 1).sum()):,}"
        detail = f"{alike.size:,} images are near-duplicates, of {groups} pictures{part}{_kept(images)}"
        emit(Finding(kind="near-duplicate", detail=detail, paths=tuple(named[alike]), groups=_sizes(alike_N[alike])))
    elif part:
        emit(Finding(kind="near-duplicate", detail=f"none found{part}"))
    differing = alike_N[crossing(images.labels_N, alike_N)]
    conflicting = alike[np.isin(alike_N[alike], differing)]
    if conflicting.size:
        detail = "look-alikes under two labels: look whether each is right"
        _tell_conflict(detail, named[conflicting], alike_N[conflicting])
    if leaked_N.any():
        detail = (
            "near-duplicates of images in an earlier given part: left where they are, and measured without them too"
        )
        emit(Finding(kind="leak", detail=detail, paths=tuple(named[leaked_N]), severity="warning"))
