"""The first stages of every command that trains: open, integrity, duplicates, split; then a folder for the run."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from saccade import audit, data
from saccade.audit import Alike, near
from saccade.data import ImageSet, Parts
from saccade.data.splits import united
from saccade.errors import InputError, RunError, SettingError, SourceError
from saccade.events import Finding, emit, stage
from saccade.files import write_atomic
from saccade.metrics import wilson_interval
from saccade.recipe.provenance import Seen
from saccade.run import SPLIT, Run, refuse_place
from saccade.settings import BaselineSettings, DataSettings, FitSettings, TrainSettings
from saccade.words import counted, plural

AnySettings = TypeVar("AnySettings", bound=DataSettings)
FEW_TO_JUDGE, FEW_GROUPS = 100, 30
"""Images of a part, below which an accuracy on it is known to some ten points at best."""
NEAR_SHARE, NEAR_LEAST, NEAR_MOST = 0.2, 20.0 * near.A_SECOND, 100.0 * near.A_SECOND
"""Of a budget, that comparing images with each other may take; and the pairs it is enough for where it is long."""


@dataclass(frozen=True)
class Material:
    """A source split into parts, what is told of it, and the run's folder. Nothing here leads to test images.

    `leaked` names images of given validation and test parts with a near-duplicate in an earlier part; `resumed`
    says whether the run was begun before; `groups` numbers the training and validation images that must stay
    together; `seen` is what the weights that it begins with were trained on or chosen by.
    """

    parts: Parts
    run: Run
    source: str
    found: int
    duplicates: int
    leaked: frozenset[str] = frozenset()
    resumed: bool = False
    groups: Mapping[str, int] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)


@contextmanager
def discarded_on_refusal(material: Material, *others: type[BaseException]) -> Iterator[None]:
    """Remove a new run's folder where what the user gave turns out, only now, not to fit; never what was saved.

    So it is where one of `others` ends the work of a command that cannot go on with what lies there.
    """
    ending: tuple[type[BaseException], ...] = (InputError, *others)
    try:
        yield
    except ending:
        run = material.run
        saved = [each for each in (run.checkpoints, run.model, run.models) if each.is_dir() and any(each.iterdir())]
        if not material.resumed and not saved:
            _remove(run.path)
        raise


def _remove(folder: Path) -> None:
    """Remove what lies in a folder, and the folder unless it is linked to or worked in; what cannot be stays."""
    with suppress(OSError):
        for each in [*folder.iterdir()]:
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink()
        folder.rmdir()


def in_force(given: AnySettings, out: Path | None) -> AnySettings:
    """Return the settings the run in `out` was begun with, so that it is resumed; those given where none was begun.

    Raises RunError where one that was given explicitly, and not left open, is not what the run was begun with, or where
    the run is another command's; SettingError where no folder is named.
    """
    run = Run.resume(out)
    if run is None:
        return given
    saved = _saved(type(given), run)
    for name in type(given).model_fields:
        was, now = getattr(saved, name), getattr(given, name)
        if name in given.model_fields_set and now not in (was, None):
            raise RunError(
                f"The run in {run.path} was begun with {name}={was}, and {name}={now} was given; "
                "leave it out to resume the run, or give another --out to begin one."
            )
    return saved


def _saved(kind: type[AnySettings], run: Run) -> AnySettings:
    with suppress(SettingError):
        saved = kind.load(run.settings)
        if saved.model_fields_set == kind.model_fields.keys():
            return saved
    raise RunError(
        f"The run in {run.path} was begun by another command or another version of saccade, which alone can resume it."
    )


def _unfinished(kind: type[DataSettings], run: Run) -> bool:
    """Return whether a folder holds a run of these settings that can be resumed."""
    with suppress(RunError, OSError):
        return run.settings.is_file() and not run.finished and bool(_saved(kind, run))
    return False


@contextmanager
def gather(
    source: str | Path, settings: DataSettings, out: Path | None, *, resume: bool | None = None
) -> Iterator[Material]:
    """Open, check and split a source, make the run's folder with its settings and split.csv, and keep it to oneself.

    Where the run in `out` is to be resumed, its folder is the one it has; None says that the command resumes none.
    Raises SourceError or RunError before anything is written.
    """
    begun = Run.resume(out) if resume else None
    unfinished = resume is False and out is not None and _unfinished(type(settings), Run(out))
    if resume and begun is None:
        emit(Finding(kind="resume", detail=f"There is no run in {out} yet: this begins one.", severity="warning"))
    with ExitStack() as kept:
        if begun is None:
            refuse_place(source, out, resume=bool(resume), unfinished=unfinished)
        else:
            kept.enter_context(begun.written_alone())
        with stage("open") as record:
            images = data.open(source, settings)
            record.outcome = f"{plural(len(images), 'image')}, {plural(len(images.classes), 'class')}"
        with stage("integrity") as record:
            found, images = len(images), data.integrity(images)
            record.outcome = f"{found - len(images):,} unreadable"
        with stage("duplicates") as record:
            groups_N, alike = _copies(images, settings)
            audit.quality(images)
            audit.balance(images)
            copied = len(images) - len(set(images.hashes()))
            record.outcome = plural(copied, "copy")
        with stage("split") as record:
            seen = Seen.by(settings)
            parts, groups = _split(images, groups_N, alike, settings, seen)
            if begun is None:
                run = Run.create(out, images.name, resume=bool(resume))
                kept.enter_context(run.written_alone())
                run.write_split(parts.rows(), seen.part_of)
                write_atomic(run.settings, settings.to_yaml())  # the last: from here on, the run is begun
            else:
                run = begun
                _refuse_changed(source, parts, run)
            sizes = {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)}
            record.outcome = ", ".join(f"{size:,} {name}" for name, size in sizes.items())
            tell_small(parts, images)
        yield Material(parts, run, origin(source), found, copied, alike.leaked, begun is not None, groups, seen)


def parts_of(source: str | Path, settings: DataSettings) -> Parts:
    """Return a source's parts, for work that keeps no run: the same as those of a run with these settings.

    Raises SourceError.
    """
    images = data.integrity(data.open(source, settings))
    groups_N, alike = _copies(images, settings)
    return _split(images, groups_N, alike, settings, Seen.by(settings))[0]


def _copies(images: ImageSet, settings: DataSettings) -> tuple[NDArray[np.int64], Alike]:
    """Return which images are equal, and which show the same picture."""
    groups_N = audit.duplicates(images)
    budget = settings.budget if isinstance(settings, FitSettings | TrainSettings) else None
    return groups_N, audit.near_duplicates(images, groups_N, work=search_work(len(images), budget))


def _split(
    images: ImageSet, groups_N: NDArray[np.int64], alike: Alike, settings: DataSettings, seen: Seen
) -> tuple[Parts, dict[str, int]]:
    """Return the parts, and a number for each training and validation image: equal where they must stay together.

    What the weights to begin with have `seen` is not in the test part, nor what they were trained on in a validation
    part that is taken here. Raises SourceError where the images to train on are of one class.
    """
    parts = data.split(images, groups_N, settings, alike.groups_N, seen.latest(images))
    together_N = united(alike.groups_N, images.groups)
    number_of = dict(zip(images.keys, together_N.tolist(), strict=True))
    groups = {key: number_of[key] for key in parts.known.images.keys}
    if isinstance(settings, TrainSettings) and settings.fold is not None:
        seed = settings.seed if settings.split_seed is None else settings.split_seed
        parts = data.hold_out(parts, np.array(list(groups.values())), settings.fold, seed)
    folded = isinstance(settings, BaselineSettings)  # which learns from the validation part too
    _refuse_one_class((parts.known if folded else parts.train).images)
    seen.tell(parts.known, parts.known if folded else parts.validation)
    return parts, groups


def _refuse_one_class(train: ImageSet) -> None:
    learned = np.flatnonzero(train.class_counts())
    if len(learned) < 2:
        raise SourceError(
            f'The train part of {train.source} has images of one class only, "{train.classes[learned[0]]}"; a '
            "classifier needs training images of at least two classes: give some of the others to the train part."
        )


def origin(source: str | Path) -> str:
    """Return where a source is, as a run remembers it: the whole path, or a data set's name."""
    place = Path(source)
    return str(place.absolute()) if place.exists() else str(source)


