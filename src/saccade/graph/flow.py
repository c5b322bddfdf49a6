"""Where a gradient is lost on its way back: levels along the graph, marks on operations, and a verdict in words."""

import math
from collections import Counter
from dataclasses import dataclass

from saccade.graph.patterns import AVERAGES
from saccade.graph.records import Graph, Operation, Summary, Use, Wire
from saccade.graph.words import number

STEP = 10.0
"""An operation that changes the gradient's norm by more than this factor is marked."""
PATH = 1000.0
"""A gradient that changes by more than this factor from the result to the first layer is lost, or explodes."""

ENDLESS = 99.0
"""The strength of a mark where nothing at all arrives."""

_LAYERS = ("conv", "linear", "bilinear", "matmul", "addmm", "mm", "bmm", "einsum", "multi_head_attention_forward")

_BOOKKEEPING = frozenset("view reshape flatten permute transpose index contiguous".split())


@dataclass(frozen=True)
class Mark:
    """What is wrong at an operation: `word` is "vanishes", "explodes" or "starved"; `strength` in powers of ten."""

    word: str
    detail: str
    strength: float


@dataclass(frozen=True)
class Station:
    """A place on the main path back: an operation, and the gradient's level when it comes out of it."""

    operation: Operation
    name: str
    level: float
    factor: float


@dataclass(frozen=True)
class Verdict:
    """`healthy`, or `vanishes`, `explodes` or `blocked`; `path` leads from the result back; `sentences` say it in words."""

    state: str
    factor: float
    path: tuple[Station, ...]
    sentences: tuple[str, ...]


def levels(graph: Graph) -> dict[Wire, float]:
    """Return the gradient's level on each wire that has one: its norm, what averaging merely spread put back.

    A mean over n entries divides the norm by √n and loses nothing; levels count it as 1.
    """
    found: dict[Wire, float] = {}
    spread: dict[Wire, float] = {}
    for wire in reversed(graph.wires):
        if wire.gradient is None:
            continue
        use = _strongest(graph.uses_of(wire))
        spread[wire] = 1.0 if use is None else _spread(use) * spread.get(_main(use.operation), 1.0)
        found[wire] = wire.gradient.norm * spread[wire]
    return found


def marks(graph: Graph) -> dict[Operation, Mark]:
    """Return a mark for each operation that loses or blows up the gradient, or gets next to none of it.

    An operation is compared with what comes back to it, so that a mark stands where the loss happens.
    """
    level, top = levels(graph), 0.0
    found: dict[Operation, Mark] = {}
    for step in reversed(graph.steps):
        output = _main(step)
        if output is None or output not in level:
            continue
        received, passed = level[output], _passed(step, level)
        top = max(top, received) if _weights(step) else top
        if received < top / PATH and _weights(step):
            share = f"× {number(_two(received / top))} of what later layers get" if received else "no gradient at all"
            found[step] = Mark("starved", share, math.log10(top / received) if received else ENDLESS)
        if passed is None or not received:
            continue
        factor = passed / received
        if not 1 / STEP <= factor <= STEP:
            word = "vanishes" if factor < 1 else "explodes"
            strength = abs(math.log10(factor)) if factor else ENDLESS
            found[step] = Mark(word, f"gradient × {number(_two(factor))} here", strength)
    return found


def mark_of(steps: list[Operation], found: dict[Operation, Mark], main: frozenset[Operation]) -> Mark | None:
    """Return the mark of operations taken together: the strongest on the main path, or what all layers there share."""
    own = [found[step] for step in steps if step in found]
    layers = [step for step in steps if _weights(step)]
    if len(steps) > 1 and not (layers and all(step in found for step in layers)):
        own = [found[step] for step in steps if step in found and step in main]
    return max(own, key=lambda mark: mark.strength, default=None)


def main_path(graph: Graph) -> frozenset[Operation]:
    """Return the operations that the strongest gradient passes."""
    return frozenset(station.operation for station in _path(graph))


def place_name(graph: Graph, step: Operation) -> str:
    """Return where an operation is, as a reader would look for it: its module, with the class where that is a number."""
    if not step.module:
        return f"#{step.number + 1} {step.name}"
    path = ".".join(step.module)
    return f"{path} ({graph.modules.get(step.module, step.name)})" if step.module[-1][:1].isdigit() else path


def diagnose(graph: Graph) -> Verdict:
    """Follow the strongest gradient from the result back to the input and say in words whether it survives.

    Healthy is a change of less than a thousandfold from the last layer with weights to the first.
    """
    path = _path(graph)
    weighted = [station for station in path if _weights(station.operation)]
    if len(weighted) < 2:
        return Verdict(
            "healthy",
            1.0,
            tuple(path),
            ("The graph has fewer than two layers, so no gradient can be lost between them.",),
        )
    last, first = _received(weighted[0]), _received(weighted[-1])
    between = path[path.index(weighted[0]) : path.index(weighted[-1])]
    factor = first / last if last else 0.0
    layers = f"from the last layer, {weighted[0].name}, to the first, {weighted[-1].name}, over {len(weighted)} layers"
    change = (
        f"On the main path back, {layers}, the gradient's norm goes from {number(_two(last))} to {number(_two(first))}"
    )
    if factor and 1 / PATH <= factor <= PATH:
        healthy = f"{change} (× {number(_two(factor))}): it survives, the graph is healthy."
        return Verdict("healthy", factor, tuple(path), (healthy, *_aside(graph, path)))
    if not factor:
        where = next((s for s in path if not s.level), path[-1])
        told = (f"{change}: it stops at {where.name} ({where.operation.name}), nothing reaches what lies before it.",)
        return Verdict("blocked", 0.0, tuple(path), told)
    state = "vanishes" if factor < 1 else "explodes"
    told = (f"{change} (× {number(_two(factor))}): it {state}.", _where(weighted, state), _blame(between, factor))
    return Verdict(state, factor, tuple(path), told)


