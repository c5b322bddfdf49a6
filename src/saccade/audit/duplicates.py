"""Exact duplicates: images whose decoded pixels are equal, whatever their files are called."""

import numpy as np
from numpy.typing import NDArray

from saccade.data.imageset import ImageSet
from saccade.data.splits import crossing, given_numbers
from saccade.events import Finding, emit


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
    pictures = len(np.unique(groups_N[copies_N]))
    detail = f"{copies_N.size} images are copies of {pictures} different ones: copies are kept on one side of the split"
    emit(Finding(kind="duplicate", detail=detail, paths=tuple(named[copies_N])))

    differing_N = groups_N[crossing(images.labels_N, groups_N)]
    conflicting_N = copies_N[np.isin(groups_N[copies_N], differing_N)]
    if conflicting_N.size:
        detail = "copies of one image in different classes, so that at most one label is right: kept as they are"
        emit(Finding(kind="label-conflict", detail=detail, paths=tuple(named[conflicting_N]), severity="warning"))

    leaking_N = copies_N[crossing(given_numbers(images), groups_N)[copies_N]]
    if leaking_N.size:
        detail = "images with a copy in a later given part: left out of their own, so that the later part stays whole"
        emit(Finding(kind="leak", detail=detail, paths=tuple(named[leaking_N]), severity="warning"))
