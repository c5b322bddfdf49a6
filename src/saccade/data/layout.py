"""Where in a tree of files the images, their classes and their parts are: one rule for folders and archives."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from saccade.errors import SourceError
from saccade.events import Finding
from saccade.words import some

IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".avif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".ico", ".tga", ".qoi", ".heic", ".heif",
})  # fmt: skip
PART_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_WORDS_OF_PARTS = {
    "train|training|trn": ("train",),
    "val|valid|validation|vld|dev|devel|development": ("validation",),
    "test|testing|tst": ("test",),
    "eval|evaluation|holdout": ("validation", "test"),
}
"""Words in the names of folders that are no known part, but look like one: which may be meant."""
_SYSTEM_FILES = frozenset({"__macosx", "thumbs.db", "desktop.ini"})

Names = tuple[str, ...]  # one file's path within the source, name by name


class Tree(Protocol):
    """A folder or an archive: file and folder names as paths with "/", what was skipped, and reading."""

    @property
    def files(self) -> Sequence[str]:
        """The names of the files."""
        ...

    @property
    def folders(self) -> Sequence[str]:
        """The names of the folders."""
        ...

    @property
    def skipped(self) -> Sequence[Finding]:
        """What was left out for safety."""
        ...

    def read(self, file: str) -> bytes:
        """Return a file's content; raises DecodeError with a reason."""
        ...

    def stamp(self, file: str) -> tuple[int, int]:
        """Return two numbers that a file's content cannot change without; raises OSError."""
        ...


@dataclass(frozen=True)
class Labelled:
    """One image file of a tree: the name it has in the tree, its class and the part it was put in."""

    file: str
    label: str
    part: str | None


def natural(name: str) -> tuple[object, ...]:
    """Return a sort key that puts numbers in their order.

    >>> sorted(["class 10", "class 9", "Class 1"], key=natural)
    ['Class 1', 'class 9', 'class 10']
    """
    pieces = re.split(r"([0-9]+)", _folded(name))
    return (*((int(p), "") if p.isdecimal() else (-1, p) for p in pieces), name)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def printable(name: str) -> str:
    r"""Return a file name as text that can be shown and saved: bytes that are not UTF-8 become `\xNN`.

    >>> printable("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def part_named(name: str) -> str | None:
    """Return the part a folder or a manifest's word stands for, in any letter case, or None."""
    return PART_NAMES.get(name.strip().casefold())


def arrange(tree: Tree, source: str) -> tuple[list[Labelled], list[Finding]]:
    """Return a tree's labelled images and what was found beside them.

    Class folders, or class folders within part folders; a single folder around them all is looked
    through. Raises SourceError where there are no images or no class folders, or where what look like
    parts have other names.
    """
    images, findings = _images(tree.files, source)
    depth = _wrapping(images)
    split = _is_split(images, depth)
    if not split:
        _refuse_unknown_parts(images, depth, source)
    labelled, stray = [], []
    for names in images:
        place = depth + 1 if split else depth
        part = part_named(names[depth]) if split else None
        if len(names) < place + 2 or (split and part is None):
            stray.append(names)
        else:
            labelled.append(Labelled("/".join(names), printable(names[place]), part))
    if not labelled:
        raise SourceError(
            f"{source} holds {len(images)} images but no class folders: put the images of each class into a folder "
            "of its own, such as cat/ and dog/."
        )
    findings += [*tree.skipped, *_stray(stray, split)]
    findings += _empty_classes(tree.folders, labelled, depth + split, split)
    findings += _nested([tuple(image.file.split("/")) for image in labelled], depth + split)
    return labelled, findings


def _images(files: Iterable[str], source: str) -> tuple[list[Names], list[Finding]]:
    """Tell image files from others; all of them sorted."""
    images: list[Names] = []
    hidden, others = [], []
    for file in sorted(files):
        names = tuple(file.split("/"))
        if _is_hidden(names):
            hidden.append(printable(file))
        elif _suffix(names[-1]) in IMAGE_SUFFIXES:
            images.append(names)
        else:
            others.append(printable(file))
    if not images:
        seen = Counter(_suffix(file) or "no extension" for file in others).most_common(3)
        found = ", ".join(f"{count} × {suffix}" for suffix, count in seen)
        if unseen := [file for file in hidden if _suffix(file) in IMAGE_SUFFIXES]:
            raise SourceError(
                f"{source} holds no images but hidden ones, {len(unseen):,} whose file or folder has a name that "
                f"begins with a dot or is the system's ({unseen[0]}, …); rename it."
            )
        raise SourceError(
            f"{source} holds no images ({f'found: {found}' if found else 'it is empty'}); expected class folders of "
            "JPEG, PNG, WebP, GIF, BMP or TIFF files."
        )
    findings = [
        Finding(kind="ignored", detail=f"{what}: left out", paths=tuple(paths))
        for what, paths in (("hidden or system files", hidden), ("not image files by their extension", others))
        if paths
    ]
    return images, findings


