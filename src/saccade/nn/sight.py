"""What one operation of PyTorch costs, drops at the border, and lets each place see of the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

Two = tuple[int, int]

_ATTENTION = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math")
_REDUCTIONS = ("mean", "sum", "amax", "max", "logsumexp")
_RESIZES = ("convolution", "avg_pool", "max_pool", "upsample", "_upsample", "grid_sampler")
"""What names of operations begin with after which places see more than before."""
_WHOLE = ("_adaptive_avg_pool2d", "adaptive_max_pool2d")


@dataclass(frozen=True)
class Sight:
    """What one of `grid` places sees: `field` pixels high and wide, `jump` from its neighbour's; None: all pixels.

    The receptive field, as large as it would be far from the border; where it is not `known`, at least so large.
    """

    field: tuple[float, float] | None = (1.0, 1.0)
    jump: tuple[float, float] = (1.0, 1.0)
    grid: Two = (1, 1)
    known: bool = True

    @property
    def places(self) -> int:
        """How many places there are."""
        return self.grid[0] * self.grid[1]

    def through(self, kernel: Sequence[float], stride: Sequence[float], grid: Two) -> "Sight":
        """Return what the places of a new grid see through windows of `kernel` places at every `stride`-th."""
        wider = None
        if self.field is not None:
            wider = (
                self.field[0] + (kernel[0] - 1) * self.jump[0],
                self.field[1] + (kernel[1] - 1) * self.jump[1],
            )
        return replace(self, field=wider, jump=(self.jump[0] * stride[0], self.jump[1] * stride[1]), grid=grid)

    def everywhere(self) -> "Sight":
        """Return what a place sees that every place tells all."""
        return replace(self, field=None) if self.places > 1 else self


def joined(sights: Sequence[Sight]) -> Sight | None:
    """Return what is seen of things put together: the most of each; None where there is nothing."""
    if not sights:
        return None
    known = all(sight.known for sight in sights)
    widest = replace(max(sights, key=lambda sight: sight.places), known=known)
    fields = [sight.field for sight in sights]
    if None in fields:
        return replace(widest, field=None)
    told = [field for field in fields if field is not None]
    return replace(widest, field=(max(high for high, _ in told), max(wide for _, wide in told)))


def after(name: str, args: Sequence[Any], outputs: Sequence[Tensor], seen: Sight) -> Sight:
    """Return what the outputs of an operation see, whose inputs saw `seen`. Normalisations are not counted."""
    if (window := _window(name, args)) is not None:
        kernel, stride, _, dilation, _ = window
        reach = [dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1)]
        return seen.through(reach, stride, _grid(outputs[0]))
    if name == "fractional_max_pool2d":
        (high, wide), (new_high, new_wide) = _grid(args[0]), _grid(outputs[0])
        kernel = _pair(args[1])
        return seen.through(kernel, (high / new_high, wide / new_wide), (new_high, new_wide))
    if name in _WHOLE and _grid(outputs[0]) == (1, 1) != _grid(args[0]):
        return replace(seen.through(seen.grid, (1, 1), (1, 1)), field=None)
    if name in _REDUCTIONS and _reduces_places(args, seen):
        return Sight(None, seen.jump, (1, 1))
    if name in ("mm", "addmm") and outputs[0].shape[0] == 1 and seen.places > 1:
        return Sight(None, seen.jump, (1, 1))
    if name.startswith(_RESIZES):
        return replace(seen, known=False)
    return seen.everywhere() if name in (*_ATTENTION, "bmm", "baddbmm") else seen


def multiply_adds(name: str, args: Sequence[Any], outputs: Sequence[Tensor]) -> int:
    """Return how many products an operation sums up: of convolutions, matrix products and attention; else 0."""
    if name == "convolution":
        source = args[0] if args[6] else outputs[0]
        return int(source.numel()) * int(math.prod(args[1].shape[1:]))
    if name in ("mm", "bmm"):
        return outputs[0].numel() * int(args[0].shape[-1])
    if name in ("addmm", "baddbmm"):
        return outputs[0].numel() * int(args[1].shape[-1])
    if name in _ATTENTION:
        query, key, value = args[:3]
        return int(math.prod(query.shape[:-1])) * int(key.shape[-2]) * int(query.shape[-1] + value.shape[-1])
    return 0


def dropped(name: str, args: Sequence[Any]) -> Two | None:
    """Return how many rows or columns no window reaches, padding counted, and of these how many are of the input.

    None where an operation has no windows; the larger of both axes.
    """
    window = _window(name, args)
    if window is None:
        return None
    kernel, stride, padding, dilation, rounds_up = window
    left = [
        0 if rounds_up else (size + 2 * pad - reach * (width - 1) - 1) % step
        for size, width, step, pad, reach in zip(_grid(args[0]), kernel, stride, padding, dilation, strict=True)
    ]
    return max(left), max(0, *(rest - pad for rest, pad in zip(left, padding, strict=True)))


def _window(name: str, args: Sequence[Any]) -> tuple[Two, Two, Two, Two, bool] | None:
    """Return kernel, stride, padding, dilation, and whether sizes are rounded up; None for other operations."""
    if name == "convolution" and args[1].ndim == 4 and not args[6]:
        kernel = (int(args[1].shape[2]), int(args[1].shape[3]))
        return kernel, _pair(args[3]), _pair(args[4]), _pair(args[5]), False
    if name in ("max_pool2d_with_indices", "avg_pool2d"):
        kernel = _pair(args[1])
        stride = _pair(args[2]) if len(args) > 2 and args[2] else kernel
        padding = _pair(args[3]) if len(args) > 3 else (0, 0)
        dilates = name == "max_pool2d_with_indices"
        dilation = _pair(args[4]) if dilates and len(args) > 4 else (1, 1)
        place = 5 if dilates else 4
        return kernel, stride, padding, dilation, bool(args[place]) if len(args) > place else False
    return None


def _reduces_places(args: Sequence[Any], seen: Sight) -> bool:
    """Return whether the axes that are reduced are those of the places, by their sizes; a class token may be there."""
    if len(args) < 2 or args[1] is None or seen.places == 1:
        return False
    axes = args[1] if isinstance(args[1], list | tuple) else [args[1]]
    size = math.prod(int(args[0].shape[axis]) for axis in axes)
    return size in (seen.places, seen.places + 1, seen.places + 2)


def _grid(tensor: Tensor) -> Two:
    return int(tensor.shape[-2]), int(tensor.shape[-1])


def _pair(value: Any) -> Two:
    values = value if isinstance(value, list | tuple) else (value,)
    return int(values[0]), int(values[-1])
