"""The command `graph`: values and gradients of an expression or a network, as a table and a picture."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from saccade.cli.options import Json
from saccade.cli.output import answer, working
from saccade.cli.text import printable, table
from saccade.errors import GraphError, InputError, SettingError, did_you_mean

if TYPE_CHECKING:
    from saccade.graph import Graph, Summary, Verdict

SUFFIXES = (".html", ".svg")


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network to draw instead of an expression, and what goes into it."""

    model: str | None = None
    """A network: a name of `saccade models`, run/FOLDER as a run left it, file/FILE of weights, or FILE.py:NAME of
    your own, which is run."""
    image: Path | None = None
    """An image that goes into the network, with mirrored and shifted copies of it; noise where none is given."""
    size: int | None = None
    """The side of the images in pixels: what a run or weights were trained on, 32 for saccade's own networks and
    yours, else 224."""
    classes: int = 10
    """How many classes the network tells apart; an image's label is its number in the batch, counted around."""
    batch_size: int = 8
    """How many images go through at once."""
    seed: int = 0
    """The seed of the network's weights and of noise."""


OPTIONS = (
    *(f"--{each.name.replace('_', '-')}" for each in fields(NetworkOptions)),
    "--unfold",
    "--out",
    "--json",
    "--help",
)


def graph(
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    network: Annotated[NetworkOptions, Parameter(name="*")] = NetworkOptions(),
    unfold: Annotated[tuple[str, ...], Parameter(consume_multiple=(1, None), negative=())] = (),
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Show the values and gradients that flow through an expression or a network, and draw them.

    Parameters
    ----------
    words
        An expression and values for its names, as "(x+y)*z" x=-2 y=5 z=-4. It has + - * / ** @, numbers,
        vectors and matrices as [1,2;3,4], and exp log sqrt sin cos tanh sigmoid relu max min abs sum mean
        matmul norm.
    unfold
        Modules or sub-expressions to draw unfolded in an SVG, such as layer2, or all; a page unfolds by clicks.
    out
        Where the picture goes, a .html or .svg; runs/<time>-graph/graph.html by default.
    """
    model = network.model
    expression, values = _words(words, model, network.image)
    if out is not None:
        _refuse_place(out)
    if min(network.classes, network.batch_size, 1 if network.size is None else network.size) < 1:
        raise SettingError("--classes, --batch-size and --size must be at least 1.")
    with working():
        from saccade.events import stage
        from saccade.files import write_atomic
        from saccade.graph import diagnose, page, picture, trace_expression
        from saccade.run import make_folder

        with stage("graph"):
            if model is None:
                found, verdict, title = trace_expression(expression, values), None, expression
            else:
                from saccade.cli.networks import trace_network

                found = trace_network(
                    model,
                    network.image,
                    size=network.size,
                    classes=network.classes,
                    batch_size=network.batch_size,
                    seed=network.seed,
                )
                verdict, title = diagnose(found), model
            _check_unfold(found, unfold)
            target = out or make_folder(None, "graph") / "graph.html"
            drawn = picture(found, unfold=unfold) if target.suffix == ".svg" else page(found, title, verdict)
            try:
                write_atomic(target, drawn)
            except OSError as error:
                raise InputError(f"--out {target} cannot be written: {error.strerror}.") from error
    value = {**_plain(found, verdict), "picture": str(target)}
    answer(value, _text(found, verdict, title, target), json=json)


def _words(words: Sequence[str], model: str | None, image: Path | None) -> tuple[str, dict[str, str]]:
    """Return the expression and the values of its names."""
    for word in words:
        if word.startswith("--"):
            raise SettingError(f'`saccade graph` has no option "{word}".{did_you_mean(word, OPTIONS)}')
    if model is not None:
        if words:
            raise InputError(f'Give an expression or --model, not both ("{words[0]}").')
        return "", {}
    if image is not None:
        raise InputError(f"--image {image} goes into a network; give --model NAME with it.")
    if not words:
        raise InputError('`saccade graph` needs an expression, as in `saccade graph "x*y" x=2 y=3`, or --model NAME.')
    values: dict[str, str] = {}
    for word in words[1:]:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not name.isidentifier() or not value:
            raise GraphError(
                f'"{word}" is no value for a name; write it as x=2. An expression with blanks needs quotes.'
            )
        if name in values:
            raise GraphError(f'"{name}" has two values, {values[name]} and {value}; give one.')
        values[name] = value
    return words[0], values


def _refuse_place(target: Path) -> None:
    """Raise InputError where the picture cannot go there: an older picture is replaced, any other file is not."""
    if target.suffix not in SUFFIXES:
        raise InputError(f"--out {target} must end in .html or .svg.")
    if target.is_dir() or not target.parent.is_dir():
        raise InputError(
            f"--out {target} cannot be written: {'it is' if target.is_dir() else 'there is no such'} folder."
        )
    if target.exists():
        from saccade.graph.draw import MARKER

        with target.open("rb") as file:
            if MARKER.encode() not in file.read(500):
                raise InputError(f"{target} exists and is no picture of `saccade graph`; give another --out.")


def _check_unfold(found: "Graph", unfold: Sequence[str]) -> None:
    from saccade.graph.page import folded_names

    known = ["all", *folded_names(found)]
    for name in unfold:
        if name not in known:
            listed = did_you_mean(name, known) or f" There are: {', '.join(known[:12])}."
            raise GraphError(f'There is nothing called "{name}" to unfold.{listed}')


def _text(found: "Graph", verdict: "Verdict | None", title: str, target: Path) -> str:
    from saccade.graph.page import is_network, network_rows, rows, verified
    from saccade.graph.words import told

    header = ["step", "value", "gradient", "what it does with the gradient", "upstream × local"]
    if is_network(found):
        header.pop()
        cells = [[row["step"], row["value"], row["gradient"], row["role"]] for row in network_rows(found)]
    else:
        cells = [[leaf.name, told(leaf.value), told(leaf.gradient), "", ""] for leaf in found.leaves if leaf.name]
        cells += [[row["step"], row["value"], row["gradient"], row["role"], row["back"]] for row in rows(found)]
    drawn = table(header, cells, styles={"value": "blue", "gradient": "yellow"})
    value = f" = {told(found.results[0].value)}" if verdict is None else ""
    lines = [f"{printable(title)}{value}", *(verdict.sentences if verdict else ()), "", drawn, ""]
    return "\n".join([*lines, *filter(None, (*found.notes, verified(found))), f"Picture    {target}"])


def _plain(found: "Graph", verdict: "Verdict | None") -> dict[str, Any]:
    """Return a graph as JSON can hold it; numbers that are none are null."""
    from saccade.graph.page import formula
    from saccade.graph.patterns import role

    value: dict[str, Any] = {
        "result": _summary(found.results[0].value),
        "inputs": {
            leaf.name or f"leaf {leaf.number}": {
                "kind": leaf.kind, "value": _summary(leaf.value), "gradient": _summary(leaf.gradient),
            }
            for leaf in found.leaves
        },
        "steps": [
            {
                "step": step.number + 1,
                "operation": step.name,
                "formula": formula(step),
                "module": ".".join(step.module),
                "role": role(step),
                "outputs": [{"value": _summary(w.value), "gradient": _summary(w.gradient)} for w in step.outputs],
                "passes": [
                    {"to": use.wire.name or use.wire.number, "gradient": _summary(use.gradient),
                     "local": [_finite(j.tolist()) for j in use.local.values()]}
                    for use in step.uses
                ],
            }
            for step in found.steps
        ],
        "notes": found.notes,
        "verified": {"edges": found.verified.edges, "worst": _finite(found.verified.worst)},
    }  # fmt: skip
    if verdict is not None:
        path = [
            {"module": station.name, "operation": station.operation.name, "level": _finite(station.level)}
            for station in verdict.path
        ]
        told = {
            "state": verdict.state,
            "factor": _finite(verdict.factor),
            "sentences": list(verdict.sentences),
            "path": path,
        }
        value["verdict"] = told
    return value


def _summary(summary: "Summary | None") -> Mapping[str, Any] | None:
    if summary is None:
        return None
    plain = {name: _finite(getattr(summary, name)) for name in ("mean", "sd", "low", "high", "zeros", "norm")}
    values = summary.values
    entries = {} if values is None or values.is_complex() else {"values": _finite(values.tolist())}
    return {"shape": list(summary.shape), **plain, **entries}


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
