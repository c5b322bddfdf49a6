"""Networks by name: saccade's own, torchvision's and timm's."""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from saccade.errors import ModelError, did_you_mean, entry, first_line
from saccade.nn import transfer
from saccade.nn.blocks import Blocks
from saccade.nn.convnets import CONVNET, MLP, ConvNet, convnet, linear, mlp
from saccade.nn.described import CHOICES, DEFAULTS, described, is_description, parse
from saccade.nn.layers import Standardize
from saccade.nn.preprocess import PREPROCESSING, Preprocess, keeps_places
from saccade.nn.swap import swap
from saccade.nn.transfer import Transfer
from saccade.nn.trunks import Weightless, trunk
from saccade.settings import TrainSettings
from saccade.words import own_name

GROWTH = ((0.4, 5 / 7), (0.7, 6 / 7))
"""Until which progress a network is trained on which share of the full side."""
SMALLEST = 16
WHITENED = 2**26
"""Numbers of the images that the whitening is fitted to, at the most: 5,000 images of 64 px."""
ARCHITECTURE = ("width", "depth", "activation", "norm", "pool", "global_pool", "init", "zero_last")
"""Settings that say what one of saccade's own networks is made of."""
SOURCES = ("run/", "file/")
"""What texts begin with that name weights by where they lie: see `pretrained.find`."""

OWN: dict[str, Callable[[int, int, float, Blocks], nn.Module]] = {"convnet": convnet, "linear": linear, "mlp": mlp}


def names() -> dict[str, list[str]]:
    """Return every network that can be built, by family."""
    others = {family: [f"{family}/{network}" for network in listed()] for family, listed in _LISTS.items()}
    return {"saccade": list(OWN), **others}


def build(
    name: str,
    *,
    classes: int,
    side: int,
    width: float | None = None,
    blocks: Blocks = Blocks(),
    preprocess: str = "standardize",
) -> nn.Module:
    """Return the network called `name` with new weights: images (N, 3, side, side) in 0…255 → scores (N, classes).

    `blocks` are what one of saccade's own is made of. The first module, which preprocesses, and a ConvNet's
    whitening are identities until `fit_to` sets them. Raises ModelError when the name is unknown, the network
    cannot take images of this side, or a choice has no meaning for it; SettingError when `preprocess` is unknown.
    """
    preprocessing = entry(PREPROCESSING, preprocess, "preprocessing")
    network = _preprocessed(new(name, classes=classes, side=side, width=width, blocks=blocks), preprocessing(side))
    if not keeps_places(network[0]) and any(isinstance(module, nn.Conv2d) for module in network[1].modules()):
        raise ModelError(
            f'preprocess={preprocess} leaves no image to the convolutions of "{name}"; '
            "give zca, or a network that has none, such as mlp."
        )
    check_takes(network, name, side)
    return network


def new(name: str, *, classes: int, side: int, width: float | None = None, blocks: Blocks = Blocks()) -> nn.Module:
    """Return the network called `name` alone, of preprocessed images; raises ModelError as `build` does.

    `width`, a factor on the channels of saccade's own, is 1 where it is None.

    >>> new("mlp", classes=10, side=8, width=0.1, blocks=Blocks(depth=1, norm="none", activation="tanh"))
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=192, out_features=51, bias=True)
      (2): Tanh()
      (3): Linear(in_features=51, out_features=10, bias=True)
    )
    """
    check_known(name)
    if classes < 1:
        raise ModelError(f"A network cannot tell {classes} classes apart; give a whole number, at least 1.")
    name, width = own_name(name), 1.0 if width is None else width
    if not 0 < width < math.inf:
        raise ModelError(f"A width of {width:g} makes no network; give a factor above 0, such as 0.5.")
    if name in OWN:
        return OWN[name](classes, side, width, blocks)
    if is_description(name):
        return described(name, classes, side, width, blocks)
    family, _, rest = name.partition("/")
    network = {"torchvision": _torchvision, "timm": _timm}[family](rest, classes, side)
    swap(network, name, blocks)
    return network


