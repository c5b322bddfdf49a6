"""A run of one's own as the source: a network trained on half of the classes helps with a few images of the others.

    python benchmarks/transfer_from_run.py SOURCE [--first 600] [--few 20] [--epochs 6] [--seeds 3]

SOURCE has ten classes or more, such as CIFAR-10 as an archive. A ConvNet is trained on the first five, then
transferred to the next five with --few images a class, beside the same network from scratch on these images. Epochs
are fixed; accuracies are on validation images of the five classes; the test part stays sealed.
"""

import argparse
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory

import numpy as np
import torch
from _common import write
from PIL import Image
from transfer import plainly

from saccade import data, metrics, recipe
from saccade.data import Part, Parts
from saccade.nn import pretrained
from saccade.recipe import cells
from saccade.recipe.network import start
from saccade.settings import DataSettings, TrainSettings, TransferSettings
from saccade.train.budget import Pace

SCRATCH_EPOCHS, SIDE, HALF, HELD = 60, 32, 5, 200


def some(part: Part, classes: range, a_class: int, seed: int) -> Part:
    """Return a part with so many images of each of some classes."""
    draw = np.random.default_rng(seed)
    chosen = [draw.permutation(np.flatnonzero(part.labels_N == k))[:a_class] for k in classes]
    return part.select(np.sort(np.concatenate(chosen)))


def folder(part: Part, place: Path, name: str) -> None:
    """Write a part's images as place/name/class/number.png."""
    for number, (x_HWC, label) in enumerate(zip(part.squares(SIDE), part.labels_N, strict=True)):
        home = place / name / part.classes[label]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x_HWC).save(home / f"{number:05d}.png")


def from_scratch(parts: Parts, seed: int) -> float:
    """Return the accuracy of a ConvNet that saw these images alone."""
    settings = TrainSettings(seed=seed, size=SIDE, batch_size=32, flip=True, views=True, epochs=SCRATCH_EPOCHS)
    session = start(parts.train, settings)
    for _ in session.run(Pace.fixed(session.steps(SCRATCH_EPOCHS))):
        pass
    log_NK = session.forward.log_probabilities(torch.from_numpy(parts.validation.squares(SIDE)))
    return metrics.accuracy(log_NK.argmax(1).numpy(), parts.validation.labels_N)


def main() -> None:
    """Train on five classes, transfer to five others with every seed, and write results/transfer_from_run.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--first", type=int, default=600)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    found = data.integrity(data.open(given.source, DataSettings()))
    whole = data.split(found, np.arange(len(found)), DataSettings())
    rows = []
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        folder(some(whole.train, range(HALF), given.first, 0), place / "first", "train")
        folder(some(whole.validation, range(HALF), HELD, 0), place / "first", "validation")
        settings = TrainSettings(size=SIDE, epochs=given.epochs, batch_size=64, flip=True)
        first = recipe.train(place / "first", settings, out=place / "run")
        print("source:", first.summary["validation"]["accuracy"], flush=True)
        weights = pretrained.find(f"run/{place / 'run'}")
        assert weights is not None
        for seed in range(given.seeds):
            home = place / f"second{seed}"
            folder(some(whole.train, range(HALF, 2 * HALF), given.few, seed), home, "train")
            folder(some(whole.validation, range(HALF, 2 * HALF), HELD, 0), home, "validation")
            own = data.integrity(data.open(home, DataSettings()))
            parts = data.split(own, np.arange(len(own)), DataSettings())
            ground = cells.prepared(parts, weights, TransferSettings(pretrained=weights.asked, seed=seed), flip=True)
            said_NK = plainly(ground, ground.advice.cell)
            row = {"seed": seed, "cell": ground.advice.cell, "scratch": from_scratch(parts, seed)}
            row["transfer"] = metrics.accuracy(said_NK.argmax(1), parts.validation.labels_N)
            rows.append(row)
            print(row, flush=True)
    gains = [row["transfer"] - row["scratch"] for row in rows]
    told = {"gain": mean(gains), "error": stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None}
    images = {"first": given.first, "few": given.few, "validation": HELD * HALF, "epochs": given.epochs}
    write(
        "transfer_from_run",
        {**images, "source_accuracy": first.summary["validation"]["accuracy"], "rows": rows, **told},
    )


if __name__ == "__main__":
    main()
