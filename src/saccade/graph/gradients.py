"""The gradient check: a backward pass against the numerical gradient, tensor by tensor (lecture 4)."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from saccade.device import derived_seed, generator, seeded
from saccade.errors import ModelError
from saccade.graph.jacobians import tensors_in
from saccade.graph.numerical import FINE, Derivative, along, derivative, typical

KINKED, WRONG = 1e-4, 1e-2
"""Relative errors: up to FINE as it should be, up to KINKED excused by kinks nearby, above WRONG a wrong backward."""
WHOLE, SAMPLE = 256, 32
"""Up to how many numbers of a tensor all are compared, and how many of a larger one."""
SPARE = 3
"""Candidates drawn for each coordinate compared, for those that lie on a kink."""

Seconds = Callable[[], float]


@dataclass(frozen=True)
class TensorGradient:
    """How far the gradient of one tensor is off: `error` is the largest relative error of the coordinates `compared`.

    That is |a - n| / max(|a|, |n|), a by the backward pass and n numerically, `analytic` and `numerical` where
    it is largest. What rounding explains counts as FINE at the most; coordinates on `kinks` are left out.
    """

    name: str
    shape: tuple[int, ...]
    error: float
    compared: int
    kinks: int
    analytic: float = 0.0
    numerical: float = 0.0

    @property
    def verdict(self) -> str:
        """Return "fine", "suspicious" or "wrong"; "undecided" where every coordinate lay on a kink."""
        if not self.compared:
            return "undecided"
        if self.error <= (KINKED if self.kinks else FINE):
            return "fine"
        return "suspicious" if self.error <= WRONG else "wrong"


@dataclass(frozen=True)
class GradientCheck:
    """What a gradient check found in `tensors`; `wrong_modules` are the innermost ones whose own backward is wrong.

    `random` says whether the function draws at random, as dropout does: the draws were the same in each
    evaluation. `trouble` says why nothing could be compared; empty where it could.
    """

    tensors: tuple[TensorGradient, ...]
    wrong_modules: tuple[str, ...] = ()
    random: bool = False
    trouble: str = ""

    @property
    def worst(self) -> TensorGradient | None:
        """The tensor with the largest error; None where nothing was compared."""
        return max((each for each in self.tensors if each.compared), key=lambda each: each.error, default=None)

    @property
    def verdict(self) -> str:
        """Return the gravest verdict: "wrong", "suspicious", "fine" or "undecided"."""
        if self.worst is None:
            return "undecided"
        found = {each.verdict for each in self.tensors}
        return next(each for each in ("wrong", "suspicious", "fine") if each in found)

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the gradients."""
        return self.verdict == "fine"


def check_gradients(
    function: Callable[..., Any],
    *inputs: Any,
    keywords: Mapping[str, Any] | None = None,
    coordinates: int | None = None,
    seed: int = 0,
    seconds: Seconds = lambda: math.inf,
) -> GradientCheck:
    """Compare the gradients of a function or module with numerical ones, in float64.

    The result of `function(*inputs, **keywords)`, a tensor or several, is made a scalar by weights drawn at
    random. Checked are the floating-point tensors among `inputs` and, of a module, its trainable parameters:
    `coordinates` numbers of each, by default all of up to WHOLE and SAMPLE of more, fewer where `seconds()`, the
    time left, runs out. A module is copied and checked in the mode it is in; its buffers, and all generators, are
    the same in each evaluation. Where a gradient is wrong, its modules are checked one by one.

    >>> check_gradients(torch.nn.Linear(3, 2), torch.ones(4, 3)).verdict
    'fine'
    >>> check_gradients(torch.relu, torch.zeros(5)).verdict  # at 0 there is no derivative
    'undecided'
    """
    if isinstance(function, nn.Module):
        function = copy.deepcopy(function).cpu().double()
    problem = _Problem.of(function, inputs, keywords or {}, seed)
    found = _compare(problem, coordinates, seconds)
    if found.verdict != "wrong" or not isinstance(function, nn.Module):
        return found
    wrong = tuple(_wrong_modules(function, problem, coordinates, seconds))
    return replace(found, wrong_modules=wrong)


