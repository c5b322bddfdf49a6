"""A library's network with other activations, norms or initial weights: its modules give way to saccade's, by kind."""

from collections.abc import Callable

from torch import nn

from saccade.errors import ModelError
from saccade.nn.activations import PIECES, activation, pieces
from saccade.nn.blocks import Blocks, norm_2d
from saccade.nn.init import initialise

CHOICES = ("activation", "norm", "init")
"""What settings say of a library's network; the rest is as the library has it."""
ACTIVATIONS = frozenset(
    "relu relu6 leakyrelu prelu elu selu celu gelu gelutanh quickgelu silu swish mish hardswish".split()
)
"""Class names of activations of hidden units, in lower case; a sigmoid in a library's network is a gate, and stays."""


def swap(network: nn.Module, name: str, blocks: Blocks) -> None:
    """Replace every activation, and every batch and group norm, by those chosen, and draw weights anew, in place.

    Raises ModelError where a choice has no meaning for the network, or it has no such module.
    """
    blocks.refuse_others(name, *CHOICES)
    if blocks.activation is not None:
        if pieces(blocks.activation) == PIECES:
            raise ModelError(
                f'activation={blocks.activation} needs layers of twice as many units, which "{name}" has not.'
            )
        chosen = blocks.activation
        _replace(network, name, "activation", _is_activation, lambda module: activation(chosen))
    if blocks.norm is not None:
        kind = blocks.norm
        _replace(network, name, "batch or group norm", _is_norm, lambda module: _norm(kind, module))
    if blocks.init is not None:
        initialise(network, blocks.init, blocks.activation or "relu")


def _replace(
    network: nn.Module, name: str, what: str, wanted: Callable[[nn.Module], bool], new: Callable[[nn.Module], nn.Module]
) -> None:
    places = [(owner, own, each) for owner in network.modules() for own, each in owner.named_children() if wanted(each)]
    if not places:
        raise ModelError(f'The network "{name}" has no {what} that could be replaced: it is as it is.')
    for owner, own, each in places:
        setattr(owner, own, new(each))


def _is_activation(module: nn.Module) -> bool:
    return type(module).__name__.lower() in ACTIVATIONS


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d | nn.GroupNorm)


def _norm(kind: str, module: nn.Module) -> nn.Module:
    """Return a norm of as many channels, followed by the activation that timm's norms have in them."""
    channels = module.num_channels if isinstance(module, nn.GroupNorm) else module.num_features
    norm = norm_2d(kind, int(channels))  # type: ignore[arg-type]
    act = getattr(module, "act", None)
    return norm if act is None else nn.Sequential(norm, act)
