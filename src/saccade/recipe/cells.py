"""The four cells of the transfer table, run: linear classifiers on frozen features, and fine-tuning from there."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saccade import data, study
from saccade.data import Part, Parts
from saccade.data.splits import united
from saccade.features.cache import default_folder, kept
from saccade.files import content_hash
from saccade.nn import pretrained, zoo
from saccade.nn.published import Pretrained
from saccade.nn.stages import END, drift, stages
from saccade.nn.transfer import Transfer
from saccade.nn.trunks import takes
from saccade.recipe.network import start
from saccade.recipe.plan import native_side, short
from saccade.settings import DataSettings, TrainSettings, TransferSettings
from saccade.study import adviser
from saccade.study.adviser import Advice
from saccade.study.baselines import stratified_order
from saccade.study.transfer import Features, Probe, body_of, features
from saccade.train.forward import Forward

SIDES = (64, 80, 96, 112, 128, 144, 160, 192, 224, 256, 288)
LARGEST = 128
"""Side of the images up to which `saccade transfer` goes by itself: more costs a CPU much and tells a little more."""
RATE, STEPS, LOWEST = 1e-3, 200, 0.1
"""AdamW's learning rate for so many steps and more, and what of it the lowest layer gets."""
LAYERS = {"few": 0.6, "more": 0.0}
"""Share of the layers that fine-tuning leaves as they are, from the input on."""
THAW = 0.3
"""Share of the training over which layers begin to be trained, the last first."""
BATCH = 32
PASSES, IMAGES, FEWEST = 30.0, 12_000, 4.0
"""Passes over the training part at the most, fewer where there are more images than that in all, and at the least."""
DRIFT_IMAGES = 256


@dataclass(frozen=True)
class Ground:
    """What every cell begins from: the frozen features of all stages, computed once, and the advice they lead to.

    `forward` has the pretrained network under an untrained head on all stages; `widths` says how many of the
    features, in order, are each stage's.
    """

    parts: Parts
    settings: TrainSettings
    forward: Forward
    widths: dict[str, int]
    x_VND: Features
    held_VND: Features
    advice: Advice
    epochs: float


def prepared(
    parts: Parts,
    weights: Pretrained,
    settings: TransferSettings,
    *,
    flip: bool,
    groups_N: NDArray[np.int64] | None = None,
    seen: int = 0,
) -> Ground:
    """Return the ground for the cells: features computed or found on disk, data measured, advice given.

    `groups_N` numbers the training images that must stay together; the weights were trained on `seen` of them. Raises
    ModelError where the network takes no images of the size asked for.
    """
    base = _settings(parts, weights, settings, flip=flip)
    assert base.size is not None
    forward, widths = on_all_stages(start(parts.train.select([0, 1]), base).forward)
    x_VND, held_VND = (_features(forward, part, weights, base) for part in (parts.train, parts.validation))
    advice = advised(parts.train, forward, x_VND[0], widths, groups_N=groups_N, seen=seen)
    return Ground(parts, base, forward, widths, x_VND, held_VND, advice, settings.epochs or epochs_for(parts.train))


def on_all_stages(forward: Forward) -> tuple[Forward, dict[str, int]]:
    """Return a pretrained network, its trunk shared, under an untrained head on all stages, and each's features."""
    names = stages(body_of(forward).trunk, forward.side)
    other = _with_stages(forward, names)
    return other, dict(zip(names, body_of(other).widths(forward.side), strict=True))


def advised(
    part: Part,
    forward: Forward,
    x_ND: Features,
    widths: dict[str, int],
    *,
    groups_N: NDArray[np.int64] | None = None,
    counts_K: NDArray[np.int64] | None = None,
    seen: int = 0,
) -> Advice:
    """Return advice from the features of a part's images, from as many as probes need.

    `counts_K` are the training images of each class where the part is a sample of them; the network was trained on
    `seen` of the training images.
    """
    sample = np.sort(stratified_order(part.labels_N)[: adviser.MOST])
    few = part.select(sample)
    groups_N = np.arange(len(part)) if groups_N is None else groups_N
    fold_N, together_N = folds_of(few, groups_N[sample]), united(groups_N[sample], few.images.groups)
    counts_K = part.images.class_counts() if counts_K is None else counts_K
    moved = drift(body_of(forward).trunk, _standardised(few, forward), list(widths))
    return adviser.advise(
        x_ND[sample], few.labels_N, widths,
        counts_K=counts_K, drift=moved, folds=(fold_N, together_N), seen=seen,
    )  # fmt: skip


def divisible(part: Part, groups_N: NDArray[np.int64]) -> bool:
    """Return whether some of a part's images can be held out from others: they are of two groups or more."""
    return len(np.unique(united(groups_N, part.images.groups))) > 1


