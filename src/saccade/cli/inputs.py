"""What `saccade predict` is pointed at: files, folders and archives become named images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from saccade.data.decode import decode
from saccade.data.layout import IMAGE_SUFFIXES
from saccade.data.trees import Folder, Tar, Zip, read_file
from saccade.errors import DecodeError, SourceError
from saccade.events import Finding, emit

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


@dataclass(frozen=True)
class Input:
    """One image to be labelled, known by `name`; `read` returns its bytes, or raises DecodeError."""

    name: str
    read: Callable[[], bytes]

    def pixels(self) -> NDArray[np.uint8] | str:
        """Return the pixels (H, W, 3), or the reason why there are none."""
        try:
            return decode(self.read()).x_HWC
        except DecodeError as error:
            return str(error)


def find(paths: Sequence[Path]) -> list[Input]:
    """Return the images in `paths`, in order: files as they are, folders and archives searched to any depth.

    Emits a Finding on those that hold none, where others do.
    """
    found = [[*_in(path)] for path in paths]
    if any(found) and (empty := tuple(str(path) for path, images in zip(paths, found, strict=True) if not images)):
        emit(Finding(kind="empty", detail="there are no images in it", paths=empty, severity="warning"))
    return [one for images in found for one in images]


def _in(path: Path) -> Iterator[Input]:
    try:
        tree = _tree(path)
    except SourceError as error:
        yield Input(str(path), partial(_refuse, str(error)))
        return
    if tree is None:
        yield Input(str(path), partial(read_file, path))
    else:
        yield from (Input(str(path / name), partial(tree.read, name)) for name in sorted(tree.files) if _is_image(name))


def is_source(path: Path) -> bool:
    """Return whether a path is, by its name, an image or an archive."""
    return path.name.lower().endswith((*IMAGE_SUFFIXES, ".zip", *TAR_SUFFIXES))


def _tree(path: Path) -> Folder | Zip | Tar | None:
    if path.is_dir():
        return Folder(path)
    name = path.name.lower()
    if path.is_file() and name.endswith((".zip", *TAR_SUFFIXES)):
        return Zip(path) if name.endswith(".zip") else Tar(path)
    return None


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _refuse(reason: str) -> NoReturn:
    raise DecodeError(reason)
