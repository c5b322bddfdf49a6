"""What `saccade search` searches over: ranges and choices as the user writes them, or those that suit the network."""

import math
import typing
from collections.abc import Collection, Iterable
from typing import Any

import yaml

from saccade.errors import SettingError, did_you_mean
from saccade.recipe.trials import FACTORS, STRENGTHS, scales
from saccade.settings import DataSettings, TrainSettings
from saccade.study.space import Choice, Range, Space
from saccade.values import numeric

WIDER = 4.0
"""How much further a search goes than the few short trials of `saccade fit`, up and down, on its logarithmic ranges."""
_REFUSED = {"budget", "replay", "patience", "snapshots"}
_FIXED = {*DataSettings.model_fields, "pretrained", "interpolation", "epochs", "fold", "device", "threads",
          "views", "test_views", *_REFUSED}  # fmt: skip
_SEVERAL = {"augment", "stages"}
"""Settings that hold several values each."""
_QUANTITIES = [name for name in TrainSettings.model_fields if name not in _FIXED | _SEVERAL]
_FORM = "expected name=low:high, name=low:high:log or name=a,b,c"


def default_space(rule: str, base: TrainSettings, given: Collection[str] = ()) -> Space:
    """Return ranges around the learning rate and weight decay that are set, or an update rule's, and of augmentations.

    Those of the augmentations that are `given`, or set to anything but the default, stay as they are.

    >>> default_space("adam", TrainSettings())["learning_rate"]
    Range(low=7.5e-05, high=0.01, log=True, whole=False)
    """
    scale = scales(rule, base)
    around = {
        name: Range(_rounded(scale[name] * each.low / WIDER), _rounded(scale[name] * each.high * WIDER), log=True)
        for name, each in FACTORS.items()
        if scale[name] and (name != "learning_rate" or rule != "lbfgs")
    }
    plain = TrainSettings()
    fixed = {name for name in STRENGTHS if name in given or getattr(base, name) != getattr(plain, name)}
    return {**around, **{name: each for name, each in STRENGTHS.items() if name not in fixed}}


def parse_space(texts: Iterable[str]) -> Space:
    """Return what texts such as `learning_rate=1e-4:1e-1:log` and `optimizer=adam,muon` say.

    Raises SettingError where one is not of that form, is not to be searched over, is empty or inverted, or holds
    a value that the setting refuses.

    >>> parse_space(["width=0.5:2", "depth=1:4", "optimizer=adam,sgd"])
    {'width': Range(low=0.5, high=2.0, log=False, whole=False), 'depth': Range(low=1, high=4, log=False, whole=True),
     'optimizer': Choice(values=('adam', 'sgd'))}
    """
    space: dict[str, Range | Choice] = {}
    for text in texts:
        name, separator, value = (part.strip() for part in text.partition("="))
        if not separator:
            raise SettingError(f'"{text}" is no range: {_FORM}.')
        if name not in _QUANTITIES:
            raise SettingError(_refusal(name))
        if name in space:
            raise SettingError(f"The range of {name} is given twice; give it once.")
        space[name] = _range(name, value) if ":" in value else _choice(name, value)
    return space


def _refusal(name: str) -> str:
    if name in _REFUSED:
        return f"The search cannot be over {name}: it has no meaning for trials."
    if name in _SEVERAL:
        return f"The search cannot be over {name}, which holds several values: give it to all trials, or search twice."
    if name in _FIXED:
        return f"The search cannot be over {name}: it holds for all trials alike; give --{name.replace('_', '-')}."
    hint = did_you_mean(name, _QUANTITIES) or f" Known are: {', '.join(_QUANTITIES)}."
    return f'There is no setting "{name}" to search over.{hint}'


def _range(name: str, text: str) -> Range:
    ends = [part.strip() for part in text.split(":")]
    log = len(ends) == 3 and ends[2] == "log"
    try:
        low, high = (float(end) for end in (ends[:2] if log else ends))
    except ValueError:
        raise SettingError(f"The range {name}={text} is not understood: {_FORM}.") from None
    kinds = _kinds(name)
    if not kinds & {int, float}:
        raise SettingError(f"The setting {name} is no number: give its values as {name}=a,b,c.")
    if not math.isfinite(high - low):
        raise SettingError(f"The range {name}={text} does not end in finite numbers: {_FORM}.")
    if not low < high:
        raise SettingError(f"The range {name}={text} is empty: its first number must be less than its second.")
    if log and low <= 0:
        raise SettingError(f"The range {name}={text} cannot be logarithmic: its first number must be more than 0.")
    if float in kinds:
        return Range(_checked(name, low), _checked(name, high), log)
    if low != int(low) or high != int(high):
        raise SettingError(f"The setting {name} is a whole number, and so must both ends of {name}={text} be.")
    return Range(_checked(name, int(low)), _checked(name, int(high)), log, whole=True)


def _choice(name: str, text: str) -> Choice:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise SettingError(f"The choice {name}={text} is empty, or has an empty value: {_FORM}.")
    try:
        values = [numeric(yaml.safe_load(part)) for part in parts]
    except yaml.YAMLError:
        values = []
    kinds = _kinds(name)
    words = {word for kind in kinds for word in typing.get_args(kind)}
    numbers = bool(kinds & {int, float})
    if not values or (numbers and any(isinstance(value, str) and value not in words for value in values)):
        raise SettingError(f"The choice {name}={text} is not understood: {_FORM}.")
    return Choice(tuple(dict.fromkeys(_checked(name, value) for value in values)))


def _checked(name: str, value: Any) -> Any:
    """Return a value as its setting takes it; raises SettingError where it does not."""
    return getattr(TrainSettings(**{name: value}), name)


def _kinds(name: str) -> set[Any]:
    """Return the types a setting may have."""
    found: set[Any] = set()
    pending = [TrainSettings.model_fields[name].annotation]
    while pending:
        kind = pending.pop()
        inner = typing.get_args(kind) if typing.get_origin(kind) is not typing.Literal else ()
        pending += inner
        found.add(kind)
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
