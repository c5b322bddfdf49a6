"""Networks described layer by layer, as lecture 5 draws them: "conv32f5 pool conv64 pool fc128".

| written | is |
|---|---|
| `conv64f5s2p2` | 64 filters of 5x5 pixels at every 2nd pixel, 2 zeros around; f3, s1, p(f-1)/2 if left out |
| `pool3s2p0` | windows of 3x3 pixels at every 2nd, by the setting `pool`; 2, s as large as the window, p0 if left out |
| `global` | each channel's maximum or average, by `global_pool` |
| `fc128` | a fully connected layer of 128 units |

Each `conv` and `fc` is followed by the settings' normalisation and activation; a linear layer to the classes ends it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import nn

from saccade.errors import ModelError
from saccade.nn.blocks import Blocks, global_pool_2d, norm_2d, pool_2d
from saccade.nn.convnets import dense
from saccade.nn.init import initialise
from saccade.nn.tiling import Window

_LAYER = re.compile(r"(conv|fc)([1-9]\d*)(?:f(\d+))?(?:s(\d+))?(?:p(\d+))?|(pool)(\d+)?(?:s(\d+))?(?:p(\d+))?|global")
_LIKELY = re.compile(r"(conv|pool|fc)\d|.*\s|global$")
DEFAULTS = Blocks(activation="relu", norm="batch", pool="max", global_pool="max", init="he")
"""What the lecture advises."""
CHOICES = ("activation", "norm", "pool", "global_pool", "init")
"""What settings say of a described network; the rest is in its description."""
ONE = Window(1)


@dataclass(frozen=True)
class Layer:
    """One layer as it was written: its kind, the filters or units it has, its window."""

    text: str
    kind: str
    units: int = 0
    window: Window = ONE


def is_description(name: str) -> bool:
    """Return whether a network's name describes it.

    >>> is_description("conv32f5s1 pool2 fc10"), is_description("convnet")
    (True, False)
    """
    return _LIKELY.match(name) is not None


def parse(description: str) -> list[Layer]:
    """Return the layers that a description names.

    Raises ModelError where a word of it is no layer, or a layer cannot follow the one before.
    """
    layers = [_layer(word) for word in description.split()]
    flat = False
    for layer in layers:
        if flat and layer.kind != "fc":
            raise ModelError(f'The layer "{layer.text}" in "{description}" needs an image; put it before the first fc.')
        flat = flat or layer.kind in ("fc", "global")
    return layers


def described(description: str, classes: int, side: int, width: float, blocks: Blocks) -> nn.Module:
    """Return the network that a description names, for images (N, 3, side, side); `width` multiplies its filters.

    Raises ModelError where the description is wrong, or where a layer's windows do not tile its input: F, S and P
    must make (W - F + 2P) / S a whole number.
    """
    blocks.refuse_others(description, *CHOICES)
    blocks = blocks.or_else(DEFAULTS)
    scaled = [replace(layer, units=max(1, round(width * layer.units))) for layer in parse(description)]
    network = nn.Sequential(*_modules(scaled, classes, side, blocks))
    initialise(network, blocks.init or "he", blocks.activation or "relu")
    return network


def _modules(layers: list[Layer], classes: int, side: int, blocks: Blocks) -> Iterator[nn.Module]:
    channels, features = 3, 0
    for layer in layers:
        if layer.kind == "conv":
            side = layer.window.tiled(side, layer.text)
            units = layer.units * blocks.pieces
            window = (layer.window.kernel, layer.window.stride, layer.window.padding)
            yield nn.Conv2d(channels, units, *window, bias=not blocks.normalised)
            yield norm_2d(blocks.norm or "batch", units)
            yield blocks.activate()
            channels = layer.units
        elif layer.kind == "pool":
            fractional = blocks.pool == "fractional"
            side = layer.window.fraction(side) if fractional else layer.window.tiled(side, layer.text)
            window = (layer.window.kernel, layer.window.stride, layer.window.padding)
            yield pool_2d(blocks.pool or "max", *window)
        elif layer.kind == "global":
            yield global_pool_2d(blocks.global_pool or "max")
            features = channels
        else:
            if not features:
                yield nn.Flatten()
            yield from dense(features or channels * side**2, layer.units, blocks)
            features = layer.units
    if not features:
        yield nn.Flatten()
    yield nn.Linear(features or channels * side**2, classes)


def _layer(word: str) -> Layer:
    found = _LAYER.fullmatch(word)
    if found is None or (found[1] == "fc" and any(found.groups()[2:])):
        raise ModelError(
            f'"{word}" is no layer; expected such as conv32, conv64f5s2p2, pool, pool3s2, global or fc128.'
        )
    if found[1] == "fc":
        return Layer(word, "fc", int(found[2]))
    if found[1] == "conv":
        kernel = int(found[3] or 3)
        return Layer(word, "conv", int(found[2]), _window(word, kernel, found[4] or 1, found[5] or (kernel - 1) // 2))
    if found[6] == "pool":
        kernel = int(found[7] or 2)
        return Layer(word, "pool", 0, _window(word, kernel, found[8] or kernel, found[9] or 0))
    return Layer(word, "global")


def _window(word: str, kernel: int, stride: str | int, padding: str | int) -> Window:
    window = Window(kernel, int(stride), int(padding))
    if not (window.kernel and window.stride) or 2 * window.padding > window.kernel:
        raise ModelError(f'The layer "{word}" cannot be: F and S are 1 or more, and P is at most half of F.')
    return window