def tell_small(parts: Parts, images: ImageSet | None = None) -> None:
    """Say, once, how little figures of the validation and the test part tell where these are small.

    `images` are those of all parts, where their groups are to count.
    """
    sizes = {"validation": len(parts.validation), "test": len(parts.test)}
    groups = sizes if images is None else _groups_of_parts(parts, images)
    grouped = {name: groups[name] for name, size in sizes.items() if groups[name] < size}
    small = [name for name, size in sizes.items() if size < FEW_TO_JUDGE or grouped.get(name, size) < FEW_GROUPS]
    if not small:
        return
    have = " and ".join(f"the {name} part has {counted(sizes[name], grouped.get(name))}" for name in small)
    # At worst the images of a group are all right or all wrong.
    bounds = [wilson_interval(round(0.8 * size), size) for size in dict.fromkeys(groups[name] for name in small)]
    ranges = " and ".join(f"from {100 * low:.0f} to {100 * high:.0f} %" for low, high in bounds)
    few = f"{have}: where 80 % of them are named correctly, anything {ranges} may be true"
    emit(Finding(kind="small-part", detail=few, severity="warning"))


def _groups_of_parts(parts: Parts, images: ImageSet) -> dict[str, int]:
    """Return how many declared groups each part's images are of, from the record of the split."""
    number_of = dict(zip(images.keys, images.groups_N.tolist(), strict=True))
    numbers: dict[str, set[int]] = {"train": set(), "validation": set(), "test": set()}
    for key, _, _, part in parts.rows():
        numbers[part].add(number_of[key])
    return {part: len(each) for part, each in numbers.items()}


def search_work(images: int, budget: float | None) -> float:
    """Return how many pairs of images to compare: a number, not a time, so that the split repeats.

    For up to 88,000 images it is the same for all budgets of 100 seconds and more, and so is the split.
    """
    if budget is None:
        return NEAR_MOST
    return min(max(NEAR_LEAST, (images + near.BLOCK) ** 2 / 2), NEAR_MOST, NEAR_SHARE * budget * near.A_SECOND)


def _refuse_changed(source: str | Path, parts: Parts, run: Run) -> None:
    """Raise RunError where the images, their classes or their parts are not those the run was begun with."""
    was = {tuple(row[name] for name in SPLIT) for row in run.read_split()}
    now = set(parts.rows())
    if was != now:
        changed = min(row[0] for row in was ^ now)
        raise RunError(
            f"The images of {source} are not those the run in {run.path} was begun with ({changed}, …); "
            "the run stays as it was: give --out another name to begin one with these."
        )
