"""The door to computational graphs: run a function once, walk back from its result, and keep what flowed."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from saccade.errors import GraphError
from saccade.graph.jacobians import tensors_in
from saccade.graph.recorder import Edge, Recorder, closure_tensors
from saccade.graph.records import Graph, Operation, Summary, Use, Wire


def trace(
    function: Callable[..., Any], *inputs: Any, upstream: Tensor | Sequence[Tensor] | None = None, backward: bool = True
) -> Graph:
    """Run `function(*inputs)`, a function or a module, and return its graph with values and gradients.

    Tensors are ordinary ones and are taken as they are: those that require a gradient get one. Numbers and
    nested lists of numbers become float64 tensors that do. The result must be a scalar, or `upstream` gives
    the gradient with respect to each tensor of it. `.grad` of no tensor is touched. With `backward=False`
    only values are recorded, and gradients where the function itself walks back.
    Raises GraphError where the result holds no tensor, is no scalar, or depends on nothing that requires a gradient.

    >>> graph = trace(lambda x, y, z: (x + y) * z, -2.0, 5.0, -4.0)
    >>> graph.results[0].value.mean, [graph[name].gradient.mean for name in "xyz"]
    (-12.0, [-4.0, -4.0, 3.0])
    """
    tensors = [_as_tensor(value) for value in inputs]
    recorder = Recorder()
    _name_inputs(recorder, function, tensors)
    with torch.enable_grad() if backward else nullcontext(), recorder:
        returned = list(tensors_in(_members(function(*tensors))))
        results = [recorder.wire(tensor) for tensor in returned]
    graph = Graph(recorder.operations, recorder.wires, list(dict.fromkeys(results)), modules=recorder.modules)
    for wire in graph.results:
        wire.result = True
    try:
        if backward:
            starts = _starts(returned, upstream)
            _walk_back(recorder, graph, returned, starts)
    finally:
        for hook in recorder.hooks:
            hook.remove()
    return graph


def _walk_back(recorder: Recorder, graph: Graph, returned: list[Tensor], starts: list[Tensor]) -> None:
    """Run autograd from the results and write what arrives on every wire and every edge."""
    taps = _Taps(recorder, graph)
    # Inputs made by earlier computations are ends too: what lies behind them was not recorded.
    leaves = recorder.tensors
    pairs = [(tensor, start) for tensor, start in zip(returned, starts, strict=True) if tensor.requires_grad]
    if not pairs or not leaves:
        raise GraphError(
            "Nothing that the result depends on requires a gradient; call x.requires_grad_() on an input, "
            "or give backward=False to see values alone."
        )
    try:
        gradients = torch.autograd.grad(
            [tensor for tensor, _ in pairs],
            list(leaves.values()),
            [start for _, start in pairs],
            allow_unused=True,
        )
    finally:
        taps.remove()
    for place, (wire, gradient) in enumerate(zip(leaves, gradients, strict=True)):
        if gradient is not None:
            graph.gradients[wire.name or f"leaf {place}"] = gradient
    for wire in graph.wires:
        if len(wire.uses) == 1 and not wire.result:
            wire.uses[0].gradient = wire.gradient


class _Taps:
    """Hooks on autograd's nodes that tell the parts of a gradient that is a sum over several uses."""

    def __init__(self, recorder: Recorder, graph: Graph) -> None:
        self._edges = recorder.edges
        self._nodes = {node for node, _ in self._edges.values()}
        self._parts: dict[Use, Tensor] = {}
        self._handles: list[Any] = []
        shared = {wire for wire in graph.wires if wire.differentiable and len(wire.uses) + wire.result > 1}
        for operation in graph.operations:
            if any(use.wire in shared for use in operation.uses):
                self._tap(operation, shared)

    def remove(self) -> None:
        """Take the hooks away and write what they saw."""
        for handle in self._handles:
            handle.remove()
        for use, part in self._parts.items():
            use.gradient = Summary.of(part)

    def _tap(self, operation: Operation, shared: set[Wire]) -> None:
        slots = self._slots(operation)
        by_node: dict[Any, list[tuple[int, Use]]] = {}
        for wire in dict.fromkeys(use.wire for use in operation.uses if use.wire in shared):
            found = slots.get(self._edges[wire], []) if wire in self._edges else []
            uses = [use for use in operation.uses if use.wire is wire]
            if len(found) != len(uses):  # a composite takes it more or less often inside than it is called with
                uses = [_merged(uses)] * len(found)
            for (node, slot), use in zip(found, uses, strict=True):
                by_node.setdefault(node, []).append((slot, use))
        for node, places in by_node.items():
            self._handles.append(node.register_hook(partial(_collect, self._parts, places)))

    def _slots(self, operation: Operation) -> dict[Edge, list[tuple[Any, int]]]:
        """Return where the operation's part of autograd's graph takes each edge: nodes, and their inputs' places."""
        slots: dict[Edge, list[tuple[Any, int]]] = {}
        starts = [self._edges[wire][0] for wire in operation.outputs if wire in self._edges]
        waiting = list(dict.fromkeys(starts))
        seen = set(waiting)
        while waiting:
            node = waiting.pop(0)
            for place, edge in enumerate(node.next_functions):
                below = edge[0]
                slots.setdefault(edge, []).append((node, place))
                if below is not None and below not in seen and below not in self._nodes:
                    seen.add(below)
                    waiting.append(below)
        return slots


