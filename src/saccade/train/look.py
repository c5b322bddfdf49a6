"""A look into one training step: what activations do, what gradients arrive, how far each layer moves (lecture 6).

Nothing here changes what is computed: it reads, draws nothing at random, and waits for the device once a look.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from saccade.nn.stages import units_first

EDGE = 0.02
"""A sigmoid is saturated within this share of its range from either end."""
VALUES = 2**19
"""Numbers of one activation that are looked at: of large ones the first images alone, for the time."""
RECTIFIERS = frozenset({"relu", "relu_", "relu6", "threshold", "clamp_min", "clamp_min_"})
SQUASHERS = {"sigmoid": (0.0, 1.0), "sigmoid_": (0.0, 1.0), "tanh": (-1.0, 1.0), "tanh_": (-1.0, 1.0)}
OTHERS = frozenset("leaky_relu leaky_relu_ prelu elu elu_ selu celu gelu silu mish hardswish softplus".split())


@dataclass(frozen=True)
class Layer:
    """One layer's weights in one step: the root mean square of their gradient, and |Δw| / |w|, about 1e-3 in health.

    `trained` tells that they ask for a gradient.
    """

    gradient: float
    update: float
    trained: bool = True


@dataclass(frozen=True)
class Activation:
    """One activation's outputs in one step: mean and spread, and what cannot learn.

    `dead` is the share of rectified units that are 0 on every image, `saturated` that of a sigmoid's or a tanh's
    values at the ends of their range; None where the activation has no such thing.
    """

    mean: float
    sd: float
    dead: float | None = None
    saturated: float | None = None


@dataclass(frozen=True)
class Sample:
    """What was seen in a step: `rate` is what the learning rate was multiplied by, `classes` the number of scores.

    Layers are those with a matrix or kernels, activations those that ran, both by module and in their order.
    """

    step: int
    rate: float
    classes: int
    layers: Mapping[str, Layer]
    activations: Mapping[str, Activation]

    def plain(self) -> dict[str, Any]:
        """Return plain values, from which `of` makes an equal sample."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Sample":
        """Return the sample that `plain` was called on."""
        layers = {name: Layer(**each) for name, each in plain["layers"].items()}
        activations = {name: Activation(**each) for name, each in plain["activations"].items()}
        return cls(plain["step"], plain["rate"], plain["classes"], layers, activations)


class Look:
    """Looks into one step: made before it, given its forward passes, asked before the gradients are forgotten."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.seen = Seen()
        self._weights = {name: each for name, each in network.named_parameters() if each.dim() > 1}
        self._before = [each.detach().clone() for each in self._weights.values()]

    @contextmanager
    def seeing(self) -> Iterator[None]:
        """Look at every activation within the block."""
        with named(self.network, self.seen), self.seen:
            yield

    @torch.no_grad()
    def sample(self, step: int, rate: float) -> Sample | None:
        """Return what the step did, once its update is made; None where a number overflowed."""
        weights = list(self._weights.values())
        if not weights:
            return None
        moved = torch._foreach_norm(torch._foreach_sub([each.detach() for each in weights], self._before))
        lengths, arrived = torch._foreach_norm(self._before), torch._foreach_norm(_gradients(weights))
        values = [value for each in self.seen.activations.values() for value in each]
        # One transfer for all: each would wait for the device by itself.
        numbers = torch.stack([value.float() for value in (*moved, *lengths, *arrived, *values)]).tolist()
        moves, sizes, gradients = (numbers[place * len(weights) : (place + 1) * len(weights)] for place in range(3))
        layers = {
            _layer(name): Layer(gradient / each.numel() ** 0.5, move / (size or 1.0), each.requires_grad)
            for (name, each), move, size, gradient in zip(self._weights.items(), moves, sizes, gradients, strict=True)
        }
        fours = zip(*[iter(numbers[3 * len(weights) :])] * 4, strict=True)
        activations = {
            name: Activation(mean, sd, _known(dead), _known(saturated))
            for name, (mean, sd, dead, saturated) in zip(self.seen.activations, fours, strict=True)
        }
        finite = [*moves, *gradients, *(each.sd for each in activations.values())]
        return Sample(step, rate, self.seen.classes, layers, activations) if all(map(math.isfinite, finite)) else None


class Seen(TorchFunctionMode):
    """Watches every function of tensors, whether a module or the network's own code calls it.

    `activations` are mean, spread, dead and saturated share by module (NaN: no such thing), on the device; of
    several calls in one module the worst. `first_layer` is the first module that has a matrix or kernels,
    `input_ms` the mean square of what it was given.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.first_layer, self.classes = "", 0
        self.input_ms: Tensor | None = None
        self.activations: dict[str, tuple[Tensor, ...]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a function, and look at what it gave."""
        out = func(*args, **(kwargs or {}))
        operation = getattr(func, "__name__", "")
        known = operation in RECTIFIERS or operation in SQUASHERS or operation in OTHERS
        if known and isinstance(out, Tensor) and out.dim() > 1 and out.numel():
            self._note(operation, out)
        return out

    @torch.no_grad()
    def _note(self, operation: str, out: Tensor) -> None:
        values = out.detach()[: max(8, VALUES // out[0].numel())].float()
        dead = saturated = torch.full((), math.nan, device=out.device)
        if operation in RECTIFIERS:
            units = units_first(values)
            dead = (units.amax([axis for axis in range(units.dim()) if axis != 1]) <= 0).float().mean()
        elif operation in SQUASHERS:
            low, high = SQUASHERS[operation]
            edge = EDGE * (high - low)
            saturated = ((values < low + edge) | (values > high - edge)).float().mean()
        name = self.stack[-1] if self.stack else "the network"
        mean, sd = values.mean(), values.std(correction=0)
        earlier = self.activations.get(name, (mean, sd, dead, saturated))
        worst = (torch.fmin(earlier[1], sd), torch.fmax(earlier[2], dead), torch.fmax(earlier[3], saturated))
        self.activations[name] = (earlier[0], *worst)


@contextmanager
def named(network: nn.Module, seen: Seen) -> Iterator[None]:
    """Tell `seen` within the block which module is at work, what the first layer is given, how many scores come out."""

    def entering(name: str) -> Callable[..., None]:
        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen.stack.append(name or type(module).__name__)
            matrix = any(each.dim() > 1 for each in module.parameters(recurse=False))
            if matrix and not seen.first_layer and inputs and isinstance(inputs[0], Tensor):
                seen.first_layer = name
                seen.input_ms = inputs[0].detach().float().square().mean()

        return enter

    def leave(module: nn.Module, inputs: Any, out: Any) -> None:
        seen.stack.pop()
        if module is network and isinstance(out, Tensor):
            seen.classes = out.shape[-1]

    handles = []
    for name, module in network.named_modules():
        handles.append(module.register_forward_pre_hook(entering(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gradients(weights: list[nn.Parameter]) -> list[Tensor]:
    return [torch.zeros_like(each) if each.grad is None else each.grad for each in weights]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _layer(name: str) -> str:
    """Return a layer's name, given that of its weights.

    >>> _layer("body.head.weight")
    'body.head'
    """
    return name.removesuffix(".weight")
