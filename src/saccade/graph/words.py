"""Numbers, shapes and wires as a reader sees them, in tables and pictures."""

import math

from saccade.graph.records import Summary, Wire


def number(value: float) -> str:
    """Return a number in four digits or less where it is not whole, with a true minus sign.

    >>> number(-12.0), number(0.19661), number(3.2e-13), number(float("nan"))
    ('−12', '0.1966', '3.2e−13', 'no number')
    """
    if math.isnan(value):
        return "no number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"
    mantissa, exponent, power = text.partition("e")
    text = f"{mantissa}e{int(power)}" if exponent else text
    return text.replace("-", "−").replace("−0", "0") if text == "-0" else text.replace("-", "−")


def brief(value: float) -> str:
    """Return a number in two digits.

    >>> brief(0.19661)
    '0.2'
    """
    return number(float(f"{value:.2g}"))


def shape(sides: tuple[int, ...]) -> str:
    """Return a shape as it is drawn.

    >>> shape((8, 3, 32, 32)), shape(())
    ('8×3×32×32', '')
    """
    return "×".join(map(str, sides))


def told(summary: Summary | None, *, most: int = 4) -> str:
    """Return a value in a few words: its entries where they are few, else its norm.

    >>> import torch
    >>> told(Summary.of(torch.tensor([[1.0, 2.0], [3.0, 4.5]]))), told(None)
    ('[1, 2; 3, 4.5]', '–')
    """
    if summary is None:
        return "–"
    if summary.values is None or summary.values.numel() > most or summary.values.dim() > 2:
        return f"‖·‖ {number(summary.norm)}"
    if summary.values.dim() == 0 or summary.values.is_complex():
        return number(summary.mean)
    rows = summary.values.tolist() if summary.values.dim() == 2 else [summary.values.tolist()]
    return f"[{'; '.join(', '.join(number(float(entry)) for entry in row) for row in rows)}]"


def statistics(summary: Summary | None) -> str:
    """Return all that is known of a tensor, in one line."""
    if summary is None:
        return "none"
    if summary.shape == () or (summary.values is not None and summary.values.numel() == 1):
        return number(summary.mean)
    return (
        f"{shape(summary.shape)}, mean {number(summary.mean)}, sd {number(summary.sd)}, min {number(summary.low)}, "
        f"max {number(summary.high)}, zeros {number(100 * summary.zeros)} %, norm {number(summary.norm)}"
    )


def mention(wire: Wire) -> str:
    """Return a short name for a wire: its own, or the number of the step that makes it."""
    if wire.source is None:
        return wire.name or "a constant"
    return f"#{wire.source.number + 1}"
