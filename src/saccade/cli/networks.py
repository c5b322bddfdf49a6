"""The network and the images that `saccade graph --model` puts through it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.classifiers import Model
from saccade.classifiers.network import NetworkClassifier
from saccade.data.decode import decode
from saccade.data.scale import Fit, square
from saccade.data.trees import read_file
from saccade.device import generator
from saccade.errors import DecodeError, InputError, ModelError
from saccade.files import expanded
from saccade.graph import Graph, trace
from saccade.graph.code import imported, running
from saccade.nn import pretrained, trunks, weights, zoo
from saccade.nn.layers import Standardize
from saccade.nn.published import IMAGENET_MEAN, IMAGENET_SD
from saccade.run import Run
from saccade.settings import Interpolation
from saccade.words import own_name


@dataclass(frozen=True)
class Subject:
    """A network to look at, and the preprocessing before it: images (N, 3, `side`, `side`) in 0…255 → its inputs."""

    network: nn.Module
    preprocess: nn.Module
    side: int
    fit_to_square: Fit = "stretch"
    how: Interpolation = "bilinear"


def trace_network(
    name: str, image: Path | None, *, size: int | None, classes: int, batch_size: int, seed: int
) -> Graph:
    """Trace one training step's forward and backward pass of a network: images → cross-entropy.

    `name` is one of `saccade models`, new; `run/FOLDER`, as a run left it; `file/FILE`, with the weights there;
    or FILE.py:NAME. It runs in training mode on a batch, for batch norm would not normalise otherwise. Raises
    ModelError where there is no such network or it takes no such images, RunError where there is no such run,
    InputError where the image cannot be read.
    """
    torch.manual_seed(seed)
    seen = subject(name, size, classes, batch_size)
    pixels_NCHW = images(image, seen.side, batch_size, seed, seen.fit_to_square, seen.how)
    network = seen.network.train()
    try:
        x_NCHW = seen.preprocess(pixels_NCHW).detach().requires_grad_()
        return trace(lambda x: _loss(network(x)), x_NCHW)
    except InputError:
        raise
    except Exception as error:  # a network of one's own may raise anything
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f'The network "{name}" failed on {batch_size} images of {seen.side} x {seen.side} '
            f"({type(error).__name__}: {reason})."
        ) from error


def images(
    file: Path | None, side: int, count: int, seed: int, fit: Fit = "stretch", how: Interpolation = "bilinear"
) -> Tensor:
    """Return images (count, 3, side, side) in 0…255: one mirrored and shifted, or noise of natural colours without one.

    Raises InputError where the file cannot be read.
    """
    if file is None:
        noise_NCHW = torch.randn(count, 3, side, side, generator=generator(seed, "graph"))
        mean_C, sd_C = (255 * torch.tensor(each) for each in (IMAGENET_MEAN, IMAGENET_SD))
        return noise_NCHW * sd_C[:, None, None] + mean_C[:, None, None]
    try:
        x_HWC = square(decode(read_file(file)).x_HWC, side, fit, how)
    except DecodeError as error:
        raise InputError(f"{file} cannot be read as an image: {error}.") from error
    x_CHW = torch.from_numpy(x_HWC.copy()).permute(2, 0, 1).float()
    copies = [x_CHW.roll(number // 2 * max(1, side // 8), 2) for number in range(count)]
    return torch.stack([x.flip(2) if number % 2 else x for number, x in enumerate(copies)])


def subject(name: str, size: int | None, classes: int, batch_size: int) -> Subject:
    """Return the network called `name`, as `trace_network` knows it; raises what that does where there is none."""
    family, _, rest = name.partition("/")
    if ".py" in name:
        return Subject(_from_code(name), _imagenet(), size or 32)
    if family == "run":
        return _from_run(expanded(rest), size)
    if family == "file":
        return _from_weights(rest, size, classes)
    side = size or (224 if "/" in own_name(name) else 32)
    network = zoo.body(zoo.build(name, classes=classes, side=side))
    zoo.check_trains(network, name, side, batch_size)
    return Subject(network, _imagenet(), side)


def _from_run(folder: Path, size: int | None) -> Subject:
    """Return the network of a run, of several that with the most to say, at the size it was trained on."""
    model = Model.load(Run.open(folder).model, "cpu")
    networks = [member for member in model.members if isinstance(member.classifier, NetworkClassifier)]
    if not networks:
        raise ModelError(f"The run in {folder} chose {model.name}, which is no network: it has no layers to show.")
    member = max(networks, key=lambda member: member.weight)
    assert isinstance(member.classifier, NetworkClassifier)
    network = member.classifier.forward_.network
    assert isinstance(network, nn.Sequential)
    preprocess, body = network
    return Subject(body, preprocess, size or member.size, model.fit_to_square, member.how)


def _from_weights(text: str, size: int | None, classes: int) -> Subject:
    """Return the network whose weights are in FILE, or NAME=FILE; its last layer is new where the file has none."""
    known = pretrained.find(text if "=" in text else str(expanded(text).absolute()))
    assert known is not None
    assert known.file is not None
    tensors = weights.read(known.file)
    last = {name: tensors[name] for name in sorted(trunks.outline(known.model).head) if name in tensors}
    rows = {len(tensor) for tensor in last.values() if tensor.dim()}
    plain = known.model.partition(".")[0]
    network = zoo.new(plain, classes=rows.pop() if len(rows) == 1 else classes, side=known.size)
    own = weights.shapes(network.state_dict())
    fitting = {name: tensor for name, tensor in last.items() if own.get(name) == tuple(tensor.shape)}
    trunks.fill(network, {**fitting, **pretrained.load(known).state_dict()})
    return Subject(network, _standardize(known.mean, known.sd), size or known.size, how=known.interpolation)


def _imagenet() -> nn.Module:
    return _standardize(IMAGENET_MEAN, IMAGENET_SD)


def _standardize(mean: Sequence[float], sd: Sequence[float]) -> Standardize:
    standardize = Standardize()
    standardize.mean_C.copy_(255 * torch.tensor(mean))
    standardize.sd_C.copy_(255 * torch.tensor(sd))
    return standardize


def _loss(scores: Any) -> Tensor:
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        raise ModelError("The network must give scores (images, classes), one tensor of two dimensions.")
    images, classes = scores.shape
    return F.cross_entropy(scores, torch.tensor([number % classes for number in range(images)]))


def _from_code(name: str) -> nn.Module:
    """Return the network NAME of FILE.py: a module, or a function or class without arguments that gives one."""
    path, _, wanted = name.rpartition(":")
    file = Path(path)
    if not path or not wanted:
        raise ModelError(f'"{name}" must name a file and what is in it, as in --model net.py:network.')
    found = getattr(imported(file), wanted, None)
    with running(file):
        network = found if isinstance(found, nn.Module) or found is None else found()
    if not isinstance(network, nn.Module):
        raise ModelError(f'{file} has no network "{wanted}": a torch.nn.Module, or a function that returns one.')
    return network
