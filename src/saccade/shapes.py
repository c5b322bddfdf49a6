"""What the JSON files in a run's folder must hold for others to read them, whatever else they hold."""

from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Rows = list[dict[str, Any]]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


class Figures(_Shape):
    """What a classifier reached on a part."""

    accuracy: float
    interval: list[float] | None = None
    images: int | None = None
    per_class: Rows | None = None
    confusion: list[list[int]] | None = None
    calibration: Rows | None = None
    mistakes: Rows | None = None


class Sizes(_Shape):
    """How many images the parts have."""

    train: int
    validation: int
    test: int


class Summary(_Shape):
    """What summary.json holds."""

    source: str
    images: int
    classes: Annotated[list[str], Field(min_length=1)]
    split: Sizes
    chosen: str
    validation: Figures
    seconds: float
    test: Figures | None = None
    class_counts: dict[str, list[int]] | None = None
    network: dict[str, Any] | None = None
    ensemble: dict[str, Any] | None = None
    next: dict[str, Any] | None = None
    stages: Rows | None = None
    baselines: Rows | None = None
    candidates: Rows | None = None
    classifiers: Rows | None = None
    checks: Rows | None = None
    reading: list[str] | None = None
    warnings: list[str] | None = None


class Decision(_Shape):
    """One decision of plan.json."""

    what: str
    value: Any
    why: str


class Plan(_Shape):
    """What plan.json holds."""

    decisions: list[Decision]
    seconds: float | None = None
    paces: dict[str, Rows] | None = None


class Finding(_Shape):
    """One finding of findings.json."""

    kind: str
    detail: str
    severity: str
    paths: list[str]
    groups: list[int] | None = None


class Line(_Shape):
    """One line of history.jsonl."""

    network: str | None = None
    step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    layers: dict[str, dict[str, float]] | None = None
    activations: dict[str, dict[str, float]] | None = None


class Look(Figures):
    """One line of evaluations.jsonl."""

    own: bool | None = None


SHAPES: dict[str, Any] = {
    "summary.json": Summary,
    "plan.json": Plan,
    "findings.json": list[Finding],
    "history.jsonl": list[Line],
    "evaluations.jsonl": list[Look],
}
"""By a file's name; of a .jsonl file that of all its lines. Files without an entry are read by what wrote them."""


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(SHAPES[name])


def check(name: str, value: Any) -> None:
    """Raise ValueError where a value is not what the file of that name holds.

    >>> check("findings.json", [])
    >>> check("findings.json", {})
    Traceback (most recent call last):
    ...
    ValueError: findings.json holds something else
    """
    if name not in SHAPES:
        return
    try:
        _adapter(name).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{name} holds something else") from error
