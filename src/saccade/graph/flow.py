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
    level: float
    factor: float

    @property
    def name(self) -> str:
        """Return the module and the operation, as a reader would look for them."""
        return ".".join(self.operation.module) or f"#{self.operation.number + 1} {self.operation.name}"


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
    level = levels(graph)
    top = max(level.values(), default=0.0)
    found: dict[Operation, Mark] = {}
    for step in graph.steps:
        output = _main(step)
        if output is None or output not in level:
            continue
        received, passed = level[output], _passed(step, level)
        if received < top / PATH and (received == 0 or _weights(step)):
            share = f"{number(_two(received / top))} of the largest" if top else "nothing"
            strength = math.log10(top / received) if received else 99.0
            found[step] = Mark("starved", f"gets {share} gradient here", strength)
        if passed is None or not received:
            continue
        factor = passed / received
        if not 1 / STEP <= factor <= STEP:
            word = "vanishes" if factor < 1 else "explodes"
            strength = abs(math.log10(factor)) if factor else 99.0
            found[step] = Mark(word, f"gradient × {number(_two(factor))} here", strength)
    return found


def diagnose(graph: Graph) -> Verdict:
    """Follow the strongest gradient from the result back to the input and say in words whether it survives.

    Healthy is a change of less than a thousandfold from the last layer with weights to the first.
    """
    path = _path(graph)
    weighted = [station for station in path if _weights(station.operation)]
    if len(weighted) < 2:
        return Verdict("healthy", 1.0, tuple(path), ("The graph has fewer than two layers, so no gradient can be lost between them.",))
    last, first = _received(weighted[0]), _received(weighted[-1])
    between = path[path.index(weighted[0]) : path.index(weighted[-1])]
    factor = first / last if last else 0.0
    layers = f"from the last layer, {weighted[0].name}, to the first, {weighted[-1].name}, over {len(weighted)} layers"
    change = f"On the main path back, {layers}, the gradient's norm goes from {number(_two(last))} to {number(_two(first))}"
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
    """Return the stations of the strongest gradient, from the result back to where it comes from."""
    level = levels(graph)
    wire = max((w for w in graph.results if w in level), key=level.__getitem__, default=None)
    stations = list[Station]()
    while wire is not None and wire.source is not None:
        step = wire.source
        flows = [use for use in step.uses if use.wire.kind != "parameter" and use.gradient is not None and use.wire in level]
        if not flows:
            stations.append(Station(step, level[wire], 1.0))
            break
        use = max(flows, key=lambda each: (_norm(each.gradient), each.wire.source is not None))
        passed = _norm(use.gradient) * _spread(use) * (level[wire] / max(_norm(wire.gradient), 1e-300))
        stations.append(Station(step, passed, passed / level[wire] if level[wire] else 0.0))
        wire = use.wire
    return stations


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
    often = f"the {counts[name]} × {name}" if counts[name] > 1 else f"one {name}"
    verb = "take" if counts[name] > 1 else "takes"
    if sign > 0:
        verb = "add" if counts[name] > 1 else "adds"
    worst = min(between, key=lambda station: sign * -station.factor if station.factor else math.inf)
    average = f", each × {number(_two(each))} on average" if counts[name] > 1 else ""
    return (
        f"Most of that {verb} {often}{average}; the hardest single step is {worst.operation.name} in {worst.name} "
        f"(× {number(_two(worst.factor))})."
    )


def _aside(graph: Graph, path: list[Station]) -> list[str]:
    """Name side branches that get next to nothing, though the main path is healthy."""
    on_path = {station.operation for station in path}
    starved = [step for step, mark in marks(graph).items() if mark.word == "starved" and step not in on_path]
    if not starved:
        return []
    names = list(dict.fromkeys(".".join(step.module) or step.name for step in starved))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"Beside it, {len(names)} layers in side branches get less than a thousandth: {', '.join(names[:3])}{more}."]


def _received(station: Station) -> float:
    """Return the level of the gradient that comes back to an operation."""
    return station.level / station.factor if station.factor else station.level


def _weights(step: Operation) -> bool:
    return any(use.wire.kind == "parameter" and len(use.wire.value.shape) > 1 for use in step.uses)


def _passed(step: Operation, level: dict[Wire, float]) -> float | None:
    output = _main(step)
    if output is None or output.gradient is None:
        return None
    ratio = level[output] / output.gradient.norm if output.gradient.norm else 1.0
    flows = [
        _norm(use.gradient) * _spread(use) * ratio
        for use in step.uses
        if use.gradient is not None and use.wire.kind != "parameter"
    ]
    return max(flows) if flows else None


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
