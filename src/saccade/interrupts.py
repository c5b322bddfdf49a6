"""SIGINT and SIGTERM held back until the work is between two steps, where it can be saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


class Held:
    """What arrived in a block of `held_back`: true once a signal did, which then waits for `act`.

    A second one acts at once, as it would have done outside of the block.
    """

    def __init__(self, handlers: dict[int, Handler]) -> None:
        self.handlers = handlers
        self.number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    def act(self) -> None:
        """Do what the signal asked for, which raises an exception that ends the work."""
        if self.number is not None:
            self.handlers[self.number](self.number, None)

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
