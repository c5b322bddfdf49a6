"""The board on which several processes share the trials of a search: Optuna's storage, a row a trial."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
import psutil
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from saccade.errors import SettingError, StorageError, did_you_mean
from saccade.events import Finding, emit
from saccade.files import lock
from saccade.study.space import Choice, Range, Space

WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between tries to reach a storage that does not answer."""
SILENT = 180.0
"""Seconds after which a worker on another machine that no longer says anything is taken for dead."""
BEAT = 5.0
"""Seconds between two signs of life."""
ATTEMPTS = 3
"""After so many workers died at one trial, or ended by an error, it is given up: its settings may be the cause."""
BEGINNING = 10.0
"""Seconds that the first worker has to pin up the next trial."""
LOST = "workers died at it"

_PASSWORD = re.compile(r"(://[^/@:]*:).*@")
_DATABASES = ("sqlite", "postgresql", "postgresql+psycopg", "mysql", "mariadb", "oracle", "mssql")
"""What the URL of a database may begin with: SQLAlchemy's names."""
_DRIVERS = {"psycopg": '"saccade[postgres]"'}
"""What to install for a module that SQLAlchemy asks for, where it is called something else."""

Answer = TypeVar("Answer")
_OUT_OF_REACH = (optuna.exceptions.StorageInternalError, SQLAlchemyError, OSError)


@dataclass(frozen=True)
class Row:
    """A trial: its number, what it is to be ("job": stage, seed, epochs, settings), and what became of it.

    `state` is "waiting", "running", "done" or "stopped"; `seen` are the accuracies at shares of its way, in per cent.
    """

    number: int
    job: Mapping[str, Any]
    state: str
    result: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[int, float] = field(default_factory=dict)
    attempts: int = 0

    @property
    def stage(self) -> str:
        """Which stage it belongs to."""
        return str(self.job["stage"])

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.state in ("done", "stopped")

    def plain(self) -> dict[str, Any]:
        """Return it as one line of trials.jsonl."""
        seen = {str(share): value for share, value in self.seen.items()}
        told = {"trial": self.number, **self.job, "state": self.state, **self.result}
        return {**told, "seen": seen, "attempts": self.attempts}


