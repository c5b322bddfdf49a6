"""Expressions such as "(x+y)*z" become computations of PyTorch, traced, with refusals that point at the place."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from saccade.errors import GraphError, did_you_mean
from saccade.graph.records import Graph
from saccade.graph.syntax import Node, names, parse, position
from saccade.graph.trace import shape_text, trace

Value = Tensor | float


def _most(*values: Tensor) -> Tensor:
    return values[0].max() if len(values) == 1 else reduce(torch.maximum, values)


def _least(*values: Tensor) -> Tensor:
    return values[0].min() if len(values) == 1 else reduce(torch.minimum, values)


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], int]] = {
    "exp": (torch.exp, 1),
    "log": (torch.log, 1),
    "sqrt": (torch.sqrt, 1),
    "sin": (torch.sin, 1),
    "cos": (torch.cos, 1),
    "tanh": (torch.tanh, 1),
    "sigmoid": (torch.sigmoid, 1),
    "relu": (torch.relu, 1),
    "abs": (torch.abs, 1),
    "sum": (torch.sum, 1),
    "mean": (torch.mean, 1),
    "norm": (torch.linalg.vector_norm, 1),
    "matmul": (torch.matmul, 2),
    "max": (_most, -1),
    "min": (_least, -1),
}
"""The functions of the language, and how many arguments each takes (-1: one or more)."""

_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "@": torch.matmul,
}


def trace_expression(text: str, values: Mapping[str, str]) -> Graph:
    """Return the graph of an expression at values, each an expression without names, in float64.

    Where the function has a kink at these values, the graph's `notes` say so and which slope was taken.
    Raises GraphError where text or values cannot be read, a name has no value or a value no name, shapes do
    not fit, the result is no single number, or the function has no value or no finite slope there.

    >>> trace_expression("(x+y)*z", {"x": "-2", "y": "5", "z": "-4"})["z"].gradient.mean
    3.0
    """
    tree = parse(text)
    needed = names(tree)
    _check_names(text, needed, values)
    inputs = {name: _constant(name, values[name]) for name in needed}
    evaluation = _Evaluation(text, dict(inputs))
    result = evaluation.of(tree)
    if isinstance(result, float):
        raise GraphError(f'"{text}" has no name in it, so there is nothing to differentiate by; it is {result:g}.')
    if result.numel() != 1:
        raise GraphError(
            f'The result of "{text}" is {_described(result)}, and a gradient is that of one number; '
            "put sum(…), mean(…), max(…) or norm(…) around it."
        )
    graph = trace(_Rerun(tree, text, list(needed)), *inputs.values())
    for place, name in enumerate(needed, 1):
        graph[f"input {place}"].name = name
    graph.gradients = {name: graph.gradients[f"input {place}"] for place, name in enumerate(needed, 1)}
    graph.notes = list(dict.fromkeys(evaluation.kinks))
    _check_slopes(text, graph)
    return graph


class _Rerun:
    """The expression as a function of its names' values."""

    def __init__(self, tree: Node, text: str, needed: list[str]) -> None:
        self._tree = tree
        self._text = text
        self._needed = needed

    def __call__(self, /, *values: Tensor) -> Value:
        return _Evaluation(self._text, dict(zip(self._needed, values, strict=True)), checking=False).of(self._tree)


