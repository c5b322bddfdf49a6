"""One run's folder: what is where in it, and how it is made, refused and opened."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from filelock import Timeout

from saccade import shapes
from saccade.errors import RunError, SettingError
from saccade.files import (
    append_lines,
    expanded,
    is_temporary,
    lock,
    read_csv,
    read_json,
    read_lines,
    slug,
    writable,
    write_csv,
    write_json,
    write_lines,
)
from saccade.words import some

SPLIT = ("image", "hash", "class", "part")
PREDICTIONS = ("image", "class", "predicted", "probability")
GROUP = "group"
SEEN = ("hash", "part")
"""Columns of split.csv, predictions.csv (its last, where images have groups, GROUP) and seen.csv."""
RUNS = Path("runs")
"""Where runs go that are not told where."""
_FIRST_FILES = {"run.lock", "split.csv", "seen.csv"}
_FOLDERS = {"model", "pictures", "checkpoints"}
_TRAININGS = "a comparison of several trainings"
_LEFT = {
    _TRAININGS: ("comparison.json", "comparison.html"),
    "a search": ("trials.jsonl", "search.html"),
    "a check before training": ("checks.json", "report.html"),
    "a measurement of curvature": ("curvature.json", "curvature.html"),
    "a sheet of augmentations": ("augment.json", "augment.html"),
    "a run": ("split.csv", "settings.yaml"),
}
"""What a command leaves in a folder, and the files by which it is known; a check has those of a run too."""


def refuse_place(source: str | Path, out: Path | None, *, resume: bool = False, unfinished: bool = False) -> None:
    """Raise RunError, without writing anything, where a run cannot go to `out`, or to RUNS where None is given.

    It must not exist with content, must be writable, and must not lie inside the source, where the
    run's pictures would be among the next run's images. Of a run that is `unfinished` it is said how to go on with it.
    """
    place, folder = (out or RUNS).resolve(), expanded(source).resolve()
    if str(source) and folder.is_dir() and place.is_relative_to(folder):
        raise RunError(f"The output folder {place} would lie inside the source; give --out a folder elsewhere.")
    if out is not None:
        _refuse_taken(out, resume=resume, unfinished=unfinished)


def make_folder(out: Path | None, source: str, *, resume: bool = False) -> Path:
    """Make the folder `out`, or `runs/<time>-<source>` where None is given, and return it.

    Raises RunError when it exists with content, or cannot be written. Where a run is to be resumed,
    it may hold what a run leaves that was ended before it had settings.
    """
    if out is None:
        name = re.sub(r"[^\w.-]+", "-", Path(source).name).strip("-.")[:50] or "images"
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        out = _unused(RUNS / f"{stamp}-{name}")
    _refuse_taken(out, resume=resume)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"The output folder {out} cannot be made: {error.strerror}.") from error
    return out


def _refuse_taken(out: Path, *, resume: bool = False, unfinished: bool = False) -> None:
    try:
        taken = out.exists() and (not out.is_dir() or any(out.iterdir())) and not (resume and _hardly_begun(out))
    except OSError as error:
        raise RunError(f"The output folder {out} cannot be made: {error.strerror}.") from error
    if taken:
        what = "go on with its run by --resume, give --out another name" if unfinished else "give --out another name"
        raise RunError(f"The output folder {out} already exists; {what}, or remove it.")
    parent = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not parent.is_dir() or not writable(parent):
        raise RunError(f"The output folder {out} cannot be made: {parent} is not a folder that can be written to.")


def _hardly_begun(out: Path) -> bool:
    """Return whether a folder holds only what a run that was ended before it had settings leaves: nothing of worth."""

    def worthless(path: Path) -> bool:
        if path.name in _FOLDERS and path.is_dir():
            return not any(path.iterdir())
        return path.name in _FIRST_FILES or is_temporary(path)

    return out.is_dir() and all(map(worthless, out.iterdir()))


def kind_of(folder: Path) -> str | None:
    """Return what a command of saccade left in a folder, such as "a run" or "a search"; None where none did."""
    return next((kind for kind, files in _LEFT.items() if all((folder / file).is_file() for file in files)), None)


def without_model(folder: Path) -> str:
    """Return the sentence that says why a folder without a saved model is no finished run, and what to give instead."""
    kind = kind_of(folder)
    if kind in (None, "a run"):
        return f"{folder} holds no saved model: the run did not finish, or this is not a run's folder."
    finished = sorted(file.parents[1].name for file in folder.glob("*/model/model.json"))
    if kind == _TRAININGS and finished:
        return f"{folder} is {kind}, not a run; give one of the runs in it: {some(finished, 10)}."
    return f"{folder} is {kind}, not a run; give the folder that `saccade fit` or `saccade train` wrote."


@dataclass(frozen=True)
class Places:
    """What lies where in a run's folder."""

    path: Path

    @property
    def model(self) -> Path:
        """Folder of the saved classifier."""
        return self.path / "model"

    @property
    def models(self) -> Path:
        """Folder of further saved classifiers, each in a folder of its own, where a command leaves several."""
        return self.path / "models"

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

    @property
    def seen(self) -> Path:
        """The table of images that the weights it begins with were trained on or chosen by: hash, part; if any."""
        return self.path / "seen.csv"

    @property
    def predictions(self) -> Path:
        """The table of what the model says of the test images: image, class, predicted, probability."""
        return self.path / "predictions.csv"

    @property
    def settings(self) -> Path:
        """The settings, resolved; `--config` runs them again."""
        return self.path / "settings.yaml"

    @property
    def checkpoints(self) -> Path:
        """Folder of the trainings' checkpoints, each network's in one of its own."""
        return self.path / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """The figures of every `saccade evaluate` of the run, a line each."""
        return self.path / "evaluations.jsonl"

    def network(self, name: str) -> Path:
        """The settings a network was trained with, resolved, for `saccade train --config`."""
        return self.path / f"network-{slug(name)}.yaml"