def _is_hidden(names: Names) -> bool:
    return any(name.startswith(".") or name.casefold() in _SYSTEM_FILES for name in names)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 (a name within an archive is no path of this system)


def _wrapping(images: list[Names]) -> int:
    """Return how many folders lie around everything: 0, or more where one folder holds all class folders."""
    depth = 0
    while (
        all(len(names) > depth + 1 for names in images)
        and len({names[depth] for names in images}) == 1
        and any(len(names) > depth + 2 for names in images)
        and part_named(images[0][depth]) is None
    ):
        depth += 1
    return depth


def _is_split(images: list[Names], depth: int) -> bool:
    """Say whether the top folders are parts: such names with class folders inside, and no class beside them.

    A class may be called "train"; beside other classes it is one, unless two parts are named.
    """
    tops = {names[depth] for names in images if len(names) > depth + 1}
    parts = {part_named(names[depth]) for names in images if len(names) > depth + 2} - {None}
    return bool(parts) and (len(parts) >= 2 or all(part_named(top) for top in tops))


def _within(images: Iterable[Names], depth: int) -> dict[str, set[str]]:
    """Return for each folder at a depth the names of the folders in it, and an empty one where it holds images."""
    within: dict[str, set[str]] = {}
    for names in images:
        if len(names) > depth + 1:
            inner = within.setdefault("/".join(names[: depth + 1]), set())
            inner.add(names[depth + 1] if len(names) > depth + 2 else "")
    return within


def _parts_meant(folder: str) -> tuple[str, ...]:
    """Return the parts that a folder may stand for by the words in its name.

    >>> _parts_meant("my_val-set2"), _parts_meant("Training"), _parts_meant("hats"), _parts_meant("device")
    (('validation',), ('train',), (), ())
    """
    words = re.split(r"[\W\d_]+", folder.rsplit("/", 1)[-1].casefold())
    return next((parts for known, parts in _WORDS_OF_PARTS.items()
                 if any(re.fullmatch(f"({known})(set|data)?", word) for word in words)), ())  # fmt: skip


def _refuse_unknown_parts(images: list[Names], depth: int, source: str) -> None:
    """Raise SourceError where all top folders are parts without folders, or look like parts.

    These have folders in common, and names like parts all of them, or at least half where the others hold the same
    folders: a class may be called "train".
    """
    tops = _within(images, depth)
    if len(tops) > 1 and all(map(part_named, (top.rsplit("/", 1)[-1] for top in tops))):
        raise SourceError(
            f"{source} holds parts ({some(sorted(map(printable, tops)))}) without class folders: put the images of "
            "each class into a folder of its own within each part, such as train/cat/ and test/cat/."
        )
    meant = {top: _parts_meant(top) for top in tops}
    nested = [top for top, inner in tops.items() if "" not in inner]
    if not nested or len(set.union(*(tops[top] for top in nested))) < 2:
        return
    common = set.intersection(*(tops[top] for top in nested))
    named = sum(map(bool, meant.values()))
    if not common or not (named == len(tops) or (len(nested) > 1 and 2 * named >= len(tops))):
        return
    taken = {parts[0] for parts in meant.values() if len(parts) == 1}
    parts = sorted(top for top in tops if top in nested or meant[top])
    unknown = []
    for top in parts:
        name = top.rsplit("/", 1)[-1]
        if part_named(name) is None:
            choice = meant[top] or tuple(dict.fromkeys(PART_NAMES.values()))
            free = [part for part in choice if part not in taken] or choice
            unknown.append(f'"{printable(name)}" to {" or ".join(free)}')
    if unknown:
        raise SourceError(
            f"{source} holds what look like parts ({some([*map(printable, parts)])}) around class folders "
            f"({some(sorted(map(printable, common)))}), by other names than train, validation and test: rename "
            f"{', '.join(unknown)}."
        )


