"""Progress and findings as plain values: the work emits them, faces (terminal, web, tests) listen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from time import perf_counter


@dataclass(frozen=True, kw_only=True)
class StageStarted:
    """A stage of the main path begins."""

    stage: str


@dataclass(frozen=True, kw_only=True)
class StageEnded:
    """A stage ended after `seconds`; `outcome` is one short sentence with its result, or empty."""

    stage: str
    seconds: float
    outcome: str = ""
    validation_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`done` of `total` units of some long work; `detail` is a short text to show beside the bar."""

    task: str
    done: float
    total: float
    unit: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something noticed about the data or the training, and what was done about it.

    `kind` is a short fixed word such as "unreadable" or "duplicate"; `paths` are image names
    within the source; `severity` is "note", "warning" or "error". Where the paths are of images that belong
    together, such as copies, `groups` says how many each group has, one group after the other.
    """

    kind: str
    detail: str
    paths: tuple[str, ...] = ()
    severity: str = "note"
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What a `finding` told of a training under way was over when that ended: it is no finding of the whole."""

    finding: Finding


Event = StageStarted | StageEnded | Progress | Finding | Passed
Listener = Callable[[Event], None]

_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` with every event emitted within the block.

    >>> seen = []
    >>> with listening(seen.append):
    ...     emit(Progress(task="decode", done=1, total=2))
    >>> seen[0].total
    2
    """
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)


def emit(event: Event) -> None:
    """Hand `event` to every listener; costs nothing where nobody listens."""
    for listener in _listeners.get():
        listener(event)


@contextmanager
def within(outer: Progress) -> Iterator[None]:
    """Tell the progress of the work in the block as a detail of `outer`, which that is a unit of.

    >>> seen = []
    >>> with listening(seen.append), within(Progress(task="fits", done=3, total=9, detail="softmax")):
    ...     emit(Progress(task="fit", done=1, total=2, detail="objective 0.3"))
    >>> seen[-1].task, seen[-1].done, seen[-1].detail
    ('fits', 3, 'softmax: objective 0.3')
    """

    def relay(event: Event) -> None:
        for listener in listeners:
            told = replace(outer, detail=f"{outer.detail}: {event.detail}") if isinstance(event, Progress) else event
            listener(told)

    emit(outer)
    listeners = _listeners.get()
    token = _listeners.set((relay,))
    try:
        yield
    finally:
        _listeners.reset(token)


@contextmanager
def sifted(keep: Callable[[Event], bool]) -> Iterator[None]:
    """Hand on only those events of the block of which `keep` is true.

    >>> seen = []
    >>> with listening(seen.append), sifted(lambda event: not isinstance(event, Progress)):
    ...     emit(Progress(task="fit", done=1, total=2))
    ...     emit(Finding(kind="blank", detail="nothing is to be seen"))
    >>> [event.kind for event in seen]
    ['blank']
    """
    listeners = _listeners.get()

    def relay(event: Event) -> None:
        if keep(event):
            for listener in listeners:
                listener(event)

    token = _listeners.set((relay,))
    try:
        yield
    finally:
        _listeners.reset(token)


@dataclass
class Stage:
    """What `stage` yields: set `outcome` before the block ends; read `seconds` after it."""

    name: str
    outcome: str = ""
    validation_accuracy: float | None = None
    seconds: float = 0.0


@contextmanager
def stage(name: str) -> Iterator[Stage]:
    """Emit `StageStarted` and `StageEnded` around a block, and time it."""
    record = Stage(name)
    begun = perf_counter()
    emit(StageStarted(stage=name))
    try:
        yield record
    finally:
        record.seconds = perf_counter() - begun
    emit(
        StageEnded(
            stage=name,
            seconds=record.seconds,
            outcome=record.outcome,
            validation_accuracy=record.validation_accuracy,
        )
    )
