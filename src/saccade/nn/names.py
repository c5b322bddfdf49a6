"""Tables of building blocks by name, and what is said of a name that is in none."""

from collections.abc import Mapping
from typing import TypeVar

from saccade.errors import SettingError, did_you_mean

Entry = TypeVar("Entry")


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
