"""Groups by file names: images in whose names a pattern finds the same, such as a patient or a video, stay together."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from saccade.data.imageset import ImageSet
from saccade.errors import SettingError
from saccade.events import Finding
from saccade.words import plural

APART = " / "
"""Between the parts of a group's name where the pattern has several pairs of parentheses."""


def group_named(name: str, pattern: re.Pattern[str]) -> str | None:
    """Return what a pattern first finds in a name: what its parentheses hold, or all of it; None for nothing.

    >>> group_named("cat/patient12_3.jpg", re.compile("patient([0-9]+)"))
    '12'
    >>> group_named("day1/cam2/0001.jpg", re.compile("day([0-9])/cam([0-9])"))
    '1 / 2'
    """
    found = pattern.search(name)
    if found is None:
        return None
    held = [text for text in found.groups() if text is not None] if pattern.groups else [found.group()]
    return APART.join(held) or None


def by_pattern(images: ImageSet, text: str) -> ImageSet:
    """Return the images with the group that a regular expression finds in each name, where the source gives none.

    A Finding of the kind "group" joins `ignored`. Raises SettingError where it finds nothing in any name.
    """
    pattern = re.compile(text)
    found = [group_named(key, pattern) for key in images.keys]
    if not any(found):
        raise SettingError(
            f'The group pattern "{text}" finds nothing in the names of {images.source}, such as "{images.keys[0]}"; '
            'give a regular expression such as "patient([0-9]+)".'
        )
    alone = tuple(key for key, group in zip(images.keys, found, strict=True) if group is None)
    together = f"{plural(len(images) - len(alone), 'image')} in {plural(len(set(found) - {None}), 'group')}"
    detail = f'{together} by the pattern "{text}"'
    if alone:
        detail += f"; in the names of {len(alone):,} it finds nothing: each of them stands alone"
    if several := _of_several_classes(images, found):
        detail += f"; {plural(several, 'group')} hold{'s' if several == 1 else ''} images of several classes: is the "
        detail += "pattern too wide?"
    told = Finding(kind="group", detail=detail, paths=alone, severity="warning" if alone else "note")
    groups = tuple(given or own for given, own in zip(images.groups, found, strict=True))
    return replace(images, groups=groups, ignored=(*images.ignored, told))


def _of_several_classes(images: ImageSet, found: Sequence[str | None]) -> int:
    """Return how many groups hold images of more than one class."""
    pairs = {(group, label) for group, label in zip(found, images.labels_N.tolist(), strict=True) if group is not None}
    return sum(count > 1 for count in Counter(group for group, _ in pairs).values())
