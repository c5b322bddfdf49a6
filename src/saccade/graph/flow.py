"""Where a gradient is lost on its way back: levels along the graph, marks on operations, and a verdict in words."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from saccade.graph.patterns import AVERAGES
from saccade.graph.records import Graph, Operation, Summary, Use, Wire
from saccade.graph.words import brief
from saccade.words import plural, some

PATH = 1000.0
"""A gradient that changes by more than this factor from the result to the first layer is lost, or explodes."""
STEP = math.sqrt(PATH)
"""An operation that changes the gradient's norm by more than this factor is marked: two of them would lose it."""

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

    @property
    def text(self) -> str:
        """What is written of it."""
        return f"{self.word}: {self.detail}"


@dataclass(frozen=True)
class Station:
    """A place on the main path back: an operation, and the gradient's level when it comes out of it."""

    operation: Operation
    name: str
    level: float
    factor: float


@dataclass(frozen=True)
class Verdict:
    """What becomes of the gradient: `state` is healthy, vanishes, explodes or blocked, said in `sentences`.

    `path` leads from the result back.
    """

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
        after = _main(use.operation) if use is not None else None
        spread[wire] = _spread(use) * (spread.get(after, 1.0) if after is not None else 1.0) if use is not None else 1.0
        found[wire] = wire.gradient.norm * spread[wire]
    return found


def marks(graph: Graph) -> dict[Operation, Mark]:
    """Return a mark for each operation on the main path that loses or blows up the gradient, or gets next to none.

    An operation is compared with what comes back to it, so that a mark stands where the loss happens, and
    with its neighbours, so that none stands where the next operation makes up for it. What is beside the
    main path is no fault, for the gradient goes past it: `diagnose` tells of it in words.
    """
    main = main_path(graph)
    return {step: mark for step, mark in _suspects(graph).items() if step in main}


def _suspects(graph: Graph) -> dict[Operation, Mark]:
    """Return the marks of all operations, on whatever path they are."""
    level, top = levels(graph), 0.0
    factors = _factors(graph, level)
    found: dict[Operation, Mark] = {}
    for step in reversed(graph.steps):
        output = _main(step)
        if output is None or output not in level:
            continue
        received = level[output]
        top = max(top, received) if _weights(step) else top
        if received < top / PATH and _weights(step):
            share = f"× {brief(received / top)} of what later layers get" if received else "no gradient at all"
            found[step] = Mark("starved", share, math.log10(top / received) if received else ENDLESS)
        factor = factors.get(step, 1.0)
        if not _steady(factor) and not any(_steady(factor * factors.get(near, 0.0)) for near in _beside(graph, step)):
            word = "vanishes" if factor < 1 else "explodes"
            strength = abs(math.log10(factor)) if factor else ENDLESS
            found[step] = Mark(word, f"gradient × {brief(factor)} here", strength)
    return found


def _factors(graph: Graph, level: dict[Wire, float]) -> dict[Operation, float]:
    """Return by what each operation multiplies the gradient's level on its way back."""
    found: dict[Operation, float] = {}
    for step in graph.steps:
        output, passed = _main(step), _passed(step, level)
        if output is not None and passed is not None and level.get(output):
            found[step] = passed / level[output]
    return found


def _steady(factor: float) -> bool:
    return 1 / STEP <= factor <= STEP


def _beside(graph: Graph, step: Operation) -> list[Operation]:
    """Return the operations that make what a step takes, and those that take what it makes."""
    makers = [use.wire.source for use in step.uses if use.wire.source is not None]
    return makers + [use.operation for output in step.outputs for use in graph.uses_of(output)]


def mark_of(steps: list[Operation], found: Mapping[Operation, Mark]) -> Mark | None:
    """Return the strongest mark of operations taken together."""
    return max((found[step] for step in steps if step in found), key=lambda mark: mark.strength, default=None)


def main_path(graph: Graph) -> frozenset[Operation]:
    """Return the operations that the strongest gradient passes."""
    return frozenset(station.operation for station in _path(graph))


