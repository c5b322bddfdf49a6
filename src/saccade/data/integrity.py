"""The integrity check: every image is decoded once, and what cannot be read is named and left out."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from saccade.data.decode import NARROW, SEVERAL_FRAMES, TRANSPARENT
from saccade.data.imageset import ImageSet
from saccade.errors import SourceError
from saccade.events import Finding, emit

KIND_OF = {SEVERAL_FRAMES: "animated", TRANSPARENT: "transparent", NARROW: "faint"}
"""Kinds of findings for what was converted that have a word of their own."""


def integrity(images: ImageSet) -> ImageSet:
    """Return the readable images, their classes renumbered where one has none left.

    Emits what `readable` does, and an "empty-class" Finding for classes without a readable image. Raises SourceError
    where fewer than two classes have readable images.
    """
    if len(images.classes) < 2:
        raise SourceError(
            f'{images.source} has one class only, "{images.classes[0]}"; a classifier needs images of at least two '
            "classes."
        )
    found, reasons = _readable(images)
    return _without_empty_classes(found, reasons)


def readable(images: ImageSet) -> ImageSet:
    """Return the readable images.

    Emits Progress, and Findings of the kinds "ignored" and "empty-class" (what else lay in the
    source), "unreadable" (by reason), and "animated", "transparent", "faint" or "converted" (by what was done).
    Raises SourceError where none can be read.
    """
    found, reasons = _readable(images)
    if not len(found):
        raise SourceError(f"{images.source} has no image that can be read.{_first(reasons)}")
    return found


def _readable(images: ImageSet) -> tuple[ImageSet, dict[str, str]]:
    """Return the readable images, and why the others are not."""
    for finding in images.ignored:
        emit(finding)
    reasons = images.pixels.check(images.keys)
    for reason, keys in _by_text((key, reason) for key, reason in reasons.items()):
        emit(Finding(kind="unreadable", detail=f"{reason}: left out", paths=keys, severity="warning"))
    found = images.select([i for i, key in enumerate(images.keys) if key not in reasons])
    for note, keys in _by_text((key, note) for key in found.keys for note in found.pixels.facts(key).notes):
        usual = note == NARROW and 2 * len(keys) > len(found)  # else single images may well be dark
        severity = "warning" if usual else "note"
        emit(Finding(kind=KIND_OF.get(note, "converted"), detail=note, paths=keys, severity=severity))
    return replace(found, ignored=()), reasons


def _first(reasons: Mapping[str, str]) -> str:
    first = next(iter(reasons.items()), None)
    return f' The first of {len(reasons):,} unreadable ones is "{first[0]}": {first[1]}.' if first else ""


def _by_text(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the images that share a text, for each text in order."""
    keys: dict[str, list[str]] = {}
    for key, text in pairs:
        keys.setdefault(text, []).append(key)
    return [(text, tuple(keys[text])) for text in sorted(keys)]


def _without_empty_classes(images: ImageSet, reasons: dict[str, str]) -> ImageSet:
    filled = np.flatnonzero(images.class_counts())
    if len(filled) < 2:
        raise SourceError(
            f"{images.source} has readable images of {len(filled)} {'class' if len(filled) == 1 else 'classes'}; a "
            f"classifier needs at least two.{_first(reasons)}"
        )
    lost = tuple(name for index, name in enumerate(images.classes) if index not in set(filled.tolist()))
    if not lost:
        return images
    detail = "classes without one readable image: left out"
    emit(Finding(kind="empty-class", detail=detail, paths=lost, severity="warning"))
    renumbered = np.searchsorted(filled, images.labels_N).astype(np.int64)
    return replace(images, labels_N=renumbered, classes=tuple(images.classes[i] for i in filled))
