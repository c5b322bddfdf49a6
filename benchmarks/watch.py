"""What the watch costs: the seconds of a step that is looked into beside those of one that is not, on one training.

    python benchmarks/watch.py --steps 160

Every fourth step is looked into and its state kept to go back to, so that what else the machine does falls on both
alike; a training looks into one of 64. The figure is the difference of the medians, over 64 plain steps.
"""

import argparse
import time
from statistics import median
from typing import Any

import torch
from _common import write

from saccade.data.batches import ArrayImages
from saccade.device import generator
from saccade.settings import TrainSettings
from saccade.train import Pace, Recovery, Session
from saccade.train import watch as watching

BATCH, SIDE, EVERY = 64, 32, 4
NETWORKS: dict[str, dict[str, Any]] = {
    "convnet": {"width": 0.5},
    "mlp": {},
    "torchvision/resnet18": {"optimizer": "nesterov"},
}


def session(model: str) -> Session:
    """Return a session of a network on random images."""
    draws = generator(0, "benchmark")
    x_NHWC = torch.randint(0, 256, (2048, SIDE, SIDE, 3), generator=draws, dtype=torch.uint8)
    y_N = torch.arange(2048) % 10
    plain: dict[str, Any] = {
        "model": model,
        "size": SIDE,
        "batch_size": BATCH,
        "flip": True,
        "grow": False,
        "device": "cpu",
    }
    settings = TrainSettings(**{**plain, **NETWORKS[model]})
    return Session.start(settings, ArrayImages(x_NHWC, y_N), x_NHWC, classes=10, names=[*map(str, range(2048))])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS)
    given = parser.parse_args()
    apart, watching.APART = watching.APART, EVERY
    rows = {}
    for model in given.networks:
        seconds: dict[bool, list[float]] = {False: [], True: []}
        before = time.perf_counter()
        for done, _ in Recovery(session(model), Pace.fixed(given.steps)):
            now = time.perf_counter()
            if done > 2 * EVERY:  # the first steps are not like the others
                seconds[watching.due(done - 1)].append(now - before)
            before = time.perf_counter()
        plain, looked = median(seconds[False]), median(seconds[True])
        cost = (looked - plain) / (apart * plain)
        rows[model] = {"plain_step": round(plain, 4), "looked_step": round(looked, 4), "cost": round(cost, 4)}
        print(
            f"{model:<22} {plain * 1e3:>7.1f} ms a step, {looked * 1e3:>7.1f} ms looked into: {cost:+.2%} of the time"
        )
    write("watch", {"networks": rows, "steps": given.steps, "batch_size": BATCH, "side": SIDE, "apart": apart})


if __name__ == "__main__":
    main()