def place_name(graph: Graph, step: Operation) -> str:
    """Return where an operation is, as a reader would look for it: its module, with its class if a number."""
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
    change = f"On the main path back, {layers}, the gradient's norm goes from {brief(last)} to {brief(first)}"
    if factor and 1 / PATH <= factor <= PATH:
        healthy = f"{change} (× {brief(factor)}): it survives, the graph is healthy."
        return Verdict("healthy", factor, tuple(path), (healthy, *_aside(graph, path)))
    if not factor:
        where = next((s for s in path if not s.level), path[-1])
        stops = f"{change}: it stops at {where.name} ({where.operation.name}), nothing reaches what lies before it."
        return Verdict("blocked", 0.0, tuple(path), (stops,))
    state = "vanishes" if factor < 1 else "explodes"
    told = (f"{change} (× {brief(factor)}): it {state}.", _where(weighted, state), _blame(between, factor))
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
    taken = [use for use in step.uses if use.gradient is not None and not _learned(use.wire)]
    return [(use, _norm(use.gradient) * _spread(use) * ratio) for use in taken]


def _learned(wire: Wire) -> bool:
    """Return whether a wire is a parameter, be it reshaped: what flows into it goes no further back."""
    while wire.source is not None and len(wire.source.uses) == 1:
        wire = wire.source.uses[0].wire
    return wire.kind == "parameter"


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
    decades_of, counts = defaultdict[str, float](float), Counter[str]()
    for station in between:
        if station.operation.name not in _BOOKKEEPING and station.factor > 0:
            decades_of[station.operation.name] += math.log10(station.factor)
            counts[station.operation.name] += 1
    sign = -1 if factor < 1 else 1
    name, decades = max(decades_of.items(), key=lambda part: sign * part[1])
    each = 10 ** (decades / counts[name])
    worst = min(between, key=lambda station: -sign * station.factor)
    hardest = f"the hardest single step is {worst.operation.name} in {worst.name} (× {brief(worst.factor)})"
    verb = "take" if sign < 0 else "add"
    if counts[name] == 1:
        return f"One {name} {verb}s most of it; {hardest}."
    return f"The {counts[name]} × {name} {verb} most of it, each × {brief(each)} on average; {hardest}."


def _aside(graph: Graph, path: list[Station]) -> list[str]:
    """Name side branches that get next to nothing, though the main path is healthy, and why."""
    beside = {step: mark for step, mark in _suspects(graph).items() if step not in {s.operation for s in path}}
    starved = [step for step, mark in beside.items() if mark.word == "starved"]
    if not starved:
        return []
    nothing = all(beside[step].strength == ENDLESS for step in starved)
    least = "no gradient" if nothing else "less than a thousandth of it"
    layers = _counted(graph, starved, "layer", "in side branches")
    told = f"Beside it, {layers} {'gets' if len(starved) == 1 else 'get'} {least}; other branches carry it past them."
    closed = [step for step, mark in beside.items() if mark.word == "vanishes" and _scale(step) < 1 / PATH]
    if not closed:
        return [told]
    why = (
        f"The side branches are closed by a scale of about zero, at {_counted(graph, closed, 'place', 'in all')}; "
        "many residual networks start so, and the branches open as the scales are learned."
    )
    return [told, why]


def _counted(graph: Graph, steps: list[Operation], what: str, where: str) -> str:
    """Return how many places there are and the first three of them, in the order in which they ran."""
    names = list(dict.fromkeys(place_name(graph, step) for step in reversed(steps)))
    return f"{plural(len(names), what)} {where} ({some(names)})"


def _scale(step: Operation) -> float:
    """Return the largest entry of what an operation scales by, a parameter or a factor; infinity without such."""
    if _weights(step):
        return math.inf
    scales = [use.wire.value for use in step.uses if step.name == "mul" or use.wire.kind == "parameter"]
    largest = [max(abs(scale.low), abs(scale.high)) for scale in scales]
    return min(largest) if step.name == "mul" and largest else next(iter(largest), math.inf)


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
