"""The report's colours, once for light and once for dark; charts and style sheet share them."""

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
