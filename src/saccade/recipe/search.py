"""`saccade search`: coarse trials of few epochs, finer ones around the best, finalists repeated, all on validation."""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from saccade import data
from saccade.data.batches import ArrayImages
from saccade.device import resolve_device, use_threads
from saccade.errors import InputError, RunError, SettingError, StorageError, TrainingError
from saccade.events import Finding, Progress, emit, stage
from saccade.files import is_temporary, lock, write_atomic, write_json, write_lines
from saccade.interrupts import goes_on
from saccade.nn import zoo
from saccade.optim import DEFAULTS
from saccade.recipe.finalists import RUNNERS, conclude, finalists, ranked
from saccade.recipe.material import origin, parts_of
from saccade.recipe.network import SAMPLE, Glance, start
from saccade.recipe.plan import batch_for, full_side, mirrored, native_side
from saccade.recipe.ranges import default_space
from saccade.recipe.stages import with_weights
from saccade.report.search import render_search
from saccade.run import make_folder, refuse_place
from saccade.settings import SearchSettings, TrainSettings
from saccade.study.board import Board, Row, check_url, worker
from saccade.study.search import HopelessError, halved, hopeful
from saccade.study.space import Layout, Space, lay_out, refined, unvaried
from saccade.train.rules import EXPLODED
from saccade.train.session import Session
from saccade.words import assignments, plural

COARSE = 2 / 3
"""Of the trials: over the whole space, for SHORTER times the epochs."""
SHORTER = 1 / 3
RUNGS = (25, 50)
"""Per cent of a trial at which the worse half stops."""
SIDE = 64
"""Largest side of a trial's images where no size is given."""
AGAIN = 0.5
"""Seconds until a worker looks again whether there is a trial for it."""
_FIRST = {"trials.db", "trials.db.lock", "trials.jsonl"}
_FILES = _FIRST | {"trials.db-journal", "write.lock", "summary.json", "search.html", "settings.yaml"}
_INCIDENTAL = {"device", "threads", "memory", "workers", "storage", "study"}
"""Settings that workers of one search may differ in."""


