"""One run's folder: what is where in it, and how it is made, refused and opened."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from saccade.errors import RunError
from saccade.files import append_lines, read_json, read_lines, write_json

RUNS = Path("runs")
"""Where runs go that are not told where."""
_KEYS = {"classes", "split", "validation", "source", "chosen"}


def refuse_place(source: str | Path, out: Path | None) -> None:
    """Raise RunError, without writing anything, where a run cannot go to `out`, or to RUNS where None is given.

    It must not exist with content, must be writable, and must not lie inside the source, where the
    run's pictures would be among the next run's images.
    """
    place, folder = (out or RUNS).resolve(), Path(source).expanduser().resolve()
    if str(source) and folder.is_dir() and place.is_relative_to(folder):
        raise RunError(f"The output folder {place} would lie inside the source; give --out a folder elsewhere.")
    if out is not None:
        _refuse_taken(out)


def _refuse_taken(out: Path) -> None:
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise RunError(f"The output folder {out} cannot be made: {error.strerror}.") from error
    if taken:
        raise RunError(f"The output folder {out} already exists; give --out another name, or remove it.")
    parent = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not parent.is_dir() or not _writable(parent):
        raise RunError(f"The output folder {out} cannot be made: {parent} is not a folder that can be written to.")


@dataclass(frozen=True)
class Run:
    """A run's folder. `Run.create` makes one, `Run.open` reads one that is finished."""

    path: Path

    @classmethod
    def create(cls, out: Path | None, source: str) -> "Run":
        """Make the folder `out`, or `runs/<time>-<source>` where None is given.

        Raises RunError when it exists with content, or cannot be written.
        """
        if out is None:
            name = re.sub(r"[^\w.-]+", "-", Path(source).name).strip("-.")[:50] or "images"
            stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
            out = _unused(RUNS / f"{stamp}-{name}")
        _refuse_taken(out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            run = cls(out)
            for folder in (run.model, run.pictures):
                folder.mkdir()
        except OSError as error:
            raise RunError(f"The output folder {out} cannot be made: {error.strerror}.") from error
        return run

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Return the run in `path`; raises RunError when there is none, or it has no saved model."""
        run = cls(path)
        if not path.is_dir():
            raise RunError(f"There is no run at {path}; give the folder that `saccade fit` or `saccade train` wrote.")
        if not (run.model / "model.json").exists():
            raise RunError(f"{path} holds no saved model: the run did not finish, or this is not a run's folder.")
        return run

    @property
    def model(self) -> Path:
        """Folder of the saved classifier."""
        return self.path / "model"

    @property
    def pictures(self) -> Path:
        """Folder of the small pictures the report shows."""
        return self.path / "pictures"

    @property
    def report(self) -> Path:
        """The report's file."""
        return self.path / "report.html"

    @property
    def split(self) -> Path:
        """The table of which image went to which part: image, hash, class, part."""
        return self.path / "split.csv"

    def read_split(self) -> list[dict[str, str]]:
        """Return split.csv's rows: `image`, `hash`, `class`, `part`; raises RunError where it is missing or damaged."""
        try:
            with self.split.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, csv.Error) as error:
            raise RunError(f"{self.split} is missing or damaged; the run's files were changed.") from error
        if not rows or not all(row.keys() == {"image", "hash", "class", "part"} for row in rows):
            raise RunError(f"{self.split} is missing or damaged; the run's files were changed.")
        return rows

    def read_summary(self) -> dict[str, Any]:
        """Return summary.json's content; raises RunError where it is missing or damaged."""
        summary = self.read("summary")
        if not isinstance(summary, dict) or not summary.keys() >= _KEYS:
            raise RunError(f"{self.path / 'summary.json'} is missing or damaged; the run's files were changed.")
        return summary

    def read_settings(self) -> dict[str, Any]:
        """Return settings.yaml's content; raises RunError where it is missing or damaged."""
        try:
            saved = yaml.safe_load(self.settings.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RunError(f"{self.settings} is missing or damaged; the run's files were changed.") from error
        if not isinstance(saved, dict):
            raise RunError(f"{self.settings} is missing or damaged; the run's files were changed.")
        return saved

    @property
    def settings(self) -> Path:
        """The settings, resolved; `--config` runs them again."""
        return self.path / "settings.yaml"

    @property
    def network(self) -> Path:
        """The settings of the network trained, resolved, for `saccade train --config`."""
        return self.path / "network.yaml"

    def write(self, name: str, value: Any) -> None:
        """Write `value` as `<name>.json`, whole or not at all."""
        write_json(self.path / f"{name}.json", value)

    def read(self, name: str) -> Any:
        """Return what `write` wrote; raises RunError when it is missing or damaged."""
        path = self.path / f"{name}.json"
        try:
            return read_json(path)
        except (OSError, ValueError) as error:
            raise RunError(
                f"{path} is missing or damaged; the run did not finish, or its files were changed."
            ) from error

    def add_history(self, *lines: Mapping[str, Any]) -> None:
        """Append lines of plain numbers to history.jsonl."""
        append_lines(self.path / "history.jsonl", lines)

    def history(self) -> list[dict[str, Any]]:
        """Return history.jsonl's lines."""
        return read_lines(self.path / "history.jsonl")


def _unused(path: Path) -> Path:
    candidates = (path, *(path.with_name(f"{path.name}-{n}") for n in range(2, 1000)))
    return next(candidate for candidate in candidates if not candidate.exists())


def _writable(folder: Path) -> bool:
    """Try it: permission bits lie to root, on network shares and on read-only mounts."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
