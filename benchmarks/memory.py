"""What keeping freed memory saves a network on a CPU: steps with it kept, and given back as glibc does by itself.

    python benchmarks/memory.py [--turns 16]

Turns of the one and of the other follow each other in one process, each after a step that does not count, so that
whatever else the machine does falls on both. The ratio is the median over pairs of turns; faults are pages that the
system had to fetch. Needs glibc.
"""

import argparse
import ctypes
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from _common import write
from torch import nn

from saccade.device import keep_memory, resolve_precision
from saccade.nn import zoo

CASES = (
    # network, images, side, trained, steps a turn
    ("convnet", 512, 32, True, 2),
    ("convnet", 64, 32, True, 10),
    ("torchvision/squeezenet1_0", 64, 128, True, 2),
    ("torchvision/squeezenet1_0", 32, 224, True, 1),
    ("torchvision/resnet18", 64, 112, True, 1),
    ("torchvision/squeezenet1_0", 8, 224, False, 10),
)


def give_back() -> None:
    """Let glibc do what it does by itself once it has freed blocks of every size, and start from nothing held."""
    library = ctypes.CDLL(None)
    for option, value in ((-4, 65536), (-3, 32 << 20), (-1, 64 << 20), (-2, 128 << 10)):  # mallopt(3)
        library.mallopt(option, value)
    library.malloc_trim(0)


def step_of(network: nn.Module, images: int, side: int, *, trained: bool) -> Callable[[], None]:
    """Return a step: forward and backward, or forward alone without gradients."""
    x_NCHW = torch.rand(images, 3, side, side).to(memory_format=torch.channels_last)
    precision = resolve_precision("auto", x_NCHW.device)
    network.train(trained)

    def step() -> None:
        with torch.inference_mode(not trained), torch.autocast("cpu", precision, enabled=precision != torch.float32):
            scores_NK = network(x_NCHW)
        if trained:
            scores_NK.float().logsumexp(1).mean().backward()

    return step


def compared(step: Callable[[], None], steps: int, turns: int) -> dict[str, Any]:
    """Return milliseconds and faults a step of either, and the median ratio of kept to given back."""
    seconds: dict[str, list[float]] = {"given_back": [], "kept": []}
    faults: dict[str, list[int]] = {"given_back": [], "kept": []}
    ways: dict[str, Callable[[], object]] = {"given_back": give_back, "kept": keep_memory.__wrapped__}
    for _ in range(turns):
        for name, way in ways.items():
            way()
            step()
            had, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            for _ in range(steps):
                step()
            seconds[name].append((time.perf_counter() - begun) / steps)
            faults[name].append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - had) // steps)
    pairs = zip(seconds["kept"], seconds["given_back"], strict=True)
    return {
        **{f"{name}_ms": round(1e3 * median(each), 1) for name, each in seconds.items()},
        **{f"{name}_faults": round(median(each)) for name, each in faults.items()},
        "ratio": round(median(kept / back for kept, back in pairs), 3),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=16)
    given = parser.parse_args()
    if not keep_memory():
        parser.exit(2, "glibc is not told here to keep memory: there is nothing to compare.\n")
    rows = []
    print(f"{'network':<27}{'images':>7}{'side':>6}{'ms kept':>10}{'given back':>12}{'ratio':>8}{'faults':>9}{'':>9}")
    for name, images, side, trained, steps in CASES:
        torch.manual_seed(0)
        network = zoo.new(name, classes=10, side=side).to(memory_format=torch.channels_last)
        found = compared(step_of(network, images, side, trained=trained), steps, given.turns)
        rows.append({"network": name, "images": images, "side": side, "trained": trained, **found})
        print(
            f"{name:<27}{images:>7}{side:>6}{found['kept_ms']:>10}{found['given_back_ms']:>12}{found['ratio']:>8}"
            f"{found['kept_faults']:>9}{found['given_back_faults']:>9}{'' if trained else '  predicted'}",
            flush=True,
        )
    write("memory", {"rows": rows, "turns": given.turns, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
