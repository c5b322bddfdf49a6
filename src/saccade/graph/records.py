"""A recorded computation as plain values: operations, the wires between them, and what flowed along each."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

SMALL = 64
"""Tensors of up to so many numbers are kept whole; of larger ones a summary."""

Kind = Literal["input", "parameter", "buffer", "constant", "value"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of one tensor: its shape, statistics of its entries, and the entries themselves where they are few.

    `sd` is the population's standard deviation, `zeros` the share of entries that are 0, `norm` the Euclidean norm.
    """

    shape: tuple[int, ...]
    mean: float
    sd: float
    low: float
    high: float
    zeros: float
    norm: float
    values: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(cls, tensor: Tensor) -> "Summary":
        """Return the summary of a tensor; complex numbers are told by their moduli, an empty one by zeros.

        >>> Summary.of(torch.tensor([3.0, -4.0, 0.0, 1.0])).norm
        5.099019...
        """
        shape, x, count = tuple(tensor.shape), _real(tensor), tensor.numel()
        values = tensor.detach().clone() if count <= SMALL else None
        if not count:
            return cls(shape, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, values)
        if count == 1:
            only = float(x)
            return cls(shape, only, 0.0, only, only, float(only == 0), abs(only), values)
        mean, norm = float(x.sum()) / count, float(torch.linalg.vector_norm(x))
        square = norm**2 / count
        variance = square - mean**2
        if not variance > 1e-3 * square:  # too much cancels; the slow way is exact
            variance = float(x.double().var(correction=0))
        low, high = (float(bound) for bound in x.aminmax())
        zeros = 1 - int(torch.count_nonzero(x)) / count
        return cls(shape, mean, math.sqrt(variance) if variance >= 0 else variance, low, high, zeros, norm, values)


@dataclass(eq=False, slots=True)
class Wire:
    """One value on its way: made by `source` (None where it came from outside), used by `uses`.

    `gradient` is that of the result with respect to this value, summed over its uses; None where none
    arrived. A tensor that is changed in place is a new wire after the change.
    """

    number: int
    kind: Kind
    name: str
    dtype: torch.dtype
    value: Summary
    differentiable: bool
    source: "Operation | None" = field(default=None, repr=False)
    uses: "list[Use]" = field(default_factory=list, repr=False)
    gradient: Summary | None = None
    result: bool = False


@dataclass(eq=False, slots=True)
class Use:
    """One edge of the graph: an operation takes a wire. `gradient` is what flows back along this edge alone.

    `local` holds for each output of the operation the Jacobian (entries out, entries in), where it is small.
    """

    wire: Wire
    operation: "Operation" = field(repr=False)
    gradient: Summary | None = None
    local: dict[int, Tensor] = field(default_factory=dict, repr=False)


@dataclass(eq=False, slots=True)
class Operation:
    """One step, by the name the user called it by: `uses` in, `outputs` out.

    `arguments` are its arguments in order, "·" for each tensor; `module` is the path of the module it ran in.
    """

    number: int
    name: str
    arguments: tuple[str, ...]
    module: tuple[str, ...]
    in_place: bool = False
    uses: list[Use] = field(default_factory=list, repr=False)
    outputs: list[Wire] = field(default_factory=list, repr=False)


@dataclass(frozen=True, slots=True)
class Verified:
    """How many edges were seen to carry upstream × local, and the largest relative error among them."""

    edges: int
    worst: float


@dataclass(eq=False)
class Graph:
    """A recorded computation: `operations` in the order in which they ran, `results` where it ended.

    `gradients` are the whole gradients of inputs and parameters by name, the same to the bit as without
    recording; `modules` maps the path of each module that ran to its class; `notes` are sentences for the reader.
    """

    operations: list[Operation]
    wires: list[Wire]
    results: list[Wire]
    gradients: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[tuple[str, ...], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def steps(self) -> list[Operation]:
        """Return the operations that the results depend on, in the order in which they ran."""
        needed, waiting = set[Operation](), [wire.source for wire in self.results]
        while waiting:
            operation = waiting.pop()
            if operation is not None and operation not in needed:
                needed.add(operation)
                waiting.extend(use.wire.source for use in operation.uses)
        return [operation for operation in self.operations if operation in needed]

    @cached_property
    def leaves(self) -> list[Wire]:
        """Return the wires from outside that the results depend on, in the order of their first use."""
        used = {use.wire: None for step in self.steps for use in step.uses if use.wire.source is None}
        ends = {wire: None for wire in self.results if wire.source is None}
        return sorted({**used, **ends}, key=lambda wire: wire.number)

    def uses_of(self, wire: Wire) -> list[Use]:
        """Return the edges by which a wire leads to the results."""
        return [use for use in wire.uses if use.operation in self._steps]

    def __getitem__(self, name: str) -> Wire:
        """Return the input or parameter of this name; raises KeyError where there is none."""
        return {wire.name: wire for wire in reversed(self.wires) if wire.name}[name]

    @cached_property
    def _steps(self) -> frozenset[Operation]:
        return frozenset(self.steps)

    @cached_property
    def verified(self) -> Verified:
        """Return how well upstream × local = downstream holds on every edge whose Jacobian is small."""
        errors = [error for step in self.steps for error in _errors(step)]
        return Verified(len(errors), max(errors, default=0.0))


def upstream_times_local(use: Use) -> Tensor | None:
    """Return Σ over the operation's outputs of upstream gradient × Jacobian, or None where one is not known."""
    total: Tensor | None = None
    for place, output in enumerate(use.operation.outputs):
        if not output.differentiable or output.gradient is None:
            continue
        if place not in use.local or output.gradient.values is None:
            return None
        part = output.gradient.values.flatten().to(use.local[place].dtype) @ use.local[place]
        total = part if total is None else total + part
    return None if total is None else total.reshape(use.wire.value.shape)


def _errors(step: Operation) -> Iterator[float]:
    for use in step.uses:
        expected = upstream_times_local(use)
        if expected is None or use.gradient is None or use.gradient.values is None:
            continue
        measured = use.gradient.values
        if not (expected.isfinite().all() and measured.isfinite().all()):
            continue
        scale = max(float(expected.abs().max()), float(measured.abs().max())) if expected.numel() else 0.0
        yield float((expected - measured).abs().max()) / scale if scale else 0.0


def _real(tensor: Tensor) -> Tensor:
    """Return a tensor whose entries can be summed without overflow."""
    x = tensor.detach()
    if x.layout is not torch.strided:
        x = x.to_dense()
    if x.is_complex():
        x = x.abs()
    return (
        x if x.dtype in (torch.float32, torch.float64) else x.to(torch.float64 if x.numel() <= SMALL else torch.float32)
    )
