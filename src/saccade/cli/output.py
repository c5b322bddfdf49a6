"""What a command prints: its work on standard error, its result, and only it, on standard output."""

import json as json_format
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

from saccade.cli.terminal import Face
from saccade.events import listening


@contextmanager
def working() -> Iterator[None]:
    """Draw the events of the work on standard error; nothing within reaches standard output."""
    with Face() as face, listening(face), redirect_stdout(sys.stderr):
        yield


def answer(value: Mapping[str, Any], text: str, *, json: bool) -> None:
    """Print a command's result: `value` as one JSON object where `json` is asked for, else `text`."""
    print(json_format.dumps(value, indent=1, allow_nan=False) if json else text)
