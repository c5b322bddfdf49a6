"""What a network does to one image, read from PyTorch's own operations, without memory for weights or activations."""

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from saccade.nn.sight import Sight, after, dropped, joined, multiply_adds

Key = tuple[str, int]
"""A module's name, and which call of it."""


@dataclass
class Call:
    """One call of a module: what it itself, and no module within it, did."""

    name: str
    module: nn.Module
    output: tuple[int, ...] = ()
    multiply_adds: int = 0
    operations: int = 0
    dropped: tuple[int, int] = (0, 0)
    looked: bool = False
    """Whether it looked through windows, at neighbouring places."""
    live: int = 0
    """The most bytes of activations that were alive at once."""
    saved: int = 0
    """Bytes kept for the backward pass, that nothing before had kept."""
    sight: Sight | None = None


@dataclass
class Trace:
    """The calls of one pass through a network, in the order in which they ended."""

    calls: dict[Key, Call] = field(default_factory=dict)
    stack: list[Call] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def now(self) -> Call:
        """The innermost call at work."""
        return self.stack[-1]

    @contextmanager
    def of(self, network: nn.Module) -> Iterator[None]:
        """Follow the calls of a network's modules within the block."""
        handles: list[RemovableHandle] = []
        for name, module in network.named_modules():

            def enter(module: nn.Module, _: Any, name: str = name) -> None:
                self.stack.append(Call(name, module))

            def leave(module: nn.Module, _: Any, output: Any) -> None:
                call = self.stack.pop()
                first = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
                call.output = () if first is None else tuple(first.shape[1:])
                self.calls[call.name, self.counts[call.name]] = call
                self.counts[call.name] += 1

            handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def imagined(network: nn.Module) -> Iterator[nn.Module]:
    """Give a copy of a network whose tensors have shapes and no content, as have all that are made within the block."""
    attention, log = torch.backends.mha, logging.getLogger(FakeTensorMode.__module__)
    fast, silent = attention.get_fastpath_enabled(), log.disabled
    attention.set_fastpath_enabled(False)  # it does a whole layer as one operation
    log.disabled = True  # it prints the traceback of what is raised as well
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            known: dict[int, Any] = {
                id(each): nn.Parameter(torch.empty(each.shape, dtype=each.dtype), requires_grad=each.requires_grad)
                for each in network.parameters()
            }
            known |= {id(each): torch.empty(each.shape, dtype=each.dtype) for each in network.buffers()}
        imaginary = copy.deepcopy(network, known)
        with mode:
            yield imaginary
    finally:
        attention.set_fastpath_enabled(fast)
        log.disabled = silent


@torch.no_grad()
def prediction(network: nn.Module, side: int) -> Trace:
    """Return a trace of predicting one image, in an imagined network: sizes, products, memory, what each place sees."""
    trace, x_NCHW = Trace(), torch.empty(1, 3, side, side)
    with trace.of(network.eval()), _Operations(trace, network, x_NCHW):
        network(x_NCHW)
    return trace


def training(network: nn.Module, side: int, images: int = 2) -> Trace:
    """Return a trace of running so many images forward to train on, with what is kept for the backward pass."""
    trace, known = Trace(), {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}

    def keep(tensor: Tensor) -> Tensor:
        if (key := _storage(tensor)) not in known:
            known.add(key)
            trace.now.saved += tensor.untyped_storage().nbytes()
        return tensor

    with trace.of(network.train()), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = network(torch.empty(images, 3, side, side))
    del scores  # it held all that was kept, so that no two of its tensors had the same storage
    return trace


@dataclass
class _Held:
    storage: StorageWeakRef
    bytes: int
    sight: Sight


class _Operations(TorchDispatchMode):
    """Adds to the innermost call what each operation costs, and follows what each activation has seen."""

    def __init__(self, trace: Trace, network: nn.Module, x_NCHW: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = trace
        self.weights = {_storage(tensor) for tensor in (*network.parameters(), *network.buffers())}
        self.held: dict[int, _Held] = {}
        side = x_NCHW.shape[-1]
        self._hold(x_NCHW, Sight(grid=(side, side)))

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and take note of it."""
        outputs = function(*args, **(kwargs or {}))
        if self.trace.stack:
            self._note(function, args, outputs)
        return outputs

    def _note(self, function: Any, args: Sequence[Any], outputs: Any) -> None:
        call = self.trace.now
        tensors = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
        inputs = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        name = function.overloadpacket.__name__
        call.multiply_adds += multiply_adds(name, args, tensors)
        if (left := dropped(name, args)) is not None:
            call.looked, call.dropped = True, left
        seen = joined([self.held[key].sight for each in inputs if (key := _storage(each)) in self.held])
        seen = after(name, args, tensors, seen) if seen and tensors else seen
        new = [each for each in tensors if _storage(each) not in self.held]
        call.operations += bool(new) or bool(function._schema.is_mutable)
        for each in tensors:
            if seen is not None:
                self._hold(each, seen)
        call.sight = seen or call.sight
        self.held = {key: held for key, held in self.held.items() if not held.storage.expired()}
        live = sum(held.bytes for held in self.held.values())
        for working in self.trace.stack:
            working.live = max(working.live, live)

    def _hold(self, tensor: Tensor, sight: Sight) -> None:
        key = _storage(tensor)
        if key in self.weights:
            return
        if key in self.held:
            self.held[key].sight = joined([self.held[key].sight, sight]) or sight
        else:
            storage = tensor.untyped_storage()
            self.held[key] = _Held(StorageWeakRef(storage), storage.nbytes(), sight)


def _storage(tensor: Tensor) -> int:
    """Return what tensors that share memory have in common."""
    return int(tensor.untyped_storage()._cdata)
