"""What each regulariser buys: one network, a fixed number of epochs, and one regulariser more or less.

    python benchmarks/regularisers.py SOURCE [--images 5000] [--epochs 20] [--seeds 3] [--size 32] [--only dropout]

SOURCE is CIFAR-10 as a folder or archive. Each row is trained on the same training images of its seed and measured
on the same validation images; differences to the plain network are paired by seed. The test part stays sealed.
Passes over the images are fixed, not time, so that the figures do not depend on what else the machine does. What is
measured goes to results/NAME.json at once, and a second start with the same numbers goes on from there.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from _common import RESULTS, write

from saccade import audit, data
from saccade.data import Part, Parts
from saccade.recipe.network import start
from saccade.settings import DataSettings, TrainSettings
from saccade.study.baselines import stratified_share
from saccade.train.budget import Pace

PLAIN = {"flip": True, "views": False, "translate": 0.0, "label_smoothing": 0.0}
PLAIN_ROW = "plain (mirrored)"
DEFAULT = {"translate": 0.0625, "label_smoothing": 0.2}
ROWS: dict[str, dict[str, Any]] = {
    PLAIN_ROW: {},
    "dropout": {"dropout": 0.5},
    "DropConnect": {"dropconnect": 0.5},
    "stochastic depth": {"stochastic_depth": 0.3},
    "fractional max pooling": {"pool": "fractional"},
    "cutout": {"cutout": 0.5},
    "mixup": {"mixup": 0.2},
    "CutMix": {"cutmix": 1.0},
    "label smoothing": {"label_smoothing": 0.2},
    "L1": {"l1": 1e-6},
    "L2": {"l2": 5e-4},
    "EMA of the weights": {"ema": 0.99},
    "SWA, the last quarter": {"swa": 0.25},
    "translate": {"translate": 0.125},
    "TrivialAugment": {"augment": "trivialaugment"},
    "the default recipe": DEFAULT,
    "the default recipe, shifts twice as far": {**DEFAULT, "translate": 0.125},
    "the default recipe and cutout": {**DEFAULT, "cutout": 0.375},
    "the default recipe and mixup": {**DEFAULT, "mixup": 0.2},
    "the default recipe and CutMix": {**DEFAULT, "cutmix": 1.0},
    "the default recipe and TrivialAugment": {**DEFAULT, "augment": "trivialaugment"},
    "no weight decay (adamw)": {"optimizer": "adamw", "weight_decay": 0.0},
    "weight decay (adamw)": {"optimizer": "adamw", "weight_decay": 0.05},
    "colour": {"augment": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.3}},
    "PCA colour": {"augment": {"pca": 0.1}},
    "rotate": {"augment": {"rotate": 15}},
    "random resized crop": {"augment": {"crop": 0.5}},
}


def accuracy(train: Part, validation: Part, settings: TrainSettings) -> float:
    """Train once and return the accuracy on the validation images."""
    session = start(train, settings)
    for _ in session.run(Pace.fixed(session.steps(settings.epochs or 1))):
        pass
    x_NHWC = session.forward.images(validation)
    said_N = session.forward.log_probabilities(x_NHWC).argmax(1).numpy()
    return float((said_N == validation.labels_N).mean())


def measured_before(name: str, told: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the accuracies by row and seed of an earlier start with the same numbers."""
    try:
        before = json.loads((RESULTS / f"{name}.json").read_text())
    except OSError:
        return {}
    return before["accuracies"] if all(before.get(key) == value for key, value in told.items()) else {}


def table(accuracies: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return each row's mean accuracy, and what it gains over the plain network, seed by seed, with standard error."""
    rows = []
    for name, by_seed in accuracies.items():
        gains = [value - accuracies[PLAIN_ROW][seed] for seed, value in by_seed.items()]
        error = stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
        rows.append({"name": name, "mean": mean(by_seed.values()), "gain": mean(gains), "error": error})
    return rows


def parts_of(source: str, seeds: Sequence[int]) -> dict[int, Parts]:
    """Return the source split by each seed."""
    found = data.integrity(data.open(source, DataSettings()))
    groups_N = audit.duplicates(found)
    return {seed: data.split(found, groups_N, DataSettings(seed=seed)) for seed in seeds}


def main() -> None:
    """Train every row with every seed and write results/NAME.json as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--name", default="regularisers", help="of the file of results")
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    given = parser.parse_args()
    told = {name: getattr(given, name) for name in ("images", "epochs", "seeds", "size", "width")}
    accuracies = measured_before(given.name, told)
    names = list(dict.fromkeys([PLAIN_ROW, *given.only]))
    for seed, parts in parts_of(given.source, range(given.seeds)).items():
        train = stratified_share(parts.train, given.images)
        for name in names:
            if str(seed) in accuracies.get(name, {}):
                continue
            shared = {name: getattr(given, name) for name in ("epochs", "size", "width")}
            settings = TrainSettings(seed=seed, batch_size=128, **shared, **{**PLAIN, **ROWS[name]})
            accuracies.setdefault(name, {})[str(seed)] = accuracy(train, parts.validation, settings)
            print(f"seed {seed}  {name:<40} {accuracies[name][str(seed)]:.3f}", flush=True)
            write(given.name, {**told, "rows": table(accuracies), "accuracies": accuracies})


if __name__ == "__main__":
    main()