@dataclass
class _Evaluation:
    """Evaluates a tree at values; where `checking`, refuses what is not finite and collects kinks."""

    text: str
    values: dict[str, Tensor]
    checking: bool = True
    kinks: list[str] = field(default_factory=list)

    def of(self, node: Node) -> Value:
        """Return the value of a part of the tree: a tensor, or a plain number where it has no name in it."""
        match node.kind:
            case "number":
                return float(node.word)
            case "name":
                return self.values[node.word]
            case "row" | "matrix":
                return self._matrix(node)
        parts = [self.of(part) for part in node.parts]
        if node.kind == "call":
            return self._checked(node, self._called(node, parts), parts)
        if node.kind == "unary":
            return -parts[0]
        return self._checked(node, self._binary(node, parts), parts)

    def _binary(self, node: Node, parts: list[Value]) -> Value:
        left, right = parts
        if isinstance(left, float) and isinstance(right, float):
            return self._folded(node, left, right)
        if node.word == "@":
            return self._product(node, _tensor(left), _tensor(right))
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            self._check_broadcast(node, left, right)
        result: Tensor = _SIGNS[node.word](left, right)
        return result

    def _folded(self, node: Node, left: float, right: float) -> float:
        if node.word == "@":
            raise GraphError(f"@ multiplies matrices and vectors, not two numbers, {self._at(node)}.")
        try:
            result = _SIGNS[node.word](left, right)
        except ZeroDivisionError as error:
            raise GraphError(f"{self._quote(node)} divides by zero.") from error
        except OverflowError as error:
            raise GraphError(f"{self._quote(node)} is too large for a number.") from error
        if isinstance(result, complex):
            raise GraphError(f"{self._quote(node)} is not a real number.")
        return float(result)

    def _called(self, node: Node, parts: list[Value]) -> Value:
        if node.word not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            hint = did_you_mean(node.word, FUNCTIONS) or f" Known are: {known}."
            raise GraphError(f'There is no function "{node.word}", {self._at(node)}.{hint}')
        function, arity = FUNCTIONS[node.word]
        if (arity > 0 and len(parts) != arity) or not parts:
            wanted = "one or more arguments" if arity < 0 else f"{arity} argument{'s' if arity > 1 else ''}"
            raise GraphError(f"{node.word} takes {wanted}, not {len(parts)}, {self._at(node)}.")
        tensors = [_tensor(part) for part in parts]
        if node.word == "matmul":
            return self._product(node, *tensors)
        for other in tensors[1:]:
            self._check_broadcast(node, tensors[0], other)
        result = function(*tensors)
        plain = all(isinstance(part, float) for part in parts)
        return float(result) if plain else result

    def _product(self, node: Node, left: Tensor, right: Tensor) -> Tensor:
        inner = right.shape[-2] if right.dim() > 1 else right.shape[0] if right.dim() else None
        if not left.dim() or left.shape[-1] != inner:
            raise GraphError(
                "A matrix product needs as many columns on the left as rows on the right, "
                f"but {_described(left)} meets {_described(right)}, {self._at(node)}."
            )
        return torch.matmul(left, right)

    def _matrix(self, node: Node) -> Tensor:
        if node.kind == "matrix":
            return torch.stack([self._matrix(row) for row in node.parts])
        parts = [self.of(part) for part in node.parts]
        for part, value in zip(node.parts, parts, strict=True):
            if isinstance(value, Tensor) and value.dim():
                raise GraphError(f"An entry of a matrix must be one number, not {_described(value)}, {self._at(part)}.")
        if all(isinstance(part, float) for part in parts):
            return torch.tensor(parts, dtype=torch.float64)
        return torch.stack([_tensor(part) for part in parts])

    def _check_broadcast(self, node: Node, left: Tensor, right: Tensor) -> None:
        try:
            torch.broadcast_shapes(left.shape, right.shape)
        except RuntimeError as error:
            hint = "; for a matrix product write @ or matmul(…)" if node.word == "*" else ""
            raise GraphError(
                f'The shapes do not fit for "{node.word}": {_described(left)} and {_described(right)}, '
                f"{self._at(node)}{hint}."
            ) from error

    def _checked(self, node: Node, result: Value, parts: list[Value]) -> Value:
        if not self.checking:
            return result
        found = _tensor(result)
        if not found.isfinite().all():
            what = "is not a real number" if found.isnan().any() else "is infinite or too large for a number"
            given = " and ".join(_short(part) for part in parts)
            its = "inputs are" if len(parts) > 1 else "input is"
            raise GraphError(f"{self._quote(node)} {what}: its {its} {given}.")
        if node.word == "**" and _has_no_slope(*parts):
            raise GraphError(
                f"{self._quote(node)} has no slope in its exponent: 0 to a power jumps at 0, "
                f"and its inputs are {_short(parts[0])} and {_short(parts[1])}."
            )
        self.kinks += [f"{self._quote(node)} {kink}" for kink in _kinks(node.word, parts)]
        return result

    def _quote(self, node: Node) -> str:
        return f'"{self.text[node.start : node.end]}" at character {node.start + 1}'

    def _at(self, node: Node) -> str:
        return f"at {position(self.text, node.start)}"


