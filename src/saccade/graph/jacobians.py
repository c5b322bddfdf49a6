"""The local gradient of a small operation: run again on copies of its inputs, each output entry differentiated."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saccade.graph.records import SMALL, Operation

ENTRIES = 1024
"""Jacobians of more entries than this are not made."""


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)


@dataclass(frozen=True)
class Rehearsal:
    """A call with copies of its tensors, taken before it ran, so that it can be run again."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    copies: list[Tensor]

    @classmethod
    def of(
        cls, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: Sequence[Tensor]
    ) -> "Rehearsal | None":
        """Return the call's rehearsal, or None where it is large, differentiates nothing or draws from a generator."""
        if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in given):
            return None
        if any(tensor.numel() > SMALL or tensor.device.type != "cpu" for tensor in given):
            return None
        if any(isinstance(value, torch.Generator) for value in kwargs.values()):
            return None
        copies: list[Tensor] = []
        return cls(function, _copied(args, copies), _copied(kwargs, copies), copies)

    def fill(self, operation: Operation) -> None:
        """Write each small Jacobian ∂output/∂input into the operation's uses."""
        size = sum(0 if wire.value.values is None else wire.value.values.numel() for wire in operation.outputs)
        widest = max((copy.numel() for copy in self.copies), default=0)
        if not 0 < size * widest <= ENTRIES or any(wire.value.values is None for wire in operation.outputs):
            return
        outputs = self._run()
        if len(outputs) != len(operation.outputs):
            return
        wanted = [place for place, copy in enumerate(self.copies) if copy.requires_grad]
        for place, (output, wire) in enumerate(zip(outputs, operation.outputs, strict=True)):
            if not output.requires_grad or not torch.equal(output, _values(wire.value.values)):
                continue
            rows = [self._row(output, entry, wanted) for entry in range(output.numel())]
            for column, use in enumerate(wanted):
                operation.uses[use].local[place] = torch.stack([row[column] for row in rows])

    def _row(self, output: Tensor, entry: int, wanted: list[int]) -> list[Tensor]:
        chosen = torch.zeros(output.numel(), dtype=output.dtype)
        chosen[entry] = 1
        inputs = [self.copies[place] for place in wanted]
        rows = torch.autograd.grad(output, inputs, chosen.reshape(output.shape), retain_graph=True, allow_unused=True)
        return [(torch.zeros_like(x) if row is None else row).flatten() for row, x in zip(rows, inputs, strict=True)]

    def _run(self) -> list[Tensor]:
        """Run the call on the copies, PyTorch's random state left as it was; return what is new or changed."""
        inner = [copy.clone() for copy in self.copies]  # a leaf must not be changed in place
        before = [copy._version for copy in inner]
        state = torch.get_rng_state()
        try:
            result = self.function(*_filled(self.args, inner), **_filled(self.kwargs, inner))
        finally:
            torch.set_rng_state(state)
        changed = [copy for copy, version in zip(inner, before, strict=True) if copy._version != version]
        given = {id(copy) for copy in inner} - {id(copy) for copy in changed}
        return list({id(t): t for t in (*tensors_in(result), *changed) if id(t) not in given}.values())


@dataclass(frozen=True)
class _Place:
    """Where the copy of this number goes."""

    number: int


def _copied(value: Any, copies: list[Tensor]) -> Any:
    """Return nested arguments with places instead of tensors, whose copies are appended."""
    if isinstance(value, Tensor):
        copies.append(value.detach().clone().requires_grad_(value.requires_grad))
        return _Place(len(copies) - 1)
    if isinstance(value, dict):
        return {name: _copied(each, copies) for name, each in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_copied(each, copies) for each in value)
    return value


def _filled(value: Any, copies: list[Tensor]) -> Any:
    if isinstance(value, _Place):
        return copies[value.number]
    if isinstance(value, dict):
        return {name: _filled(each, copies) for name, each in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_filled(each, copies) for each in value)
    return value


def _values(values: Tensor | None) -> Tensor:
    assert values is not None
    return values
