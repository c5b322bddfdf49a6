"""SIGINT and SIGTERM: held back until the work is between two steps, where it can be saved, and how it then goes on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from types import FrameType

from saccade.events import Finding, emit

Handler = Callable[[int, FrameType | None], object]


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt it unwinds everything, so that files stay whole."""


SIGNALS = (KeyboardInterrupt, Terminated)
"""What a signal raises."""


class Held:
    """What arrived in a block of `held_back`: true once a signal did, which then waits for `act`.

    A second one acts at once, as it would have done outside of the block.
    """

    def __init__(self, handlers: dict[int, Handler]) -> None:
        self.handlers = handlers
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def act(self, note: str = "") -> None:
        """Do what the signal asked for, which raises an exception that ends the work; it bears a `note`, if any."""
        if self.number is None:
            return
        try:
            self.handlers[self.number](self.number, None)
        except SIGNALS as ended:
            if note:
                ended.add_note(note)
            raise

    def note(self, number: int, frame: FrameType | None) -> None:
        """Keep the first signal for later."""
        if self.number is not None:
            self.handlers[number](number, frame)
        self.number = number


@contextmanager
def held_back() -> Iterator[Held]:
    """Hold SIGINT and SIGTERM back within the block, where Python handles them: in the main thread.

    One that is still held when the block ends acts then.

    >>> import os
    >>> with held_back() as signals:
    ...     os.kill(os.getpid(), signal.SIGINT)
    ...     print("saved")
    ...     signals.number = None
    saved
    """
    held = Held({})
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                held.handlers[number] = handler
                signal.signal(number, held.note)
    try:
        yield held
    finally:
        for held_number, handler in held.handlers.items():
            signal.signal(held_number, handler)
    held.act()


@contextmanager
def goes_on(place: Path | None, *, resume: bool = True) -> Iterator[None]:
    """Where a signal ends the work in the block, say how it goes on with what lies in the folder `place`, if any.

    Commands that take no `--resume` go on as they were given. What the exception bears as notes, such as how much was
    saved, is said first.
    """
    try:
        yield
    except SIGNALS as ended:
        if place is not None and place.is_dir():
            how = f"--out {quote(str(place))}{' --resume' if resume else ''}"
            notes = ", ".join(getattr(ended, "__notes__", ()))
            told = f"{notes}: with {how} it goes on from there." if notes else f"With {how} the same command goes on."
            emit(Finding(kind="interrupted", detail=told))
        raise