@dataclass
class _Problem:
    """A function of named float64 tensors that can be evaluated any number of times with the same result."""

    function: Callable[..., Any]
    inputs: Sequence[Any]
    keywords: Mapping[str, Any]
    tensors: dict[str, Tensor]
    seed: int
    buffers: dict[Tensor, Tensor] = field(default_factory=dict)
    weights: list[Tensor] = field(default_factory=list)
    eps: float = torch.finfo(torch.float64).eps
    """The unit of rounding of the coarsest of the outputs."""

    @cached_property
    def middle(self) -> float:
        """The function's value where its tensors are as they were given."""
        return self.number()

    @classmethod
    def of(
        cls, function: Callable[..., Any], inputs: Sequence[Any], keywords: Mapping[str, Any], seed: int
    ) -> "_Problem":
        held = [_leaf(each) for each in inputs]
        names = ["input"] if len(held) == 1 else [f"input {place}" for place in range(1, len(held) + 1)]
        tensors = {name: each for name, each in zip(names, held, strict=True) if _is_variable(each)}
        buffers = {}
        if isinstance(function, nn.Module):
            tensors |= {name: each for name, each in function.named_parameters() if each.requires_grad}
            buffers = {each: each.clone() for each in function.buffers()}
        return cls(function, held, keywords, tensors, seed, buffers)

    def outputs(self, seed: int | None = None) -> list[Tensor]:
        """Return the floating-point tensors that the function gives."""
        for buffer, before in self.buffers.items():
            buffer.copy_(before)
        # Clones, since a function may work in place.
        given = [each.clone() if isinstance(each, Tensor) else each for each in self.inputs]
        with seeded(derived_seed(self.seed if seed is None else seed, "gradients")):
            result = self.function(*given, **self.keywords)
        found = [each for each in tensors_in(result) if each.is_floating_point()]
        if not found:
            raise ModelError("What is to be checked gives no floating-point numbers, so there is no gradient.")
        return found

    def value(self) -> Tensor:
        """Return the function's outputs, weighted and summed in float64."""
        outputs = self.outputs()
        if not self.weights:
            draws = generator(self.seed, "weights of the outputs")
            self.eps = max(torch.finfo(each.dtype).eps for each in outputs)
            self.weights = [
                torch.ones_like(each, dtype=torch.float64)
                if each.numel() == 1
                else torch.randn(each.shape, dtype=torch.float64, generator=draws)
                for each in outputs
            ]
        terms = [(each.double() * weight).sum() for each, weight in zip(outputs, self.weights, strict=True)]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def number(self) -> float:
        """Return the value alone."""
        return float(self.value())

    @torch.no_grad()
    def is_random(self) -> bool:
        """Return whether other states of the generators give another value."""
        first, second = (torch.cat([each.flatten() for each in self.outputs(seed)]) for seed in (1, 2))
        return not torch.equal(first.nan_to_num(), second.nan_to_num())

    def gradients(self) -> dict[str, Tensor]:
        """Return the gradient of each tensor by the backward pass; zeros where none arrives."""
        value = self.value()
        if not value.requires_grad:
            return {name: torch.zeros_like(each) for name, each in self.tensors.items()}
        found = torch.autograd.grad(value, list(self.tensors.values()), allow_unused=True)
        each = zip(self.tensors.items(), found, strict=True)
        return {name: torch.zeros_like(tensor) if grad is None else grad for (name, tensor), grad in each}


def _compare(problem: _Problem, coordinates: int | None, seconds: Seconds) -> GradientCheck:
    random, value = problem.is_random(), problem.middle
    if not math.isfinite(value):
        return GradientCheck((), random=random, trouble=f"its value is {value}")
    if problem.number() != value:
        return GradientCheck((), random=True, trouble="it gives another value each time, from draws of its own")
    gradients = problem.gradients()
    tallies = [_Tally(name, problem, gradients[name], coordinates) for name in problem.tensors]
    for turn in range(max((tally.wanted for tally in tallies), default=0)):
        for tally in tallies:
            if turn < tally.wanted and seconds() > 0:
                tally.compare_one()
    return GradientCheck(tuple(tally.result() for tally in tallies), random=random)


