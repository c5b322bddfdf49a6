"""Random resized crops: parts of images, of random size, shape and place, cut out before they are resized."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.data.scale import resized
from saccade.errors import SettingError
from saccade.settings import Interpolation

TRIES = 10
"""Shapes drawn for an image, of which the first that fits into it is taken; where none does, its middle."""
RATIO = 4 / 3
"""How far apart the sides of a part are at the most."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn for one image of whatever size: shapes as `(share of the area, width / height)`, and a place.

    `place` is the share, from the top and from the left, of the room that is left around the part.
    """

    shapes: tuple[tuple[float, float], ...]
    place: tuple[float, float] = (0.5, 0.5)
    mirrored: bool = False

    def window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return `(top, left, height, width)` of the part of an image of that size.

        >>> Drawn(((0.9, 2.0), (0.25, 1.0)), (0.0, 0.5)).window(100, 100)  # a shape twice as wide does not fit
        (0, 25, 50, 50)
        """
        for share, ratio in self.shapes:
            area = share * height * width
            tall, wide = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < tall <= height and 0 < wide <= width:
                down, right = self.place
                return int(down * (height - tall + 1)), int(right * (width - wide + 1)), tall, wide
        tall, wide = min(height, round(width * RATIO)), min(width, round(height * RATIO))
        return (height - tall) // 2, (width - wide) // 2, tall, wide


@dataclass(frozen=True)
class Crops:
    """Parts of `least` to all of an image's area, sides up to `ratio` apart, a share `mirrored` (Szegedy et al., 2015).

    The area is uniform, the logarithm of width / height too. Raises SettingError for a `least` that is no share above
    0, a `ratio` below 1 and a `mirrored` that is no share.
    """

    least: float = 0.08
    ratio: float = RATIO
    mirrored: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.least <= 1 and 1 <= self.ratio < math.inf and 0 <= self.mirrored <= 1):
            raise SettingError(
                f"There are no {self}; expected least above 0 and at most 1, ratio at least 1, mirrored from 0 to 1."
            )

    def draw(self, images: int, seed: int) -> list[Drawn]:
        """Return what is drawn for so many images: a function of the seed.

        >>> Crops().draw(3, seed=1)[2] == Crops().draw(5, seed=1)[2]
        True
        """
        unit = np.random.default_rng(seed).random((images, 2 * TRIES + 3))
        share = self.least + (1 - self.least) * unit[:, :TRIES]
        ratio = self.ratio ** (2 * unit[:, TRIES : 2 * TRIES] - 1)
        shapes = np.stack([share, ratio], -1).tolist()
        return [
            Drawn(tuple(map(tuple, each)), (down, right), coin < self.mirrored)
            for each, (down, right, coin) in zip(shapes, unit[:, 2 * TRIES :].tolist(), strict=True)
        ]


def cut(x_HWC: NDArray[np.uint8], side: int, drawn: Drawn, how: Interpolation = "bilinear") -> NDArray[np.uint8]:
    """Return the part of uint8 RGB pixels that was drawn, resized to `(side, side, 3)` as `scale.square` does.

    >>> cut(np.zeros((20, 30, 3), np.uint8), 8, Crops().draw(1, seed=0)[0]).shape
    (8, 8, 3)
    """
    top, left, height, width = drawn.window(*x_HWC.shape[:2])
    return resized(x_HWC[top : top + height, left : left + width], side, side, how, mirrored=drawn.mirrored)