class Board:
    """The trials of one search, which any number of processes take, run and answer, each trial once.

    A trial whose worker is gone waits for another one. What the storage does not answer is tried again
    for about a minute; StorageError is raised after that.
    """

    def __init__(self, url: str, storage: RDBStorage, study: str, space: Space) -> None:
        self.url, self.storage, self.study, self.space = url, storage, study, space
        self.known: list[Row] = []
        self._id: int = storage.get_study_id_from_name(study)
        self._trials = partial(storage.get_all_trials, self._id, deepcopy=False)
        self._spoken = 0.0
        process = psutil.Process()
        self._me: dict[str, Any] = {"host": socket.gethostname(), "pid": process.pid, "born": process.create_time()}

    @classmethod
    def open(
        cls, url: str, study: str, space: Space, plan: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]
    ) -> "Board":
        """Return the board of a study in the database at `url`; where there is none, pin the `jobs` to a new one.

        Raises SettingError where the database cannot be opened, or the study there has another plan.
        """
        check_url(url)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with _alone(url):  # to make the tables, too
                storage = RDBStorage(url, engine_kwargs=_engine(url))
                new = study not in {each.study_name for each in storage.get_all_studies()}
                number = storage.create_new_study([StudyDirection.MAXIMIZE], study) if new else None
            if number is not None:
                _pin(storage, number, space, plan, jobs)
            board = cls(url, storage, study, space)
            found = _settled(storage, board._id)
        except (*_OUT_OF_REACH, ImportError, ValueError, optuna.exceptions.DuplicatedStudyError) as error:
            raise SettingError(f'The storage "{_shown(url)}" cannot be opened: {_reason(error)}.') from error
        if found is None:
            raise SettingError(
                f'The study "{study}" in {_shown(url)} was never begun in full; give --study another name.'
            )
        differing = [name for name in plan if found.get(name) != plan[name]]
        if differing:
            name = differing[0]
            raise SettingError(
                f'The study "{study}" in {_shown(url)} has {name} {found.get(name)}, and {plan[name]} was given; '
                "give the same to work on it too, or another --study or --out."
            )
        return board

    def rows(self) -> list[Row]:
        """Return all trials in order."""
        self.known = [_row(trial) for trial in self._reach(self._trials)]
        return self.known

    def claim(self) -> Row | None:
        """Take the next trial that waits; None where none does, as all of its stage are running or ended.

        Stages come one after another: of each, the first trial waits until all of the one before have ended.
        """
        return self._reach(self._claim)

    def beside(self) -> int:
        """Return how many workers on this machine are at a trial: this one, and the others that live."""
        running = [trial for trial in self._reach(self._trials) if trial.state == TrialState.RUNNING]
        here = [trial for trial in running if trial.user_attrs.get("owner", {}).get("host") == self._me["host"]]
        return 1 + sum(_alive(trial, self._me) for trial in here)

    def settle(self, number: int, settings: Mapping[str, Any]) -> None:
        """Write down which settings a trial that was taken has: numbers for Optuna, and all for the row."""
        trial = self._find(number)
        for name, value in settings.items():
            if name in self.space and name not in trial.params:
                known = distribution(self.space[name])
                self._set(self.storage.set_trial_param, trial, name, known.to_internal_repr(value), known)
        self._set(self.storage.set_trial_user_attr, trial, "job", {**trial.user_attrs["job"], "settings": settings})

    def suggest(self, number: int, seed: int, startup: int) -> dict[str, Any]:
        """Return settings for a trial that was taken by what did well before (TPE; Bergstra et al., 2011)."""

        def ask() -> dict[str, Any]:
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
            study = optuna.load_study(study_name=self.study, storage=self.storage, sampler=sampler)
            trial = optuna.trial.Trial(study, self._find(number)._trial_id)
            return {name: trial._suggest(name, distribution(values)) for name, values in self.space.items()}

        return self._reach(ask)

    def see(self, number: int, percent: int, accuracy: float) -> None:
        """Write down a trial's accuracy at a share of its way."""
        self._set(self.storage.set_trial_intermediate_value, self._find(number), percent, accuracy)

    def beat(self, number: int) -> None:
        """Give a sign of life, where the last is some seconds ago."""
        if time.monotonic() - self._spoken > BEAT:
            self._spoken = time.monotonic()
            self._set(self.storage.set_trial_user_attr, self._find(number), "beat", time.time())

    def finish(self, number: int, result: Mapping[str, Any], *, stopped: bool) -> None:
        """Write down what became of a trial; `result` has an "accuracy" where it was not stopped."""
        ended = "stopped" if stopped else "done"
        self.known = [replace(row, state=ended, result=result) if row.number == number else row for row in self.known]
        trial = self._find(number)
        self._set(self.storage.set_trial_user_attr, trial, "result", dict(result))
        state, values = (TrialState.PRUNED, None) if stopped else (TrialState.COMPLETE, [float(result["accuracy"])])
        self._set(self.storage.set_trial_state_values, trial, state, values)

    def release(self, number: int, *, error: Exception | None = None) -> None:
        """Put a trial back that was taken, so that another worker may have it at once.

        Where the worker ended by an `error`, that is an attempt, of which there are ATTEMPTS.
        """
        trial = self._find(number)
        if error is not None:
            self._set(self.storage.set_trial_user_attr, trial, "error", _first_words(error))
            self._set(lambda _: _put_back(self.storage, self._find(number)), trial)
            return
        owner = trial.user_attrs["owner"]
        untried = {**owner, "attempts": owner["attempts"] - 1}
        self._set(self.storage.set_trial_user_attr, trial, "owner", untried)
        self._set(self.storage.set_trial_state_values, trial, TrialState.WAITING)

    def _find(self, number: int) -> FrozenTrial:
        storage = self.storage
        return self._reach(lambda: storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self._id, number)))

    def _claim(self) -> Row | None:
        with _alone(self.url):
            trials, me = self._trials(), self._me
            for trial in trials:
                # Looked at twice: another worker may have taken it meanwhile.
                if _abandoned(trial, me) and _abandoned(now := self.storage.get_trial(trial._trial_id), me):
                    _put_back(self.storage, now)
            rows = [_row(trial) for trial in self._trials()]
            turn = next((row.stage for row in rows if not row.ended), None)
            for row in rows:
                trial = trials[row.number]
                taken = row.state == "waiting" and row.stage == turn
                if taken and self.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING):
                    owner = {**self._me, "attempts": row.attempts + 1}
                    self.storage.set_trial_user_attr(trial._trial_id, "owner", owner)
                    self.storage.set_trial_user_attr(trial._trial_id, "beat", time.time())
                    self._spoken = time.monotonic()
                    return row
        return None

    def _set(self, function: Callable[..., Any], trial: FrozenTrial, *values: Any) -> None:
        """Write to a trial; where another worker has ended it already, what it wrote stands."""
        try:
            self._reach(lambda: function(trial._trial_id, *values))
        except optuna.exceptions.UpdateFinishedTrialError:
            return

    def _reach(self, ask: Callable[[], Answer]) -> Answer:
        for wait in (*WAITS, None):
            try:
                return ask()
            except optuna.exceptions.UpdateFinishedTrialError:
                raise
            except (*_OUT_OF_REACH, KeyError, IndexError) as error:
                reason = _reason(error)
                if wait is None:
                    raise StorageError(
                        f"The storage {_shown(self.url)} does not answer any more ({reason}); what was done is kept: "
                        "give the same command again once it does."
                    ) from error
            detail = f"{_shown(self.url)} does not answer ({reason}); trying again in {wait:g} s"
            emit(Finding(kind="storage", severity="warning", detail=detail))
            time.sleep(wait)
        raise AssertionError


