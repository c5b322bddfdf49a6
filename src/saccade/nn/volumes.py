"""Sizes and costs of a network, layer by layer (lecture 5): volumes, parameters, products, memory, receptive fields."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from saccade.errors import ModelError, first_line
from saccade.nn import tracing, zoo
from saccade.nn.blocks import Blocks
from saccade.nn.tracing import Call, Trace
from saccade.nn.trunks import Weightless

BYTES = 4
"""Of a parameter, in float32."""


@dataclass(frozen=True)
class Volume:
    """One layer and what it gives for one image, in the order in which layers end.

    `output` is the output volume without the images' axis; `multiply_adds` counts the products of
    convolutions, fully connected layers and attention; `training_bytes` are what the layer adds to what is
    kept for the backward pass, `prediction_bytes` all activations that are alive at once while it works, in
    float32. `field` is the receptive field in pixels, high and wide, or None for all, and where it is `unknown`,
    as after transposed convolutions; normalisations are not counted. `dropped` counts the rows or columns no
    window reaches, padding included, `dropped_inputs` those of them that are not padding.
    """

    layer: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    training_bytes: int
    prediction_bytes: int
    field: tuple[int, int] | None
    dropped: int
    dropped_inputs: int
    unknown: bool = False


@dataclass(frozen=True)
class Volumes:
    """A network's layers, for images of `side` pixels."""

    side: int
    layers: tuple[Volume, ...]

    @property
    def parameters(self) -> int:
        """All parameters, those shared by several layers counted once."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """The products of predicting one image."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def training_bytes(self) -> int:
        """Activations kept for the backward pass, of one image."""
        return sum(layer.training_bytes for layer in self.layers)

    @property
    def prediction_bytes(self) -> int:
        """The most activations that are alive at once while one image is predicted."""
        return max((layer.prediction_bytes for layer in self.layers), default=0)

    @property
    def weight_bytes(self) -> int:
        """The parameters themselves."""
        return BYTES * self.parameters


def named(
    name: str, side: int = 224, *, classes: int = 1000, width: float | None = None, blocks: Blocks = Blocks()
) -> Volumes:
    """Return the volumes of a network by name; no memory is taken for its weights, and none are loaded.

    Raises ModelError where the name is unknown, or the network takes no images of this side.
    """
    with Weightless():
        network = zoo.new(name, classes=classes, side=side, width=width, blocks=blocks)
    return volumes(network, side, name)


def volumes(network: nn.Module, side: int, name: str = "") -> Volumes:
    """Return the volumes of any network of images (N, 3, side, side); it is not changed, nor run.

    Batch norm trains on two images at least, so the memory of training is half of what two take. Raises
    ModelError where it takes no images of this side.

    >>> from torch.nn import Conv2d, Sequential
    >>> [layer] = volumes(Sequential(Conv2d(3, 96, 11, stride=4)), 227).layers
    >>> layer.output, layer.parameters, layer.multiply_adds
    ((96, 55, 55), 34944, 105415200)
    """
    with tracing.imagined(network) as copy:
        try:
            predicted, trained = tracing.prediction(copy, side), tracing.training(copy, side)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ModelError(
                f'The network "{name or type(network).__name__}" cannot take images of {side} x {side} pixels '
                f"({first_line(error)}); give another size."
            ) from error
        return Volumes(side, tuple(_layers(copy, predicted, trained)))


def _layers(network: nn.Module, predicted: Trace, trained: Trace) -> Iterator[Volume]:
    owners = _owners(network, {name for name, _ in predicted.calls})
    for key, call in predicted.calls.items():
        saved = trained.calls[key].saved // 2 if key in trained.calls else 0
        parameters = owners.pop(call.name, 0)
        leaf = not any(True for _ in call.module.children())
        if parameters or saved or call.multiply_adds or call.looked or (leaf and call.operations):
            yield _volume(call, saved, parameters)


def _volume(call: Call, saved: int, parameters: int) -> Volume:
    unknown = call.sight is not None and not call.sight.known
    field = call.sight.field if call.sight and not unknown else None
    return Volume(
        layer=call.name or "(network)",
        kind=_kind(call.module),
        output=call.output,
        parameters=parameters,
        multiply_adds=call.multiply_adds,
        training_bytes=saved,
        prediction_bytes=call.live,
        field=None if field is None else (round(field[0]), round(field[1])),
        dropped=call.dropped[0],
        dropped_inputs=call.dropped[1],
        unknown=unknown,
    )


def _owners(network: nn.Module, called: set[str]) -> dict[str, int]:
    """Return how many parameters each module that is called has itself, or within it in modules that never are."""
    counts: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        owner = name.rpartition(".")[0]
        while owner and owner not in called:
            owner = owner.rpartition(".")[0]
        counts[owner] = counts.get(owner, 0) + parameter.numel()
    return counts


def _kind(module: nn.Module) -> str:
    """Return a module's class, with its window where it has one: "Conv2d 7x7/2"."""
    name, kernel, stride = type(module).__name__, getattr(module, "kernel_size", None), getattr(module, "stride", 1)
    if kernel is None:
        return name
    axes = int(name[-2]) if name.endswith(("1d", "2d", "3d")) else 2
    sides = (kernel,) * axes if isinstance(kernel, int) else kernel
    step = stride if isinstance(stride, int) else max(stride)
    return f"{name} {'x'.join(map(str, sides))}" + (f"/{step}" if step > 1 else "")
