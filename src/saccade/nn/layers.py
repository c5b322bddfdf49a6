"""Layers that PyTorch lacks, among them those fitted to the training images before training begins."""

import math

import torch
from torch import Tensor, nn

from saccade.errors import ModelError


class Standardize(nn.Module):
    """Centre each channel and scale it: (x - mean) / sd, with x in 0…255; or one of the two, or neither."""

    mean_C: Tensor
    sd_C: Tensor
    any_side = True

    def __init__(self, channels: int = 3, *, centre: bool = True, scale: bool = True) -> None:
        super().__init__()
        self.centre, self.scale = centre, scale
        self.register_buffer("mean_C", torch.zeros(channels))
        self.register_buffer("sd_C", torch.ones(channels))

    @torch.no_grad()
    def fit(self, x_NHWC: Tensor, *, most: int = 10_000) -> None:
        """Set mean and standard deviation, or what is asked for of them, from up to `most` evenly spaced images.

        Summed in float64. A channel that hardly varies is centred and not scaled up. Raises ModelError where there
        are no images.
        """
        if not x_NHWC.numel():
            raise ModelError("Mean and standard deviation need a training image or more, and none was given.")
        x_NHWC = x_NHWC[:: max(1, math.ceil(len(x_NHWC) / most))]
        sums_2C = torch.zeros(2, x_NHWC.shape[-1], dtype=torch.float64)
        for chunk in x_NHWC.split(256):
            values = chunk.flatten(0, 2).cpu().double()
            sums_2C += torch.stack([values.sum(0), values.square().sum(0)])
        mean_C, square_C = sums_2C / x_NHWC[..., 0].numel()
        if self.centre:
            self.mean_C.copy_(mean_C)
        if self.scale:
            self.sd_C.copy_((square_C - mean_C.square()).clamp(min=1.0).sqrt())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the standardised images."""
        return (x_NCHW - self.mean_C[:, None, None]) / self.sd_C[:, None, None]


class WhiteningConv(nn.Conv2d):
    """A fixed convolution whose outputs, on the images it was fitted to, are uncorrelated with unit variance.

    Its filters are the `components` strongest eigenvectors of the covariance of the images' patches,
    each divided by the root of its eigenvalue, with both signs so that a following activation loses
    nothing (Coates and Ng, 2012; Jordan, 2024). (N, C, H, W) → (N, 2·components, (H-F+2P)/S+1, …);
    nothing is trained.
    """

    def __init__(self, channels: int, components: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(channels, 2 * components, kernel, stride, padding, bias=False)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, x_NCHW: Tensor, *, epsilon: float = 5e-4, most: int = 400_000) -> None:
        """Set the filters from standardised images, on up to `most` of their patches, in float64."""
        patches = nn.functional.unfold(x_NCHW.float(), self.kernel_size, stride=self.kernel_size)
        patches = patches.transpose(1, 2).flatten(0, 1)
        patches_MD = patches[:: max(1, math.ceil(len(patches) / most))].double()
        covariance_DD = patches_MD.T @ patches_MD / len(patches_MD)
        values_D, vectors_DD = torch.linalg.eigh(covariance_DD)
        filters_DD = (vectors_DD / (values_D + epsilon).sqrt()).T.flip(0)
        filters = filters_DD[: self.out_channels // 2].reshape(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))


class FractionalMaxPool(nn.Module):
    """Max pooling by a factor that is no whole number (Graham, 2014): (N, C, H, W) → (N, C, ⌊ratio·H⌋, ⌊ratio·W⌋).

    Windows of `kernel` pixels overlap or lie apart by chance, drawn anew for each image and channel in training;
    at prediction they always lie the same way. An image of one pixel stays as it is.
    """

    def __init__(self, kernel: int, ratio: float) -> None:
        super().__init__()
        self.kernel, self.ratio = kernel, ratio

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the maximum of each window."""
        kernel = min(self.kernel, *x_NCHW.shape[2:])
        sides = [max(1, min(int(self.ratio * side), side - kernel + 1)) for side in x_NCHW.shape[2:]]
        where = None if self.training else x_NCHW.new_full((*x_NCHW.shape[:2], 2), 0.5)
        pooled: Tensor = nn.functional.fractional_max_pool2d(x_NCHW, kernel, sides, _random_samples=where)
        return pooled


class GlobalMaxPool(nn.Module):
    """The maximum over the image: (N, C, H, W) → (N, C)."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return each channel's maximum."""
        return x_NCHW.amax((2, 3))
