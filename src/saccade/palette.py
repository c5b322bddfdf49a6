"""What every picture shares: colours, once for light and once for dark, and how wide text is."""

from unicodedata import east_asian_width

# Blue against orange (right against wrong) is told apart by every kind of colour blindness
# (Okabe & Ito 2008); text colours keep a contrast of at least 4.5 : 1 on their background.
PALETTE: dict[str, tuple[str, str]] = {
    "paper": ("#fbfaf8", "#12151a"),
    "card": ("#ffffff", "#1a1e25"),
    "ink": ("#1b2027", "#e9ebee"),
    "quiet": ("#5a6472", "#a3adba"),
    "line": ("#e1e0db", "#323944"),
    "right": ("#0b67a8", "#5cb1ee"),
    "wrong": ("#c24b05", "#f28f52"),
    "green": ("#00775a", "#45c79c"),
    "amber": ("#8f6000", "#e6b450"),
}

LIGHT: dict[str, str] = {name: light for name, (light, _) in PALETTE.items()}


def text_width(text: str, size: float) -> float:
    r"""Return about how wide `text` is at `size`; wide scripts and emoji count one em a character.

    >>> text_width("cat", 10) < text_width("\u732b\u732b\u732b", 10)
    True
    """
    return sum(1.0 if east_asian_width(letter) in "WF" else 0.56 for letter in text) * size
