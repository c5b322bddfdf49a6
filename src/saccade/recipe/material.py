"""The first stages of every command that trains: open, integrity, duplicates, split; then a folder for the run."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from saccade import audit, data
from saccade.data import Parts
from saccade.errors import InputError
from saccade.events import stage
from saccade.files import write_atomic, write_csv
from saccade.run import Run, refuse_place
from saccade.settings import DataSettings


@dataclass(frozen=True)
class Material:
    """A source split into parts, what is told of it, and the run's folder. Nothing here leads to test images."""

    parts: Parts
    run: Run
    source: str
    found: int
    duplicates: int


@contextmanager
def discarded_on_refusal(run: Run) -> Iterator[None]:
    """Remove the run's folder where what the user gave turns out, only now, not to fit."""
    try:
        yield
    except InputError:
        shutil.rmtree(run.path)
        raise


def gather(source: str | Path, settings: DataSettings, out: Path | None) -> Material:
    """Open, check and split a source, then make the run's folder with its settings and split.csv.

    Raises SourceError or RunError before anything is written.
    """
    refuse_place(source, out)
    with stage("open") as record:
        images = data.open(source, settings)
        record.outcome = f"{len(images):,} images, {len(images.classes)} classes"
    with stage("integrity") as record:
        found, images = len(images), data.integrity(images)
        record.outcome = f"{found - len(images):,} unreadable"
    with stage("duplicates") as record:
        groups_N = audit.duplicates(images)
        copied = len(images) - len(set(images.hashes()))
        record.outcome = f"{copied:,} copies"
    with stage("split") as record:
        parts = data.split(images, groups_N, settings)
        run = Run.create(out, images.name)
        write_atomic(run.settings, settings.to_yaml())
        write_csv(run.split, ("image", "hash", "class", "part"), parts.rows())
        record.outcome = f"{len(parts.train):,} train, {len(parts.validation):,} validation, {len(parts.test):,} test"
    place = Path(source)
    return Material(parts, run, str(place.absolute()) if place.exists() else images.source, found, copied)
