"""Views of images to predict from: all images changed by the same draw, so that none depends on another."""

from collections.abc import Mapping

from torch import Generator, Tensor

from saccade.augment.geometry import translate
from saccade.augment.warps import WARPS, warped

MOVES = ("translate", *WARPS)
"""What a view may do to an image: other augmentations change colours, which whole batches share."""


def view(x_NHWC: Tensor, strengths: Mapping[str, float], generator: Generator) -> Tensor:
    """Return float images moved, turned and stretched by one draw for all of them, up to the strengths of MOVES.

    >>> import torch
    >>> x_NHWC = torch.rand(5, 8, 8, 3)
    >>> together = view(x_NHWC, {"rotate": 15}, torch.Generator().manual_seed(0))
    >>> alone = view(x_NHWC[2:3], {"rotate": 15}, torch.Generator().manual_seed(0))
    >>> torch.equal(together[2:3], alone)
    True
    """
    n, h, w, c = x_NHWC.shape
    # One image of many channels draws once.
    x_1HWM = x_NHWC.permute(1, 2, 0, 3).reshape(1, h, w, n * c)
    if strengths.get("translate"):
        x_1HWM = translate(x_1HWM, strengths["translate"], generator)
    return warped(x_1HWM, strengths, generator).reshape(h, w, n, c).permute(2, 0, 1, 3)