def _path(graph: Graph) -> list[Station]:
    """Return the stations from the result back to an input, on the path whose narrowest place is widest."""
    level = levels(graph)
    width = _widths(graph, level)
    wire = max((w for w in graph.results if width.get(w, -1) >= 0), key=width.__getitem__, default=None)
    stations = list[Station]()
    while wire is not None and wire.source is not None:
        step, received = wire.source, level[wire]
        flows = [(min(width.get(use.wire, -1.0), edge), edge, use) for use, edge in _flows(step, wire, level)]
        best = max(flows, key=lambda flow: flow[:2], default=None)
        if best is None or best[0] < 0:
            stations.append(Station(step, place_name(graph, step), received, 1.0))
            break
        edge, use = best[1:]
        stations.append(Station(step, place_name(graph, step), edge, edge / received if received else 0.0))
        wire = use.wire
    return stations


def _widths(graph: Graph, level: dict[Wire, float]) -> dict[Wire, float]:
    """Return for each wire the least gradient on the best path from an input to it; -1 where there is no such path."""
    width = {wire: level[wire] for wire in graph.leaves if wire in level and wire.kind != "parameter"}
    for step in graph.steps:
        for output in step.outputs:
            if output not in level:
                continue
            paths = [min(width.get(use.wire, -1.0), edge) for use, edge in _flows(step, output, level)]
            best = max(paths, default=-1.0)
            # Where images need no gradient, the first layer is where the way back ends.
            width[output] = level[output] if best < 0 and _weights(step) else best
    return width


def _flows(step: Operation, output: Wire, level: dict[Wire, float]) -> list[tuple[Use, float]]:
    """Return the edges into an operation that are no parameters', each with the level of what it passes back."""
    norm = _norm(output.gradient)
    ratio = level[output] / norm if norm else 1.0
    taken = [use for use in step.uses if use.wire.kind != "parameter" and use.gradient is not None]
    return [(use, _norm(use.gradient) * _spread(use) * ratio) for use in taken]


def _where(weighted: list[Station], state: str) -> str:
    """Say from which layer on less than a thousandth is left, or more than a thousandfold has come."""
    start = _received(weighted[0])
    for station in weighted:
        share = _received(station) / start
        if not 1 / PATH <= share <= PATH:
            much = "less than a thousandth is left" if state == "vanishes" else "it has grown more than a thousandfold"
            behind = len(weighted) - weighted.index(station)
            return f"At {station.name} {much}; {behind} of {len(weighted)} layers lie there or before it."
    return ""


def _blame(between: list[Station], factor: float) -> str:
    """Name the operations that take the most of it, by the sum of their logarithms."""
    parts, counts = Counter[str](), Counter[str]()
    for station in between:
        if station.operation.name not in _BOOKKEEPING and station.factor > 0:
            parts[station.operation.name] += math.log10(station.factor)  # type: ignore[assignment]
            counts[station.operation.name] += 1
    sign = -1 if factor < 1 else 1
    name, decades = max(parts.items(), key=lambda part: sign * part[1])
    each = 10 ** (decades / counts[name])
    worst = min(between, key=lambda station: -sign * station.factor)
    hardest = f"the hardest single step is {worst.operation.name} in {worst.name} (× {number(_two(worst.factor))})"
    verb = "take" if sign < 0 else "add"
    if counts[name] == 1:
        return f"One {name} {verb}s most of it; {hardest}."
    return f"The {counts[name]} × {name} {verb} most of it, each × {number(_two(each))} on average; {hardest}."


def _aside(graph: Graph, path: list[Station]) -> list[str]:
    """Name side branches that get next to nothing, though the main path is healthy."""
    on_path = {station.operation for station in path}
    starved = [step for step, mark in marks(graph).items() if mark.word == "starved" and step not in on_path]
    if not starved:
        return []
    names = list(dict.fromkeys(place_name(graph, step) for step in reversed(starved)))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [
        f"Beside it, {len(names)} layers in side branches get less than a thousandth of it: {', '.join(names[:3])}{more}."
    ]


def _received(station: Station) -> float:
    """Return the level of the gradient that comes back to an operation."""
    return station.level / station.factor if station.factor else station.level


def _weights(step: Operation) -> bool:
    kernels = [use for use in step.uses if use.wire.kind == "parameter" and len(use.wire.value.shape) > 1]
    return bool(kernels) and step.name.startswith(_LAYERS)


def _passed(step: Operation, level: dict[Wire, float]) -> float | None:
    output = _main(step)
    if output is None:
        return None
    return max((edge for _, edge in _flows(step, output, level)), default=None)


def _main(step: Operation) -> Wire | None:
    told = [wire for wire in step.outputs if wire.gradient is not None]
    return max(told, key=lambda wire: _norm(wire.gradient), default=None)


def _strongest(uses: list[Use]) -> Use | None:
    return max((use for use in uses if use.gradient is not None), key=lambda use: _norm(use.gradient), default=None)


def _spread(use: Use) -> float:
    """Return what an average divides the norm by, though it loses nothing; 1 for every other operation."""
    if use.operation.name not in AVERAGES or not use.operation.outputs:
        return 1.0
    entries, left = math.prod(use.wire.value.shape), math.prod(use.operation.outputs[0].value.shape)
    return math.sqrt(entries / left) if left else 1.0


def _norm(summary: Summary | None) -> float:
    return 0.0 if summary is None or math.isnan(summary.norm) else summary.norm


def _two(value: float) -> float:
    return float(f"{value:.2g}")
