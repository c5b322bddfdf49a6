"""Augmentations of colour; those that are linear in it cost one product together.

Brightness, contrast, saturation and PCA colour take c to A c + b, with a matrix A and a vector b an image.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from saccade.augment.draws import Strength, absent, as_given, on_those, signed
from saccade.errors import InputError

GREY = (0.2989, 0.587, 0.114)
"""How bright red, green and blue are (ITU-R BT.601)."""


@dataclass(frozen=True)
class Colours:
    """A_N33 and b_N3, float64: the images' colours c become A c + b. `mean_N3` are their means before."""

    a_N33: Tensor
    b_N3: Tensor
    mean_N3: Tensor

    @classmethod
    def of(cls, x_NHWC: Tensor) -> "Colours":
        """Return what leaves a batch as it is, with its mean colours; raises InputError unless it has three."""
        _check_colours(x_NHWC)
        # Bytes are added up exactly, in any order: threads do not change the mean.
        total_N3 = x_NHWC.sum((1, 2), dtype=torch.float64 if x_NHWC.is_floating_point() else torch.int64)
        n, h, w, _ = x_NHWC.shape
        a_N33 = torch.eye(3, dtype=torch.float64).repeat(n, 1, 1)
        return cls(a_N33, torch.zeros(n, 3, dtype=torch.float64), total_N3.cpu().double() / (h * w))

    def then(self, a_N33: Tensor, b_N3: Tensor) -> "Colours":
        """Return this followed by another."""
        return Colours(a_N33 @ self.a_N33, (a_N33 @ self.b_N3[..., None])[..., 0] + b_N3, self.mean_N3)

    def of_those(self, place_M: Tensor) -> "Colours":
        """Return the same for some of the images."""
        return Colours(self.a_N33[place_M], self.b_N3[place_M], self.mean_N3[place_M])

    def mean_grey_N(self) -> Tensor:  # noqa: N802 (the suffix is its shape)
        """Return how bright each image has become on average."""
        grey_3 = torch.tensor(GREY, dtype=torch.float64)
        mean_N3: Tensor = (self.a_N33 @ self.mean_N3[..., None])[..., 0] + self.b_N3
        grey_N: Tensor = mean_N3 @ grey_3
        return grey_N

    def __call__(self, x_NHWC: Tensor) -> Tensor:
        """Return the images in their new colours."""
        a_N33, b_N3 = (part.to(x_NHWC.device, torch.float32) for part in (self.a_N33, self.b_N3))
        mixed_33 = (self.a_N33 != 0).any(0).tolist()
        old = x_NHWC.float().unbind(-1)
        new = []
        for row in range(3):
            # By elements and not by a matrix product, whose last bit would depend on the number of threads.
            terms = [old[c] * a_N33[:, row, c, None, None] for c in range(3) if mixed_33[row][c]]
            summed: Tensor = sum(terms, b_N3[:, row, None, None])
            new.append(summed.expand_as(old[row]))
        return as_given(torch.stack(new, -1), x_NHWC)


def brightness(colours: Colours, amount_N: Tensor) -> Colours:
    """Return colours 1 + amount times as bright."""
    return colours.then(_scaled(1 + amount_N), torch.zeros_like(colours.b_N3))


def contrast(colours: Colours, amount_N: Tensor) -> Colours:
    """Return colours 1 + amount times as far from the image's mean grey."""
    grey_N3 = colours.mean_grey_N()[:, None].expand(-1, 3)
    return colours.then(_scaled(1 + amount_N), -amount_N[:, None] * grey_N3)


def saturation(colours: Colours, amount_N: Tensor) -> Colours:
    """Return colours 1 + amount times as far from their own grey."""
    grey_33 = torch.tensor(GREY, dtype=torch.float64).expand(3, 3)
    return colours.then(_scaled(1 + amount_N) - amount_N[:, None, None] * grey_33, torch.zeros_like(colours.b_N3))


LINEAR: Mapping[str, Callable[[Colours, Tensor], Colours]] = {
    "brightness": brightness,
    "contrast": contrast,
    "saturation": saturation,
}
COLOURS = (*LINEAR, "pca")


