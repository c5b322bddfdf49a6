"""L-BFGS: steps along what past steps tell of the curvature, each as long as a line search finds good (lecture 7)."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import line_search
from torch import Tensor, nn

from saccade.optim.objective import Objective

MEMORY = 10
ENOUGH_CURVATURE = 1e-10
"""Share of |step| |change| that step · change must be for the two to be remembered."""


class LBFGS(torch.optim.Optimizer):
    """Limited-memory BFGS with a line search to the strong Wolfe conditions (Nocedal and Wright, 2006, ch. 7).

    For a loss that is the same function of the parameters each time, over the whole training part. Of past
    steps the last `memory` are kept, (M, D), with the changes of the gradient over them.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], *, memory: int = MEMORY) -> None:
        super().__init__(parameters, {"lr": 1.0, "memory": memory})

    @torch.no_grad()
    def step(self, objective: Objective) -> float:  # type: ignore[override]
        """Take one step; return the loss after it, or before it where no step makes it smaller: see `stuck`."""
        state = self._kept(objective)
        start_D, gradient_D, loss = objective.position(), state["gradient"], float(state["loss"])
        direction_D = -inverse_product(gradient_D.double(), state["steps"].double(), state["changes"].double())
        if not len(state["steps"]):  # nothing is known of the curvature: a first step no longer than 1
            direction_D /= max(1.0, float(direction_D.abs().sum()))
        seen = _along(objective, start_D, direction_D, loss, float(gradient_D.double() @ direction_D))
        best = min(seen, key=lambda alpha: seen[alpha][0] if math.isfinite(seen[alpha][0]) else math.inf, default=0.0)
        if not seen or not seen[best][0] < loss:
            objective.move_to(start_D)
            state["stuck"] = float(not len(state["steps"]))  # else once more, straight down
            state["steps"], state["changes"] = state["steps"][:0], state["changes"][:0]
            return loss
        objective.move_to(start_D + best * direction_D)
        state["loss"], state["gradient"] = seen[best]
        self._remember(state, objective.position() - start_D, state["gradient"] - gradient_D)
        return float(state["loss"])

    @property
    def gradient(self) -> float:
        """The largest absolute derivative where the parameters are; infinite before the first step."""
        state = self.state[self._first]
        return float(state["gradient"].abs().max()) if state else math.inf

    @property
    def stuck(self) -> bool:
        """Whether not even the steepest descent finds a smaller loss: as far as rounding can tell, this is the end."""
        return bool(self.state[self._first].get("stuck", 0.0))

    @property
    def _first(self) -> nn.Parameter:
        return self.param_groups[0]["params"][0]  # type: ignore[no-any-return]

    def _kept(self, objective: Objective) -> dict[str, Any]:
        state: dict[str, Any] = self.state[self._first]
        if not state:
            with torch.enable_grad():
                loss, gradient_D = objective.slope()
            nothing = gradient_D.new_empty(0, len(gradient_D))
            state.update(loss=loss, gradient=gradient_D, steps=nothing, changes=nothing.clone(), stuck=0.0)
        return state

    def _remember(self, state: dict[str, Any], step_D: Tensor, change_D: Tensor) -> None:
        length = float(step_D.double().norm() * change_D.double().norm())
        if float(step_D.double() @ change_D.double()) > ENOUGH_CURVATURE * length:
            memory = self.param_groups[0]["memory"]
            state["steps"] = torch.cat([state["steps"], step_D[None]])[-memory:]
            state["changes"] = torch.cat([state["changes"], change_D[None]])[-memory:]


def inverse_product(vector_D: Tensor, steps_MD: Tensor, changes_MD: Tensor) -> Tensor:
    """Return B⁻¹ v, where B approximates the Hessian by steps and the changes of the gradient over them.

    The two-loop recursion, from a multiple of the identity of the newest step's curvature on; without any
    steps, v itself.

    >>> step, change = torch.tensor([[2.0, 0.0]]), torch.tensor([[8.0, 0.0]])  # a curvature of 4 along x
    >>> inverse_product(torch.tensor([8.0, 4.0]), step, change)
    tensor([2., 1.])
    """
    product_D, shares = vector_D.clone(), []
    pairs = list(zip(steps_MD, changes_MD, strict=True))
    for step_D, change_D in reversed(pairs):
        shares.append((step_D @ product_D) / (step_D @ change_D))
        product_D -= shares[-1] * change_D
    if pairs:
        step_D, change_D = pairs[-1]
        product_D *= (step_D @ change_D) / (change_D @ change_D)
    for (step_D, change_D), share in zip(pairs, reversed(shares), strict=True):
        product_D += (share - (change_D @ product_D) / (step_D @ change_D)) * step_D
    return product_D


def _along(
    objective: Objective, start_D: Tensor, direction_D: Tensor, loss: float, slope: float
) -> dict[float, tuple[float, Tensor]]:
    """Search the line for a point that fulfils the strong Wolfe conditions; return loss and gradient where it looked.

    Where it found one, that is the only one returned. `loss` and `slope` are those at the start.
    """
    seen: dict[float, tuple[float, Tensor]] = {}

    def look(alpha: float) -> tuple[float, Tensor]:
        if alpha not in seen:
            objective.move_to(start_D + alpha * direction_D)
            with torch.enable_grad():
                seen[alpha] = objective.slope()
        return seen[alpha]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it finds none
        found = line_search(
            lambda at: look(float(at[0]))[0],
            lambda at: np.array([float(look(float(at[0]))[1].double() @ direction_D)]),
            np.zeros(1), np.ones(1), np.array([slope]), loss,
        )[0]  # fmt: skip
    return seen if found is None or float(found) not in seen else {float(found): seen[float(found)]}
