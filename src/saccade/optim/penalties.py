"""Penalties on the size of weights, λ₁ Σ|w| + λ₂ / 2 Σ w² (lecture 3), and which parameters they are on."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding, nn.EmbeddingBag)
"""What multiplies its input by a `weight`, or looks it up in one."""
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def decayed(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a network whose size may be penalised, in its order: its kernels and matrices.

    They are the weights of fully connected layers, convolutions and embeddings, whatever their shape. Of other modules'
    parameters they are those with two dimensions or more that are longer than 1, save a norm's and what has "bias" in
    its own name: a scale of shape (C, 1, 1) is a vector, and a table of position biases consists of biases. What a
    module names in `no_weight_decay()`, as timm's do, is none of them.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm((4, 8, 8)), nn.Flatten(), nn.Linear(256, 1))
    >>> [tuple(parameter.shape) for parameter in decayed(network)]
    [(4, 3, 3, 3), (1, 256)]
    """
    named = network.named_modules()
    spared = [f"{place}.{each}".lstrip(".") for place, module in named for each in _named_by(module)]
    modules = dict(network.named_modules())
    found = []
    for name, parameter in network.named_parameters():
        place, _, own = name.rpartition(".")
        if _is_matrix(modules[place], own, parameter) and not any(fnmatchcase(name, each) for each in spared):
            found.append(parameter)
    return found


def penalty(weights: Iterable[Tensor], l1: float, l2: float) -> Tensor:
    """Return λ₁ Σ|w| + λ₂ / 2 Σ w², differentiable; a plain 0 where there are no weights or both λ are 0.

    >>> round(float(penalty([torch.tensor([[3.0, -4.0]])], 0.1, 0.01)), 6)
    0.825
    """
    each = [l1 * weight.abs().sum() + l2 / 2 * weight.square().sum() for weight in weights if l1 or l2]
    return torch.stack(each).sum() if each else torch.zeros(())


def _is_matrix(module: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    if isinstance(module, LAYERS) and name == "weight":
        return True
    return not isinstance(module, NORMS) and "bias" not in name and sum(side > 1 for side in parameter.shape) > 1


def _named_by(module: nn.Module) -> Iterator[str]:
    """Yield the names, below a module, of the parameters that it says must not decay."""
    names = getattr(module, "no_weight_decay", None)
    yield from names() if callable(names) else ()