def recoloured(
    x_NHWC: Tensor, strengths: Mapping[str, Strength], generator: Generator, axes_33: Tensor | None = None
) -> Tensor:
    """Apply those of COLOURS that have a strength, in their order, at once; values are cut to 0…255 at the end.

    `axes_33` are the training colours' axes for "pca" (see `colour_axes`), by default the batch's own.
    """
    strengths = {name: strength for name, strength in strengths.items() if name in COLOURS and not absent(strength)}
    if not strengths:
        return x_NHWC
    colours = Colours.of(x_NHWC)
    for name, change in LINEAR.items():
        if name in strengths:
            colours = change(colours, signed(len(x_NHWC), strengths[name], generator))
    if "pca" in strengths:
        strength = strengths["pca"]
        axes_33 = colour_axes(x_NHWC) if axes_33 is None else axes_33
        share_N3 = torch.randn(len(x_NHWC), 3, generator=generator, dtype=torch.float64)
        share_N3 = share_N3 * (strength[:, None] if isinstance(strength, Tensor) else strength)
        colours = colours.then(_scaled(torch.ones(len(x_NHWC), dtype=torch.float64)), share_N3 @ axes_33)
    return on_those(x_NHWC, strengths.values(), lambda x_MHWC, place_M: colours.of_those(place_M)(x_MHWC))


def colour_axes(x_NHWC: Tensor) -> Tensor:
    """Return axes_33, float64: the directions in which all pixels' [R, G, B] vary, each a standard deviation long.

    Row j is sqrt(λ_j) v_j, of the eigenvalues and eigenvectors of the covariance of all pixels, strongest first;
    PCA colour adds α_1, α_2 and α_3 of them, α_j ~ N(0, strength²) an image: shifts distributed like the colours
    themselves, `strength` times as wide, whatever unit they are in. Krizhevsky et al. (2012), whose idea it is, add
    α_j λ_j v_j, which changes with the unit. Raises InputError unless there are three channels.
    """
    _check_colours(x_NHWC)
    sums_3, products_33 = torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for chunk in x_NHWC.split(256):
        c_M3 = chunk.reshape(-1, 3).double().cpu()
        sums_3 += c_M3.sum(0)
        products_33 += c_M3.T @ c_M3
    pixels = x_NHWC[..., 0].numel()
    mean_3 = sums_3 / pixels
    variances_3, vectors_33 = torch.linalg.eigh(products_33 / pixels - mean_3.outer(mean_3))
    axes_33: Tensor = (vectors_33 * variances_3.clamp(min=0).sqrt()).T.flip(0)
    return axes_33


def hue(x_NHWC: Tensor, strength: Strength, generator: Generator) -> Tensor:
    """Turn each image's colours by up to `strength` of the colour circle, either way."""
    return hue_turned(x_NHWC, signed(len(x_NHWC), strength, generator))


def hue_turned(x_NHWC: Tensor, turn_N: Tensor) -> Tensor:
    """Return images with the hue of HSV increased by `turn_N` of the circle; saturation and value stay.

    With hue h, value V and chroma C, channel n = 5, 3, 1 is V - C max(0, min(k, 4 - k, 1)), k = (n + 6 h) mod 6.
    Raises InputError unless there are three channels.
    """
    _check_colours(x_NHWC)
    r, g, b = x_NHWC.float().unbind(-1)
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(value == r, (g - b) / safe, torch.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4))
    sixth = sixth + 6 * turn_N.to(x_NHWC.device, torch.float32)[:, None, None]
    channels = []
    for n in (5, 3, 1):
        k = (n + sixth) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    out = as_given(torch.stack(channels, -1), x_NHWC)
    # Not even the last bit of a float is to change where nothing is turned.
    return torch.where((turn_N != 0).to(x_NHWC.device)[:, None, None, None], out, x_NHWC)


def _check_colours(x_NHWC: Tensor) -> None:
    if x_NHWC.ndim != 4 or x_NHWC.shape[-1] != 3:
        shape = tuple(x_NHWC.shape)
        raise InputError(f"Images of shape {shape} have no colours to change; give three channels last, (N, H, W, 3).")


def _scaled(factor_N: Tensor) -> Tensor:
    return factor_N[:, None, None] * torch.eye(3, dtype=torch.float64)