def one_spelling(labels: Sequence[str], parts: Sequence[str | None]) -> tuple[list[str], list[Finding]]:
    """Return the labels with one spelling for each class, and what was found about their names.

    Unicode's forms of one text are one name. Names that differ in letter case alone are one class too, that with
    more images; but where one part has both, they are two classes, as "a" and "A" are among letters.

    >>> one_spelling(["Cat", "Cat", "cat"], ["train", "train", "test"])[0]
    ['Cat', 'Cat', 'Cat']
    >>> one_spelling(["a", "A"], ["train", "train"])[0]
    ['a', 'A']
    """
    composed = {label: unicodedata.normalize("NFC", label) for label in set(labels)}
    labels = [composed[label] for label in labels]
    counts = Counter(labels)
    within = Counter((part, _folded(label)) for part, label in set(zip(parts, labels, strict=True)))
    two = {folded for (_, folded), spellings in within.items() if spellings > 1}
    kept: dict[str, str] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        kept.setdefault(_folded(label), label)
    changed = {label: kept[_folded(label)] for label in counts if _folded(label) not in two}
    changed = {label: name for label, name in changed.items() if label != name}
    findings = [
        Finding(kind="class-name", detail=f'taken for the class "{name}", which another part spells so', paths=(label,))
        for label, name in sorted(changed.items())
    ]
    if two:
        detail = "differ in letter case alone and lie side by side: taken for different classes"
        apart = tuple(sorted((label for label in counts if _folded(label) in two), key=natural))
        findings.append(Finding(kind="class-name", detail=detail, paths=apart, severity="warning"))
    return [changed.get(label, label) for label in labels], findings


def class_meant(name: str, classes: Sequence[str]) -> str | None:
    """Return which of the classes a name stands for: itself, or the only one that differs in letter case alone.

    >>> class_meant("CAT", ["cat", "dog"]), class_meant("B", ["b", "B"]), class_meant("cow", ["cat", "dog"])
    ('cat', 'B', None)
    """
    alike = [each for each in classes if _folded(each) == _folded(name)]
    return name if name in alike else alike[0] if len(alike) == 1 else None


def _stray(stray: list[Names], split: bool) -> list[Finding]:
    where = "train, validation and test with class folders" if split else "the class folders"
    paths = tuple(printable("/".join(names)) for names in stray)
    detail = f"images outside {where}, so without a class: left out"
    return [Finding(kind="ignored", detail=detail, paths=paths, severity="warning")] if stray else []


def _nested(images: Iterable[Names], depth: int) -> list[Finding]:
    """Name the class folders without an image of their own and with several folders, which may be the classes meant."""
    nested = {folder: inner for folder, inner in _within(images, depth).items() if "" not in inner and len(inner) > 1}
    inside = some(sorted({printable(name) for inner in nested.values() for name in inner}))
    detail = f"hold only further folders ({inside}), which are not used as classes or parts: each is one class itself"
    paths = tuple(sorted(map(printable, nested)))
    return [Finding(kind="nested", detail=detail, paths=paths, severity="warning")] if nested else []


def _empty_classes(folders: Iterable[str], labelled: list[Labelled], depth: int, split: bool) -> list[Finding]:
    """Name the folders where classes lie that hold no image."""
    filled = {tuple(image.file.split("/")[: depth + 1]) for image in labelled}
    around = {names[:depth] for names in filled}
    empty = sorted(
        printable("/".join(names))
        for names in {tuple(folder.split("/")) for folder in folders}
        if len(names) == depth + 1 and names not in filled and not _is_hidden(names)
        if names[:depth] in around or (split and part_named(names[depth - 1]))
    )
    detail = "class folders without images: not counted as classes" + (" of that part" if split else "")
    return [Finding(kind="empty-class", detail=detail, paths=tuple(empty), severity="warning")] if empty else []


def unique_keys(files: Iterable[str], show: Callable[[str], str] = printable) -> dict[str, str]:
    """Return key → file, with a number added in the rare case that two names look the same when shown."""
    keys: dict[str, str] = {}
    for file in files:
        key, copy = show(file), 1
        while key in keys:
            copy += 1
            key = f"{show(file)} ({copy})"
        keys[key] = file
    return keys
