"""One training with fastai as its documentation has it, from the process's start to the test accuracy.

against_fastai.py runs this file. What it prints is one JSON object: accuracies, what was done, and the seconds of each
part. The folder has train/ and test/, and may have validation/, each with a folder of images a class.
"""

import argparse
import json
import sys
import time
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import psutil
import torch
from fastai.vision import learner as fastai_learner
from fastai.vision.all import (
    CategoryBlock,
    DataBlock,
    DataLoaders,
    GrandparentSplitter,
    ImageBlock,
    Learner,
    Normalize,
    RandomSplitter,
    Resize,
    accuracy,
    aug_transforms,
    get_image_files,
    imagenet_stats,
    models,
    parent_label,
    set_seed,
    vision_learner,
    xresnet18,
)
from safetensors.torch import load_file
from torch import nn

VALIDATION_SHARE, MOST_VALIDATION = 0.15, 5_000
"""What is held out where a source has no validation part: what saccade takes, too."""


def loaders(folder: Path, side: int, seed: int, pretrained: bool) -> DataLoaders:
    """Return batches as the vision tutorial makes them: resized, augmented, normalised."""
    train = sum(1 for _ in (folder / "train").glob("*/*"))
    split = (
        GrandparentSplitter("train", "validation")
        if (folder / "validation").exists()
        else RandomSplitter(min(VALIDATION_SHARE, MOST_VALIDATION / train), seed=seed)
    )
    # vision_learner adds the normalisation of the pretrained network by itself.
    normalise = [] if pretrained else [Normalize.from_stats(*imagenet_stats)]
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=lambda where: get_image_files(where, folders=["train", "validation"]),
        splitter=split,
        get_y=parent_label,
        item_tfms=Resize(side),
        batch_tfms=[*aug_transforms(), *normalise],
    )
    return block.dataloaders(folder)


def squeezenet(weights: str) -> nn.Module:
    """Return torchvision's SqueezeNet 1.0 with the weights of a file; fastai's own would download them."""
    network: nn.Module = models.squeezenet1_0()
    network.load_state_dict(load_file(weights))
    return network


def learner_of(dls: DataLoaders, weights: str | None) -> Learner:
    """Return vision_learner on pretrained weights, or a Learner with xresnet18 from scratch."""
    if weights is None:
        return Learner(dls, xresnet18(n_out=dls.c), metrics=accuracy)
    fastai_learner.model_meta[squeezenet] = fastai_learner.model_meta[models.squeezenet1_0]
    return vision_learner(dls, squeezenet, weights=weights, metrics=accuracy)


def train(learn: Learner, given: argparse.Namespace) -> dict[str, Any]:
    """Find a learning rate where asked to, then train; return what was done and how long it took."""
    done: dict[str, Any] = {"frozen_epochs": given.frozen_epochs, "epochs": given.epochs}
    if given.lr_find:
        begun = time.perf_counter()
        done["learning_rate"] = learn.lr_find(show_plot=False).valley
        done["lr_find_seconds"] = time.perf_counter() - begun
    rate = done.get("learning_rate")
    epochs: list[float] = []
    watch = _Stopwatch(epochs)
    learn.add_cb(watch)
    if given.weights is None:
        learn.fit_one_cycle(given.epochs, rate)
    elif given.epochs:
        learn.fine_tune(given.epochs, **({} if rate is None else {"base_lr": rate}))
    else:  # no time to unfreeze: the head alone, as vision_learner leaves it
        learn.fit_one_cycle(given.frozen_epochs, rate)
    learn.remove_cb(watch)
    return {**done, "epoch_seconds": epochs}


class _Stopwatch(fastai_learner.Callback):
    """Appends the seconds of each epoch, its validation included."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds

    def before_epoch(self) -> None:
        """Start the watch."""
        self.begun = time.perf_counter()

    def after_epoch(self) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self.begun)


def tested(learn: Learner, folder: Path) -> tuple[int, int]:
    """Return how many test images were labelled right, and how many there are."""
    batches = learn.dls.test_dl(get_image_files(folder / "test"), with_labels=True)
    scores_NK, labels_N = learn.get_preds(dl=batches)
    return int((scores_NK.argmax(1) == labels_N.squeeze()).sum()), len(labels_N)


def main() -> None:
    """Train, test, print."""
    begun = psutil.Process().create_time()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", help="SqueezeNet 1.0 as safetensors; without it xresnet18 from scratch")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--frozen-epochs", type=int, default=1)
    parser.add_argument("--lr-find", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with redirect_stdout(sys.stderr):
        set_seed(given.seed)
        learn = learner_of(loaders(given.folder, given.side, given.seed, given.weights is not None), given.weights)
        with learn.no_bar(), learn.no_logging():
            ready = time.time() - begun
            done = train(learn, given)
            validation = float(learn.recorder.values[-1][-1])
            testing = time.perf_counter()
            right, images = tested(learn, given.folder)
            done["test_seconds"] = time.perf_counter() - testing
    dls = learn.dls
    sizes = {"batches": len(dls.train), "train_images": len(dls.train_ds), "validation_images": len(dls.valid_ds)}
    figures = {"validation_accuracy": validation, "right": right, "images": images}
    print(json.dumps({**figures, **sizes, **done, "ready_seconds": ready, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
