"""Augmentations: pure functions of a batch of images, a strength and a generator."""

from saccade.augment.geometry import cutout, mirror, translate

__all__ = ["cutout", "mirror", "translate"]
