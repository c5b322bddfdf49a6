"""What the watch costs: images a second of the same training with it and without, in turns, on CIFAR-like images.

    python benchmarks/watch.py --seconds 60

Turns of 128 steps, two looks in each, alternate, so that what else the machine does falls on both alike. The figure
is the median over pairs of turns.
"""

import argparse
import time
from statistics import median

import torch
from _common import write

from saccade.data.batches import ArrayImages
from saccade.device import generator
from saccade.settings import TrainSettings
from saccade.train import Pace, Session, Watch, train

STEPS, BATCH, SIDE = 128, 64, 32
NETWORKS = {"convnet": {"width": 0.5}, "mlp": {}, "torchvision/resnet18": {"optimizer": "sgd"}}


def session(model: str) -> Session:
    """Return a session of a network on random images."""
    draws = generator(0, "benchmark")
    x_NHWC = torch.randint(0, 256, (2048, SIDE, SIDE, 3), generator=draws, dtype=torch.uint8)
    y_N = torch.arange(2048) % 10
    plain = {"model": model, "size": SIDE, "batch_size": BATCH, "flip": True, "grow": False, "device": "cpu"}
    settings = TrainSettings(**{**plain, **NETWORKS[model]})
    return Session.start(settings, ArrayImages(x_NHWC, y_N), x_NHWC, classes=10, names=[*map(str, range(2048))])


def turn(start: Session, watch: Watch, steps: int) -> float:
    """Return the images a second of a turn."""
    trial = start.on_trial()
    training = trial.training()
    begun = time.perf_counter()
    for _ in train(training, Pace.fixed(steps), watch):
        pass
    return steps * BATCH / (time.perf_counter() - begun)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each network")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--networks", nargs="+", default=["convnet", "mlp"], choices=NETWORKS)
    given = parser.parse_args()
    rows = {}
    for model in given.networks:
        start, pairs = session(model), []
        turn(start, Watch(), 8)
        end = time.perf_counter() + given.seconds
        while time.perf_counter() < end or not pairs:
            order = (False, True) if len(pairs) % 2 else (True, False)
            speeds = {watched: turn(start, Watch(epoch=32 if watched else None), given.steps) for watched in order}
            pairs.append((speeds[False], speeds[True]))
        cost = median(without / watched - 1 for without, watched in pairs)
        without, watched = (median(each) for each in zip(*pairs, strict=True))
        rows[model] = {
            "without": round(without, 1),
            "with": round(watched, 1),
            "cost": round(cost, 4),
            "pairs": len(pairs),
        }
        print(f"{model:<22} {without:>8.1f} images/s without, {watched:>8.1f} with: {cost:+.2%} ({len(pairs)} pairs)")
    write("watch", {"networks": rows, "steps": given.steps, "batch_size": BATCH, "side": SIDE})


if __name__ == "__main__":
    main()