def from_settings(settings: TrainSettings, classes: int) -> nn.Module:
    """Return the network, with new weights, that resolved settings describe; raises ModelError as `build` does."""
    assert settings.size is not None
    return build(
        settings.model,
        classes=classes,
        side=settings.size,
        width=settings.width,
        blocks=Blocks.of(settings),
        preprocess=settings.preprocess,
    )


def transferred(trunk: nn.Module, *, classes: int, side: int, stages: Sequence[str] = ()) -> nn.Module:
    """Return a pretrained trunk under a new linear layer: images (N, 3, side, side) in 0…255 → scores (N, classes).

    The layer sees the outputs of `stages`, or of the trunk. Raises ModelError where the trunk takes no images of
    this side, or has no such stage.
    """
    return _preprocessed(Transfer(trunk, classes, side, stages), Standardize())


def blank(settings: TrainSettings, classes: int) -> nn.Module:
    """Return the same network as resolved settings describe it, before any weights are loaded into it."""
    assert settings.size is not None
    return transferred(trunk_of(settings), classes=classes, side=settings.size, stages=settings.stages)


def trunk_of(settings: TrainSettings) -> nn.Module:
    """Return the trunk of the network that settings describe, a library's or one of saccade's own, with new weights."""
    return trunk(settings.model) if settings.model.partition("/")[0] in _LISTS else own_trunk(settings)


def own_trunk(settings: TrainSettings) -> nn.Module:
    """Return one of saccade's own networks without its last layer, as settings describe it, with new weights."""
    assert settings.size is not None
    whole = new(settings.model, classes=2, side=settings.size, width=settings.width, blocks=Blocks.of(settings))
    layers = list(whole.named_children())[:-1]
    return nn.Sequential(OrderedDict(layers))


def standardize_by(network: nn.Module, mean: Sequence[float], sd: Sequence[float]) -> None:
    """Set the mean and the standard deviation, of images in 0…1, that a network's input is standardised by."""
    standardize = _parts(network)[0]
    assert isinstance(standardize, Standardize)
    standardize.mean_C.copy_(255 * torch.tensor(mean))
    standardize.sd_C.copy_(255 * torch.tensor(sd))


def body(network: nn.Module) -> nn.Module:
    """Return a network without the preprocessing that `build` put before it."""
    return network[-1] if isinstance(network, nn.Sequential) and isinstance(network[0], Preprocess) else network


def with_body(network: nn.Module, body: nn.Module) -> nn.Module:
    """Return a network of the same preprocessing, shared, before another body."""
    return _preprocessed(body, _parts(network)[0])


def _parts(network: nn.Module) -> tuple[Preprocess, nn.Module]:
    assert isinstance(network, nn.Sequential)
    preprocess, body = network
    assert isinstance(preprocess, Preprocess)
    return preprocess, body


def _preprocessed(body: nn.Module, preprocess: Preprocess) -> nn.Sequential:
    network = nn.Sequential()
    network.add_module("standardize", preprocess)
    network.add_module("body", body)
    return network


