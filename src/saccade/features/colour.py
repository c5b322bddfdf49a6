"""Colour histograms: which hues, or which mixtures of red, green and blue, an image has, and roughly where."""

import numpy as np
from numpy.typing import NDArray

from saccade.errors import SettingError, did_you_mean
from saccade.features.base import Bytes, Features, ImageFeatures, at_least

SPACES = ("hue", "rgb")


class ColourHistogram(ImageFeatures):
    """Histograms of colour in each of `cells` x `cells` parts of the image (lecture 3).

    `space` "hue" counts pixels by hue in `bins` bins, each pixel weighing its chroma (max - min of its
    channels, 0 to 1), for grey has no hue; "rgb" counts them in bins x bins x bins boxes of red, green
    and blue. Counts are divided by the pixels of the part. Grey images count as RGB of three equal channels.

    >>> red = np.full((1, 4, 4, 3), (255, 0, 0), np.uint8)
    >>> ColourHistogram(bins=3, cells=1).fit_transform(red)
    array([[1., 0., 0.]], dtype=float32)
    """

    def __init__(self, space: str = "hue", bins: int = 16, cells: int = 2) -> None:
        self.space = space
        self.bins = bins
        self.cells = cells

    def _learn(self, x_NHWC: Bytes) -> None:
        if self.space not in SPACES:
            hint = did_you_mean(self.space, SPACES)
            raise SettingError(f'There is no colour space "{self.space}"; give hue or rgb.{hint}')
        at_least("bins", self.bins, 1)
        if at_least("cells", self.cells, 1) > min(x_NHWC.shape[1:3]):
            raise SettingError(f"An image of {x_NHWC.shape[1:3]} pixels has no {self.cells} cells a side; give fewer.")

    def _rows(self, x_NHWC: Bytes) -> Features:
        count, height, width, channels = x_NHWC.shape
        rgb = x_NHWC if channels == 3 else np.broadcast_to(x_NHWC, (count, height, width, 3))
        if self.space == "hue":
            bin_NHW, weight_NHW, bins = *_hues(rgb, self.bins), self.bins
        else:
            step = (rgb.astype(np.int64) * self.bins) >> 8
            bin_NHW = (step[..., 0] * self.bins + step[..., 1]) * self.bins + step[..., 2]
            weight_NHW, bins = np.ones(bin_NHW.shape), self.bins**3
        row_H, column_W = (np.arange(side) * self.cells // side for side in (height, width))
        cell_HW = row_H[:, None] * self.cells + column_W
        place = (np.arange(count)[:, None, None] * self.cells**2 + cell_HW) * bins + bin_NHW
        sums = np.bincount(place.ravel(), weight_NHW.ravel(), count * self.cells**2 * bins)
        pixels = np.bincount(cell_HW.ravel(), minlength=self.cells**2)
        shares = sums.reshape(count, self.cells**2, bins) / pixels[:, None]
        return shares.reshape(count, -1).astype(np.float32)


def _hues(rgb_NHWC: Bytes, bins: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each pixel's bin of hue, red at the start of the first, and its chroma."""
    red, green, blue = np.moveaxis(rgb_NHWC.astype(np.float32), -1, 0)
    most = np.maximum(np.maximum(red, green), blue)
    chroma = most - np.minimum(np.minimum(red, green), blue)
    safe = np.where(chroma == 0, 1, chroma)
    sixth = np.where(
        most == red,
        ((green - blue) / safe) % 6,
        np.where(most == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return (sixth * (bins / 6)).astype(np.int64) % bins, chroma / 255.0
