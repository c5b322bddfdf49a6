"""The network and the images that `saccade graph --model` puts through it."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.data.decode import decode
from saccade.data.scale import square
from saccade.data.trees import read_file
from saccade.device import generator
from saccade.errors import DecodeError, InputError, ModelError
from saccade.graph import Graph, trace
from saccade.nn import zoo
from saccade.nn.pretrained import IMAGENET_MEAN, IMAGENET_SD


def trace_network(
    name: str, image: Path | None, *, size: int | None, classes: int, batch_size: int, seed: int
) -> Graph:
    """Trace one training step's forward and backward pass of a new network: images → cross-entropy.

    It runs in training mode on a batch, for batch norm would not normalise otherwise. Raises ModelError
    where there is no such network or it takes no such images, InputError where the image cannot be read.
    """
    torch.manual_seed(seed)
    own = name in zoo.OWN or ".py" in name
    side = size or (32 if own else 224)
    if ".py" in name:
        network = _from_file(name)
    else:
        network = zoo.body(zoo.build(name, classes=classes, side=side))
        zoo.check_trains(network, name, side, batch_size)
    x_NCHW = images(image, side, batch_size, seed)
    network.train()
    try:
        return trace(lambda x: _loss(network(x)), x_NCHW.requires_grad_())
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0]
        raise ModelError(
            f'The network "{name}" failed on {batch_size} images of {side} x {side} ({reason}).'
        ) from error


def images(file: Path | None, side: int, count: int, seed: int) -> Tensor:
    """Return standardised images (count, 3, side, side): one image mirrored and shifted, or noise without a file.

    Raises InputError where the file cannot be read.
    """
    if file is None:
        return torch.randn(count, 3, side, side, generator=generator(seed, "graph"))
    try:
        x_HWC = square(decode(read_file(file)).x_HWC, side)
    except DecodeError as error:
        raise InputError(f"{file} cannot be read as an image: {error}.") from error
    x_CHW = torch.from_numpy(x_HWC.copy()).permute(2, 0, 1).float() / 255
    x_CHW = (x_CHW - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_SD)[:, None, None]
    copies = [x_CHW.roll(number // 2 * max(1, side // 8), 2) for number in range(count)]
    return torch.stack([x.flip(2) if number % 2 else x for number, x in enumerate(copies)])


def _loss(scores: Any) -> Tensor:
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise ModelError("The network must give scores (images, classes), one tensor of two dimensions.")
    images, classes = scores.shape
    return F.cross_entropy(scores, torch.tensor([number % classes for number in range(images)]))


def _from_file(name: str) -> nn.Module:
    """Return the network NAME of FILE.py: a module, or a function or class without arguments that gives one."""
    path, _, wanted = name.partition(".py:")
    file = Path(f"{path}.py")
    if not wanted or not file.is_file():
        raise ModelError(f'"{name}" must name a file and what is in it, as in --model net.py:network.')
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found = getattr(module, wanted, None)
        network = found if isinstance(found, nn.Module) or found is None else found()
    except Exception as error:  # whatever the user's own code raises
        raise ModelError(f"{file} failed with {type(error).__name__}: {error}.") from error
    if not isinstance(network, nn.Module):
        raise ModelError(f'{file} has no network "{wanted}": a torch.nn.Module, or a function that returns one.')
    return network