def folds_of(part: Part, groups_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the fold of each image that probes are validated by: FOLDS of them, or one a group where these are fewer.

    A class of fewer groups lies in fewer folds. Raises SettingError where all images are of one group.
    """
    different = len(np.unique(united(groups_N, part.images.groups)))
    return data.folds(part.images, groups_N, max(2, min(adviser.FOLDS, different)), 0)


def linear(ground: Ground, cell: str) -> Probe:
    """Return the linear classifier of a cell, calibrated: on all stages, or on the network's end alone."""
    names = tuple(ground.widths) if cell == "stages" else ()
    columns = slice(None) if names else slice(-ground.widths[END], None)
    forward = _with_stages(ground.forward, names)
    train = (ground.x_VND[:, :, columns], ground.parts.train.labels_N)
    held = (ground.held_VND[:, :, columns], ground.parts.validation.labels_N)
    return study.probe_of(forward, train, held, name=f"linear on {short(ground.settings.model)}")


def tuning(ground: Ground, cell: str) -> TrainSettings:
    """Return the settings of `saccade train` that fine-tune as a cell says, from the linear classifier on top."""
    images = len(ground.parts.train)
    chosen = {
        "epochs": ground.epochs,
        "learning_rate": rate_for(ground.epochs * images / BATCH),
        "lowest_rate": LOWEST,
        "frozen": LAYERS[cell],
        "thaw": THAW,
    }
    return ground.settings.model_copy(update=chosen)


def rate_for(steps: float) -> float:
    """Return the learning rate of fine-tuning: less for few steps, which could not mend what a high one breaks.

    >>> rate_for(1000), rate_for(50)
    (0.001, 0.0005)
    """
    return float(f"{RATE * min(1.0, math.sqrt(steps / STEPS)):.2g}")


def epochs_for(part: Part) -> float:
    """Return the passes of fine-tuning that so many images call for."""
    return round(min(PASSES, max(FEWEST, IMAGES / len(part))), 1)


def sides(weights: Pretrained, native: int) -> list[int]:
    """Return the sides that a pretrained network takes, up to its own, and to three times the images'.

    One of saccade's own takes that of the run it comes from.
    """
    if weights.settings:
        return [weights.size]
    most, trunk = min(weights.size, max(3 * native, SIDES[0])), pretrained.load(weights)
    return [side for side in SIDES if side <= most and takes(trunk, side)] or [weights.size]


def _settings(parts: Parts, weights: Pretrained, settings: TransferSettings, *, flip: bool) -> TrainSettings:
    """Return the settings that all cells share."""
    shared: dict[str, Any] = {name: getattr(settings, name) for name in (*DataSettings.model_fields, "device")}
    fitting = sides(weights, native_side(parts.train))
    size = max((side for side in fitting if side <= LARGEST), default=fitting[0])
    asked = weights.asked if settings.pretrained == "auto" else settings.pretrained
    return TrainSettings(
        **shared,
        **{**weights.settings, "model": weights.model, "interpolation": weights.interpolation},
        pretrained=asked,
        size=weights.size if weights.settings else settings.size or size,
        batch_size=BATCH,
        flip=flip,
        views=flip,
    )


def _features(forward: Forward, part: Part, weights: Pretrained, settings: TrainSettings) -> Features:
    """Return a part's features (V, N, D), from disk where these images of these weights are known."""
    assert weights.file is not None
    told = {
        "weights": content_hash(weights.file.read_bytes()),
        "model": weights.model,
        "stages": body_of(forward).stages,
        "side": forward.side,
        "interpolation": forward.interpolation,
        "views": forward.views,
        "precision": str(forward.precision),
        "fit_to_square": settings.fit_to_square,
        "images": part.images.hashes(),
    }

    def compute() -> dict[str, NDArray[Any]]:
        return {"x_VND": features(forward, part, task=f"features of {part.name}")}

    return kept(json.dumps(told), compute, default_folder())["x_VND"]


def _with_stages(forward: Forward, names: tuple[str, ...]) -> Forward:
    """Return the same network, its trunk shared, under an untrained head on other stages."""
    body = body_of(forward)
    other = Transfer(body.trunk, body.head.out_features, forward.side, names)
    return replace(forward, network=zoo.with_body(forward.network, other).to(forward.device))


def _standardised(part: Part, forward: Forward) -> torch.Tensor:
    """Return some images as the trunk sees them."""
    chosen = np.linspace(0, len(part) - 1, min(DRIFT_IMAGES, len(part))).astype(np.int64)
    x_NHWC = forward.images(part.select(chosen))
    network = forward.network
    assert isinstance(network, torch.nn.Sequential)
    x_NCHW: torch.Tensor = network[0](forward.to_input(x_NHWC))
    return x_NCHW