def search(
    source: str | Path,
    settings: SearchSettings,
    *,
    space: Space | None = None,
    given: Collection[str] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Search for the settings of one network that do best on validation images; the test part stays sealed.

    Works on the search in `out`, or in the storage, where one of the same plan was begun: several processes
    may. Without a `space` it is the default one, save the augmentations whose names are `given`, by default all that
    `settings` set. Returns what is known of it in the end, as plain values, which lies in `out` as summary.json beside
    trials.jsonl, search.html and settings.yaml, the best settings for `saccade train --config`; "side" is that of
    the trials' images, in pixels, where no size was given or searched over, else None. Raises
    InputError, before anything is written, where source, settings or `out` cannot be used; StorageError where
    the storage went away, after writing what was done; TrainingError where no trial came to an end.
    """
    begun = perf_counter()
    if out is None or not _joinable(out):
        refuse_place(source, out)
    zoo.check_choices(settings)
    if settings.storage is not None:
        check_url(settings.storage)
    base, given = _base(settings), settings.model_fields_set if given is None else given
    resolve_device(base.device)
    use_threads(base.threads)
    bench = Bench.open(source, base)
    space = default_space(bench.first.rule, base, given) if space is None else space
    if not space:
        raise SettingError("Nothing is left to search over: all of it was given; name a range by --space.")
    _tell_unvaried(settings, space)
    folder = _folder(out, source)
    url = f"sqlite:///{(folder / 'trials.db').resolve()}" if settings.storage is None else settings.storage
    try:
        board = Board.open(url, settings.study, space, _plan(source, settings, space), jobs(settings, space))
    except InputError:
        with suppress(OSError):
            folder.rmdir()  # goes only where it is empty
        raise
    work = Work(bench, board, settings, space, folder)
    problem: StorageError | None = None
    try:
        with goes_on(folder, resume=False):
            rows = work.until_all_ended()
    except StorageError as error:
        problem, rows = error, board.known
    told = {
        "schema": 1, "source": str(source), "model": base.model, "folder": str(folder), "storage": settings.storage,
        "study": settings.study, "sampler": settings.sampler, "stop": settings.stop, "complete": problem is None,
        "images": len(bench.parts.train), "validation_images": bench.seen_images,
        "side": None if base.size or "size" in space else bench.base.size,
        **conclude(rows, settings, space, bench.defaults), "seconds": round(perf_counter() - begun, 2),
    }  # fmt: skip
    work.write(told, rows)
    if problem is not None:
        raise problem
    if told["best"] is None:
        reasons = [row.result.get("stopped", "") for row in rows]
        raise TrainingError(f"None of the {len(rows)} trials came to an end; of the first, {reasons[0]}.")
    return told


@dataclass(frozen=True)
class Bench:
    """What trials are run with: the parts, settings with nothing left open, and a first session, never trained."""

    parts: data.Parts
    base: TrainSettings
    first: Session
    glances: dict[int, Glance]

    @classmethod
    def open(cls, source: str | Path, base: TrainSettings) -> "Bench":
        """Read and split a source; raises InputError where it or the settings cannot be used."""
        with stage("open") as record:
            parts = parts_of(source, base)
            record.outcome = f"{len(parts.train):,} training, {len(parts.validation):,} validation images"
        side = base.size or min(SIDE, full_side(native_side(parts.train)))
        batch = base.batch_size or batch_for(len(parts.train))
        chosen = {
            "size": side,
            "batch_size": batch,
            "flip": mirrored(base, parts),
            "views": False,
            "width": base.width or 1.0,
        }
        base = base.model_copy(update=chosen)
        return cls(parts, base, start(parts.train, base), {})

    @property
    def defaults(self) -> dict[str, Any]:
        """What a trial has that is given no settings, by name, as far as that is known before it is begun."""
        rule, settings = self.first.rule, self.first.settings
        known = {"optimizer": rule, "weight_decay": DEFAULTS[rule].weight_decay}
        known |= {"learning_rate": self.first.highest_rate, **asdict(zoo.own_choices(settings.model))}
        return {**known, **{name: value for name, value in settings.model_dump().items() if value is not None}}

    @property
    def seen_images(self) -> int:
        """How many validation images a trial is measured on."""
        return len(self.glance(self.first).labels_N)

    def session(self, settings: Mapping[str, Any], seed: int) -> Session:
        """Return a new session; raises InputError where the settings do not go together."""
        values = {**self.base.model_dump(), **settings, "seed": seed}
        given = TrainSettings(**values)
        images, names = self.first.images, self.first.names
        if given.size != self.base.size or given.random_crops or not isinstance(images, ArrayImages):
            return start(self.parts.train, given)
        x_NHWC = images.x_NHWC
        sample_NHWC = x_NHWC[:: -(-len(x_NHWC) // SAMPLE)]
        classes = len(self.parts.classes)
        return Session.start(given, images, sample_NHWC, classes=classes, names=names)

    def glance(self, session: Session) -> Glance:
        """Return the validation images a session is measured on."""
        side = session.forward.side
        if side not in self.glances:
            self.glances[side] = Glance.at(self.parts.validation, session)
        return self.glances[side]


@dataclass(frozen=True)
class Work:
    """One process's part in a search."""

    bench: Bench
    board: Board
    settings: SearchSettings
    space: Space
    folder: Path
    threads: int = field(default_factory=torch.get_num_threads)
    """What the workers of this machine share, where each is not told how many to take."""

    def until_all_ended(self) -> list[Row]:
        """Take and run trials until none is left, those of other processes included; return all."""
        while True:
            row = self.board.claim()
            rows = self.board.rows()
            self._show(rows)
            if row is not None:
                self._take(row, rows)
            elif all(each.ended for each in rows):
                return rows
            else:
                time.sleep(AGAIN)

    def write(self, told: Mapping[str, Any], rows: Sequence[Row]) -> None:
        """Write what the search came to into its folder."""
        with lock(self.folder / "write"):
            write_lines(self.folder / "trials.jsonl", [row.plain() for row in rows])
            write_json(self.folder / "summary.json", told)
            write_atomic(self.folder / "search.html", render_search(told))
            if told["best"] is not None:
                given = _base(self.settings).model_dump(exclude_unset=True)
                decided = {"flip": self.bench.base.flip}
                best = TrainSettings(**{**given, **decided, **told["best"]["settings"]})
                write_atomic(self.folder / "settings.yaml", best.to_yaml())

    def _take(self, row: Row, rows: Sequence[Row]) -> None:
        try:
            settings = self._settings(row, rows)
            if settings is None:
                what = "finalist" if row.stage == "final" else "setting to try"
                self.board.finish(row.number, {"stopped": f"there was no other {what}"}, stopped=True)
                return
            self.board.settle(row.number, settings)
            with self._shared_threads(), stage(self._named(row, rows)) as record:
                result = self._run(row, settings)
                record.validation_accuracy = result.get("accuracy")
                came_to = result.get("stopped") or f"validation {result['accuracy']:.1%}"
                record.outcome = f"{came_to} ({assignments(settings)})"
            self.board.finish(row.number, result, stopped="stopped" in result)
        except StorageError:
            raise
        except BaseException as error:
            with suppress(StorageError):
                self.board.release(row.number, error=error if isinstance(error, Exception) else None)
            raise
        with lock(self.folder / "write"):
            write_lines(self.folder / "trials.jsonl", [each.plain() for each in self.board.rows()])

    @contextmanager
    def _shared_threads(self) -> Iterator[None]:
        """Compute with this worker's share of the machine's threads: more than one a core wait for each other."""
        if self.settings.threads is None:
            use_threads(max(1, self.threads // self.board.beside()))
        try:
            yield
        finally:
            use_threads(self.threads)

    def _settings(self, row: Row, rows: Sequence[Row]) -> dict[str, Any] | None:
        """Return a trial's settings, which may follow from the trials before; None where there are none for it."""
        if row.job["settings"] is not None:
            return dict(row.job["settings"])
        if row.stage == "coarse":
            startup = max(3, sum(each.stage == "coarse" for each in rows) // 3)
            return self.board.suggest(row.number, self.settings.seed + _place(row), startup=startup)
        return next(iter(self._following(row.stage, rows)[_place(row) :]), None)

    def _following(self, stage: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Return the settings that a stage tries, as they follow from the trials of the one before."""
        if stage == "final":
            return finalists(rows, self.bench.defaults)
        seed, count = self.settings.seed, sum(each.stage == stage for each in rows)
        best = ranked([each for each in rows if each.stage == "coarse"])[0].job["settings"]
        if best is None:
            return lay_out("random", self.space, count, seed + 1)
        return refined(_layout(self.settings), self.space, best, count, seed)

    def _named(self, row: Row, rows: Sequence[Row]) -> str:
        """Return a trial's stage, and which it is of those of the stage for which there are settings."""
        alike = [each for each in rows if each.stage == row.stage]
        if row.stage != "coarse":
            count = len(self._following(row.stage, rows))
            alike = [each for each in alike if _place(each) < count]
        return f"{row.stage} {[each.number for each in alike].index(row.number) + 1}/{len(alike)}"

    def _run(self, row: Row, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a trial came to: accuracy and loss on validation images, or why it was stopped."""
        begun = perf_counter()
        told: dict[str, Any] = {"worker": worker()}
        try:
            session = self.bench.session(settings, row.job["seed"])
            glance = self.bench.glance(session)
            self._train(row, session, glance)
            losses_N, accuracy = glance.losses(session)
            loss = float(losses_N.mean())
            if not math.isfinite(loss):
                raise HopelessError("its loss was no number any more")
            told |= {"accuracy": accuracy, "loss": loss}
        except (HopelessError, InputError) as reason:
            told["stopped"] = str(reason)
        return {**told, "seconds": round(perf_counter() - begun, 3)}

    def _train(self, row: Row, session: Session, glance: Glance) -> None:
        """Train; raises HopelessError where the trial is to be stopped."""
        steps = session.steps(row.job["epochs"])
        exploded = math.inf if self.settings.stop == "none" else EXPLODED
        rungs = {max(1, round(percent / 100 * steps)): percent for percent in RUNGS}
        for done in hopeful(session, steps, exploded=exploded):
            self.board.beat(row.number)
            emit(Progress(task="trial", done=done, total=steps, unit="steps"))
            percent = rungs.get(done)
            if percent is None or row.stage == "final":
                continue
            accuracy = glance.losses(session)[1]
            self.board.see(row.number, percent, accuracy)
            others = [
                each.seen[percent]
                for each in self.board.rows()
                if each.stage == row.stage and each.number != row.number and percent in each.seen
            ]
            if self.settings.stop == "halving" and halved(accuracy, others):
                raise HopelessError(f"it was among the worse half at {percent} % of its way")

    def _show(self, rows: Sequence[Row]) -> None:
        done = [row for row in rows if row.state == "done"]
        best = f"best {max(row.result['accuracy'] for row in done):.1%}" if done else ""
        ended = sum(row.ended for row in rows)
        emit(Progress(task="search", done=ended, total=len(rows), unit="trials", detail=best))


def coarse(settings: SearchSettings) -> int:
    """Return how many trials are to be coarse ones."""
    return max(1, round(COARSE * settings.trials))


def jobs(settings: SearchSettings, space: Space) -> list[dict[str, Any]]:
    """Return what each trial is to be; its settings are None where they follow from other trials."""
    assert settings.epochs is not None
    seed, epochs = settings.seed, settings.epochs
    count = coarse(settings)
    places: list[dict[str, Any] | None] = [None] * count
    if settings.sampler != "tpe":
        places = [*lay_out(_layout(settings), space, count, seed)]
    first = {"stage": "coarse", "seed": seed, "epochs": SHORTER * epochs}
    fine = {"stage": "refined", "seed": seed, "epochs": epochs, "settings": None}
    final = {"stage": "final", "epochs": epochs, "settings": None}
    return [
        *({**first, "order": order, "settings": given} for order, given in enumerate(places)),
        *({**fine, "order": order} for order in range(settings.trials - len(places))),
        *(
            {**final, "seed": seed + 1 + again, "rank": rank}
            for again in range(settings.repeats)
            for rank in range(1 + RUNNERS)
        ),
    ]


def _place(row: Row) -> int:
    """Return which of the settings that its stage tries a trial takes."""
    place: int = row.job["rank" if row.stage == "final" else "order"]
    return place


def _tell_unvaried(settings: SearchSettings, space: Space) -> None:
    """Say what a grid of so few trials has but one value of."""
    count = coarse(settings)
    if settings.sampler == "grid" and (single := unvaried(space, count)):
        detail = f"A grid of {plural(count, 'coarse trial')} has one value alone of {', '.join(single)}: give more "
        detail += "trials, or another sampler, to vary it."
        emit(Finding(kind="grid", severity="warning", detail=detail))


def _layout(settings: SearchSettings) -> Layout:
    return "sobol" if settings.sampler == "tpe" else settings.sampler


def _plan(source: str | Path, settings: SearchSettings, space: Space) -> dict[str, Any]:
    """Return what all workers of a search must agree on."""
    given = settings.model_dump(mode="json", exclude=_INCIDENTAL)
    return {"source": origin(source), **given, "space": "; ".join(f"{name} {values}" for name, values in space.items())}


def _base(settings: SearchSettings) -> TrainSettings:
    """Return the settings that all trials start from; raises ModelError where the network is not known."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set if name in TrainSettings.model_fields}
    return with_weights(TrainSettings(**{**given, "epochs": settings.epochs}))


def _folder(out: Path | None, source: str | Path) -> Path:
    """Return the folder of a search: the one there is, which another process may just have made, or a new one."""
    try:
        return make_folder(out, f"{Path(source).name}-search")
    except RunError:
        if out is None or not _joinable(out):
            raise
        return out


def _joinable(out: Path) -> bool:
    """Return whether a folder holds a search, and nothing else."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    return bool(names & _FIRST) and all(name in _FILES or is_temporary(out / name) for name in names)
