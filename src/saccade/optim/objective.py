"""A loss as a function of all of a network's parameters at once: its value, its gradient, its Hessian."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

ROWS = 64
"""Rows of a Hessian computed at once."""


@dataclass(frozen=True)
class Objective:
    """The sum of the scalars that `parts()` yields, each a function of `parameters` (D numbers in all).

    The parts are run anew for every question and forgotten one by one, so that memory holds the graph
    of one of them alone. They must be the same each time: no dropout, no augmentation, one order.

    >>> x = nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> bowl = Objective([x], lambda: iter([x.square().sum() / 2]))
    >>> bowl.slope()
    (12.5, tensor([3., 4.]))
    >>> bowl.product(torch.tensor([1.0, 0.0]))
    tensor([1., 0.])
    """

    parameters: Sequence[nn.Parameter]
    parts: Callable[[], Iterator[Tensor]]

    @property
    def size(self) -> int:
        """D, the number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters)

    def position(self) -> Tensor:
        """Return the parameters (D), a copy."""
        return _flat(parameter.detach() for parameter in self.parameters)

    @torch.no_grad()
    def move_to(self, position_D: Tensor) -> None:
        """Set the parameters."""
        sizes = [parameter.numel() for parameter in self.parameters]
        for parameter, part in zip(self.parameters, position_D.split(sizes), strict=True):
            parameter.copy_(part.view(parameter.shape))

    def slope(self) -> tuple[float, Tensor]:
        """Return the value, summed up in float64, and the gradient (D)."""
        value, slope_D = 0.0, torch.zeros_like(self.position())
        for part in self.parts():
            value += float(part.detach())
            slope_D += self._gradient(part)
        return value, slope_D

    def product(self, vector_D: Tensor) -> Tensor:
        """Return H v, the Hessian times a vector, by differentiating gradient · v (Pearlmutter, 1994)."""
        product_D = torch.zeros_like(vector_D)
        for part in self.parts():
            along = self._gradient(part, graph=True) @ vector_D
            if along.requires_grad:
                product_D += self._gradient(along)
        return product_D

    def hessian(self) -> Tensor:
        """Return H (D, D), symmetric: for small networks, as it takes D² numbers and D products."""
        hessian_DD = torch.zeros(self.size, self.size, dtype=self.parameters[0].dtype, device=self.parameters[0].device)
        for part in self.parts():
            slope_D = self._gradient(part, graph=True)
            if not slope_D.requires_grad:
                continue
            for first, rows in enumerate(torch.eye(self.size).to(hessian_DD).split(ROWS)):
                found = torch.autograd.grad(
                    slope_D, self.parameters, rows, retain_graph=True, is_grads_batched=True, allow_unused=True
                )
                blocks = [
                    rows.new_zeros(len(rows), parameter.numel()) if block is None else block.flatten(1)
                    for block, parameter in zip(found, self.parameters, strict=True)
                ]
                hessian_DD[first * ROWS :][: len(rows)] += torch.cat(blocks, 1)
        return (hessian_DD + hessian_DD.T) / 2

    def _gradient(self, scalar: Tensor, *, graph: bool = False) -> Tensor:
        found = torch.autograd.grad(
            scalar, self.parameters, create_graph=graph, allow_unused=True, materialize_grads=True
        )
        return _flat(found)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])
