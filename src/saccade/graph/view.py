"""What is drawn of a graph: operations folded into their modules, one level at a time, with the wires between."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from saccade.graph.flow import Mark, mark_of
from saccade.graph.patterns import folds, role, symbol
from saccade.graph.records import Graph, Operation, Summary, Use, Wire
from saccade.graph.words import brief, mention, number, shape, statistics, told

Path = tuple[str, ...]


@dataclass(eq=False)
class Group:
    """Operations that ran one after another in one module, or are one known sub-expression."""

    path: Path
    label: str
    steps: list[Operation]
    items: "list[Group | Operation]" = field(default_factory=list)

    @property
    def opens(self) -> bool:
        """Return whether there is something to see inside."""
        return len(self.items) > 1


@dataclass(frozen=True, eq=False)
class Box:
    """A box of the picture; `kind` is leaf, step, group, copy or end; `detail` is told where one points at it."""

    kind: str
    title: str
    subtitle: str = ""
    detail: str = ""
    mark: Mark | None = None
    opens: Path | None = None


@dataclass(frozen=True, eq=False)
class Arrow:
    """A line of the picture, with the value and the gradient that flow along it."""

    source: Box
    target: Box
    wire: Wire
    gradient: Summary | None

    @property
    def detail(self) -> str:
        """Return all that is known of both."""
        return f"value: {statistics(self.wire.value)}\ngradient: {statistics(self.gradient)}"


@dataclass(frozen=True, eq=False)
class View:
    """One picture: boxes and arrows of a group; `frames` are boxes of groups that stand opened in it, by label."""

    title: str
    boxes: list[Box]
    arrows: list[Arrow]
    frames: dict[str, list[Box]]


def tree(graph: Graph) -> Group:
    """Return the graph's operations as nested groups, after modules and known sub-expressions.

    A group is a run of operations in the order in which they ran, so that no circle can arise.
    """
    folded = folds(graph)
    paths = {step: (*step.module, *([folded[step]] if step in folded else [])) for step in graph.steps}
    return Group((), "", graph.steps, list(_items(graph.steps, paths, ())))


def _items(steps: list[Operation], paths: dict[Operation, Path], prefix: Path) -> Iterator[Group | Operation]:
    seen: dict[str, int] = {}
    depth = len(prefix)
    for name, run in groupby(steps, key=lambda step: paths[step][depth] if len(paths[step]) > depth else None):
        inside = list(run)
        if name is None:
            yield from inside
            continue
        seen[name] = seen.get(name, 0) + 1
        label = name if seen[name] == 1 else f"{name} (part {seen[name]})"
        group = Group((*prefix, label), label, inside, list(_items(inside, paths, (*prefix, name))))
        if len(group.items) == 1 and isinstance(group.items[0], Group):  # a box in a box is one box
            only = group.items[0]
            group = Group(group.path, f"{label}.{only.label}", inside, only.items)
        yield group


def groups(group: Group) -> Iterator[Group]:
    """Yield a group and all inside it that have something to see."""
    yield group
    for item in group.items:
        if isinstance(item, Group) and item.opens:
            yield from groups(item)


def view(graph: Graph, group: Group, found: Mapping[Operation, Mark], opened: Collection[Path] = ()) -> View:
    """Return the picture of a group with the marks `found`, the groups at the paths `opened` unfolded in place."""
    return _Builder(graph, group, found, opened).built()


class _Builder:
    def __init__(self, graph: Graph, group: Group, found: Mapping[Operation, Mark], opened: Collection[Path]) -> None:
        self._graph = graph
        self._group = group
        self._opened = opened
        self._marks = found
        self._boxes: list[Box] = []
        self._arrows: list[Arrow] = []
        self._frames: dict[str, list[Box]] = {}
        self._of: dict[Operation, Box] = {}
        self._leaves: dict[Wire, Box] = {}

    def built(self) -> View:
        """Place every item, then every wire that leads from one to another."""
        self._place(self._group.items, [])
        wires = {use.wire: None for step in self._group.steps for use in step.uses}
        wires |= {wire: None for step in self._group.steps for wire in step.outputs}
        wires |= {wire: None for wire in self._graph.results if not self._group.path}
        for wire in wires:
            self._draw(wire)
        title = ".".join(self._group.path)
        return View(title, self._boxes, self._arrows, self._frames)

    def _place(self, items: list[Group | Operation], around: list[str]) -> None:
        for item in items:
            if isinstance(item, Group) and item.path in self._opened and item.opens:
                self._place(item.items, [*around, ".".join(item.path)])
                continue
            box = self._group_box(item) if isinstance(item, Group) else self._step_box(item)
            self._boxes.append(box)
            for name in around:
                self._frames.setdefault(name, []).append(box)
            for step in item.steps if isinstance(item, Group) else [item]:
                self._of[step] = box

    def _group_box(self, group: Group) -> Box:
        # A box of one operation is told by that operation, as `conv1` of a convolution.
        kind = self._graph.modules.get(group.steps[0].module[: len(group.path)], "")
        names = list(dict.fromkeys(symbol(step) for step in group.steps))
        inside = kind or ", ".join(names[:3])
        count = f"{len(group.steps)} operations" if group.opens else role(group.steps[-1])
        parameters = [use.wire for step in group.steps for use in step.uses if use.wire.kind == "parameter"]
        lines = [f"{'.'.join(group.path)}: {count}", *(_parameter(wire) for wire in dict.fromkeys(parameters))]
        mark = mark_of(group.steps, self._marks)
        opens = group.path if group.opens else None
        return Box("group", group.label, inside, "\n".join(lines[:12]), mark, opens)

    def _step_box(self, step: Operation) -> Box:
        words = role(step)
        detail = f"#{step.number + 1} {step.name}: {words}"
        return Box("step", symbol(step), words.partition(":")[0], detail, self._marks.get(step))

    def _draw(self, wire: Wire) -> None:
        uses = [use for use in self._graph.uses_of(wire) if use.operation in self._of]
        outside = [use for use in self._graph.uses_of(wire) if use.operation not in self._of]
        source = self._of.get(wire.source) if wire.source is not None else None
        targets: dict[object, tuple[Box, list[Use]]] = {}
        for use in uses:
            box = self._of[use.operation]
            if box is source or self._hidden(wire, box):
                continue
            key = box if box.kind == "group" else use
            targets.setdefault(key, (box, []))[1].append(use)
        leaves_group = source is not None and bool(outside or wire.result)
        if leaves_group or (wire.result and wire.source is None and not self._group.path):
            targets[wire] = (self._end(wire), outside)
        if not targets:
            return
        if source is None:
            source = self._leaf(wire)
        if len(targets) > 1 and wire.gradient is not None:
            copy = Box("copy", "copy", "", f"copy adds: the gradients of {len(targets)} uses sum to this one")
            self._boxes.append(copy)
            for inside in self._frames.values():  # what neither comes from outside nor goes only there
                if source in inside and any(box in inside for box, _ in targets.values()):
                    inside.append(copy)
            self._arrows.append(Arrow(source, copy, wire, wire.gradient))
            source = copy
        only = len(targets) == 1
        for box, taken in targets.values():
            gradient = wire.gradient if only else _flow(taken, box.kind == "end" and wire.result)
            self._arrows.append(Arrow(source, box, wire, gradient))

    def _hidden(self, wire: Wire, box: Box) -> bool:
        if wire.source is not None:
            return False
        if wire.kind == "buffer" or (wire.kind == "constant" and (not wire.name or self._graph.modules)):
            return True
        return box.kind == "group" and wire.kind in ("parameter", "constant")

    def _leaf(self, wire: Wire) -> Box:
        outside = ".".join(wire.source.module) or mention(wire) if wire.source is not None else ""
        title = outside or wire.name or wire.kind
        box = Box("leaf", title, "" if wire.source is None else "from outside", statistics(wire.value))
        self._boxes.append(box)
        return box

    def _end(self, wire: Wire) -> Box:
        box = Box("end", "result" if wire.result else "out", "", statistics(wire.value))
        self._boxes.append(box)
        return box


def _flow(uses: list[Use], starts: bool) -> Summary | None:
    """Return the gradient along several uses into one box, where it can be told."""
    if len(uses) == 1 and not starts:
        return uses[0].gradient
    parts = [use.gradient.values for use in uses if use.gradient is not None and use.gradient.values is not None]
    if not parts or len(parts) != len(uses) or starts:
        return None
    return Summary.of(sum(parts[1:], parts[0]))


def _parameter(wire: Wire) -> str:
    gradient = "none" if wire.gradient is None else f"norm {number(wire.gradient.norm)}"
    return f"{wire.name} {shape(wire.value.shape)}: norm {number(wire.value.norm)}, gradient {gradient}"


def value_text(wire: Wire, *, network: bool) -> list[str]:
    """Return what is written of a wire's value beside its line."""
    if not network:
        sides = shape(wire.value.shape)
        return [told(wire.value)] + ([sides] if sides else [])
    return [shape(wire.value.shape) or told(wire.value)] + ([f"sd {brief(wire.value.sd)}"] if wire.value.shape else [])


def gradient_text(gradient: Summary | None, *, network: bool) -> list[str]:
    """Return what is written of the gradient beside a wire's line."""
    if gradient is None:
        return []
    return [f"∇ {brief(gradient.norm)}"] if network else [told(gradient)]
