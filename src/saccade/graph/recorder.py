"""Records what PyTorch computes while it computes it: a mode that sees every call, as the user wrote it."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Self

from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from saccade.graph.jacobians import Rehearsal, tensors_in
from saccade.graph.records import Kind, Operation, Summary, Use, Wire

VIEWS = frozenset({"T", "mT", "H", "mH", "real", "imag", "data"})
"""Attributes of a tensor that are tensors; all others are questions about it."""

QUESTIONS = frozenset(
    "dim size numel ndimension stride is_contiguous is_floating_point __len__ __format__ __hash__".split()
)
"""Calls that ask about a tensor and compute nothing with it."""

NAMES = {
    "__getitem__": "index", "__setitem__": "write", "true_divide": "div", "divide": "div", "multiply": "mul",
    "subtract": "sub", "negative": "neg", "__rtruediv__": "rdiv", "absolute": "abs",
}  # fmt: skip

Edge = tuple[Any, int]
"""A node of autograd's own graph, and which of its outputs."""


class Recorder(TorchFunctionMode):
    """Within its block every call of PyTorch becomes an Operation, every tensor a Wire.

    Tensors are known by identity and version, so that one changed in place is a new wire; one that was
    changed out of sight (through a view, by a custom function) is linked by autograd's graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.wires: list[Wire] = []
        self.modules: dict[tuple[str, ...], str] = {}
        self.edges: dict[Wire, Edge] = {}
        self.tensors: dict[Wire, Tensor] = {}
        self.hooks: list[Any] = []
        self._known: dict[int, tuple[Tensor, int | None, bool, Wire]] = {}
        self._by_edge: dict[Edge, Wire] = {}
        self._names: dict[int, tuple[Kind, str]] = {}
        self._paths: dict[int, tuple[str, ...]] = {}
        self._stack: list[tuple[str, ...]] = []
        self._calls: Counter[tuple[str, ...]] = Counter()
        self._block: AbstractContextManager[Any] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(register_module_forward_pre_hook(self._module_begins).remove)
            stack.callback(register_module_forward_hook(self._module_ends, always_call=True).remove)
            super().__enter__()  # type: ignore[no-untyped-call]
            stack.callback(super().__exit__, None, None, None)
            self._block = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._block is not None
        self._block.__exit__(None, None, None)

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one call of PyTorch and record it."""
        kwargs = kwargs or {}
        name, plain = _name(function)
        if name in QUESTIONS or (plain == "attribute" and name not in VIEWS):
            return function(*args, **kwargs)
        given = list(tensors_in((args, kwargs)))
        wires = [self.wire(tensor) for tensor in given]
        rehearsal = Rehearsal.of(function, args, kwargs, given)
        result = function(*args, **kwargs)
        returned = list(tensors_in(result))
        if name.endswith("_like") or name.startswith("new_"):
            given, wires = [], []  # they take a shape from a tensor, and no value
        fresh = list({id(t): t for t in (*returned, *given) if not self._is_known(t)}.values())
        if fresh and given:
            operation = self._operation(NAMES.get(name, name.strip("_")), wires, fresh)
            operation.arguments = tuple(_arguments(args, kwargs))
            operation.in_place = (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")
            if rehearsal is not None:
                rehearsal.fill(operation)
        for tensor in fresh if not given else ():
            self._new(tensor, "constant", name)
        return result

    def name(self, tensor: Tensor, kind: Kind, name: str) -> None:
        """Let a tensor be known by a name when it is met."""
        self._names.setdefault(id(tensor), (kind, name))

    def wire(self, tensor: Tensor) -> Wire:
        """Return the wire that a tensor is now."""
        if self._is_known(tensor):
            return self._known[id(tensor)][3]
        before = self._known.get(id(tensor))
        old = [before[3]] if before is not None else []
        if tensor.grad_fn is None:
            return self._changed("write", old, tensor) if old else self._new(tensor, *self._kind(tensor))
        below = list(self._below(tensor.grad_fn))
        if not old and not below:
            return self._new(tensor, *self._kind(tensor))
        through_view = old and before is not None and before[2] == tensor.requires_grad
        name = "write" if through_view else tensor.grad_fn.name().removesuffix("Backward").removesuffix("Backward0")
        return self._changed(name, list(dict.fromkeys([*(old if through_view else ()), *below])) or old, tensor)

    def _changed(self, name: str, wires: list[Wire], tensor: Tensor) -> Wire:
        return self._operation(name, wires, [tensor]).outputs[0]

    def _below(self, node: Any) -> Iterator[Wire]:
        """Yield the known wires next below a node of autograd's graph."""
        seen, waiting = {node}, [node]
        while waiting:
            for edge in waiting.pop(0).next_functions:
                if edge in self._by_edge:
                    yield self._by_edge[edge]
                elif edge[0] is not None and edge[0] not in seen:
                    seen.add(edge[0])
                    waiting.append(edge[0])

    def _operation(self, name: str, wires: Iterable[Wire], outputs: Iterable[Tensor]) -> Operation:
        module = self._stack[-1] if self._stack else ()
        operation = Operation(len(self.operations), name, ("·",) * len(list(wires)), module)
        self.operations.append(operation)
        for wire in wires:
            use = Use(wire, operation)
            operation.uses.append(use)
            wire.uses.append(use)
        for tensor in outputs:
            wire = self._new(tensor, "value", "")
            wire.source = operation
            operation.outputs.append(wire)
        return operation

    def _new(self, tensor: Tensor, kind: Kind, name: str) -> Wire:
        wire = Wire(len(self.wires), kind, name, tensor.dtype, Summary.of(tensor), tensor.requires_grad)
        self.wires.append(wire)
        self._known[id(tensor)] = (tensor, _version(tensor), tensor.requires_grad, wire)
        if tensor.requires_grad:
            edge = get_gradient_edge(tensor)
            self.edges[wire] = edge.node, edge.output_nr
            self._by_edge[self.edges[wire]] = wire
            if wire.kind != "value":
                self.tensors[wire] = tensor
            self.hooks.append(tensor.register_hook(_arrives(wire)))
        return wire

    def _is_known(self, tensor: Tensor) -> bool:
        known = self._known.get(id(tensor))
        return known is not None and known[1:3] == (_version(tensor), tensor.requires_grad)

    def _kind(self, tensor: Tensor) -> tuple[Kind, str]:
        if id(tensor) in self._names:
            return self._names[id(tensor)]
        return ("parameter" if isinstance(tensor, nn.Parameter) else "constant"), ""

    def _module_begins(self, module: nn.Module, _inputs: Any) -> None:
        if id(module) not in self._paths:
            self.adopt(module)
        path = self._paths[id(module)]
        self._calls[path] += 1
        if path and self._calls[path] > 1:
            path = (*path[:-1], f"{path[-1]} (call {self._calls[path]})")
        self.modules[path] = type(module).__name__
        self._stack.append(path)

    def _module_ends(self, _module: nn.Module, _inputs: Any, _outputs: Any) -> None:
        if self._stack:
            self._stack.pop()

    def adopt(self, module: nn.Module) -> None:
        """Learn the names of a module's parts; those of a second module are under its class's name."""
        under = self._stack[-1] if self._stack else ((type(module).__name__,) if self._paths else ())
        prefix = ".".join((*under, "")) if under else ""
        for name, part in module.named_modules():
            self._paths.setdefault(id(part), (*under, *name.split(".")) if name else under)
        for name, parameter in module.named_parameters():
            self.name(parameter, "parameter", prefix + name)
        for name, buffer in module.named_buffers():
            self.name(buffer, "buffer", prefix + name)


def closure_tensors(function: Callable[..., Any]) -> dict[str, Tensor]:
    """Return the tensors that a function takes from around it, by name."""
    try:
        around = inspect.getclosurevars(function)
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in {**around.globals, **around.nonlocals}.items() if isinstance(value, Tensor)}


