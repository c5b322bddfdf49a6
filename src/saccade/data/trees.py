"""Folders, .zip and .tar files as trees of files, read in place and from many threads at once."""

import bz2
import errno
import gzip
import lzma
import os
import stat
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from threading import Lock
from typing import IO, Any

from saccade.data.layout import printable
from saccade.errors import DecodeError, SourceError
from saccade.events import Finding

LARGEST_FILE = 2**30
"""Files of more bytes are taken for no images, and bombs in archives stop here."""
_INFLATE_FACTOR = 200
_SMALL_FILE = 2**26
"""So many bytes may be packed as tightly as they like: a picture of one colour is."""


class Folder:
    """A folder on disk. Links are followed, but not round in circles; what cannot be read is skipped and told."""

    def __init__(self, root: Path) -> None:
        self.root, self._prefix = root, os.path.join(root, "")  # noqa: PTH118
        self.files: list[str] = []
        self.folders: list[str] = []
        self._skipped: dict[str, list[str]] = {}
        self._scan()
        self.skipped = _ignored(self._skipped)

    def read(self, file: str) -> bytes:
        """Return a file's content; raises DecodeError with a reason."""
        return read_file(f"{self._prefix}{file}")

    def stamp(self, file: str) -> tuple[int, int]:
        """Return a file's size and time of writing; raises OSError."""
        return stamp_of(self.root / file)

    def _scan(self) -> None:
        pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
        while pending:
            folder, above = pending.pop()
            try:
                status = os.stat(self.root / folder)  # noqa: PTH116
                with os.scandir(self.root / folder) as entries:
                    found = list(entries)
            except OSError as error:
                if not folder:
                    raise SourceError(f"The folder {self.root} cannot be read: {error.strerror}.") from error
                self._skip(f"folders that cannot be read ({error.strerror})", folder)
                continue
            here = (status.st_dev, status.st_ino)
            if here in above:
                self._skip("links that lead back to a folder around them", folder)
                continue
            if folder:
                self.folders.append(folder)
            for entry in found:
                name = f"{folder}/{entry.name}" if folder else entry.name
                kind = _kind(entry)
                if kind == "folder":
                    pending.append((name, (*above, here)))
                elif kind == "file":
                    self.files.append(name)
                else:
                    self._skip("links that lead nowhere, sockets and devices", name)

    def _skip(self, why: str, name: str) -> None:
        self._skipped.setdefault(why, []).append(printable(name))


class Archive:
    """What .zip and .tar have in common: safe names, kinds of entries, reading at offsets without a shared cursor."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        weakref.finalize(self, file.close)
        self._lock = Lock()
        self._skipped: dict[str, list[str]] = {}
        self._entries: dict[str, Any] = {}
        self.folders: list[str] = []

    @property
    def files(self) -> list[str]:
        """The names of the files."""
        return list(self._entries)

    @property
    def skipped(self) -> list[Finding]:
        """What was left out: links, and names that would lead out of a folder."""
        return _ignored(self._skipped)

    def _add(self, name: str, entry: Any, *, folder: bool, regular: bool) -> None:
        names = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in names or name[1:2] == ":":
            self._skip("names that lead out of the archive", name)
        elif folder:
            self.folders += ["/".join(names)] if names else []
        elif not regular:
            self._skip("links and devices in the archive, which are never followed", name)
        else:
            if (file := "/".join(names)) in self._entries:
                self._skip("earlier ones of several files of one name in the archive, of which the last is read", name)
            self._entries[file] = entry

    def _skip(self, why: str, name: str) -> None:
        self._skipped.setdefault(why, []).append(printable(name))

    def _at(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)


class Zip(Archive):
    """A .zip file; stored and deflated entries are read, each checked against its checksum."""

    def __init__(self, path: Path) -> None:
        super().__init__(_opened(path))
        try:
            with zipfile.ZipFile(self._file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
            self._file.close()
            raise SourceError(f"{path} is not a zip file, or is damaged: {error}.") from error
        for entry in entries:
            mode = entry.external_attr >> 16
            regular = stat.S_IFMT(mode) in (0, stat.S_IFREG)
            name = entry.filename if entry.create_system else entry.filename.replace("\\", "/")  # 0: MS-DOS, Windows
            self._add(name, entry, folder=name.endswith("/"), regular=regular)

    def read(self, file: str) -> bytes:
        """Return an entry's content; raises DecodeError with a reason."""
        entry: zipfile.ZipInfo = self._entries[file]
        if entry.flag_bits & 1:
            raise DecodeError("it is encrypted in the archive")
        if max(entry.file_size, entry.compress_size) > LARGEST_FILE:
            raise DecodeError(_too_large())
        if entry.file_size > max(_INFLATE_FACTOR * entry.compress_size, _SMALL_FILE):
            raise DecodeError(f"it inflates to more than {_INFLATE_FACTOR} times its size in the archive")
        # 30 bytes of local header, the name and the extra field, whose length there may differ from the directory's.
        guess = 30 + len(entry.filename) + 64
        block = self._at(entry.header_offset, guess + entry.compress_size)
        start = 30 + int.from_bytes(block[26:28], "little") + int.from_bytes(block[28:30], "little")
        packed = block[start : start + entry.compress_size]
        if len(packed) < entry.compress_size:
            packed = self._at(entry.header_offset + start, entry.compress_size)
        return self._checked(entry, packed)

    def stamp(self, file: str) -> tuple[int, int]:
        """Return an entry's size and checksum."""
        entry: zipfile.ZipInfo = self._entries[file]
        return entry.file_size, entry.CRC

    @staticmethod
    def _checked(entry: zipfile.ZipInfo, packed: bytes) -> bytes:
        if entry.compress_type == zipfile.ZIP_STORED:
            data = packed
        elif entry.compress_type == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-15).decompress(packed, entry.file_size + 1)
            except zlib.error:
                raise DecodeError("it is damaged in the archive") from None
        else:
            raise DecodeError(f"it is packed by method {entry.compress_type}; only stored and deflated files are read")
        if len(data) != entry.file_size or zlib.crc32(data) != entry.CRC:
            raise DecodeError("it is damaged in the archive (the checksum differs)")
        return data


