"""The command `volumes`: a network layer by layer."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from saccade.cli.options import Json, several
from saccade.cli.output import answer, working
from saccade.cli.text import count, printable, table
from saccade.errors import SettingError
from saccade.settings import TrainSettings
from saccade.values import assigned

if TYPE_CHECKING:
    from saccade.nn.volumes import Volume, Volumes

HEADER = ("Layer", "Kind", "Output", "Parameters", "Multiply-adds", "Training", "Prediction", "Sees", "Drops")
NUMBERS = HEADER[2:8]
BYTES, PRODUCTS = ("B", "kB", "MB", "GB", "TB", "PB", "EB"), ("M", "G", "T", "P", "E")
"""Units, each 1,000 times the one before it."""


def volumes(
    model: str,
    /,
    *,
    size: Annotated[
        int | None, Parameter(help="Side in pixels of the images: by default what a run or weights saw, else 224.")
    ] = None,
    classes: Annotated[
        int, Parameter(help="Classes to tell apart; a run, or weights with a last layer, have theirs.")
    ] = 1000,
    batch_size: Annotated[int, Parameter(help="Images whose activations are counted together.")] = 1,
    assignments: Annotated[
        tuple[str, ...],
        several("Settings of saccade's own networks as key=value …, such as width=0.5 norm=none.", name="--set"),
    ] = (),
    json: Json = False,
) -> None:
    """Show a network layer by layer: sizes, parameters, products, memory, what each place sees.

    Nothing is trained, and no weights but those of a run or a file are loaded. Output is channels x height x width;
    multiply-adds are those of one image; training is what a layer keeps for the backward pass, prediction all that is
    alive while it works, in float32; a layer sees so many pixels of the image; drops are rows and columns that no
    window reaches.

    Parameters
    ----------
    model
        A network's name (see `saccade models`), its layers, such as "conv32f5 pool conv64 pool fc128", run/FOLDER as
        a run left it, or file/FILE of weights.
    """
    for name, value in (("--size", size), ("--classes", classes), ("--batch-size", batch_size)):
        if value is not None and value < 1:
            raise SettingError(f"{name} is {value}; expected 1 or more.")
    settings = TrainSettings(model=model).override(assignments)
    with working():
        from saccade.nn.zoo import SOURCES

        if settings.model.startswith(SOURCES):
            found = _made(settings.model, size, classes, assignments)
        else:
            found = _new(settings, 224 if size is None else size, classes, assignments)
    answer(_plain(settings.model, found, batch_size), _text(found, batch_size), json=json)


def _made(model: str, size: int | None, classes: int, assignments: Sequence[str]) -> "Volumes":
    from saccade.cli.networks import subject
    from saccade.nn.volumes import volumes

    if assignments:
        raise SettingError(f"{model} is a network that is made already, which --set cannot change; leave --set out.")
    made = subject(model, size, classes, batch_size=1)
    return volumes(made.network, made.side, model)


def _new(settings: TrainSettings, size: int, classes: int, assignments: Sequence[str]) -> "Volumes":
    from saccade.nn import volumes, zoo
    from saccade.nn.blocks import Blocks

    others = [name for name in assigned(assignments) if name not in zoo.ARCHITECTURE]
    if others:
        raise SettingError(
            f"The setting {others[0]} is not of what a network is made of, which --set takes here: "
            f"{', '.join(zoo.ARCHITECTURE)}."
        )
    zoo.check_choices(settings)
    return volumes.named(settings.model, size, classes=classes, width=settings.width, blocks=Blocks.of(settings))


def _plain(model: str, found: "Volumes", images: int) -> dict[str, Any]:
    totals = {
        "parameters": found.parameters,
        "weight_bytes": found.weight_bytes,
        "multiply_adds": found.multiply_adds,
        "training_bytes": images * found.training_bytes,
        "prediction_bytes": images * found.prediction_bytes,
    }
    layers = [
        {
            **asdict(layer),
            "training_bytes": images * layer.training_bytes,
            "prediction_bytes": images * layer.prediction_bytes,
        }
        for layer in found.layers
    ]
    return {"model": model, "size": found.side, "batch_size": images, "layers": layers, "totals": totals}


def _text(found: "Volumes", images: int) -> str:
    rows = [_row(layer, images) for layer in found.layers]
    total = [
        "Total", "", "", count(found.parameters), _products(found.multiply_adds),
        _bytes(images * found.training_bytes), f"{_bytes(images * found.prediction_bytes)} at once", "", "",
    ]  # fmt: skip
    last = None if any(row[-1] for row in rows) else -1  # without the column of what is dropped, where nothing is
    notes = [f"The parameters take {_bytes(found.weight_bytes)} in float32."]
    if any(layer.dropped_inputs for layer in found.layers):
        notes.append("Drops: rows and columns at the right and lower border that no window reaches.")
    return "\n".join([table(HEADER[:last], [row[:last] for row in (*rows, total)], right=NUMBERS), "", *notes])


def _row(layer: "Volume", images: int) -> list[str]:
    sees = "unknown" if layer.unknown else "all" if layer.field is None else _area(layer.field)
    return [
        printable(layer.layer),
        layer.kind,
        " x ".join(map(str, layer.output)),
        count(layer.parameters) if layer.parameters else "",
        _products(layer.multiply_adds),
        _bytes(images * layer.training_bytes) if layer.training_bytes else "",
        _bytes(images * layer.prediction_bytes),
        sees,
        _dropped(layer),
    ]


def _area(field: tuple[int, int]) -> str:
    return str(field[0]) if field[0] == field[1] else f"{field[0]} x {field[1]}"


def _dropped(layer: "Volume") -> str:
    if layer.dropped_inputs:
        return count(layer.dropped_inputs)
    return f"{layer.dropped} of padding" if layer.dropped else ""


def _products(products: int) -> str:
    """Return a number of products, in millions or more.

    >>> _products(105_415_200), _products(0), _products(4_000), _products(15_360_000_800_000)
    ('105.4 M', '', '0.004 M', '15.4 T')
    """
    millions = products / 1e6
    return "" if not products else _in_units(millions, PRODUCTS) if millions >= 1 else f"{millions:.2g} M"


def _bytes(amount: float) -> str:
    """Return an amount of memory, in the powers of 1,000 that people read.

    >>> _bytes(91_171_328), _bytes(12), _bytes(6.144e16)
    ('91.2 MB', '12 B', '61.4 PB')
    """
    return f"{amount:.0f} B" if amount < 1000 else _in_units(amount, BYTES)


def _in_units(amount: float, units: Sequence[str]) -> str:
    """Return an amount in the unit in which it is below 1,000, of those there are."""
    place = 0
    while round(amount, 1) >= 1000 and place < len(units) - 1:
        amount, place = amount / 1000, place + 1
    return f"{amount:,.1f} {units[place]}"
