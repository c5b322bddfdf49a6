"""What is done to a batch before the network sees it: augmented as settings say, resized, on its device."""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Generator, Tensor

from saccade import augment
from saccade.augment import MIXED, MIXES
from saccade.data.batches import Batch, Images, Order
from saccade.device import derived_seed
from saccade.errors import SettingError
from saccade.settings import TrainSettings
from saccade.strengths import POLICIES
from saccade.train.forward import Forward

COLOURED = 512
"""Training images whose pixels the axes of PCA colour are of."""
CHANGES = ("flip", "translate", "augment", "cutout", "mixup", "cutmix", "grow")
"""Settings that change images, which only uint8 ones are."""

Change = Callable[[Tensor], Tensor]
Prepare = Callable[[Batch, float], tuple[Tensor, Tensor]]


def preparing(
    forward: Forward, images: Images, settings: TrainSettings, draws: Generator, side_at: Callable[[float], int]
) -> Prepare:
    """Return `prepare(batch, progress)`: the network's input (N, C, side, side), and y_N or, mixed, target_NK.

    What is not uint8 is taken to be prepared already, by a user's own data set: of those CHANGES that were asked
    for, `prepare` then raises SettingError, and the defaults of the others do not hold.
    """
    further = _further(images, settings, draws)
    classes = cache(partial(_classes, forward))

    def prepare(batch: Batch, progress: float) -> tuple[Tensor, Tensor]:
        x, y = batch.x_NHWC, batch.y_N
        if x.dtype != torch.uint8:
            _refuse_changes(settings, x)
            return forward.to_input(x), y
        if settings.flip:
            x = augment.mirror(x, alternating(batch, settings.seed))
        if settings.translate:
            x = augment.translate(x, settings.translate, draws)
        for change in further:
            x = change(x)
        if settings.cutout:
            x = augment.cutout(x, settings.cutout, draws)
        if settings.mixup or settings.cutmix:
            x, y = _blended(x, y, settings, draws, classes())
        return forward.to_input(x, side_at(progress)), y

    return prepare


def _refuse_changes(settings: TrainSettings, x: Tensor) -> None:
    """Raise SettingError where settings were asked for that images which are prepared already know nothing of."""
    if asked := [name for name in CHANGES if name in settings.model_fields_set and getattr(settings, name)]:
        raise SettingError(
            f"The data set gives images of type {str(x.dtype).removeprefix('torch.')}, which are taken to be prepared "
            f"already, and {', '.join(asked)} would change them: leave that out, or give uint8 images (N, H, W, 3)."
        )


def unchanged(forward: Forward, side: int | None = None) -> Prepare:
    """Return a `prepare` that changes no image but in its side, by default the one of prediction."""
    return lambda batch, _: (forward.to_input(batch.x_NHWC, side), batch.y_N)


def alternating(batch: Batch, seed: int) -> Tensor:
    """Return which images of a batch to mirror: a coin an image, turned over every epoch.

    Within any two epochs each image is then seen both ways (Jordan, 2024).
    """
    coin_N = (batch.index_N * 2654435761 + derived_seed(seed, "mirror") % 2**31) >> 16
    return (coin_N + batch.epoch_N) % 2 == 1


def _further(images: Images, settings: TrainSettings, draws: Generator) -> list[Change]:
    """Return what the setting `augment` asks for: the named augmentations at once, then each mix."""
    if not settings.augment:
        return []
    mixes = {name: strength for name, strength in settings.augment.items() if name in POLICIES}
    single = {name: strength for name, strength in settings.augment.items() if name not in POLICIES}
    axes_33 = _axes(images, settings.seed) if mixes or "pca" in single else None
    changes: list[Change] = []
    if single:
        changes.append(partial(augment.apply, strengths=single, generator=draws, axes_33=axes_33))
    for name, strength in mixes.items():
        changes.append(partial(MIXES[name], strength=strength, generator=draws, axes_33=axes_33, names=MIXED))
    return changes


def _axes(images: Images, seed: int) -> Tensor | None:
    """Return the axes of the training images' colours, from those that the first batch would be of."""
    first = next(images.batches(Order(len(images), min(len(images), COLOURED), seed)))
    return augment.colour_axes(first.x_NHWC) if first.x_NHWC.dtype == torch.uint8 else None


def _classes(forward: Forward) -> int:
    """Return the number of scores the network gives."""
    return forward.scores(torch.zeros(1, 3, forward.side, forward.side)).shape[1]


def _blended(x: Tensor, y_N: Tensor, settings: TrainSettings, draws: Generator, classes: int) -> tuple[Tensor, Tensor]:
    """Return images and shares of labels after mixup or CutMix; where both are asked for, a coin a batch decides."""
    cut = bool(settings.cutmix)
    if settings.mixup and settings.cutmix:
        cut = bool(torch.rand((), generator=draws) < 0.5)
    blend, strength = (augment.cutmix, settings.cutmix) if cut else (augment.mixup, settings.mixup)
    x, other_N, share_N = blend(x, strength, draws)
    return x, augment.targets(y_N, other_N, share_N, classes)
