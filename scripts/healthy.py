"""Plant twelve faults and run twelve healthy trainings over three data sets: what is named, and what falsely.

    python scripts/healthy.py
    python scripts/healthy.py --only faults --show

Asked is what a user has: `saccade check` and `saccade train`, through their functions, or a session around a network of
one's own where the fault is in the network. Named are the checks before training that failed, and what the watch said
in it. Ends with exit status 1 where a fault was not named as it should, or a healthy training was found fault with.
"""

import argparse
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from saccade import recipe, study
from saccade.data.batches import ArrayImages, Batch, Order
from saccade.errors import InputError, TrainingError
from saccade.events import Event, Finding, listening
from saccade.recipe.checking import check
from saccade.settings import TrainSettings
from saccade.train import Clock, Forward, Pace, Recovery, Session
from saccade.train.rules import RULES

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
WATCHED = {*(rule.kind for rule in RULES), "went back", "activations", "check"}
SIDE, STEPS, CHECKING = 16, 200, 20.0
"""Pixels of planted images, steps of a planted training, seconds for the checks before it."""


@dataclass
class Named:
    """What was said of one training: failed checks, findings of the watch, and what it took."""

    checks: set[str] = field(default_factory=set)
    watch: set[str] = field(default_factory=set)
    sentences: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __call__(self, event: Event) -> None:
        """Take note of a finding of the checks or the watch; a healthy source has others, such as duplicates."""
        if isinstance(event, Finding) and event.kind in WATCHED:
            (self.checks if event.kind == "check" else self.watch).add(event.kind)
            self.sentences.append(event.detail)

    def checked(self, found: list[study.Check]) -> None:
        """Take note of the checks that failed."""
        for each in (each for each in found if not each.passed):
            self.checks.add(each.name)
            self.sentences.append(f"{each.name}: {each.measured}. {each.advice}")


# data


def digits(count: int = 1000) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return scikit-learn's digits as images (N, 16, 16, 3) and their classes."""
    found = load_digits()
    x_NHWC = (found.images[:count] * 15.9).astype(np.uint8)[..., None]
    return x_NHWC.repeat(3, 3).repeat(2, 1).repeat(2, 2), found.target[:count].astype(np.int64)


def pictures(name: str, count: int, side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return evenly spaced training images of an archive in ../shared/data, and their classes."""
    with zipfile.ZipFile(SHARED / f"{name}.zip") as archive:
        names = sorted(each for each in archive.namelist() if each.startswith("train/") and each.endswith(".jpg"))
        names = [names[place] for place in np.linspace(0, len(names) - 1, count).astype(int)]
        read = (Image.open(BytesIO(archive.read(each))).convert("RGB").resize((side, side)) for each in names)
        x_NHWC = np.stack([np.asarray(each) for each in read])
    classes = sorted({each.split("/")[1] for each in names})
    y_N = np.array([classes.index(each.split("/")[1]) for each in names])
    order_N = np.random.default_rng(0).permutation(count)  # sources are not sorted by class alone
    return x_NHWC[order_N], y_N[order_N]


# networks of one's own


class Scale(nn.Module):
    """Standardises the digits."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the images less their mean, over their spread."""
        return (x - 75.0) / 95.0


class AlwaysTraining(nn.Sequential):
    """Never leaves training mode."""

    def train(self, mode: bool = True) -> "AlwaysTraining":
        """Stay in training mode."""
        super().train(True)
        return self


class Sorted(ArrayImages):
    """Images in the order of their classes, whatever order is asked for."""

    def batches(self, order: Order, first: int = 0) -> Iterator[Batch]:
        """Yield batches of neighbours."""
        by_class = self.y_N.argsort(stable=True)
        for step, batch in enumerate(super().batches(order, first), first):
            index_N = by_class[(torch.arange(order.batch_size) + step * order.batch_size) % len(by_class)]
            yield Batch(self.x_NHWC[index_N], self.y_N[index_N], index_N, batch.epoch_N)


def dense(*middle: nn.Module, scaled: bool = True) -> nn.Sequential:
    """Return a network of two layers with others between."""
    first = [Scale()] if scaled else []
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 32), *middle, nn.Linear(32, 10))


def zeros() -> nn.Module:
    """Return a network whose weights are 0."""
    network = dense(nn.ReLU())
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def dead() -> nn.Module:
    """Return a network whose hidden units answer to no image."""
    network = dense(nn.ReLU())
    nn.init.constant_(network[2].bias, -1000.0)  # type: ignore[arg-type]
    return network


