"""Numbers, names and tables as a terminal shows them."""

from collections.abc import Collection, Iterable, Sequence
from io import StringIO
from shutil import get_terminal_size

UNWRAPPED = 10_000
"""Columns of a table that nobody reads on a terminal."""


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


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal.

    >>> percent(0.98251)
    '98.3 %'
    """
    return f"{100 * share:.1f} %"


def seconds(amount: float) -> str:
    """Return a duration.

    >>> seconds(0.42), seconds(61.3), seconds(4000)
    ('0.4 s', '1 min 1 s', '1 h 6 min')
    """
    if amount < 60:
        return f"{amount:.1f} s"
    minutes, rest = divmod(round(amount), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = ()) -> str:
    """Return aligned columns, as wide as the terminal where there is one; those named in `right` end together."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="")
    for name in header:
        drawn.add_column(Text(printable(name)), overflow="fold", justify="right" if name in right else "left")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    stream = StringIO()
    Console(file=stream, width=get_terminal_size((UNWRAPPED, 24)).columns, color_system=None).print(drawn)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
