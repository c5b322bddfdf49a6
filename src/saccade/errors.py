"""The exceptions saccade raises: each says what was given, what was expected and what to do."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

Entry = TypeVar("Entry")

NO_MEMORY = (
    "There is not enough memory for what was asked for: give a smaller --size, --batch-size, --width or --memory."
)
"""What is said where `out_of_memory`."""


class SaccadeError(Exception):
    """The work failed. `exit_status` is what the command line ends with."""

    exit_status = 1


class TrainingError(SaccadeError):
    """Training cannot go on: a loss that is not a number, a budget with no room for a step."""


class DivergedError(TrainingError):
    """A loss exploded or is no number since a `step`: a lower learning rate, from an earlier state on, may help.

    `step` counts from 0, what is said of steps from 1.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class StorageError(SaccadeError):
    """Where a search keeps its trials cannot be reached any more; what was done until then is kept."""


class InputError(SaccadeError, ValueError):
    """What the user gave cannot be used; nothing was written."""

    exit_status = 2


class SourceError(InputError):
    """A source of images that is missing, empty or not understood."""


class DecodeError(InputError):
    """One image file that cannot be turned into pixels; the message is the reason alone."""


class SettingError(InputError):
    """A setting that is unknown or out of range."""


class DeviceError(SettingError):
    """A device that this machine does not have, or that fails."""


class ModelError(InputError):
    """A model's name or file that is unknown or does not fit."""


class GraphError(InputError):
    """An expression that cannot be read, or a computation that has no gradient to show."""


class RunError(InputError):
    """A run's folder that is missing, taken or damaged."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, of a GPU or of the machine; PyTorch has no one type for it.

    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    said = str(error) if isinstance(error, RuntimeError) else ""
    return known or any(
        words in said for words in ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")
    )


def first_line(error: BaseException) -> str:
    r"""Return the first line of what an error says, or the name of its type where it says nothing.

    >>> first_line(ValueError("shapes differ.\n2 and 3")), first_line(AssertionError(""))
    ('shapes differ', 'AssertionError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ` Did you mean "…"?` for the known word nearest to `given`, or an empty string.

    >>> did_you_mean("convnt", ["convnet", "mlp", "linear"])
    ' Did you mean "convnet"?'
    >>> did_you_mean("zebra", ["convnet", "mlp", "linear"])
    ''
    """
    nearest = get_close_matches(given, list(known), n=1)
    return f' Did you mean "{nearest[0]}"?' if nearest else ""


def entry(table: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """Return what a table has under a name; raises SettingError, with the nearest or all names, where it has nothing.

    >>> entry({"max": 1, "average": 2}, "maximum", "pooling")
    Traceback (most recent call last):
    ...
    saccade.errors.SettingError: There is no pooling "maximum". Did you mean "max"?
    """
    if name not in table:
        hint = did_you_mean(name, table) or f" Known are: {', '.join(table)}."
        raise SettingError(f'There is no {kind} "{name}".{hint}')
    return table[name]