@dataclass(frozen=True)
class Run(Places):
    """A run's folder: `Run.create` makes one, `Run.resume` finds one to go on with, `Run.open` one to read."""

    @classmethod
    def create(cls, out: Path | None, source: str, *, resume: bool = False) -> "Run":
        """Make the folder `out`, or `runs/<time>-<source>` where None is given.

        Raises RunError when it exists with content, or cannot be written. Where a run is to be
        resumed, it may hold what a run leaves that was ended before it had settings.
        """
        run = cls(make_folder(out, source, resume=resume))
        try:
            for folder in (run.model, run.pictures):
                folder.mkdir(exist_ok=resume)
        except OSError as error:
            raise RunError(f"The output folder {run.path} cannot be made: {error.strerror}.") from error
        return run

    @classmethod
    def resume(cls, out: Path | None) -> "Run | None":
        """Return the run that was begun in `out`; None where none was yet, so that it is to be made.

        Raises SettingError where no folder is named, RunError where it holds something else.
        """
        if out is None:
            raise SettingError("To resume a run, name its folder with --out DIR.")
        run = cls(out)
        if run.settings.is_file():
            return run
        if out.exists() and not _hardly_begun(out):
            raise RunError(f"{out} holds no run that could be resumed: there is no settings.yaml; give another --out.")
        return None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: a whole summary, and the report written from it."""
        try:
            return self.report.is_file() and bool(self.read_summary())
        except RunError:
            return False

    @contextmanager
    def written_alone(self) -> Iterator[None]:
        """Keep other processes from writing to the run within the block, and clear away what a killed one left half.

        Raises RunError where another process is at it.
        """
        alone = lock(self.path / "run", timeout=0)
        try:
            alone.acquire()
        except Timeout as error:
            raise RunError(f"The run in {self.path} is being written by another process; let it end first.") from error
        with alone:
            alone.release()  # of the two times it is held now
            for file in filter(is_temporary, sorted(self.path.rglob("*"))):
                file.unlink()
            yield

    @classmethod
    def open(cls, path: Path, *, unfinished: bool = False) -> "Run":
        """Return the run in `path`; raises RunError when there is none, or, unless `unfinished`, no saved model."""
        run = cls(path)
        if unfinished and kind_of(path) == "a run":
            return run
        if not path.is_dir():
            raise RunError(f"There is no run at {path}; give the folder that `saccade fit` or `saccade train` wrote.")
        if not (run.model / "model.json").exists():
            raise RunError(without_model(path))
        return run

    def write_split(self, rows: Iterable[tuple[str, str, str, str]], seen: Mapping[str, str]) -> None:
        """Write split.csv: each image's name, hash, class and part; and seen.csv where weights have `seen` images."""
        write_csv(self.split, SPLIT, rows)
        if seen:
            write_csv(self.seen, SEEN, sorted(seen.items()))

    def read_split(self) -> list[dict[str, str]]:
        """Return split.csv's rows: `image`, `hash`, `class`, `part`; raises RunError where it is missing or damaged."""
        try:
            return read_csv(self.split, SPLIT)
        except (OSError, ValueError) as error:
            raise RunError(f"{self.split} is missing or damaged; the run's files were changed.") from error

    def read_summary(self) -> dict[str, Any]:
        """Return summary.json's content; raises RunError where it is missing or damaged."""
        return {**self.read("summary")}

    def own_looks(self) -> list[dict[str, Any]]:
        """Return the figures of each later look at the run's own test part, the latest last; raises as `read` does."""
        return [line for line in _checked(self.evaluations, read_lines) if line.get("own")]

    def read_settings(self) -> dict[str, Any]:
        """Return settings.yaml's content; raises RunError where it is missing or damaged."""
        try:
            saved = yaml.safe_load(self.settings.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RunError(f"{self.settings} is missing or damaged; the run's files were changed.") from error
        if not isinstance(saved, dict):
            raise RunError(f"{self.settings} is missing or damaged; the run's files were changed.")
        return saved

    def write(self, name: str, value: Any) -> None:
        """Write `value` as `<name>.json`, whole or not at all."""
        write_json(self.path / f"{name}.json", value)

    def read(self, name: str) -> Any:
        """Return what `write` wrote; raises RunError when it is missing or damaged, or of another shape."""
        return _checked(self.path / f"{name}.json", read_json)

    def add_history(self, *lines: Mapping[str, Any]) -> None:
        """Append lines of plain numbers to history.jsonl."""
        append_lines(self.path / "history.jsonl", lines)

    def history(self) -> list[dict[str, Any]]:
        """Return history.jsonl's lines; raises as `read` does, but not where there is none."""
        return [*_checked(self.path / "history.jsonl", read_lines)]

    def cut_history(self, network: str, lines: int) -> None:
        """Keep the first `lines` lines of one network's history alone; other networks' stay."""
        own = count()
        kept = [line for line in self.history() if line.get("network") != network or next(own) < lines]
        if kept != self.history():
            write_lines(self.path / "history.jsonl", kept)


def _checked(path: Path, read: Callable[[Path], Any]) -> Any:
    """Return what a file of a run holds; raises RunError where it is missing, damaged or of another shape."""
    try:
        value = read(path)
        shapes.check(path.name, value)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is missing or damaged; the run did not finish, or its files were changed.") from error
    return value


def _unused(path: Path) -> Path:
    candidates = (path, *(path.with_name(f"{path.name}-{n}") for n in range(2, 1000)))
    return next(candidate for candidate in candidates if not candidate.exists())
