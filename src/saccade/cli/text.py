"""Numbers, names and tables as a terminal shows them."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from shutil import get_terminal_size
from types import MappingProxyType
from typing import Literal

from saccade import words

UNWRAPPED = 10_000
"""Columns of a table that nobody reads on a terminal."""
GAP = 2
"""Spaces between two columns of a table."""
_BETWEEN_PARTS = re.compile(r"(?<=[._/-])(?=[^\W\d])|(?<=[a-z])(?=[A-Z])")


def printable(text: str) -> str:
    r"""Return `text` with what a terminal would obey or could not show spelt out.

    >>> printable("a\x1b[2Jb\n\udcff")
    'a\\x1b[2Jb\\n\\xff'
    """
    return "".join(c if c.isprintable() else _spelt_out(c) for c in text)


def _spelt_out(c: str) -> str:
    """Return a character's escape; where it stands for a byte that is no text, as in some file names, the byte's."""
    return (chr(ord(c) - 0xDC00) if "\udc80" <= c <= "\udcff" else c).encode("unicode_escape").decode("ascii")


def count(amount: float) -> str:
    """Return a whole number with separators, or a fraction with one decimal.

    >>> count(45000), count(2.25)
    ('45,000', '2.2')
    """
    return f"{amount:,.0f}" if amount == int(amount) else f"{amount:,.1f}"


def percent(share: float | None) -> str:
    """Return a share as a percentage with one decimal; a dash where there is none.

    >>> percent(0.98251)
    '98.3 %'
    """
    return _spaced(words.percent(share))


def interval(bounds: Sequence[float]) -> str:
    """Return the two bounds of an interval as percentages.

    >>> interval([0.857, 0.871])
    '85.7 to 87.1 %'
    """
    return _spaced(words.interval(bounds))


def seconds(amount: float) -> str:
    """Return a time in the units one would say it in.

    >>> seconds(0.42), seconds(61.3), seconds(4000)
    ('0.4 s', '1 min 1 s', '1 h 6 min')
    """
    return _spaced(words.duration(amount))


def _spaced(text: str) -> str:
    """Return a text with spaces that terminals, and those who search what they show, know."""
    return text.replace("\u00a0", " ")


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    styles: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return aligned columns, as wide as the terminal where there is one; those named in `right` end together.

    Lines are broken between words, and where the terminal is too narrow for the longest words of all columns side by
    side, between the parts of names, never in a number. Where these are too wide as well, the cells of a row are given
    one under another, each after its column's name. `styles` are colours of columns by name, for where standard output
    shows any.

    >>> print(table(["Layer", "Kind"], [["conv1", "Conv2d"], ["fc", "Linear"]]))
    Layer  Kind
    conv1  Conv2d
    fc     Linear
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    names, *cells = ([printable(cell) for cell in row] for row in (header, *rows))
    columns = list(zip(names, *cells, strict=True))
    room = get_terminal_size((UNWRAPPED, 24)).columns - GAP * (len(columns) - 1)
    for broken in (str.split, _parts):
        least = [max(cell_len(part) for cell in column for part in broken(cell) or [""]) for column in columns]
        if sum(least) <= room:
            break
    else:
        return _listed(names, cells)
    widths = [max(map(cell_len, column)) for column in columns]
    while sum(widths) > room:
        widest = max((place for place, width in enumerate(widths) if width > least[place]), key=widths.__getitem__)
        widths[widest] -= 1
    drawn = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim" if styles else "")
    for name, width in zip(names, widths, strict=True):
        justify: Literal["left", "right"] = "right" if name in right else "left"
        drawn.add_column(Text(_wrapped(name, width)), width=width, justify=justify, style=styles.get(name, ""))
    for row in cells:
        drawn.add_row(*(Text(_wrapped(cell, width)) for cell, width in zip(row, widths, strict=True)))
    console = Console(width=UNWRAPPED, markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _parts(cell: str) -> list[str]:
    """Return the words of a cell, names in parts.

    >>> _parts("stages.0.change_norm BatchNorm2d 1e-05 1,572,864")
    ['stages.0.', 'change_', 'norm', 'Batch', 'Norm2d', '1e-05', '1,572,864']
    """
    return [part for word in cell.split() for part in _BETWEEN_PARTS.split(word)]


def _wrapped(cell: str, width: int) -> str:
    """Return a cell in lines of a width, broken between words, and between the parts of a word that is wider."""
    from rich.cells import cell_len

    if cell_len(cell) <= width:
        return cell
    lines = [""]
    for word in cell.split():
        for place, part in enumerate([word] if cell_len(word) <= width else _parts(word)):
            longer = f"{lines[-1]}{'' if place else ' '}{part}".lstrip()
            if cell_len(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(part)
    return "\n".join(filter(None, lines))


def _listed(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as blocks: the first cell, then each other one that is not empty, after the name of its column."""
    lines = [names[0]] if names[0] else []
    for first, *others in rows:
        lines += [first] if first else []
        lines += [f"  {name}: {cell}" for name, cell in zip(names[1:], others, strict=True) if cell]
    return "\n".join(lines)