def saturated() -> nn.Module:
    """Return twenty layers of sigmoids with large weights."""
    layers = [part for _ in range(20) for part in (nn.Linear(32, 32), nn.Sigmoid())]
    for layer in layers[::2]:
        nn.init.normal_(layer.weight, std=8.0)  # type: ignore[arg-type]
    return dense(nn.Sigmoid(), *layers)


def frozen() -> nn.Module:
    """Return a network with a layer that is not trained, though nobody said so."""
    network = dense(nn.ReLU())
    network[2].requires_grad_(False)
    return network


def session(network: nn.Module, images: type[ArrayImages] = ArrayImages, **changed: Any) -> Session:
    """Return a session of a network on the digits."""
    plain = {
        "size": SIDE,
        "batch_size": 32,
        "flip": False,
        "device": "cpu",
        "precision": "float32",
        "optimizer": "adam",
    }
    settings = TrainSettings(**{**plain, **changed})
    x_NHWC, y_N = (torch.from_numpy(each) for each in digits(600))
    return Session(Forward.of(network, settings), images(x_NHWC, y_N), [*map(str, range(len(y_N)))], settings)


def ask(start: Session, *, checks: bool = True, steps: int = STEPS) -> Named:
    """Return what the checks before it and the watch over it say of a training."""
    named, end = Named(), time.perf_counter() + CHECKING
    if checks:
        named.checked([*study.verdict(start, 10, lambda: end - time.perf_counter()).checks])
    with listening(named):
        try:
            for _ in Recovery(start, Pace.fixed(steps)):
                pass
        except TrainingError as error:
            named.sentences.append(str(error))
    return named


def own(build: Callable[[], nn.Module], images: type[ArrayImages] = ArrayImages, *, seed: int) -> Named:
    """Return what is said of a network of one's own, from a seed."""
    torch.manual_seed(seed)
    return ask(session(build(), images, seed=seed))


# whole commands


def command(source: Path, *, train: bool = True, **given: Any) -> Named:
    """Return what `saccade check` and `saccade train` say of a source, by their functions."""
    named, epochs = Named(), given.pop("epochs", 8.0)
    with TemporaryDirectory() as place, listening(named):
        asked = TrainSettings(budget=CHECKING, **given)
        try:
            found = check(source, asked, out=Path(place) / "checks")["checks"]
        except InputError as error:
            return Named(checks={"refused"}, sentences=[str(error)])
        named.checked([study.Check(**each) for each in found])
        if train:
            try:
                clock = Clock()
                recipe.train(source, TrainSettings(epochs=epochs, **given), out=Path(place) / "run", clock=clock)
            except TrainingError as error:
                named.sentences.append(str(error))
    return named


