"""What `saccade predict` is pointed at: files, folders and archives become named images."""

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NoReturn

from saccade.errors import DecodeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
IMAGES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .dib .tif .tiff .ico .avif .jp2 .ppm .pgm .pbm .tga .qoi .mpo".split()
)
"""Endings of the files that are taken from folders and archives; a file named by itself is always tried."""
MAX_BYTES = 2**30


@dataclass(frozen=True)
class Input:
    """One image to be labelled, known by `name`; `read` returns its bytes, or raises OSError."""

    name: str
    read: Callable[[], bytes]

    def pixels(self) -> "NDArray[np.uint8]":
        """Return the pixels (H, W, 3); raises DecodeError or OSError where there are none."""
        from saccade import data

        return data.decode(self.read()).x_HWC


def find(paths: Sequence[Path], archives: ExitStack) -> list[Input]:
    """Return the images in `paths`, in order; archives stay open until `archives` closes."""
    return [found for path in paths for found in _in(path, archives)]


def _in(path: Path, archives: ExitStack) -> Iterator[Input]:
    if path.is_dir():
        for folder, folders, files in os.walk(path):
            folders.sort()
            here = Path(folder)
            yield from (Input(str(here / name), (here / name).read_bytes) for name in sorted(files) if _is_image(name))
    elif path.name.lower().endswith(ARCHIVES):
        try:
            members = _zip(path, archives) if path.name.lower().endswith(".zip") else _tar(path, archives)
        except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
            members = [Input("", partial(_refuse, f"the archive cannot be read: {error}"))]
        yield from (Input(f"{path}/{each.name}".rstrip("/"), each.read) for each in members)
    else:
        yield Input(str(path), path.read_bytes)


def _zip(path: Path, archives: ExitStack) -> list[Input]:
    archive = archives.enter_context(zipfile.ZipFile(path))

    def read(member: zipfile.ZipInfo) -> bytes:
        if member.file_size > MAX_BYTES:
            _refuse("the file is larger than 1 GB")
        try:
            return archive.read(member)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            _refuse(f"it cannot be unpacked: {error}")

    wanted = [member for member in archive.infolist() if not member.is_dir() and _is_image(member.filename)]
    return [Input(member.filename, partial(read, member)) for member in wanted]


def _tar(path: Path, archives: ExitStack) -> list[Input]:
    archive = archives.enter_context(tarfile.open(path))

    def read(member: tarfile.TarInfo) -> bytes:
        if member.size > MAX_BYTES:
            _refuse("the file is larger than 1 GB")
        file = archive.extractfile(member)
        return file.read() if file else b""

    wanted = [member for member in archive if member.isfile() and _is_image(member.name)]
    return [Input(member.name, partial(read, member)) for member in wanted]


def _is_image(name: str) -> bool:
    path = PurePath(name)
    return path.suffix.lower() in IMAGES and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _refuse(reason: str) -> NoReturn:
    raise DecodeError(reason)
