"""Preprocessing fitted on the training part alone and stored with the model (lecture 6)."""

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Centre each channel and scale it: (x - mean) / sd, with x in 0…255."""

    mean_C: Tensor
    sd_C: Tensor

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.register_buffer("mean_C", torch.zeros(channels))
        self.register_buffer("sd_C", torch.ones(channels))

    @torch.no_grad()
    def fit(self, x_NHWC: Tensor, *, most: int = 10_000) -> None:
        """Set mean and standard deviation from up to `most` evenly spaced images, summed in float64.

        A channel that hardly varies is centred and not scaled up.
        """
        x_NHWC = x_NHWC[:: max(1, len(x_NHWC) // most)]
        sums_2C = torch.zeros(2, x_NHWC.shape[-1], dtype=torch.float64)
        for chunk in x_NHWC.split(256):
            values = chunk.flatten(0, 2).double().cpu()
            sums_2C += torch.stack([values.sum(0), values.square().sum(0)])
        mean_C, square_C = sums_2C / x_NHWC[..., 0].numel()
        self.mean_C.copy_(mean_C)
        self.sd_C.copy_((square_C - mean_C.square()).clamp(min=1.0).sqrt())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return the standardised images."""
        return (x_NCHW - self.mean_C[:, None, None]) / self.sd_C[:, None, None]
