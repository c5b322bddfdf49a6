"""How the minimum of a linear classifier's objective is looked for: over all rows at once, or by descent."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize

from saccade.classifiers.objective import Objective, through
from saccade.errors import SettingError, TrainingError
from saccade.events import Progress, emit
from saccade.settings import Settings

Array = NDArray[Any]

ROUNDINGS = tuple(10.0**-n for n in range(8))  # of the hinge's corner, in margins, one after the other
TASK = "linear classifier"


class Optimum(Settings):
    """Look for the minimum itself, every step over all rows, and say whether it was reached."""

    method: Literal["auto", "lbfgs", "proximal"] = "auto"
    """L-BFGS for what is smooth, accelerated proximal gradient for an L1 term; auto takes what fits."""
    tolerance: float = Field(default=1e-4, ge=0)
    """Largest derivative at what counts as the minimum; for the hinge also its error, as a share of the objective or
    of the margin, whichever is more."""
    max_iterations: int = Field(default=1000, ge=1)
    """Steps at the most."""
    time_limit: float | None = Field(default=None, ge=0)
    """Seconds at the most."""


class Descent(Settings):
    """Gradient descent: on-line (batch_size 1), in mini-batches, or over all rows at once (lecture 3)."""

    batch_size: Annotated[int, Field(ge=1)] | Literal["all"] = 128
    """Rows a step: 1 is on-line descent, "all" full-batch descent."""
    learning_rate: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    """What a step multiplies the gradient with."""
    epochs: int = Field(default=10, ge=1)
    """Passes over the rows at the most, each in an order of its own."""
    tolerance: float = Field(default=1e-4, ge=0)
    """Largest derivative, after an epoch, at what counts as the minimum."""
    time_limit: float | None = Field(default=None, ge=0)
    """Seconds at the most."""
    seed: int = Field(default=0, ge=0)
    """Seed of the orders."""


Solver = Optimum | Descent
SOLVERS: dict[str, type[Optimum] | type[Descent]] = {"optimum": Optimum, "descent": Descent}


@dataclass(frozen=True)
class Found:
    """Where a solver ended, and why: "tolerance", "time", "iterations", or "precision".

    `precision` means that further descent cannot be told from rounding. `gradient` is the largest derivative.
    """

    point_KD1: Array
    objective: float
    gradient: float
    steps: int
    stopped: str


def solve(objective: Objective, start_KD1: Array, solver: Solver, end: float) -> Found:
    """Return what `solver` finds from a start, W and b side by side, until `end` by perf_counter.

    Raises SettingError where L-BFGS is asked for on an L1 term, TrainingError where descent ran off.
    """
    start = start_KD1.astype(objective.data.mean_D.dtype)
    if isinstance(solver, Descent):
        return _descend(objective, start, solver, end)
    if solver.method == "lbfgs" and objective.penalty.l1:
        raise SettingError("L-BFGS needs a smooth objective, and the L1 term is not; give method proximal or auto.")
    method = _proximal if objective.penalty.l1 or solver.method == "proximal" else _lbfgs
    if objective.loss == "hinge":
        return _sharpened(method, objective, start, solver, end)
    return method(objective, start, solver, end)


def _sharpened(
    method: Callable[[Objective, Array, Optimum, float], Found],
    objective: Objective,
    start: Array,
    solver: Optimum,
    end: float,
) -> Found:
    """Minimise the hinge with its corner rounded less and less, each time from where the last one ended.

    The rounded objective is nowhere above the true one, so its minimum is a bound from below: what the two
    differ by at one point is the most that rounding can have cost there.
    """
    steps = 0
    for rounding in ROUNDINGS:
        left = solver.model_copy(update={"max_iterations": max(1, solver.max_iterations - steps)})
        found = method(objective.rounded(rounding * objective.margin), start, left, end)
        value = objective.value(found.point_KD1)
        cost, steps = value - found.objective, steps + found.steps
        found = replace(found, objective=value, steps=steps)
        if found.stopped in ("time", "iterations") or cost <= solver.tolerance * max(value, objective.margin):
            return found
        start = found.point_KD1
    return replace(found, stopped="precision")


def _lbfgs(objective: Objective, start: Array, solver: Optimum, end: float) -> Found:
    """Run L-BFGS in coordinates in which the data's covariance is round."""
    root = objective.root()
    seen: dict[str, Any] = {}
    steps = 0

    def function(flat_v: Array) -> tuple[float, Array]:
        point = flat_v.reshape(start.shape).astype(start.dtype)
        point[:, :-1] = through(root, point[:, :-1], transposed=True)
        value, slope = objective(point)
        seen.update(point_KD1=point, objective=value, gradient=objective.steepest(point, slope))
        slope[:, :-1] = through(root, slope[:, :-1])
        return value, slope.astype(np.float64).ravel()

    def callback(_: Array) -> None:
        nonlocal steps
        steps += 1
        _tell(steps, solver.max_iterations, seen["objective"])
        if seen["gradient"] <= solver.tolerance or perf_counter() > end:
            raise StopIteration

    first = start.astype(np.float64)
    if root is not None:
        first[:, :-1] = start[:, :-1] @ root
    options = {"maxiter": solver.max_iterations, "maxfun": 10 * solver.max_iterations, "ftol": 0.0, "gtol": 0.0}
    found = minimize(function, first.ravel(), jac=True, method="L-BFGS-B", callback=callback, options=options)
    function(found.x)
    return Found(**seen, steps=int(found.nit), stopped=_why(seen["gradient"], int(found.nit), solver, end))


