"""What to do about findings without touching a file: a manifest without the bad images, that keeps groups together."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.data.imageset import ImageSet
from saccade.data.splits import crossing, given_numbers, united
from saccade.errors import SourceError
from saccade.files import harmless

COLUMNS = ("path", "label", "split", "group")


def refuse_unfixable(images: ImageSet) -> None:
    """Raise SourceError where the images are no files that a manifest could name."""
    if images.pixels.path(images.keys[0]) is None:
        raise SourceError(
            f"{images.source} is not a folder or a manifest of files, so --fix has no paths to write; "
            "unpack it into a folder first."
        )


def rows(
    images: ImageSet, groups_N: NDArray[np.int64], alike_N: NDArray[np.int64], bad: Sequence[str], folder: Path
) -> Iterator[tuple[str, str, str, str]]:
    """Yield the manifest's rows (`COLUMNS`) of readable images worth training on, paths relative to `folder`.

    Left out are the images in `bad`, copies but the first (all of them where their classes differ), and those
    with a copy in a later given part. Near-duplicates, and the source's own groups, share a name in `group`.
    """
    part_N = given_numbers(images)
    differing = np.unique(groups_N[crossing(images.labels_N, groups_N)])
    left_out_N = np.isin(images.keys, list(bad)) if bad else np.zeros(len(images), bool)
    left_out_N |= np.isin(groups_N, differing) | crossing(part_N, groups_N)
    kept = np.flatnonzero(~left_out_N)
    _, first = np.unique(groups_N[kept], return_index=True)
    kept = kept[np.sort(first)]
    group_N = united(alike_N, images.groups)
    numbers, counts = np.unique(group_N[kept], return_counts=True)
    shared = set(numbers[counts > 1].tolist())
    for i in kept.tolist():
        own = images.groups[i]
        group = images.keys[group_N[i]] if group_N[i] in shared else own or ""
        place = images.pixels.path(images.keys[i])
        assert place is not None
        label = images.classes[images.labels_N[i]]
        yield _relative(place, folder), label, images.given_parts[i] or "", group


def _relative(place: Path, folder: Path) -> str:
    """Return a path that a manifest in `folder` can hold: no padding, and no formula, to whoever opens it."""
    path = os.path.relpath(place, folder)
    return f"./{path}" if path[:1].isspace() or harmless(path) != path else path
