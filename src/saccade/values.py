"""Values of settings: how their texts are read, and what they may be."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BeforeValidator, Field

from saccade.errors import SettingError, first_line

_AMOUNT = r"(?:(\d+(?:\.\d+)?)\s*"
_TIME = re.compile(rf"{_AMOUNT}h)?\s*{_AMOUNT}m)?\s*{_AMOUNT}s?)?")
_BETWEEN_COMMAS = re.compile(r"""(?:"[^"]*"|'[^']*'|\[[^\]]*\]|\{[^}]*\}|[^,])+""")
EXPECTED = {
    **dict.fromkeys(("float_parsing", "float_type"), "expected a number"),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "expected an integer"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "expected true or false"),
}
"""What is said of a value of another type, by pydantic's name for the complaint."""


def from_yaml(text: str, where: str) -> Any:
    """Return what YAML says; raises SettingError where it is none, which names `where` it stands.

    >>> from_yaml("{rotate: 15}", "The value of augment")
    {'rotate': 15}
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date that cannot be is a ValueError
        raise SettingError(f"{where} is not valid YAML: {first_line(error)}.") from error


def from_file(path: Path) -> dict[str, Any]:
    """Return what a YAML file of settings says, unchecked.

    Raises SettingError when it is missing, cannot be read, is not YAML, or holds no settings.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SettingError(
            f"The settings file {path} does not exist; give one such as a run's settings.yaml."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"The settings file {path} cannot be read: {reason}.") from error
    values = from_yaml(text, str(path))
    if not isinstance(values, dict):
        raise SettingError(f"{path} holds no settings; expected YAML lines such as epochs: 5.")
    return {str(key): value for key, value in values.items()}


def assigned(assignments: Iterable[str]) -> dict[str, str]:
    """Return the values of `key=value` texts by their keys.

    Raises SettingError where one is not `key=value`, names no key or no value, or a key is given twice.

    >>> assigned(["epochs=3", "model = mlp"])
    {'epochs': '3', 'model': 'mlp'}
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        key, separator, value = (text.strip() for text in assignment.partition("="))
        if not separator:
            raise SettingError(f'"{assignment}" is not a setting; expected key=value, such as epochs=5.')
        if not key or not value:
            missing = "names no setting" if not key else "gives no value"
            raise SettingError(f'"{assignment}" {missing}; expected key=value, such as epochs=5.')
        if key in values:
            raise SettingError(f"The setting {key} is given twice, as {values[key]} and as {value}; give it once.")
        values[key] = value
    return values


def alternatives(value: str) -> list[str]:
    """Return the texts between the commas that are in no quotes or brackets; raises SettingError where two are alike.

    >>> alternatives("relu, tanh"), alternatives("[relu, tanh]"), alternatives("")
    (['relu', 'tanh'], ['[relu, tanh]'], [''])
    """
    texts = [text for part in _BETWEEN_COMMAS.findall(value) if (text := part.strip())]
    if twice := [text for place, text in enumerate(texts) if text in texts[:place]]:
        raise SettingError(f'"{value}" gives {twice[0]} twice; give each value once.')
    return texts or [value]


def numeric(value: Any) -> Any:
    """Return the number that a text says, as an option does, or YAML of 1e-3; anything else as it is.

    >>> numeric("1e-3"), numeric("relu"), numeric(2)
    (0.001, 'relu', 2)
    """
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def parse_seconds(text: object) -> object:
    """Turn `90`, `90s`, `2m`, `1h30m` into seconds; anything else is refused.

    >>> parse_seconds("1h30m")
    5400.0
    """
    if not isinstance(text, str):
        return text
    found = _TIME.fullmatch(text.strip().lower())
    if found is None or not any(found.groups()):
        raise ValueError("expected a time such as 90s, 2m or 1h30m")
    return sum(float(amount or 0) * unit for amount, unit in zip(found.groups(), (3600, 60, 1), strict=True))


def parse_several(value: object) -> tuple[object, ...]:
    """Turn `a,b`, by itself or among others, into its parts; one number is one part.

    >>> parse_several("l1, l2"), parse_several(["1,3", "5"]), parse_several(0.1)
    (('l1', 'l2'), ('1', '3', '5'), (0.1,))
    """
    given = value if isinstance(value, list | tuple) else (value,)
    parts = (each.split(",") if isinstance(each, str) else [each] for each in given)
    return tuple(part.strip() if isinstance(part, str) else part for each in parts for part in each)


def checked_pattern(text: str) -> str:
    """Return a regular expression as it is; anything else is refused.

    >>> checked_pattern("patient([0-9]+)")
    'patient([0-9]+)'
    """
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"it is no regular expression ({error})") from None
    return text


def checked_fold(text: str) -> str:
    """Return which of how many folds as it is; anything else is refused.

    >>> checked_fold("2/5")
    '2/5'
    """
    found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]) or int(found[2]) < 2:
        raise ValueError("expected which of how many, such as 2/5")
    return text


T = TypeVar("T")
Several = Annotated[
    tuple[T, ...],
    BeforeValidator(parse_several),
    AfterValidator(lambda given: tuple(dict.fromkeys(given))),
    Field(min_length=1),
]
"""Values to try, such as `l1,l2`: each once, in the order given."""
Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Whole = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fold = Annotated[str, AfterValidator(checked_fold)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(checked_pattern)]
