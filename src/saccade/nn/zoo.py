"""Networks by name: saccade's own, torchvision's and timm's."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from saccade.errors import ModelError, did_you_mean
from saccade.nn import transfer
from saccade.nn.convnets import ConvNet, convnet, linear, mlp
from saccade.nn.layers import Standardize
from saccade.nn.transfer import Transfer
from saccade.nn.trunks import trunk

GROWTH = ((0.4, 5 / 7), (0.7, 6 / 7))
"""Until which progress a network is trained on which share of the full side."""
SMALLEST = 16

OWN: dict[str, Callable[[int, int, float], nn.Module]] = {"convnet": convnet, "linear": linear, "mlp": mlp}


def names() -> dict[str, list[str]]:
    """Return every network that can be built, by family."""
    others = {family: [f"{family}/{network}" for network in listed()] for family, listed in _LISTS.items()}
    return {"saccade": list(OWN), **others}


def build(name: str, *, classes: int, side: int, width: float = 1.0) -> nn.Module:
    """Return the network called `name` with new weights: images (N, 3, side, side) in 0…255 → scores (N, classes).

    Its first module, `standardize`, and a ConvNet's whitening are identities until `fit_to` sets them.
    Raises ModelError when the name is unknown or the network cannot take images of this side.
    """
    network = _standardized(_body(name, classes, side, width))
    check_takes(network, name, side)
    return network


def transferred(trunk: nn.Module, *, classes: int, side: int) -> nn.Module:
    """Return a pretrained trunk under a new linear layer: images (N, 3, side, side) in 0…255 → scores (N, classes).

    Raises ModelError where it takes no images of this side.
    """
    return _standardized(Transfer(trunk, classes, side))


def blank(name: str, *, classes: int, side: int) -> nn.Module:
    """Return the same network by its trunk's name, before any weights are loaded into it."""
    return transferred(trunk(name), classes=classes, side=side)


def standardize_by(network: nn.Module, mean: Sequence[float], sd: Sequence[float]) -> None:
    """Set the mean and the standard deviation, of images in 0…1, that a network's input is standardised by."""
    standardize = _parts(network)[0]
    standardize.mean_C.copy_(255 * torch.tensor(mean))
    standardize.sd_C.copy_(255 * torch.tensor(sd))


def body(network: nn.Module) -> nn.Module:
    """Return a network without the standardisation that `build` put before it."""
    return network[-1] if isinstance(network, nn.Sequential) and isinstance(network[0], Standardize) else network


def with_body(network: nn.Module, body: nn.Module) -> nn.Module:
    """Return a network of the same standardisation, shared, before another body."""
    return _standardized(body, _parts(network)[0])


def _parts(network: nn.Module) -> tuple[Standardize, nn.Module]:
    assert isinstance(network, nn.Sequential)
    standardize, body = network
    assert isinstance(standardize, Standardize)
    return standardize, body


def _standardized(body: nn.Module, standardize: Standardize | None = None) -> nn.Sequential:
    network = nn.Sequential()
    network.add_module("standardize", standardize or Standardize())
    network.add_module("body", body)
    return network


def fit_to(network: nn.Module, x_NHWC: Tensor) -> None:
    """Fit what a network learns from images without labels: the mean, the scale, the whitened patches."""
    standardize, own = _parts(network)
    standardize.fit(x_NHWC)
    if isinstance(own, ConvNet):
        own.whitening.fit(standardize(x_NHWC[:5000].to(standardize.mean_C.device).permute(0, 3, 1, 2).float()))


def side_at(network: nn.Module, side: int, progress: float) -> int:
    """Return the side to train on at a progress: below `side` at first where the network takes any, else `side`."""
    own = body(network)
    if isinstance(own, ConvNet):
        smallest = SMALLEST
    elif isinstance(own, Transfer) and own.any_side:
        smallest = transfer.SMALLEST
    else:
        return side
    share = next((share for until, share in GROWTH if progress < until), 1.0)
    return max(min(side, smallest), round(share * side))


def optimizer_for(network: nn.Module) -> str:
    """Return the optimizer that suits a network: Muon where every kernel is normalised, else Adam (lecture 7).

    Pretrained networks get AdamW: their kernels are to change little, whether normalised or not.
    """
    own = body(network)
    return "muon" if isinstance(own, ConvNet) else "adamw" if isinstance(own, Transfer) else "adam"


def check_trains(network: nn.Module, name: str, side: int, batch_size: int) -> None:
    """Raise ModelError where a network cannot be trained on batches of this size: batch norm needs two images."""
    try:
        copy.deepcopy(network).train()(torch.zeros(batch_size, 3, side, side))
    except ValueError as error:
        raise ModelError(
            f'The network "{name}" cannot be trained on {batch_size} image a step, for it normalises over the batch; '
            "give a batch_size of 2 or more, or model=linear."
        ) from error


def check_known(name: str) -> None:
    """Raise ModelError, with what may have been meant, where there is no network called `name`."""
    if name in OWN:
        return
    family, _, network = name.partition("/")
    if family in _LISTS and network in _LISTS[family]():
        return
    known = [*OWN, *(f"{family}/{network}" for family, listed in _LISTS.items() for network in listed())]
    plain = {each.partition("/")[2]: each for each in reversed(known) if "/" in each}
    hint = f' Did you mean "{plain[name]}"?' if name in plain else did_you_mean(name, known)
    raise ModelError(f'There is no network "{name}".{hint} `saccade models` lists them.')


def _body(name: str, classes: int, side: int, width: float) -> nn.Module:
    check_known(name)
    if name in OWN:
        return OWN[name](classes, side, width)
    family, _, network = name.partition("/")
    return {"torchvision": _torchvision, "timm": _timm}[family](network, classes, side)


def _torchvision(name: str, classes: int, side: int) -> nn.Module:
    from torchvision.models import get_model

    # These two would give three scores in training, and warn about their initial weights.
    plain = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = get_model(name, weights=None, num_classes=classes, **plain)
    return network


def _timm(name: str, classes: int, side: int) -> nn.Module:
    import timm

    try:
        network: nn.Module = timm.create_model(name, num_classes=classes, img_size=side)
    except TypeError:  # most convolutional networks take any size and no such argument
        network = timm.create_model(name, num_classes=classes)
    return network


def _torchvision_names() -> list[str]:
    from torchvision import models

    return list(models.list_models(module=models))


def _timm_names() -> list[str]:
    import timm

    return list(timm.list_models())


_LISTS: dict[str, Callable[[], list[str]]] = {"torchvision": _torchvision_names, "timm": _timm_names}


@torch.no_grad()
def check_takes(network: nn.Module, name: str, side: int) -> None:
    """Raise ModelError where a network cannot take images of this side: one is run through it."""
    try:
        network.eval()(torch.zeros(1, 3, side, side))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f'The network "{name}" cannot take images of {side} x {side} pixels ({reason}); give another size.'
        ) from error
    finally:
        network.train()