def _row(trial: FrozenTrial) -> Row:
    states = {TrialState.WAITING: "waiting", TrialState.RUNNING: "running", TrialState.COMPLETE: "done"}
    given, owner = trial.user_attrs, trial.user_attrs.get("owner", {})
    return Row(
        number=trial.number,
        job=given["job"],
        state=states.get(trial.state, "stopped"),
        result=given.get("result", {}),
        seen=trial.intermediate_values,
        attempts=int(owner.get("attempts", 0)),
    )


def _alive(trial: FrozenTrial, me: Mapping[str, Any]) -> bool:
    """Return whether the process that took a trial still runs it: looked up on this machine, believed of another one.

    `me` asks when it holds none: what bears its own name was lost to it, as by a storage that went away.
    """
    owner = trial.user_attrs.get("owner")
    if owner is None:  # taken, and not yet signed
        began = trial.datetime_start
        return began is not None and time.time() - began.timestamp() < SILENT
    if owner["host"] != me["host"]:
        return bool(time.time() - trial.user_attrs.get("beat", 0.0) < SILENT)
    if all(owner[name] == value for name, value in me.items()):
        return False
    try:
        process = psutil.Process(owner["pid"])
        same = abs(process.create_time() - owner["born"]) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _pin(
    storage: RDBStorage, study: int, space: Space, plan: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]]
) -> None:
    for job in jobs:
        given = {name: value for name, value in (job["settings"] or {}).items() if name in space}
        template = optuna.trial.create_trial(
            state=TrialState.WAITING,
            params=given,
            distributions={name: distribution(space[name]) for name in given},
            user_attrs={"job": dict(job)},
        )
        storage.create_new_trial(study, template)
    storage.set_study_user_attr(study, "plan", dict(plan))


def _settled(storage: RDBStorage, study: int) -> Mapping[str, Any] | None:
    """Return a study's plan, which another process may be about to write once it has pinned up all trials."""
    pinned, end = -1, 0.0
    while "plan" not in (given := storage.get_study_user_attrs(study)):
        if (found := storage.get_n_trials(study)) != pinned:
            pinned, end = found, time.monotonic() + BEGINNING
        if time.monotonic() > end:
            return None
        time.sleep(0.2)
    return dict(given["plan"])


def distribution(values: Range | Choice) -> BaseDistribution:
    """Return values to search over as Optuna knows them."""
    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _engine(url: str) -> dict[str, Any]:
    """Return how to connect; to a file afresh each time, so that one that is gone is noticed."""
    return {"poolclass": NullPool, "connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}


@contextmanager
def _held(path: Path) -> Iterator[None]:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    with lock(path, timeout=60.0):
        yield


def _alone(url: str) -> AbstractContextManager[None]:
    """Keep other processes from taking trials: SQLite has no lock on a row; other databases have."""
    file = make_url(url).database if url.startswith("sqlite") else None
    return _held(Path(file)) if file and file != ":memory:" else nullcontext()


def check_url(url: str) -> None:
    """Raise SettingError, with what may have been meant, where a text is no URL of a database that is known here."""
    known = "give a URL such as sqlite:///trials.db or postgresql://host/name"
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, ValueError) as error:
        kind, separator, _ = url.partition("://")
        hint = did_you_mean(kind, _DATABASES) if separator and kind not in _DATABASES else ""
        raise SettingError(f'The storage "{_shown(url)}" cannot be opened: {known}.{hint}') from error
    if parsed.drivername == "sqlite" and parsed.host:
        raise SettingError(
            f'The storage "{url}" cannot be opened: a file has three slashes before it, as in sqlite:///trials.db, '
            "or four where its path begins with one."
        )


def _shown(url: str) -> str:
    """Return a URL, or what was given for one, without its password."""
    return _PASSWORD.sub(r"\1***@", url)


def _reason(error: BaseException) -> str:
    """Return what a database says, in its first line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ModuleNotFoundError):
        return f"its driver is not installed; pip install {_DRIVERS.get(str(error.name), error.name)}"
    return _first_words(getattr(error, "orig", None) or error)


def _first_words(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return (words[:1].lower() + words[1:200]).rstrip(".") or type(error).__name__


def worker() -> str:
    """Return this process's name, for the record."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _abandoned(trial: FrozenTrial, me: Mapping[str, Any]) -> bool:
    return trial.state == TrialState.RUNNING and not _alive(trial, me)


def _put_back(storage: RDBStorage, trial: FrozenTrial) -> None:
    """Let another worker have the trial of one that is gone; after ATTEMPTS give it up."""
    attempts = int(trial.user_attrs.get("owner", {}).get("attempts", 0))
    said = f"; one said: {trial.user_attrs['error']}" if "error" in trial.user_attrs else ""
    detail = f"The worker of trial {trial.number} is gone"
    if attempts >= ATTEMPTS:
        storage.set_trial_user_attr(trial._trial_id, "result", {"stopped": f"{attempts} {LOST}{said}"})
        storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED)
        detail += f"; it was the last of {attempts}, and the trial is given up."
    else:
        storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        detail += ": it waits for another one."
    emit(Finding(kind="worker", severity="warning", detail=detail))
