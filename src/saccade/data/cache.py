"""What earlier audits learned of a source's files, kept on disk: unchanged files are not read again."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import PIL

from saccade.data.imageset import ImageSet
from saccade.data.named import cache_folder
from saccade.data.pixels import Facts, Stamp
from saccade.data.sketch import Sketch
from saccade.files import content_hash, expanded

VERSION = f"3, Pillow {PIL.__version__}"
"""Of the rules by which files become facts; what other versions kept is thrown away."""

_PASSING = ("it cannot be read", "there is")
"""Beginnings of the reasons that may pass without the file changing: permissions, memory."""

_COLUMNS = "key, size, time, hash, width, height, notes, format, grey, chroma, sharpness, colour, reason"
_FILES = f"CREATE TABLE files ({_COLUMNS}, PRIMARY KEY (key))"
_THINGS = "CREATE TABLE things (name PRIMARY KEY, value)"


@dataclass(frozen=True)
class Cache:
    """One source's SQLite file; whatever is wrong with it, it is begun anew: nothing in it is the only copy."""

    path: Path

    @classmethod
    def of(cls, source: str | Path) -> "Cache":
        """Return the cache of a source by its whole path: in `$SACCADE_CACHE/audits`, or the system's place."""
        name = content_hash(str(expanded(source).resolve()).encode("utf-8", "surrogateescape"))
        return cls(cache_folder().with_name("audits") / f"{name}.sqlite")

    def recall(self, images: ImageSet, stamps: Mapping[str, Stamp]) -> int:
        """Hand what is known of files of these stamps to `images`; return for how many.

        Stamps are taken before files are read: one that changes meanwhile is read again.
        """
        if not stamps or not self.path.exists():
            return 0
        known: dict[str, Facts | str] = {}
        with suppress(sqlite3.Error, OSError), self._open() as base:
            for row in base.execute(f"SELECT {_COLUMNS} FROM files"):
                if stamps.get(row[0]) == (row[1], row[2]):
                    known[row[0]] = _facts(row)
        images.pixels.remember(known)
        return len(known)

    def keep(self, images: ImageSet, reasons: Mapping[str, str], stamps: Mapping[str, Stamp]) -> None:
        """Keep what is known of `images`, of which those in `reasons` cannot be read, and nothing else."""
        lasting = {key: stamp for key, stamp in stamps.items() if not reasons.get(key, "").startswith(_PASSING)}
        if not lasting:
            return
        rows = (_row(key, stamp, reasons.get(key) or images.pixels.facts(key)) for key, stamp in lasting.items())
        with suppress(sqlite3.Error, OSError), self._open() as base:
            base.execute("DELETE FROM files")
            base.executemany(f"INSERT INTO files ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)

    def get(self, name: str) -> bytes | None:
        """Return what `put` kept under a name, or None."""
        with suppress(sqlite3.Error, OSError), self._open() as base:
            row = base.execute("SELECT value FROM things WHERE name = ?", (name,)).fetchone()
            return bytes(row[0]) if row else None
        return None

    def put(self, things: Mapping[str, bytes]) -> None:
        """Keep small things under names that say what they depend on."""
        with suppress(sqlite3.Error, OSError), self._open() as base:
            base.executemany("INSERT OR REPLACE INTO things VALUES (?, ?)", list(things.items()))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file with its tables, and commit at the end of the block."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=30)) as base:
            try:
                found = base.execute("SELECT value FROM things WHERE name = 'version'").fetchone()
            except sqlite3.OperationalError:
                found = None
            except sqlite3.DatabaseError:  # not a database: overwritten or cut short
                self.path.unlink(missing_ok=True)
                raise
            with base:
                if found != (VERSION,):
                    for table in ("files", "things"):
                        base.execute(f"DROP TABLE IF EXISTS {table}")
                    base.execute(_FILES)
                    base.execute(_THINGS)
                    base.execute("INSERT INTO things VALUES ('version', ?)", (VERSION,))
                yield base


def _row(key: str, stamp: Stamp, known: Facts | str) -> tuple[object, ...]:
    if isinstance(known, str):
        return (key, *stamp, *[None] * 9, known)
    look = known.sketch
    notes = json.dumps(known.notes)
    looks = look.grey, look.chroma, look.sharpness, look.colour
    return (key, *stamp, known.hash, *known.size, notes, known.format, *looks, None)


def _facts(row: tuple[object, ...]) -> Facts | str:
    _, _, _, digest, width, height, notes, format, grey, chroma, sharpness, colour, reason = row
    if reason is not None:
        return str(reason)
    look = Sketch(bytes(grey), bytes(chroma), float(sharpness), float(colour))  # type: ignore[arg-type,call-overload]
    return Facts(str(digest), (int(width), int(height)), tuple(json.loads(str(notes))), str(format), look)  # type: ignore[call-overload]
