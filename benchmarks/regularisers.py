"""What each regulariser buys: one network, a fixed number of epochs, and one regulariser more or less.

    python benchmarks/regularisers.py SOURCE [--images 5000] [--epochs 20] [--seeds 3] [--only dropout]

SOURCE is CIFAR-10 as a folder or archive. Each row is trained on the same training images of its seed and measured
on the same validation images; differences to the plain network are paired by seed. The test part stays sealed.
"""

import argparse
from statistics import mean, stdev

import numpy as np
import torch
from _common import write

from saccade import audit, data
from saccade.data import Part
from saccade.recipe.network import start
from saccade.settings import DataSettings, TrainSettings
from saccade.study.baselines import stratified_order
from saccade.train.budget import Pace

PLAIN = {"flip": True, "views": False, "translate": 0.0, "label_smoothing": 0.0}
ROWS = {
    "plain (mirrored)": {},
    "translate": {"translate": 0.125},
    "label smoothing": {"label_smoothing": 0.2},
    "dropout": {"dropout": 0.5},
    "DropConnect": {"dropconnect": 0.5},
    "stochastic depth": {"stochastic_depth": 0.3},
    "cutout": {"cutout": 0.5},
    "mixup": {"mixup": 0.2},
    "CutMix": {"cutmix": 1.0},
    "L1": {"l1": 1e-6},
    "L2": {"l2": 5e-4},
    "weight decay (adamw)": {"optimizer": "adamw", "weight_decay": 0.05},
    "no weight decay (adamw)": {"optimizer": "adamw", "weight_decay": 0.0},
    "colour": {"augment": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.3}},
    "PCA colour": {"augment": {"pca": 0.1}},
    "rotate": {"augment": {"rotate": 15}},
    "random resized crop": {"augment": {"crop": 0.5}},
    "TrivialAugment": {"augment": "trivialaugment"},
    "RandAugment": {"augment": "randaugment"},
    "the default recipe": {"translate": 0.0625, "label_smoothing": 0.2},
}


def accuracy(train: Part, validation: Part, settings: TrainSettings) -> float:
    """Train once and return the accuracy on the validation images."""
    session = start(train, settings)
    for _ in session.run(Pace.fixed(session.steps(settings.epochs or 1))):
        pass
    x_NHWC = torch.from_numpy(validation.squares(session.forward.side))
    said_N = session.forward.log_probabilities(x_NHWC).argmax(1).numpy()
    return float((said_N == validation.labels_N).mean())


def main() -> None:
    """Train every row with every seed and write results/regularisers.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    given = parser.parse_args()
    found = data.integrity(data.open(given.source, DataSettings()))
    groups_N = audit.duplicates(found)
    names = list(dict.fromkeys(["plain (mirrored)", *given.only]))
    measured: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(given.seeds):
        parts = data.split(found, groups_N, DataSettings(seed=seed))
        train = parts.train.select(np.sort(stratified_order(parts.train.labels_N)[: given.images]))
        for name in names:
            changed = {**PLAIN, **ROWS[name]}
            settings = TrainSettings(seed=seed, size=32, batch_size=128, epochs=given.epochs, **changed)
            measured[name].append(accuracy(train, parts.validation, settings))
            print(f"seed {seed}  {name:<24} {measured[name][-1]:.3f}", flush=True)
    rows = []
    for name, accuracies in measured.items():
        gains = [a - b for a, b in zip(accuracies, measured[names[0]], strict=True)]
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
        rows.append(
            {"name": name, "accuracies": accuracies, "mean": mean(accuracies), "gain": mean(gains), "error": error}
        )
    told = {"images": given.images, "epochs": given.epochs, "seeds": given.seeds}
    write("regularisers", {**told, "rows": rows})


if __name__ == "__main__":
    main()