def _has_no_slope(base: Value, exponent: Value) -> bool:
    """Return whether a power is asked for its slope in an exponent of 0 at a base of 0, where autograd says 0."""
    if not (isinstance(exponent, Tensor) and exponent.requires_grad):
        return False
    return bool(((_tensor(base) == 0) & (exponent <= 0)).any())


def _kinks(word: str, parts: list[Value]) -> list[str]:
    """Return what is to be told of points without a slope that autograd passes by choosing one."""
    tensors = [_tensor(part) for part in parts]
    if not any(tensor.requires_grad for tensor in tensors):
        return []
    if word in ("relu", "abs") and bool((tensors[0] == 0).any()):
        slopes = "0 to the left and 1 to the right" if word == "relu" else "-1 to the left and 1 to the right"
        return [f"has a kink at 0 (its slope is {slopes}), so it is not differentiable there; the slope taken is 0."]
    if word in ("max", "min"):
        if len(tensors) == 1:
            best = tensors[0].max() if word == "max" else tensors[0].min()
            tie = int((tensors[0] == best).sum()) > 1
        else:
            tie = any(bool((a == b).any()) for i, a in enumerate(tensors) for b in tensors[:i])
        if tie:
            return [
                "has a kink where its arguments are equal, so it is not differentiable there; they share the gradient."
            ]
    if word == "norm" and not bool(tensors[0].any()):
        return ["has a kink at the zero vector, so it is not differentiable there; the slope taken is 0."]
    return []


def _check_names(text: str, needed: list[str], values: Mapping[str, str]) -> None:
    for name in needed:
        if name not in values:
            close = did_you_mean(name, values) or f" Add {name}=… after the expression."
            raise GraphError(f'There is no value for "{name}".{close}')
    for name in values:
        if name in FUNCTIONS:
            raise GraphError(f'"{name}" is a function and cannot be given a value.')
        if name not in needed:
            raise GraphError(f'"{name}" has a value but does not occur in "{text}".{did_you_mean(name, needed)}')


def _constant(name: str, text: str) -> Tensor:
    """Return what stands after name= as a tensor that requires a gradient."""
    try:
        tree = parse(text)
        if unknown := names(tree):
            raise GraphError(f'it names "{unknown[0]}", and a value is made of numbers alone.')
        value = _tensor(_Evaluation(text, {}).of(tree))
        if not value.isfinite().all():
            raise GraphError("it is too large for a number.")
    except GraphError as error:
        raise GraphError(f"{name}={text} cannot be read: {error}") from error
    return value.detach().clone().requires_grad_()


def _check_slopes(text: str, graph: Graph) -> None:
    """Raise GraphError where a slope is not finite."""
    for step in reversed(graph.steps):
        for use in step.uses:
            if use.gradient is not None and not torch.isfinite(torch.tensor(use.gradient.norm)):
                raise GraphError(
                    f'"{text}" is not differentiable at these values: the slope of {step.name} '
                    f"is infinite or has no value where its input is {_short(use.wire.value.values)}."
                )


def _tensor(value: Value) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _described(tensor: Tensor) -> str:
    kinds = {0: "a single number", 1: f"a vector of {tensor.numel()}", 2: f"a matrix of {shape_text(tensor.shape)}"}
    return kinds.get(tensor.dim(), f"a tensor of {shape_text(tensor.shape)}")


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        value = value.detach()
        return (
            f"{float(value):g}"
            if value.numel() == 1
            else f"[{', '.join(f'{float(x):g}' for x in value.flatten()[:6])}]"
        )
    return f"{value:g}" if isinstance(value, float) else "unknown"