def fit_to(network: nn.Module, x_NHWC: Tensor, every: Iterable[Tensor] | None = None) -> None:
    """Fit what a network learns from images without labels: its preprocessing, the whitened patches.

    `x_NHWC` is a sample of the training images. What needs all of them to be exact, every preprocessing but one
    a channel, takes them from `every`, some at a time.
    """
    preprocess, own = _parts(network)
    if isinstance(preprocess, Standardize):
        preprocess.fit(x_NHWC)
    else:
        preprocess.fit(x_NHWC.split(256) if every is None else every)
    if isinstance(own, ConvNet):
        device = next(preprocess.buffers()).device
        few = x_NHWC[: min(5000, max(1, WHITENED // x_NHWC[0].numel()))]
        own.whitening.fit(preprocess(few.to(device).permute(0, 3, 1, 2).float()))


def side_at(network: nn.Module, side: int, progress: float) -> int:
    """Return the side to train on at a progress: below `side` at first where the network takes any, else `side`."""
    own = body(network)
    if own is not network and not _parts(network)[0].any_side:
        return side
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

    Muon would take no notice of how large the kernels of an initialisation are, so where one is named it is Adam.

    Pretrained networks get AdamW: their kernels are to change little, whether normalised or not.
    """
    own = body(network)
    return "muon" if isinstance(own, ConvNet) and own.fixed_norm else "adamw" if isinstance(own, Transfer) else "adam"


def sees_batches(network: nn.Module) -> bool:
    """Return whether scores of an image in training depend on the others of its batch: batch norm's do."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def check_trains(network: nn.Module, name: str, side: int, batch_size: int) -> None:
    """Raise ModelError where a network cannot be trained on batches of this size: batch norm needs two images."""
    try:
        copy.deepcopy(network).train()(torch.zeros(batch_size, 3, side, side))
    except ValueError as error:
        raise ModelError(
            f'The network "{name}" cannot be trained on {batch_size} image a step, for it normalises over the batch; '
            "give a batch_size of 2 or more, or model=linear."
        ) from error


def check_choices(settings: TrainSettings) -> None:
    """Raise ModelError where settings name a choice that has no meaning for their network, whatever the images.

    A pretrained network is what its weights were trained for.
    """
    blocks, name = Blocks.of(settings), settings.model
    if settings.pretrained is None:
        _refuse_parts_of_transfer(settings)
    elif settings.preprocess != TrainSettings.model_fields["preprocess"].default:
        raise _as_trained("preprocess")
    elif runs_own(settings):
        return
    if settings.width not in (None, 1.0) and (name == "linear" or not (name in OWN or is_description(name))):
        raise ModelError(f'The setting width has no meaning for the network "{name}"; leave it out.')
    if settings.pretrained is not None:
        if blocks.chosen:
            raise _as_trained(next(iter(blocks.chosen)))
    elif name in OWN:
        with Weightless():
            OWN[name](2, 16, 0.05, blocks)
    elif is_description(name):
        blocks.refuse_others(name, *CHOICES)
    elif blocks.chosen:
        with Weightless():
            new(name, classes=2, side=settings.size or 224, blocks=replace(blocks, init=None))


def own_choices(name: str) -> Blocks:
    """Return what a network is made of where settings do not say, as far as that is a choice of saccade's own.

    >>> own_choices("mlp").activation, own_choices("timm/resnet18").activation
    ('relu', None)
    """
    return {"convnet": CONVNET, "mlp": MLP}.get(name, DEFAULTS if is_description(name) else Blocks())


def runs_own(settings: TrainSettings) -> bool:
    """Return whether settings already describe the network of a run of saccade's own that they transfer from."""
    return settings.pretrained is not None and (settings.model in OWN or is_description(settings.model))


def _as_trained(name: str) -> ModelError:
    return ModelError(f"A pretrained network is as it was trained: leave {name} out, or pretrained.")


def _refuse_parts_of_transfer(settings: TrainSettings) -> None:
    given = [name for name in ("frozen", "thaw", "stages") if getattr(settings, name)]
    given += ["lowest_rate"] if settings.lowest_rate != 1 else []
    if given:
        raise ModelError(
            f"The setting {given[0]} is for pretrained networks alone: give pretrained too, or leave it out."
        )


def check_known(name: str) -> None:
    """Raise ModelError, with what may have been meant, where there is no network called `name`."""
    name = own_name(name)
    if name in OWN:
        return
    if name.startswith(SOURCES):
        raise ModelError(f'"{name}" is where weights come from, and no network: give --pretrained {name}.')
    if is_description(name):
        parse(name)
        return
    family, _, network = name.partition("/")
    if family in _LISTS and network in _LISTS[family]():
        return
    known = [*OWN, *(f"{family}/{network}" for family, listed in _LISTS.items() for network in listed())]
    plain = {each.partition("/")[2]: each for each in reversed(known) if "/" in each}
    hint = f' Did you mean "{plain[name]}"?' if name in plain else did_you_mean(name, known)
    raise ModelError(f'There is no network "{name}".{hint} `saccade models` lists them.')


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
        raise ModelError(
            f'The network "{name}" cannot take images of {side} x {side} pixels ({first_line(error)}); '
            "give another size."
        ) from error
    finally:
        network.train()
