"""Trunks: torchvision's and timm's networks without their classification heads, from images to features."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saccade.errors import ModelError, first_line
from saccade.nn.weights import Shapes, shapes

CLASSES = 1000
"""What torchvision's classification networks are built for."""
_AUXILIARY: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}
"""Networks with further heads, which are left out; their weights expect them to rescale the input themselves."""


@dataclass(frozen=True)
class Outline:
    """The shapes of a trunk's tensors by name, and the names of those that only the whole network has."""

    body: Shapes
    head: frozenset[str]


def trunk(model: str) -> nn.Module:
    """Return a network without its head and with new weights: normalised images (N, 3, H, W) → features (N, D).

    `model` is "torchvision/NAME" or "timm/NAME", a tag of weights allowed. Of torchvision's networks the
    last layer alone is taken away, so that VGG and AlexNet keep their hidden fully connected layers.
    Raises ModelError where this version of the library has no such network.
    """
    family, _, name = model.partition("/")
    try:
        return {"torchvision": _torchvision, "timm": _timm}[family](name)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f'The network "{model}" cannot be built here ({first_line(error)}).') from error


@torch.no_grad()
def features(trunk: nn.Module, side: int) -> int:
    """Return D, the number of features that a trunk gives for images of this side: one is run through it.

    Raises ModelError where it takes no such images, or does not give one row of features an image.
    """
    training = trunk.training
    device = next(trunk.parameters()).device
    try:
        features_ND = trunk.eval()(torch.zeros(1, 3, side, side, device=device))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"The pretrained network cannot take images of {side} x {side} pixels ({first_line(error)}); "
            "give another size."
        ) from error
    finally:
        trunk.train(training)
    if not (isinstance(features_ND, Tensor) and features_ND.ndim == 2):
        given = tuple(features_ND.shape) if isinstance(features_ND, Tensor) else type(features_ND).__name__
        raise ModelError(f"The pretrained network gives no row of features for an image ({given}); give another one.")
    return int(features_ND.shape[1])


def takes(trunk: nn.Module, side: int) -> bool:
    """Return whether a trunk gives features for images of this side: vision transformers take those of one alone."""
    try:
        features(trunk, side)
    except ModelError:
        return False
    return True


@cache
def outline(model: str) -> Outline:
    """Return the outline of a network, built without memory for its weights."""
    try:
        with Weightless():
            body, whole = trunk(model), _whole(model)
    except ModelError:  # a few of timm's compute with their own new weights while they are built
        with torch.device("meta"):
            body, whole = trunk(model), _whole(model)
    body_shapes = shapes(body.state_dict())
    return Outline(body_shapes, frozenset(shapes(whole.state_dict())) - frozenset(body_shapes))


def misfit(model: str, tensors: Shapes) -> str:
    """Return how tensors differ from those of a trunk, the head's left out; empty where they fit.

    The sentence part reads "2 tensors are missing (a, b), 1 is unexpected (c)", three of each kind named.
    """
    expected = outline(model)
    given = {name: shape for name, shape in tensors.items() if name not in expected.head}
    missing = [name for name in expected.body if name not in given]
    unexpected = [name for name in given if name not in expected.body]
    reshaped = [
        f"{name}: {_words(given[name])} instead of {_words(shape)}"
        for name, shape in expected.body.items()
        if name in given and given[name] != shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    return ", ".join(_count(names, kind) for kind, names in kinds.items() if names)


def converted(model: str, tensors: Mapping[str, Tensor], *, device: str = "cpu") -> Mapping[str, Tensor] | None:
    """Return tensors under their authors' names as timm renames and reshapes them; None where timm cannot.

    On the device "meta", with tensors there, only whether it can is learnt, without memory for weights.
    """
    import timm

    family, _, name = model.partition("/")
    if family != "timm":
        return None
    try:
        with torch.device(device):
            network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(tensors)})
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError):
        return None
    return dict(network.state_dict())


def fill(trunk: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors that fit into a trunk; the head's are left out."""
    own = trunk.state_dict()
    for name in shapes(tensors).keys() & own.keys():
        own[name] = tensors[name]
    trunk.load_state_dict(own)


class Weightless(TorchFunctionMode):
    """Where tensors made to be filled take no memory; numbers computed while building, such as widths, are real."""

    _MADE = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Make what is made on the device "meta"."""
        kwargs = dict(kwargs or {})
        if function in self._MADE and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return function(*args, **kwargs)


def _torchvision(name: str) -> nn.Module:
    network = _torchvision_whole(name, auxiliary=False)
    last = [path for path, module in network.named_modules() if _width(module) == CLASSES][-1]
    network.set_submodule(last, nn.Identity())
    return network


def _torchvision_whole(name: str, *, auxiliary: bool) -> nn.Module:
    from torchvision.models import get_model, get_model_weights

    further = dict(_AUXILIARY[name]) | {"aux_logits": auxiliary} if name in _AUXILIARY else {}
    if name.startswith("vit_"):  # its positions are as many as the images it was trained on are large
        further["image_size"] = get_model_weights(name).DEFAULT.meta["min_size"][0]
    network: nn.Module = get_model(name, weights=None, **further)
    return network


def _width(module: nn.Module) -> int | None:
    """Return how many scores a module gives, were it the last layer of a network."""
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) else None


def _timm(name: str, classes: int | None = 0) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return network


def _whole(model: str) -> nn.Module:
    family, _, name = model.partition("/")
    return _torchvision_whole(name, auxiliary=True) if family == "torchvision" else _timm(name, None)


def _count(names: list[str], kind: str) -> str:
    some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} {'tensor is' if len(names) == 1 else 'tensors are'} {kind} ({some})"


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