def _proximal(objective: Objective, start: Array, solver: Optimum, end: float) -> Found:
    """Run accelerated proximal gradient (Beck and Teboulle, 2009), restarted where it goes uphill.

    The step is found by halving; momentum starts anew where it points against the step (O'Donoghue and
    Candès, 2015).
    """
    penalty = objective.penalty
    point, ahead, momentum, curvature = start, start, 1.0, 1.0
    value, slope = objective(point)
    ahead_value, ahead_slope = value, slope
    steps, rounding = 0, 10 * float(np.finfo(start.dtype).eps)
    for steps in range(1, solver.max_iterations + 1):
        if objective.steepest(point, slope) <= solver.tolerance or perf_counter() > end:
            steps -= 1
            break
        while True:
            new = _stepped(ahead, ahead_slope, 1 / curvature, objective)
            moved = (new - ahead).astype(np.float64)
            new_value, new_slope = objective(new)
            bound = ahead_value + float(np.sum(ahead_slope * moved)) + curvature / 2 * float(np.sum(moved**2))
            if new_value <= bound + rounding * abs(ahead_value):
                break
            curvature *= 2
        if float(np.sum((ahead - new) * (new - point))) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + start.dtype.type((momentum - 1) / following) * (new - point)
        point, value, slope, momentum, curvature = new, new_value, new_slope, following, 0.95 * curvature
        ahead_value, ahead_slope = objective(ahead)
        _tell(steps, solver.max_iterations, value)
    gradient = objective.steepest(point, slope)
    total = value + replace(penalty, l2=0.0)(point[:, :-1])
    return Found(point, total, gradient, steps, _why(gradient, steps, solver, end))


def _stepped(point: Array, slope: Array, step: float, objective: Objective) -> Array:
    """Return the point after a gradient step and the shrinking of its weights."""
    new = point - point.dtype.type(step) * slope
    new[:, :-1] = objective.penalty.shrunk(new[:, :-1], step)
    return np.asarray(new)


def _descend(objective: Objective, start: Array, solver: Descent, end: float) -> Found:
    """Take one step a batch, against its gradient; an L1 term shrinks the weights after each."""
    rng = np.random.default_rng(solver.seed)
    count = len(objective.data)
    size = count if solver.batch_size == "all" else int(solver.batch_size)
    point, late = start.copy(), False
    with np.errstate(over="ignore", invalid="ignore"):
        value, slope = objective(point)
        for epoch in range(1, solver.epochs + 1):
            order = rng.permutation(count) if size < count else np.empty(0, np.int64)
            for batch in [order[first : first + size] for first in range(0, len(order), size)]:
                point = _stepped(point, objective.slope_at(point, batch), solver.learning_rate, objective)
                late = perf_counter() > end
                if late:
                    break
            if size >= count:  # the gradient over all rows is known already
                point = _stepped(point, slope, solver.learning_rate, objective)
            value, slope = objective(point)
            if not np.isfinite(value):
                raise TrainingError(
                    f"The loss is not a number after {epoch} epoch(s) at learning rate {solver.learning_rate}; "
                    "give a smaller one."
                )
            _tell(epoch, solver.epochs, value)
            if late or perf_counter() > end or objective.steepest(point, slope) <= solver.tolerance:
                break
    gradient = objective.steepest(point, slope)
    total = value + replace(objective.penalty, l2=0.0)(point[:, :-1])
    stopped = "tolerance" if gradient <= solver.tolerance else "time" if perf_counter() > end else "iterations"
    return Found(point, total, gradient, epoch, stopped)


def _tell(done: int, most: int, value: float) -> None:
    emit(Progress(task=TASK, done=done, total=most, unit="steps", detail=f"objective {value:.4g}"))


def _why(gradient: float, steps: int, solver: Optimum, end: float) -> str:
    if gradient <= solver.tolerance:
        return "tolerance"
    if perf_counter() > end:
        return "time"
    return "iterations" if steps >= solver.max_iterations else "precision"
