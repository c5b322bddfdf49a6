"""A device that is none: it computes on the CPU, and keeps a record of what a GPU would refuse.

Run as `python -m tests.pretended COMMAND …`, it runs saccade's command of that name on the device "meta", whose
tensors here hold others of the CPU, and prints as JSON, in its last line, where tensors of both met.
"""

import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = "meta"
aten = torch.ops.aten
ACROSS = {
    aten.copy_.default,
    aten._to_copy.default,
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
"""What may take tensors of both: copies, and images on a GPU by indices that are not."""
met: Counter[str] = Counter()
"""How often tensors of both met, by operation and place in saccade."""


class Pretended(Tensor):
    """A tensor that says it is on the device; `held` is where it really is."""

    held: Tensor

    @staticmethod
    def __new__(cls: "type[Pretended]", held: Tensor) -> "Pretended":
        made: Pretended = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(DEVICE),
        )
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return computed(operation, args, kwargs or {})

    def __format__(self, how: str) -> str:
        return format(self.item(), how)

    def tolist(self) -> Any:
        return self.cpu().tolist()


class Device(TorchDispatchMode):
    """Within it, tensors made on the device or brought there are pretended ones."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(operation, args, kwargs or {})


def computed(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the CPU, and say of its result that it is where a GPU's would be."""
    tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, Tensor)]
    there = [each for each in tensors if isinstance(each, Pretended)]
    elsewhere = [each for each in tensors if not isinstance(each, Pretended) and each.ndim]
    if there and elsewhere and operation not in ACROSS:
        _note(operation, there, elsewhere)
    asked = kwargs.get("device")
    stays = bool(there) if asked is None else torch.device(asked).type == DEVICE
    if operation is aten.index.Tensor:
        stays = isinstance(args[0], Pretended)
    if asked is not None and stays:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    with _disable_current_modes():
        result = operation(*tree_map(_held, args), **tree_map(_held, kwargs))
    if any(map(_written, operation._schema.returns)):
        return next(
            value for argument, value in zip(operation._schema.arguments, args, strict=False) if _written(argument)
        )
    return tree_map(_outer, result) if stays else result


def _written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


def _outer(value: Any) -> Any:
    return Pretended(value) if isinstance(value, Tensor) else value


def _note(operation: Any, there: list[Pretended], elsewhere: list[Tensor]) -> None:
    own = [frame for frame in traceback.extract_stack() if "/saccade/" in Path(frame.filename).as_posix()]
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "outside saccade"
    shapes = [[tuple(each.shape) for each in some] for some in (there, elsewhere)]
    met[f"{operation} in {where}: {shapes[0]} on the device, {shapes[1]} on the CPU"] += 1


def main(command: Callable[[], int]) -> None:
    """Run a command on the device, then print where tensors of both met."""
    with Device():  # type: ignore[no-untyped-call]
        status = command()
    sys.stdout.write(json.dumps({"met": met, "status": status}) + "\n")


def _autocast(real: Callable[..., Any], device: str, *rest: Any, **given: Any) -> Any:
    return real("cpu" if device == DEVICE else device, *rest, **given)


if __name__ == "__main__":
    # Of what saccade takes from PyTorch, these two do not know a tensor that only says it is elsewhere.
    torch.inference_mode = torch.no_grad  # type: ignore[assignment, misc]
    torch.autocast = partial(_autocast, torch.autocast)  # type: ignore[assignment, misc]
    from saccade.cli.app import main as saccade

    main(lambda: saccade([*sys.argv[1:], "--device", DEVICE]))
