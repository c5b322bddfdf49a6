"""A layer of one's own, a forward and a backward in a Python file, made ready for the gradient check."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.errors import InputError, ModelError
from saccade.graph.code import imported
from saccade.graph.gradients import GradientCheck, check_gradients

EXPECTED = (
    "expected are functions forward(*inputs), which returns (out, cache), and backward(dout, cache), in NumPy, "
    "also as NAME_forward and NAME_backward; or a torch.autograd.Function; or an nn.Module"
)


@dataclass(frozen=True)
class Layer:
    """Something with a backward of its own: called like a function of tensors."""

    name: str
    function: Callable[..., Any]


def check_layers(path: Path, shapes: Sequence[Sequence[int]] = (), *, seed: int = 0) -> dict[str, GradientCheck]:
    """Import a Python file and check the gradients of each layer in it, by name.

    Their inputs are normal draws of the `shapes` given, else what the file's `inputs` says: shapes or
    arrays, or for several layers those of each by its name. The file is code that is run. Raises ModelError
    where it cannot be imported, holds no layer, or a layer fails on its inputs.
    """
    module = imported(path)
    found = {}
    for layer in layers_of(module, path):
        given = _inputs(module, layer.name, shapes, path, seed)
        try:
            found[layer.name] = check_gradients(layer.function, *given, seed=seed)
        except InputError:
            raise
        except Exception as error:
            where = ", ".join(str(tuple(each.shape)) for each in given)
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"{layer.name} in {path} failed on inputs of shape {where} ({type(error).__name__}: {reason})."
            ) from error
    return found


def layers_of(module: ModuleType, path: Path) -> list[Layer]:
    """Return the layers that an imported file defines; raises ModelError where there is none."""
    found = [*_pairs(module, path), *_classes(module, path), *_instances(module)]
    if not found:
        raise ModelError(f"{path} defines no layer; {EXPECTED}.")
    return found


def _pairs(module: ModuleType, path: Path) -> Iterator[Layer]:
    for name, forward in inspect.getmembers(module, inspect.isfunction):
        if name == "forward" or name.endswith("_forward"):
            backward = getattr(module, f"{name.removesuffix('forward')}backward", None)
            if inspect.isfunction(backward):
                short = name.removesuffix("forward").rstrip("_") or path.stem
                yield Layer(short, _numpy_layer(short, forward, backward))


def _classes(module: ModuleType, path: Path) -> Iterator[Layer]:
    for name, kind in inspect.getmembers(module, inspect.isclass):
        if kind.__module__ != module.__name__:
            continue
        if issubclass(kind, torch.autograd.Function):
            yield Layer(name, kind.apply)
        elif issubclass(kind, nn.Module) and not any(type(each) is kind for each in vars(module).values()):
            try:
                yield Layer(name, kind())
            except TypeError as error:
                raise ModelError(
                    f"{name} in {path} cannot be made without arguments ({error}); make one in the file, such as "
                    f"layer = {name}(…)."
                ) from error


def _instances(module: ModuleType) -> Iterator[Layer]:
    for name, value in vars(module).items():
        if isinstance(value, nn.Module):
            yield Layer(name, value)


def _numpy_layer(name: str, forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Tensor]:
    """Return a function of tensors whose gradient is what `backward` says."""

    class Own(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, *inputs: Tensor) -> Tensor:
            returned = forward(*(each.detach().numpy().copy() for each in inputs))
            if not isinstance(returned, tuple) or len(returned) != 2:
                raise ModelError(f"The forward of {name} returned no (out, cache); {EXPECTED}.")
            out, context.cache = returned
            context.shapes = [tuple(each.shape) for each in inputs]
            return torch.from_numpy(np.array(out))

        @staticmethod
        def backward(context: Any, *upstream: Tensor) -> Any:
            returned = backward(upstream[0].numpy(), context.cache)
            gradients = returned if isinstance(returned, tuple | list) else (returned,)
            return _checked(name, gradients, context.shapes)

    def layer(*inputs: Tensor) -> Tensor:
        out: Tensor = Own.apply(*inputs)
        return out

    return layer


def _checked(name: str, gradients: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor | None, ...]:
    """Return the gradients as tensors; raises ModelError where they are not one an input, of its shape."""
    if len(gradients) != len(shapes):
        raise ModelError(f"The backward of {name} returned {len(gradients)} gradients for {len(shapes)} inputs.")
    for place, (gradient, shape) in enumerate(zip(gradients, shapes, strict=True), 1):
        if gradient is not None and np.shape(gradient) != shape:
            raise ModelError(
                f"The backward of {name} returned a gradient of shape {np.shape(gradient)} for input {place}, "
                f"whose shape is {shape}."
            )
    return tuple(None if each is None else torch.from_numpy(np.array(each, np.float64)) for each in gradients)


def _inputs(module: ModuleType, name: str, shapes: Sequence[Sequence[int]], path: Path, seed: int) -> list[Tensor]:
    told: Any = list(shapes)
    if not told:
        told = getattr(module, "inputs", None)
        told = told() if callable(told) else told
        told = told.get(name) if isinstance(told, dict) else told
    if told is None or not isinstance(told, list | tuple):
        raise ModelError(
            f"{path} does not say what {name} takes; give the shapes, as in --layer {path.name} 4x5 5x3, or set "
            "inputs = [(4, 5), (5, 3)] in it."
        )
    draws = torch.Generator().manual_seed(seed)
    return [_input(each, draws, name, path) for each in told]


def _input(told: Any, draws: torch.Generator, name: str, path: Path) -> Tensor:
    if isinstance(told, tuple | list) and all(isinstance(side, int) for side in told):
        return torch.randn(tuple(told), generator=draws, dtype=torch.float64)
    if isinstance(told, np.ndarray | Tensor):
        return torch.as_tensor(told)
    raise ModelError(f"The inputs of {name} in {path} hold {told!r}; expected are shapes such as (4, 5), or arrays.")