def _collect(
    parts: dict[Use, Tensor], places: list[tuple[int, Use]], gradients: tuple[Tensor | None, ...], _upstream: Any
) -> None:
    for slot, use in places:
        part = gradients[slot]
        if part is not None:
            parts[use] = parts[use] + part if use in parts else part.detach()


def _merged(uses: list[Use]) -> Use:
    """Make several uses of one wire by one operation one: their parts cannot be told apart."""
    first, *others = uses
    for other in others:
        first.operation.uses.remove(other)
        first.wire.uses.remove(other)
        for place, local in other.local.items():
            first.local[place] = first.local[place] + local
    return first


def _starts(returned: list[Tensor], upstream: Tensor | Sequence[Tensor] | None) -> list[Tensor]:
    """Return the gradient that the walk back starts with at each tensor of the result."""
    if not returned:
        raise GraphError("The function returned no tensor, so there is no result to walk back from.")
    if upstream is not None:
        given = [upstream] if isinstance(upstream, Tensor) else list(upstream)
        if [tuple(each.shape) for each in given] != [tuple(each.shape) for each in returned]:
            shapes = ", ".join(shape_text(each.shape) for each in returned)
            raise GraphError(f"`upstream` must have the shapes of what the function returned: {shapes}.")
        return given
    if len(returned) > 1 or returned[0].numel() != 1:
        what = f"{len(returned)} tensors" if len(returned) > 1 else f"a tensor of {shape_text(returned[0].shape)}"
        raise GraphError(
            f"The function returned {what}, and a gradient is that of one number; return a sum, a mean or a loss, "
            "or give `upstream`, the gradient of such a number with respect to each."
        )
    return [torch.ones_like(returned[0])]


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape in words.

    >>> shape_text((2, 3)), shape_text(())
    ('2 x 3', 'a single number')
    """
    return " x ".join(map(str, shape)) if len(shape) else "a single number"


def _name_inputs(recorder: Recorder, function: Callable[..., Any], inputs: list[Any]) -> None:
    if isinstance(function, nn.Module):
        recorder.adopt(function)
    names = _parameter_names(function)
    for place, value in enumerate(inputs):
        name = names[place] if place < len(names) else f"input {place + 1}"
        found = list(tensors_in(value))
        for number, tensor in enumerate(found):
            recorder.name(tensor, "input", name if len(found) == 1 else f"{name}[{number}]")
    for name, tensor in closure_tensors(function).items():
        recorder.name(tensor, "input" if tensor.requires_grad else "constant", name)


def _parameter_names(function: Callable[..., Any]) -> list[str]:
    called = function.forward if isinstance(function, nn.Module) else function
    with suppress(TypeError, ValueError):
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        return [p.name for p in inspect.signature(called).parameters.values() if p.kind in positional]
    return []


def _as_tensor(value: Any) -> Any:
    """Return plain numbers and nested lists of them as tensors that require a gradient, all else as it is."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return torch.tensor(float(value), dtype=torch.float64, requires_grad=True)
    if isinstance(value, list) and value and not any(tensors_in(value)):
        return torch.tensor(value, dtype=torch.float64, requires_grad=True)
    return value


def _members(result: Any) -> Any:
    """Return what a function returned with dataclasses opened, so that their tensors are found."""
    if hasattr(result, "__dataclass_fields__"):
        return {name: getattr(result, name) for name in result.__dataclass_fields__}
    return result
