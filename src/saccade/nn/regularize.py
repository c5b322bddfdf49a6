"""Regularisation inside a network: dropout, DropConnect and stochastic depth, put into any network by rates.

What is left in training is scaled up by 1 / (1 - rate), so that a prediction, for which nothing is dropped, is the
mean over all masks of what the layer gives. Names of parameters stay, so weights fit with and without.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import SettingError
from saccade.settings import TrainSettings

SLOTS = ("drop_path", "drop_path1", "drop_path2")
"""What timm's networks call the end of a residual branch; it is empty, or the identity, where nothing is dropped."""
DROPOUT = ("dropout", "attention_dropout", "drop_rate")
"""What modules, attention's and DenseNet's among them, call a rate of dropout that they apply themselves."""


class DroppingLinear(nn.Linear):
    """A fully connected layer that, in training, drops inputs (dropout) and weights (DropConnect) at random.

    (N, D) → (N, K): each image has inputs of its own dropped; weights are the same for a batch (Srivastava et al.,
    2014; Wan et al., 2013).
    """

    dropout = 0.0
    dropconnect = 0.0

    @classmethod
    def of(cls, layer: nn.Linear, dropout: float, dropconnect: float) -> "DroppingLinear":
        """Return a layer of the same weights, shared."""
        other = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        other.weight, other.bias = layer.weight, layer.bias
        other.dropout, other.dropconnect = dropout, dropconnect
        return other.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """Return the scores or units."""
        kept_ND = F.dropout(input, self.dropout, self.training)
        return F.linear(kept_ND, F.dropout(self.weight, self.dropconnect, self.training), self.bias)


class StochasticDepth(nn.Module):
    """The end of a residual branch, which in training leaves it out for a share `rate` of the images.

    Deep networks are so trained as shallow ones, drawn anew each time (Huang et al., 2016).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Return the branch (N, …), scaled up or zero for each image."""
        if not (self.rate and self.training):
            return branch
        from torchvision.ops import stochastic_depth

        dropped: Tensor = stochastic_depth(branch, self.rate, "row")
        return dropped


def regularize(body: nn.Module, settings: TrainSettings) -> None:
    """Put the rates that settings give into a network, in place; where none is given it keeps what it has.

    Dropout has its rate where the network drops by itself, which then is dropped at no other; where it does not, it
    goes, as DropConnect does, into the fully connected layers that see hidden units: in a plain sequence of layers
    all but one on the pixels, in any other network the last. Stochastic depth goes into residual branches, with
    rates that rise linearly from the first to the last, which has the rate asked for.
    Raises SettingError where the network has no such layers, or no such branches, for a rate above 0.
    """
    dropout = _into_own(body, settings.dropout)
    if dropout or settings.dropconnect:
        places = _hidden_linear(body)
        if not places:
            name = "dropout" if dropout else "dropconnect"
            raise SettingError(
                f'The network "{settings.model}" has no fully connected layer that sees hidden units, which {name} is '
                "for; leave it out, or take mlp or convnet."
            )
        for owner, name in places:
            layer = owner.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            setattr(owner, name, DroppingLinear.of(layer, dropout, settings.dropconnect))
    if settings.stochastic_depth is not None:
        branches = _branches(body)
        if settings.stochastic_depth and not branches:
            raise SettingError(
                f'The network "{settings.model}" has no residual branches, which stochastic_depth is for; '
                "leave it out, or take convnet."
            )
        for place, (owner, name) in enumerate(branches, 1):
            setattr(owner, name, StochasticDepth(settings.stochastic_depth * place / len(branches)))


def without_drops(network: nn.Module) -> None:
    """Set every rate to 0, in place: saccade's own, PyTorch's, torchvision's and timm's."""
    from torchvision import ops

    _without_dropout(network)
    for module in network.modules():
        if isinstance(module, ops.StochasticDepth | ops.DropBlock2d):
            module.p = 0.0
        elif isinstance(module, StochasticDepth):
            module.rate = 0.0
        elif isinstance(module, DroppingLinear):
            module.dropconnect = 0.0
        _zero(module, ["drop_prob"])  # timm's DropPath and DropBlock2d


def _into_own(body: nn.Module, rate: float | None) -> float:
    """Give what drops by itself in a network the rate, where there is one; return the rate left for other places."""
    if rate is None:
        return 0.0
    own = [module for module in body.modules() if isinstance(module, nn.modules.dropout._DropoutNd) and module.p]
    _without_dropout(body)
    for module in own:
        module.p = rate
    return 0.0 if own else rate


def _without_dropout(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        _zero(module, DROPOUT)


def _zero(module: nn.Module, names: Sequence[str]) -> None:
    for name in names:
        if isinstance(vars(module).get(name), int | float):
            setattr(module, name, 0.0)


def _hidden_linear(body: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return where the layers are that dropout goes into: their owner, and their name in it."""
    if isinstance(body, nn.Sequential):
        weighted = [(name, child) for name, child in body.named_children() if any(True for _ in child.parameters())]
        return [(body, name) for name, child in weighted[1:] if isinstance(child, nn.Linear)]
    every = [(owner, name) for owner in body.modules() for name, child in owner.named_children() if _is_linear(child)]
    last = next((child for child in reversed(list(body.modules())) if _is_linear(child)), None)
    return [(owner, name) for owner, name in every if owner.get_submodule(name) is last]


def _is_linear(module: nn.Module) -> bool:
    # What attention keeps in a Linear of its own is read by its parameters and never called.
    return isinstance(module, nn.Linear) and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)


def _branches(owner: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return where residual branches end, from the input on: saccade's own, torchvision's and timm's."""
    from torchvision import ops

    found = [(owner, name) for name in SLOTS if name in vars(owner) and vars(owner)[name] is None]
    for name, child in owner._modules.items():
        empty = child is None or isinstance(child, nn.Identity)
        ends = isinstance(child, StochasticDepth | ops.StochasticDepth) or type(child).__name__ == "DropPath"
        if ends or (name in SLOTS and empty):
            found.append((owner, name))
        elif child is not None:
            found += _branches(child)
    return found