class _Tally:
    """The coordinates of one tensor compared so far: that of the largest gradient first, then random ones."""

    def __init__(self, name: str, problem: _Problem, gradient: Tensor, coordinates: int | None) -> None:
        self.name, self.problem, self.values = name, problem, problem.tensors[name]
        self.analytic = gradient.detach().double().flatten()
        self.scale = typical(self.values)
        numbers = self.values.numel()
        self.wanted = (numbers if numbers <= WHOLE else SAMPLE) if coordinates is None else coordinates
        self.left = self._drawn(SPARE * self.wanted)
        self.kinks = 0
        self.compared: list[tuple[float, float, float]] = []

    def _drawn(self, most: int) -> Iterator[int]:
        if not self.values.numel():
            return iter(())
        order = torch.randperm(self.values.numel(), generator=generator(self.problem.seed, self.name)).tolist()
        largest = int(self.analytic.abs().argmax())
        return iter([largest, *(index for index in order if index != largest)][:most])

    def compare_one(self) -> None:
        """Compare one coordinate more, of those left, that lies on no kink."""
        for index in self.left:
            analytic = float(self.analytic[index])
            offset = along(self.problem.number, self.values, index)
            known = {"middle": self.problem.middle, "expected": analytic}
            slope = derivative(offset, self.scale(index), self.problem.eps, **known)
            if not slope.kink:
                self.compared.append((relative_error(analytic, slope), analytic, slope.value))
                return
            self.kinks += 1

    def result(self) -> TensorGradient:
        error, analytic, numerical = max(self.compared, default=(0.0, 0.0, 0.0))
        shape = tuple(self.values.shape)
        return TensorGradient(self.name, shape, error, len(self.compared), self.kinks, analytic, numerical)


def relative_error(analytic: float, numerical: Derivative) -> float:
    """Return |a - n| / max(|a|, |n|); FINE at the most where the difference is within the uncertainty of n.

    >>> relative_error(1.5, Derivative(1.0, 1e-9, 1.0, 1.0, kink=False))
    0.3333333333333333
    """
    difference = abs(analytic - numerical.value)
    if not math.isfinite(difference):
        return math.inf
    error = difference / max(abs(analytic), abs(numerical.value), math.ulp(0.0))
    return min(error, FINE) if difference <= numerical.uncertainty else error


def _wrong_modules(module: nn.Module, problem: _Problem, coordinates: int | None, seconds: Seconds) -> Iterator[str]:
    """Yield the names of the modules whose backward is wrong though those of the modules inside are not."""
    calls = _recorded_calls(module, problem)
    wrong: list[str] = []
    for name, inner in reversed(list(module.named_modules())):  # what is inside comes before what it is in
        below = f"{name}." if name else ""
        if name not in calls or any(each.startswith(below) for each in wrong) or seconds() <= 0:
            continue
        inputs, keywords = calls[name]
        if _compare(_Problem.of(inner, inputs, keywords, problem.seed), coordinates, seconds).verdict == "wrong":
            wrong.append(name)
    yield from (name or type(module).__name__ for name in reversed(wrong))


def _recorded_calls(module: nn.Module, problem: _Problem) -> dict[str, tuple[list[Any], dict[str, Any]]]:
    """Return what each module is given the first time it is called in one evaluation."""
    calls: dict[str, tuple[list[Any], dict[str, Any]]] = {}

    def recording(name: str) -> Callable[..., None]:
        def record(_: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            held = [each.detach().clone() if isinstance(each, Tensor) else each for each in inputs]
            calls.setdefault(name, (held, keywords))

        return record

    handles = [
        inner.register_forward_pre_hook(recording(name), with_kwargs=True) for name, inner in module.named_modules()
    ]
    try:
        with torch.no_grad():
            problem.value()
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _leaf(given: Any) -> Any:
    if not isinstance(given, Tensor):
        return given
    held = given.detach().cpu().clone(memory_format=torch.contiguous_format)
    return held.double().requires_grad_() if held.is_floating_point() else held


def _is_variable(given: Any) -> bool:
    return isinstance(given, Tensor) and given.requires_grad
