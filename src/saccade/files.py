"""Files that appear whole or not at all: atomic writes, JSON, checksums, locks."""

import csv
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock

from saccade.errors import RunError, SourceError

_TEMPORARY = ".saccade-"
_FORMULA = re.compile("'*[=+@\t\r-]")
"""What a cell begins with that a spreadsheet computes, or that was written for one."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` beside `path` and move it into place, so that no reader sees half a file."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f"{_TEMPORARY}{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        with _naming(path), temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def writable(folder: Path) -> bool:
    """Return whether files can be made in a folder: permission bits lie to root, on shares and on read-only mounts."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def replaceable(path: Path, own: str) -> bool:
    """Return whether a path is free to write to: nothing is there, or a file with a text at its start like `own`.

    `own` is a regular expression that the first 2,000 characters of what saccade itself writes there match, with the
    rest of the line they end in: the header of a table of many classes is longer.
    """
    if not path.exists():
        return True
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return re.match(own, file.read(2000) + file.readline(1_000_000)) is not None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error of the system within the block name the file: one of writing, unlike one of opening, does not."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def is_temporary(path: Path) -> bool:
    """Return whether a file has the name of one that `write_atomic` has not moved into place."""
    return re.fullmatch(rf"{re.escape(_TEMPORARY)}.*\.[0-9a-f]{{8}}", path.name) is not None


def expanded(path: str | Path) -> Path:
    """Return a path with a user's name at its start made that user's folder, where there is such a user.

    Raises SourceError where it is no path: texts are checked before, only a source may be anything else.

    >>> expanded("~nobody-of-this-name/x").as_posix()
    '~nobody-of-this-name/x'
    """
    try:
        return Path(os.path.expanduser(path))  # noqa: PTH111 (a Path's own raises RuntimeError where there is none)
    except TypeError as error:
        raise SourceError(
            f"The source is of type {type(path).__name__}; give the path of a folder or a file, or a data set's name. "
            "Arrays become such a file by numpy.savez(path, images=x, labels=y)."
        ) from error


def slug(name: str) -> str:
    """Return a name as part of a file's name.

    >>> slug("torchvision/resnet18")
    'torchvision-resnet18'
    """
    return re.sub(r"[^\w-]+", "-", name)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; infinities and NaN are refused."""
    write_atomic(path, _json(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON value in `path`."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_pair(place: Path, data: bytes, description: dict[str, Any]) -> None:
    """Write `data` as `place`.safetensors and its description as `place`.json, both of them or neither.

    Two files cannot be replaced at once: while the one of data is, the other describes what was there and, as `next`,
    what comes. `read_pair` takes what fits.
    """
    described, old = {**description, "checksum": content_hash(data)}, None
    with suppress(OSError, ValueError, LookupError, TypeError):
        old, _ = read_pair(place)
    if old is not None:
        write_json(place.with_suffix(".json"), {**old, "next": described})
    write_atomic(place.with_suffix(".safetensors"), data)
    write_json(place.with_suffix(".json"), described)


def read_pair(place: Path) -> tuple[dict[str, Any], bytes]:
    """Return the description and the data that `write_pair` wrote, even where a process is writing them.

    Raises RunError where they do not belong together; OSError, ValueError, LookupError or TypeError for other content.
    """
    before = None
    while (described := {**read_json(place.with_suffix(".json"))}) != before:
        data = place.with_suffix(".safetensors").read_bytes()
        checksum = content_hash(data)
        for each in (described, described.get("next", described)):
            if each["checksum"] == checksum:
                return {name: value for name, value in each.items() if name != "next"}, data
        before = described
    raise RunError(
        f"{place.with_suffix('.safetensors')} is damaged: its checksum does not fit {place.with_suffix('.json').name}."
    )


def append_lines(path: Path, values: Iterable[Any]) -> None:
    """Append each value as one line of JSON, in one write that reaches the disk before this returns.

    A line that a crash cut short stays by itself, so that what is appended can be read.
    """
    lines = "".join(_json(value) + "\n" for value in values)
    with _naming(path), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            lines = lines if file.read() == b"\n" else "\n" + lines
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Any]:
    """Return the values of a JSONL file; a line cut short by a crash is left out, no file is no value."""
    if not path.exists():
        return []
    values = []
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError):
            values.append(json.loads(line))
    return values


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Write each value as one line of JSON in place of what is there, atomically."""
    write_atomic(path, "".join(_json(value) + "\n" for value in values))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV table with a header, atomically; each text in it `harmless`."""
    from io import StringIO

    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    write_atomic(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_csv(path: Path, header: Sequence[str], *more: str) -> list[dict[str, str]]:
    """Return the rows that `write_csv` wrote, by column; raises OSError, or ValueError where there are none such.

    All of the columns `more` may follow on those of the header.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
    except csv.Error as error:
        raise ValueError(f"{path}: {error}") from error
    headers = ([*header], [*header, *more])
    if not rows or not all([*row] in headers and None not in row.values() for row in rows):
        raise ValueError(f"{path} has other columns than {', '.join(header)}, or no rows")
    return [{name: original(cell) for name, cell in row.items()} for row in rows]


def harmless(cell: str) -> str:
    """Return a name as a cell of a table that no spreadsheet takes for a formula; `original` gives the name back.

    >>> harmless("=cmd()"), harmless("cat")
    ("'=cmd()", 'cat')
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def original(cell: str) -> str:
    """Return the name that a cell written by `harmless` stands for.

    >>> [original(harmless(name)) for name in ("=cmd()", "'=cmd()", "'twas", "cat")]
    ['=cmd()', "'=cmd()", "'twas", 'cat']
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def content_hash(*chunks: bytes | memoryview) -> str:
    """Return the first 128 bits of the chunks' SHA-256 in hexadecimal: one hash for all, in their order.

    >>> content_hash(b"abc") == content_hash(b"a", b"bc")
    True
    """
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()[:32]


def lock(path: Path, *, timeout: float = 30.0) -> BaseFileLock:
    """Return a lock between processes on `path`, held within a `with` block."""
    return FileLock(path.with_name(path.name + ".lock"), timeout=timeout)


def _json(value: Any, indent: int | None = None) -> str:
    """Return readable JSON; pure ASCII where a name in it is not valid text."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, allow_nan=False)
    return text
