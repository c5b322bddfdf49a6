"""What is done to images before a network sees them (lecture 6): fitted to training images, kept with the weights.

Each takes images (N, 3, side, side) in 0…255 and gives what the network is trained on, of the same shape.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.errors import ModelError
from saccade.nn.layers import Standardize

GREY = 128
"""Subtracted before products are summed: of numbers from -128 to 127 they are whole, and exact in float32."""
EXACT = 2**24 // GREY**2
"""As many products of such numbers sum up to a whole number that float32 holds exactly."""
MOST_VALUES = 4_800
"""Values of an image (3 · 40 · 40) up to which the covariance of all of them is computed."""
DAMPING = 1e-2
"""Added to each variance before its root divides, as a share of their mean: noise is not blown up."""

Rotation = Literal["pca", "pca-whiten", "zca"]


class MeanImage(nn.Module):
    """Subtract the mean training image (Krizhevsky et al., 2012), resized where images are smaller.

    >>> center = MeanImage(side=2)
    >>> center.fit([torch.full((3, 2, 2, 3), 10, dtype=torch.uint8), torch.full((1, 2, 2, 3), 50, dtype=torch.uint8)])
    >>> center(torch.full((1, 3, 2, 2), 25.0)).unique()
    tensor([5.])
    """

    mean_CHW: Tensor
    any_side = True

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("mean_CHW", torch.zeros(3, side, side))

    @torch.no_grad()
    def fit(self, chunks: Iterable[Tensor]) -> None:
        """Set the mean from uint8 images (N, side, side, 3) that come some at a time.

        Raises ModelError where there are none.
        """
        total_HWC, images = torch.zeros(*self.mean_CHW.shape[1:], 3, dtype=torch.float64), 0
        for x_NHWC in chunks:
            total_HWC += x_NHWC.cpu().double().sum(0)
            images += len(x_NHWC)
        if not images:
            raise ModelError("preprocess=mean-image needs a training image or more, and none was given.")
        self.mean_CHW.copy_((total_HWC / images).permute(2, 0, 1))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the centred images."""
        mean_CHW = self.mean_CHW
        if mean_CHW.shape[1:] != x_NCHW.shape[2:]:
            size = (x_NCHW.shape[2], x_NCHW.shape[3])
            mean_CHW = F.interpolate(mean_CHW[None], size=size, mode="bilinear", antialias=True)[0]
        return x_NCHW - mean_CHW


class Decorrelate(nn.Module):
    """Rotate centred images into the principal components of all their values, whiten these, or rotate back too.

    With the covariance UΛUᵀ of the D values of an image, over N - 1 as scikit-learn has it: "pca" gives Uᵀx,
    the strongest component first; "pca-whiten" divides each by the root of its variance, so that the
    covariance is I; "zca" gives UΛ^(-1/2)Uᵀx, the whitened image that is nearest to the image.
    Raises ModelError where D is more than MOST_VALUES.
    """

    mean_D: Tensor
    matrix_DD: Tensor
    any_side = False

    def __init__(self, side: int, kind: Rotation, damping: float = DAMPING) -> None:
        super().__init__()
        values = 3 * side**2
        if values > MOST_VALUES:
            raise ModelError(
                f"preprocess={kind} of images of {side} x {side} pixels would need a matrix of {values:,} x "
                f"{values:,}; give a size of {int((MOST_VALUES / 3) ** 0.5)} or less, or preprocess=mean-image."
            )
        self.kind, self.damping = kind, damping
        self.register_buffer("mean_D", torch.zeros(values))
        self.register_buffer("matrix_DD", torch.eye(values))

    @torch.no_grad()
    def fit(self, chunks: Iterable[Tensor]) -> None:
        """Set mean and rotation from uint8 images (N, side, side, 3) that come some at a time, all but exactly.

        Raises ModelError where there are fewer than two images.
        """
        values = len(self.mean_D)
        sum_D = torch.zeros(values, dtype=torch.float64)
        products_DD = torch.zeros(values, values, dtype=torch.float64)
        images = 0
        for chunk in chunks:
            for x_NHWC in chunk.split(EXACT):
                x_ND = x_NHWC.permute(0, 3, 1, 2).flatten(1).float() - GREY
                sum_D += x_ND.cpu().double().sum(0)
                products_DD += (x_ND.T @ x_ND).cpu()
                images += len(x_ND)
        if images < 2:
            raise ModelError(f"preprocess={self.kind} needs two training images or more, and {images} given.")
        mean_D = sum_D / images
        covariance_DD = (products_DD - images * torch.outer(mean_D, mean_D)) / (images - 1)
        variance_D, components_DD = (each.flip(-1) for each in torch.linalg.eigh(covariance_DD))
        self.mean_D.copy_(mean_D + GREY)
        if self.kind == "pca":
            self.matrix_DD.copy_(components_DD.T)
            return
        # Below the rounding of the sums a variance is nothing but that; images that hardly vary are not scaled up.
        floor = variance_D.mean() * self.damping + variance_D[0] * 1e-12
        floor = torch.maximum(floor, 1 - variance_D[0])
        rotation_DD = (components_DD / (variance_D.clamp(min=0) + floor).sqrt()).T
        self.matrix_DD.copy_(components_DD @ rotation_DD if self.kind == "zca" else rotation_DD)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the rotated images, in the shape of the images; computed in float32 whatever the network does."""
        with torch.autocast(x_NCHW.device.type, enabled=False):
            rotated_ND = (x_NCHW.flatten(1).float() - self.mean_D) @ self.matrix_DD.T
        return rotated_ND.view(x_NCHW.shape)


Preprocess = Standardize | MeanImage | Decorrelate

PREPROCESSING: Mapping[str, Callable[[int], Preprocess]] = {
    "standardize": lambda side: Standardize(),
    "center": lambda side: Standardize(scale=False),
    "scale": lambda side: Standardize(centre=False),
    "none": lambda side: Standardize(centre=False, scale=False),
    "mean-image": MeanImage,
    "pca": lambda side: Decorrelate(side, "pca"),
    "pca-whiten": lambda side: Decorrelate(side, "pca-whiten"),
    "zca": lambda side: Decorrelate(side, "zca"),
}
"""By the setting `preprocess`: made for images of a side, fitted by `zoo.fit_to`."""


def keeps_places(preprocess: nn.Module) -> bool:
    """Return whether what comes out is still an image, neighbours beside neighbours."""
    return not isinstance(preprocess, Decorrelate) or preprocess.kind == "zca"
