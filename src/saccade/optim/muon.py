"""Muon: momentum whose update of every kernel is made orthogonal, on kernels of a fixed norm."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from saccade.device import resolve_precision

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Update kernels (K, C, …) as matrices (K, C·…) by the orthogonal factor of their momentum (Jordan, 2024).

    Before each step a kernel is scaled to the norm √K, one of zeros aside, so that the learning rate is an angle and
    weight decay has no meaning: the layer is to be followed by a normalisation.
    """

    def __init__(
        self,
        kernels: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float = 0.24,
        momentum: float = 0.6,
        iterations: int = 3,
    ) -> None:
        super().__init__(kernels, {"lr": lr, "momentum": momentum, "iterations": iterations})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every kernel that has a gradient, with Nesterov's look ahead."""
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is not None:
                    self._update(kernel, kernel.grad, group)

    def _update(self, kernel: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[kernel]
        if not state:
            state["velocity"] = torch.zeros_like(kernel)
        velocity: Tensor = state["velocity"]
        velocity.mul_(group["momentum"]).add_(gradient)
        ahead = gradient.add(velocity, alpha=group["momentum"])
        longer = len(kernel) ** 0.5 / kernel.norm()
        kernel.mul_(longer.where(longer.isfinite(), 1.0))  # a kernel of zeros has no direction to keep
        update = orthogonalised(ahead.flatten(1), group["iterations"])
        kernel.sub_(update.view(kernel.shape), alpha=group["lr"])


def orthogonalised(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Return roughly UVᵀ for a matrix USVᵀ, by a quintic Newton-Schulz iteration.

    The singular values end near 1, not at it (Jordan, 2024). It computes in bfloat16 where the hardware multiplies
    that natively, else in float32: emulated, a product takes fifty times as long.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(resolve_precision("auto", matrix.device))
    x = x / (x.norm() + 1e-7)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    orthogonal: Tensor = (x if wide else x.T).to(matrix.dtype)
    return orthogonal