def arrays(folder: Path, name: str, found: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    """Write images and classes as a source."""
    np.savez(folder / f"{name}.npz", images=found[0], labels=found[1])
    return folder / f"{name}.npz"


def twice(folder: Path) -> Path:
    """Write a folder whose validation images are its training images."""
    for place, (x_HWC, label) in enumerate(zip(*digits(300), strict=True)):
        for part in ("train", "validation"):
            (folder / "twice" / part / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(x_HWC).save(folder / "twice" / part / str(label) / f"{place}.png")
    return folder / "twice"


def faults(folder: Path, seed: int) -> dict[str, tuple[str, Callable[[], Named]]]:
    """Return the planted faults: the check or the finding that is to name each, and how to plant it."""
    x_NHWC, y_N = digits(600)
    sound = arrays(folder, "sound", (x_NHWC, y_N))
    shifted = arrays(folder, "shifted", (x_NHWC, np.roll(y_N, 1)))
    plain: dict[str, Any] = {
        "model": "mlp",
        "width": 0.25,
        "optimizer": "adam",
        "batch_size": 32,
        "size": SIDE,
        "flip": False,
        "seed": seed,
    }
    mine = partial(own, seed=seed)
    return {
        "labels shifted by one": ("labels in place", lambda: command(shifted, train=False, **plain)),
        "learning rate x 1000": ("learning rate", lambda: command(sound, learning_rate=1.0, **plain)),
        "learning rate x 0.001": ("learning rate", lambda: command(sound, learning_rate=1e-6, **plain)),
        "zero initialisation": ("initial weights", lambda: mine(zeros)),
        "all ReLUs dead": ("all dead", lambda: mine(dead)),
        "saturated sigmoids, depth 20": ("saturated", lambda: mine(saturated)),
        "batches sorted by class": ("mixed batches", lambda: mine(lambda: dense(nn.ReLU()), Sorted)),
        "inputs of 0 to 255": ("input scale", lambda: mine(lambda: dense(nn.ReLU(), scaled=False))),
        "a layer frozen, not declared": ("every layer learns", lambda: mine(frozen)),
        "softmax twice": ("scores", lambda: mine(lambda: nn.Sequential(dense(nn.ReLU()), nn.Softmax(1)))),
        "batch norm left in training": (
            "independent predictions",
            lambda: mine(lambda: AlwaysTraining(*dense(nn.BatchNorm1d(32), nn.ReLU()))),
        ),
        "validation is training": ("refused", lambda: command(twice(folder), train=False, **plain)),
    }  # fmt: skip


def healthy(folder: Path, seed: int) -> dict[str, Callable[[], Named]]:
    """Return healthy trainings: of several networks, norms, rules and sizes, on three data sets."""
    small = arrays(folder, "digits", digits(1000))
    runs: dict[str, tuple[Path, dict[str, Any]]] = {
        "digits, convnet": (small, {"model": "convnet", "width": 0.25}),
        "digits, mlp, adam": (small, {"model": "mlp", "width": 0.5}),
        "digits, shallow sigmoid, no norm": (
            small,
            {"model": "mlp", "depth": 1, "width": 0.25, "activation": "sigmoid", "norm": "none", "init": "xavier"},
        ),
        "digits, linear, nesterov": (small, {"model": "linear", "optimizer": "nesterov", "learning_rate": 0.01}),
    }
    if SHARED.exists():
        cifar = arrays(folder, "cifar", pictures("cifar10-jpeg", 1500, 24))
        clothing = arrays(folder, "clothing", pictures("clothing-small", 1000, 24))
        no_norm = {"model": "convnet", "width": 0.25, "norm": "none", "init": "he", "activation": "relu"}
        runs |= {
            "cifar10, convnet": (cifar, {"model": "convnet", "width": 0.25, "flip": True}),
            "cifar10, convnet, no norm, He": (cifar, {**no_norm, "optimizer": "adam"}),
            "cifar10, mlp, dropout, adamw": (
                cifar, {"model": "mlp", "width": 0.5, "activation": "leaky_relu", "dropout": 0.2, "optimizer": "adamw"}
            ),
            "cifar10, convnet, tanh, momentum": (
                cifar, {"model": "convnet", "width": 0.25, "activation": "tanh", "init": "xavier",
                        "optimizer": "momentum", "learning_rate": 0.03}
            ),
            "clothing, convnet, accumulated": (clothing, {"model": "convnet", "width": 0.25, "accumulate": 2}),
            "clothing, convnet, group norm": (
                clothing, {"model": "convnet", "width": 0.25, "norm": "group", "optimizer": "rmsprop"}
            ),
            "clothing, mlp, elu, cosine": (
                clothing, {"model": "mlp", "width": 0.5, "activation": "elu", "init": "orthogonal",
                           "schedule": "cosine", "optimizer": "nesterov", "learning_rate": 0.03}
            ),
            "clothing, convnet, mixup, ema": (
                clothing, {"model": "convnet", "width": 0.25, "mixup": 0.2, "ema": 0.98, "augment": {"rotate": 10.0}}
            ),
        }  # fmt: skip
    return {name: lambda run=run: command(run[0], seed=seed, **run[1]) for name, run in runs.items()}  # type: ignore[misc]


def main() -> int:
    """Run all, print a line each, and how many were as they should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run those whose name has this word, or: faults, healthy")
    parser.add_argument("--show", action="store_true", help="print what was said")
    parser.add_argument("--seed", type=int, default=0, help="of split, weights and order of images")
    given = parser.parse_args()
    wrong = 0
    with TemporaryDirectory() as place:
        planted, sound = faults(Path(place), given.seed), healthy(Path(place), given.seed)
        rows = [("faults", name, expected, run) for name, (expected, run) in planted.items()]
        rows += [("healthy", name, "", run) for name, run in sound.items()]
        for family, name, expected, run in rows:
            if given.only and given.only not in (family, *name.replace(",", "").split()):
                continue
            begun = time.perf_counter()
            named = run()
            found = sorted(named.checks | named.watch)
            good = expected in found if expected else not found
            wrong += not good
            seconds = time.perf_counter() - begun
            print(
                f"{'ok   ' if good else 'WRONG'} {name:<34}{', '.join(found) or 'nothing':<60}{seconds:>6.1f} s",
                flush=True,
            )
            for sentence in named.sentences if given.show or not good else []:
                print(f"        {sentence}")
    print(f"{wrong} not as they should be")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
