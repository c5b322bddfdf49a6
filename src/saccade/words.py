"""How names, numbers and times are written for people, and what is made of texts that others chose."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# A newline and a tab get a visible sign; other control characters, what turns the direction of the
# text around it, and halves of characters from undecodable file names become U+FFFD.
_SIGNS = {"\n": "↵", "\t": "⇥"}
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


def clean(value: Any) -> Any:
    r"""Return `value`, as read from JSON, with every text in it made printable on one line.

    >>> clean({"classes": ["two\nlines", "cat"]})
    {'classes': ['two↵lines', 'cat']}
    """
    if isinstance(value, str):
        return _UNSAFE.sub(lambda found: _SIGNS.get(found[0], "\ufffd"), value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return value


def short(text: str, length: int = 40) -> str:
    """Return `text` with its middle left out where it is longer than `length`.

    >>> short("a rather long class name", 11)
    'a rat… name'
    """
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def own_name(model: str) -> str:
    """Return a network's name, one of saccade's own without `saccade/` before it.

    >>> own_name("saccade/convnet"), own_name("timm/resnet18")
    ('convnet', 'timm/resnet18')
    """
    return model.removeprefix("saccade/")


def percent(share: float | None, digits: int = 1) -> str:
    r"""Return a share of one as a percentage; a dash where there is none.

    >>> percent(0.8644), percent(None)
    ('86.4\xa0%', '–')
    """
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def interval(bounds: Any) -> str:
    r"""Return the two bounds of an interval as percentages; a dash where there is none.

    >>> interval([0.857, 0.871])
    '85.7 to 87.1\xa0%'
    """
    return "–" if not bounds else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}\u00a0%"


def base(source: str) -> str:
    """Return the last part of a path or address, by which its owner knows it.

    >>> base("/home/me/photos/")
    'photos'
    """
    return re.split(r"[/\\]", source.rstrip("/\\"))[-1] or source


def told_values(values: Mapping[str, Any]) -> str:
    """Return the values of a setting in words: names by themselves, numbers after what they are of.

    >>> told_values({"loss": "squared_hinge", "penalty": "l2", "strength": 0.03, "learning_rate": 0.1})
    'squared hinge, L2, strength 0.03, learning rate 0.1'
    >>> told_values({"loss": "softmax", "penalty": "none", "strength": 0.0})
    'softmax, no penalty'
    """
    unpenalised = values.get("penalty") == "none"
    kept = {name: value for name, value in values.items() if not (unpenalised and name == "strength")}
    return ", ".join(_told_value(name, value) for name, value in kept.items())


def _told_value(name: str, value: Any) -> str:
    if value == "none":
        return f"no {name}"
    if isinstance(value, str):
        return value.upper() if value in ("l1", "l2") else value.replace("_", " ")
    return f"{name.replace('_', ' ')} {value:g}"


def plain(value: Any) -> str:
    """Return any value of a settings or plan file in words.

    >>> plain({"8": 0.25}), plain([1, 2]), plain(True), plain(1972800)
    ('8: 0.25', '1, 2', 'yes', '1,972,800')
    """
    if isinstance(value, dict):
        return ", ".join(f"{key}: {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return number(value) if isinstance(value, int) else "–" if value is None else str(value)


def number(value: float | None) -> str:
    """Return a number with its thousands set apart; a dash where there is none.

    >>> number(45000), number(0.12345)
    ('45,000', '0.123')
    """
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def px(value: float) -> str:
    """Return a place in a picture, to a tenth of its unit.

    >>> px(12.0), px(-0.04), px(3.25)
    ('12', '0', '3.2')
    """
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def tried(value: Any) -> str:
    """Return the value that a search gave a setting, a fraction in three digits.

    >>> tried(0.012345), tried("batch"), tried(20000)
    ('0.0123', 'batch', '20000')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def assignments(settings: Mapping[str, Any]) -> str:
    """Return the settings of a trial as one would give them.

    >>> assignments({"learning_rate": 0.012345, "norm": "batch"}), assignments({})
    ('learning_rate=0.0123 norm=batch', 'defaults')
    """
    return " ".join(f"{name}={tried(value)}" for name, value in settings.items()) or "defaults"


def duration(seconds: float | None) -> str:
    r"""Return a time in the units one would say it in.

    >>> duration(4.23), duration(83), duration(5400)
    ('4.2\xa0s', '1\xa0min 23\xa0s', '1\xa0h 30\xa0min')
    """
    if seconds is None:
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest}\u00a0s" if rest else f"{minutes}\u00a0min"
    return f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def plural(count: int, noun: str) -> str:
    """Return the count and the noun in the number it asks for.

    >>> plural(1, "image"), plural(2500, "image")
    ('1 image', '2,500 images')
    """
    word = (
        noun if count == 1 else noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun[-1] in "sx" else "s")
    )
    return f"{count:,} {word}"


def counted(images: int, groups: int | None = None, noun: str = "image") -> str:
    """Return how many images there are, and of how many groups where several belong together.

    >>> counted(582, 107), counted(1, noun="test image")
    ('582 images of 107 groups', '1 test image')
    """
    return plural(images, noun) + (f" of {plural(groups, 'group')}" if groups else "")


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first of some names, and how many more there are.

    >>> some(["a", "b", "c", "d"], 2), some(["a", "b"])
    ('a, b and 2 more', 'a, b')
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def listed(names: list[str], most: int = 5) -> str:
    """Return names as an English list, in quotation marks, at most `most` of them.

    >>> listed(["cat", "dog", "frog"])
    '“cat”, “dog” and “frog”'
    """
    shown = [f"“{short(name)}”" for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most:,} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
