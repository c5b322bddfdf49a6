"""Penalties on the size of weights, through their gradient: λ₁ Σ|w| + λ₂ / 2 Σ w² (lecture 3)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from saccade.optim.optimizers import Optimizer


def penalty(weights: Iterable[Tensor], l1: float, l2: float) -> Tensor:
    """Return λ₁ Σ|w| + λ₂ / 2 Σ w², differentiable.

    >>> round(float(penalty([torch.tensor([[3.0, -4.0]])], 0.1, 0.01)), 6)
    0.825
    """
    return torch.stack([l1 * weight.abs().sum() + l2 / 2 * weight.square().sum() for weight in weights]).sum()


def penalized(optimizer: Optimizer, l1: float, l2: float) -> Optimizer:
    """Add the penalty's gradient, λ₁ sign(w) + λ₂ w, to those of kernels and matrices before each of its steps.

    Unlike a weight decay that is decoupled (`adamw`), a penalty is scaled by what an adaptive rule makes of
    gradients (Loshchilov and Hutter, 2019). Returns the optimizer.
    """

    @torch.no_grad()
    def before(rule: torch.optim.Optimizer, *_: Any) -> None:
        for group in rule.param_groups:
            for weight in filter(_penalized, group["params"]):
                weight.grad.add_(weight, alpha=l2).add_(weight.sign(), alpha=l1)

    if l1 or l2:
        for rule in optimizer.rules:
            rule.register_step_pre_hook(before)
    return optimizer


def _penalized(weight: nn.Parameter) -> bool:
    return weight.ndim > 1 and weight.grad is not None
