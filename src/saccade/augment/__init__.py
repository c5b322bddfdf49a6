"""Augmentations: pure functions of a batch of images, a strength and a generator."""

from saccade.augment.blends import cutmix, mixup, targets
from saccade.augment.colours import colour_axes
from saccade.augment.geometry import cutout, mirror, translate
from saccade.augment.table import MIXED, MIXES, TABLE, apply, randaugment, trivialaugment

__all__ = [
    "MIXED",
    "MIXES",
    "TABLE",
    "apply",
    "colour_axes",
    "cutmix",
    "cutout",
    "mirror",
    "mixup",
    "randaugment",
    "targets",
    "translate",
    "trivialaugment",
]