class Tar(Archive):
    """A .tar file; a compressed one is first inflated, once, into an unnamed temporary file."""

    def __init__(self, path: Path) -> None:
        super().__init__(_inflated(path))
        self._stamp = stamp_of(path)
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                for member in archive:
                    entry = (member.offset_data, member.size)
                    regular = member.isreg() and not member.issparse()
                    self._add(member.name, entry, folder=member.isdir(), regular=regular)
                if 0 < self._file.seek(0, os.SEEK_END) - archive.offset < tarfile.BLOCKSIZE:
                    raise EOFError("it is cut short")  # within a header, which tarfile takes for the end
        except (tarfile.TarError, OSError, ValueError, EOFError, RecursionError) as error:
            self._file.close()
            raise _damaged_tar(path, error) from error

    def read(self, file: str) -> bytes:
        """Return an entry's content; raises DecodeError with a reason."""
        offset, size = self._entries[file]
        if size > LARGEST_FILE:
            raise DecodeError(_too_large())
        data = self._at(offset, size)
        if len(data) != size:
            raise DecodeError("it is cut short in the archive")
        return data

    def stamp(self, file: str) -> tuple[int, int]:
        """Return an entry's size, and when the whole archive was written: it has no checksums."""
        return self._entries[file][1], self._stamp[1]


def read_file(path: str | Path) -> bytes:
    """Return a file's content; raises DecodeError with a reason in plain words."""
    try:
        # Opening a pipe would wait for a writer, reading a device never end.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (a Path costs as much as reading a small file)
            raise DecodeError("it is not a file but a folder, a pipe, a socket or a device")
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            if os.fstat(file.fileno()).st_size > LARGEST_FILE:
                raise DecodeError(_too_large())
            return file.read()
    except DecodeError:
        raise
    except FileNotFoundError:
        raise DecodeError("there is no such file") from None
    except (OSError, ValueError) as error:
        raise DecodeError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from None


def stamp_of(path: Path) -> tuple[int, int]:
    """Return a file's size in bytes and its time of writing in nanoseconds; raises OSError."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else "other"
    except OSError:  # a link to itself
        return "other"


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}); give one that can.") from error


def _inflated(path: Path) -> IO[bytes]:
    """Return an open tar file, inflated where its first bytes say that it is compressed."""
    file = _opened(path)
    openers: dict[bytes, Callable[[IO[bytes]], BufferedIOBase]] = {
        b"\x1f\x8b": lambda packed: gzip.GzipFile(fileobj=packed),
        b"BZh": bz2.BZ2File,
        b"\xfd7zXZ": lzma.LZMAFile,
    }
    head = file.read(6)
    file.seek(0)
    opener = next((opener for magic, opener in openers.items() if head.startswith(magic)), None)
    if opener is None:
        return file
    plain = tempfile.TemporaryFile(prefix="saccade-")  # noqa: SIM115 (it is kept open for reading)
    try:
        with file, opener(file) as inflating:
            while block := inflating.read(2**20):
                if plain.tell() > _SMALL_FILE + _INFLATE_FACTOR * file.tell():
                    raise SourceError(f"{path} inflates to more than {_INFLATE_FACTOR} times its size; it is refused.")
                plain.write(block)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        plain.close()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise _damaged_tar(path, error) from error
    except SourceError:
        plain.close()
        raise
    plain.flush()
    plain.seek(0)
    return plain


def _damaged_tar(path: Path, error: Exception) -> SourceError:
    return SourceError(f"{path} is not a tar file, or is damaged: {error}.")


def _too_large() -> str:
    return f"it is larger than {LARGEST_FILE // 2**30} GiB"


def _ignored(skipped: dict[str, list[str]]) -> list[Finding]:
    return [
        Finding(kind="ignored", detail=f"{why}: left out", paths=tuple(sorted(names)), severity="warning")
        for why, names in sorted(skipped.items())
    ]
