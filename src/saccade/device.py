"""Where and how exactly to compute: device, precision, threads, seeds, determinism."""

import ctypes
import gc
import hashlib
import os
import platform
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import psutil

from saccade.errors import DeviceError

if TYPE_CHECKING:
    import torch


_auto: ContextVar[str] = ContextVar("auto", default="auto")


def resolve_device(name: str = "auto") -> "torch.device":
    """Return the device called `name`; `auto` is what `computing_on` says, or the first CUDA GPU, else the CPU.

    Apple's GPU, which has no float64, is to be asked for. A CPU keeps its memory from then on (`keep_memory`).
    Raises DeviceError when the name is unknown, or the machine has no such device, or it cannot be used.
    """
    import torch

    name = _auto.get() if name == "auto" else name
    try:
        device = torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        if name == "auto":
            reason = shorten(str(error), 200, placeholder=" …")
            raise DeviceError(
                f'The device "cuda" of this machine cannot be used ({reason}); give --device cpu.'
            ) from error
        raise DeviceError(
            f'Device "{name}" is not available on this machine; give auto, cpu, cuda, cuda:N or mps.'
        ) from error
    if device.type == "cpu":
        keep_memory()
    return device


@contextmanager
def computing_on(name: str) -> Iterator[None]:
    """Let `auto` mean the device called `name` within the block; raises DeviceError as `resolve_device` does.

    >>> with computing_on("cpu"):
    ...     resolve_device("auto")
    device(type='cpu')
    """
    if name != "auto":
        resolve_device(name)
    token = _auto.set(_auto.get() if name == "auto" else name)
    try:
        yield
    finally:
        _auto.reset(token)


def resolve_precision(name: str, device: "torch.device") -> "torch.dtype":
    """Return the dtype networks compute in: `float32`, `bfloat16`, or by `auto` what is fast here.

    `auto` is bfloat16 where the hardware multiplies it natively (CUDA from Ampere on, CPUs with
    AVX512-BF16 or AMX), else float32.
    """
    import torch

    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def derived_seed(seed: int, *purpose: object) -> int:
    """Return a 63-bit seed for one purpose, so that no two parts of a run share a random stream.

    >>> derived_seed(0, "split") == derived_seed(0, "split")
    True
    >>> derived_seed(0, "split") == derived_seed(0, "augment")
    False
    """
    text = "\x1f".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, *purpose: object, device: "torch.device | str" = "cpu") -> "torch.Generator":
    """Return a torch generator seeded for one purpose (see `derived_seed`)."""
    import torch

    return torch.Generator(device).manual_seed(derived_seed(seed, *purpose))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global generators within the block alone; then they go on as before."""
    import numpy as np
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # and not the GPUs', which are not set back
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


class Stream:
    """What torch's global generators draw, seeded, within `drawing()` alone: outside they are as they were.

    Of the CPU's generator and, where the device has one, of that one; what draws from them, as dropout does, goes on
    where it stopped each time. `states` are theirs, by name, and may be put back.

    >>> import torch
    >>> stream, before = Stream(0, torch.device("cpu")), torch.get_rng_state()
    >>> with stream.drawing():
    ...     one = torch.rand(())
    >>> bool((torch.get_rng_state() == before).all())
    True
    >>> bool(one == torch.rand((), generator=torch.Generator().manual_seed(0)))
    True
    """

    def __init__(self, seed: int, device: "torch.device") -> None:
        import torch

        self.device = device
        places = {"torch": torch.device("cpu"), **({device.type: device} if device.type in ("cuda", "mps") else {})}
        self.states = {name: torch.Generator(each).manual_seed(seed).get_state() for name, each in places.items()}

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Let torch's global generators be the stream's within the block."""
        outside = self._swapped(self.states)
        try:
            yield
        finally:
            self.states = self._swapped(outside)

    def restore(self, states: Mapping[str, "torch.Tensor"]) -> None:
        """Go on from `states`, as far as they are of generators that the stream has."""
        self.states = {name: states.get(name, state) for name, state in self.states.items()}

    def _swapped(self, states: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
        """Give the global generators other states; return those they had."""
        import torch

        had = {"torch": torch.get_rng_state()}
        torch.set_rng_state(states["torch"])
        if self.device.type == "cuda":
            had["cuda"] = torch.cuda.get_rng_state(self.device)
            torch.cuda.set_rng_state(states["cuda"], self.device)
        elif self.device.type == "mps":
            had["mps"] = torch.mps.get_rng_state()
            torch.mps.set_rng_state(states["mps"])
        return had


def synchronize(device: "torch.device") -> None:
    """Wait until a GPU has done what it was asked; a CPU has."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@cache
def keep_memory() -> bool:
    """Keep what is freed from now on for what is asked for next; return whether the C library was told so.

    A step takes and frees the same activations each time. Those of more than 32 MB would go back to the system and be
    fetched again, at a fault a page, which can take longer than computing them does. `release_memory` gives them back.
    Only glibc needs to be told; what its own environment variables say holds.
    """
    told = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.getenv("GLIBC_TUNABLES", "")
    if told or not _glibc():
        return False
    top_pad, trim_threshold, mmap_max = -2, -1, -4  # mallopt(3)
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(mmap_max, 0), mallopt(trim_threshold, -1), mallopt(top_pad, 64 << 20)])


def release_memory() -> None:
    """Give back the memory of what nothing refers to any more, a GPU's too."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    if _glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


class Usage:
    """What the processor did since this was made: how many cores other programs kept busy."""

    def __init__(self) -> None:
        self._begun = time.time()
        self._all, self._own = _busy_seconds()

    def elsewhere(self) -> float:
        """Return the mean number of cores that other programs used."""
        everything, own = _busy_seconds()
        return max(0.0, (everything - self._all) - (own - self._own)) / max(time.time() - self._begun, 1e-3)


def _busy_seconds() -> tuple[float, float]:
    """Return the processor seconds used so far, on the cores this process may use: by everything, and by itself.

    What other programs do at low priority does not count: it gives way.
    """
    each, own = psutil.cpu_times(percpu=True), os.times()
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(each))
    low = hasattr(os, "getpriority") and os.getpriority(os.PRIO_PROCESS, 0) > 0
    kinds = ("user", "system", "nice") if low else ("user", "system")
    busy = sum(getattr(times, kind, 0.0) for n, times in enumerate(each) if n in allowed for kind in kinds)
    return busy, own.user + own.system + own.children_user + own.children_system


def use_threads(number: int | None) -> None:
    """Compute on the CPU with so many threads from now on; None leaves it as it is."""
    import torch

    if number is not None:
        torch.set_num_threads(number)


def free_threads(usage: Usage) -> int:
    """Return the threads worth computing with: the cores that other programs left free, at least one.

    Two threads on one free core wait for each other at every operation, and are slower than one.
    """
    import torch

    return max(1, min(torch.get_num_threads(), round(cores() - usage.elsewhere())))


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Return a short description of this machine and of the libraries that decide a result."""
    from importlib.metadata import version

    import torch

    more = ["bfloat16"] if resolve_precision("auto", torch.device("cpu")) == torch.bfloat16 else []
    more += ["AMX"] if torch.cpu._is_amx_tile_supported() else []
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "instructions": torch.backends.cpu.get_cpu_capability() + " with " * bool(more) + " and ".join(more),
        "python": platform.python_version(),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "torch": version("torch"),
        "scikit-learn": version("scikit-learn"),
    }
