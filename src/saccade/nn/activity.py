"""What activations do in a network, by depth (lecture 6): mean and spread of outputs, saturated values, dead units."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.nn.activations import PIECES, Maxout
from saccade.nn.stages import units_first
from saccade.words import some

FLAT = 0.01
"""A slope under this share of the steepest passes on no gradient worth speaking of."""
BOUNDED = (nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh)
KINDS = (
    *BOUNDED, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Softplus, Maxout,
)  # fmt: skip
MOSTLY_DEAD, MOSTLY_SATURATED, VANISHED = 0.5, 0.9, 1e-3


@dataclass(frozen=True)
class Activity:
    """One activation in a pass over some images.

    `mean` and `sd` are those of all outputs; `saturated` is the share of values at which the slope is under a
    hundredth of the steepest (in ReLU those that are 0), `dead` the share of units for which it is so at every
    place of every image.
    """

    layer: str
    kind: str
    mean: float
    sd: float
    saturated: float
    dead: float


def activity(network: nn.Module, x: Tensor) -> list[Activity]:
    """Return what each activation does on a batch, in the order of their work; the network is left as it is.

    It computes as in training, with batch norm over the batch. Activations that are no modules are not seen.

    >>> network = nn.Sequential(nn.Linear(2, 4), nn.ReLU())
    >>> _ = nn.init.constant_(network[0].bias, -100)
    >>> activity(network, torch.rand(8, 2))[0].dead
    1.0
    """
    found: list[Activity] = []
    network = copy.deepcopy(network).train()
    for name, module in network.named_modules():
        if isinstance(module, KINDS):

            def note(module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                found.append(_activity(name, module, inputs[0].detach().clone()))

            module.register_forward_pre_hook(note)
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        network(x)
    return found


def readings(activities: Sequence[Activity]) -> list[str]:
    """Return what is wrong with a network's activations, a sentence a fault: the first layer that has it."""
    faults = (
        ([each for each in activities if each.dead >= MOSTLY_DEAD], _dead),
        ([each for each in activities if each.kind in _BOUNDED and each.saturated >= MOSTLY_SATURATED], _saturated),
        ([each for each in activities if each.sd < VANISHED and each.dead < MOSTLY_DEAD], _vanished),
    )
    return [tell(having) for having, tell in faults if having]


_BOUNDED = {kind.__name__ for kind in BOUNDED}


def _activity(name: str, module: nn.Module, x: Tensor) -> Activity:
    module = copy.copy(module)
    if getattr(module, "inplace", False):
        module.inplace = False  # type: ignore[assignment]
    with torch.enable_grad():
        x.requires_grad_()
        y = module.forward(x)  # around the hook that calls this
        [slope] = torch.autograd.grad(y.sum(), x)
    if isinstance(module, Maxout):
        slope = slope.unflatten(1, (PIECES, -1)).amax(1)
    flat = slope.abs() < FLAT * (0.25 if isinstance(module, nn.Sigmoid) else 1.0)
    units = units_first(flat).movedim(1, 0).flatten(1) if flat.ndim > 1 else flat[:, None]
    values = y.detach().cpu().double()
    return Activity(
        layer=name,
        kind=type(module).__name__,
        mean=float(values.mean()),
        sd=float(values.std(correction=0)),
        saturated=float(flat.cpu().double().mean()),
        dead=float(units.all(1).cpu().double().mean()),
    )


def _dead(having: Sequence[Activity]) -> str:
    first = having[0]
    return (
        f"{first.dead:.0%} of the units of {_where(having)} give no gradient on any image: they are dead; "
        "a lower learning rate, init=he, or activation=leaky_relu keeps them alive."
    )


def _saturated(having: Sequence[Activity]) -> str:
    first = having[0]
    return (
        f"{first.saturated:.0%} of the values of {_where(having)} lie where the slope is next to nothing: they are "
        "saturated; smaller initial weights (init=xavier), norm=batch, or activation=relu lets gradients through."
    )


def _vanished(having: Sequence[Activity]) -> str:
    first = having[0]
    return (
        f"The outputs of {_where(having)} vary by no more than {first.sd:.1g}: what comes in is lost on the way; "
        "larger initial weights (init=he) or norm=batch keeps it."
    )


def _where(having: Sequence[Activity]) -> str:
    return some([f"{each.layer} ({each.kind})" for each in having], 1)