def _arrives(wire: Wire) -> Callable[[Tensor | None], None]:
    def arrives(gradient: Tensor | None) -> None:
        if gradient is not None:  # an output of several that nothing used
            wire.gradient = Summary.of(gradient)

    return arrives


def _name(function: Callable[..., Any]) -> tuple[str, str]:
    """Return a call's plain name, and whether it is a function's or an attribute's."""
    name = str(getattr(function, "__name__", type(function).__name__))
    if name == "__get__":
        return str(getattr(getattr(function, "__self__", None), "__name__", "attribute")), "attribute"
    return name, "function"


def _arguments(args: Iterable[Any], kwargs: dict[str, Any]) -> Iterator[str]:
    yield from map(_argument, args)
    yield from (f"{name}={_argument(value)}" for name, value in kwargs.items())


def _argument(value: Any) -> str:
    """Return an argument as it is written, "·" for a tensor."""
    if isinstance(value, Tensor):
        return "·"
    if isinstance(value, tuple | list):
        return ", ".join(map(_argument, value))
    if isinstance(value, slice):
        parts = [value.start, value.stop] + ([value.step] if value.step is not None else [])
        return ":".join("" if part is None else _argument(part) for part in parts)
    if value is Ellipsis:
        return "…"
    return f"{value:g}" if isinstance(value, float) else str(value)[:40]


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
