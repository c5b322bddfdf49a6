"""Augmentations that sample images anew at other places: each a 3x3 matrix an image, so that many cost one sampling.

A matrix takes places of the new image to places of the old, both in pixels from the image's centre, x first. What
lies outside is the image's own border, reflected; between pixels, values are interpolated bilinearly.
"""

from collections.abc import Callable, Mapping
from math import log

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saccade.augment.draws import Strength, absent, amount, as_given, on_those, signed, uniform

Size = tuple[int, int, int]
"""Images, height and width."""


def crop(size: Size, strength: Strength, generator: Generator) -> Tensor:
    """Return matrices that magnify a random part, of at least 1 - `strength` of the area, to the whole image.

    Its sides' proportions differ from the image's by up to 4/3 to the power of `strength` (Szegedy et al., 2015).
    """
    n, h, w = size
    area_N = 1 - amount(n, strength, generator)
    aspect_N = (log(4 / 3) * signed(n, strength, generator)).exp()
    x_N, y_N = ((area_N * aspect_N).sqrt().clamp(max=1), (area_N / aspect_N).sqrt().clamp(max=1))
    left_N, down_N = (2 * uniform(n, generator) - 1, 2 * uniform(n, generator) - 1)
    return cropped(x_N, y_N, left_N * (1 - x_N) * w / 2, down_N * (1 - y_N) * h / 2)


def rotate(size: Size, strength: Strength, generator: Generator) -> Tensor:
    """Return matrices that turn images by up to `strength` degrees, either way."""
    return turned(signed(size[0], strength, generator))


def shear(size: Size, strength: Strength, generator: Generator) -> Tensor:
    """Return matrices that slant rows, and columns, by up to `strength` pixels a pixel."""
    return slanted(signed(size[0], strength, generator), signed(size[0], strength, generator))


def stretch(size: Size, strength: Strength, generator: Generator) -> Tensor:
    """Return matrices that make width and height, each by itself, up to 1 + `strength` times longer or shorter."""
    most = log1p(strength)
    x_N, y_N = signed(size[0], most, generator).exp(), signed(size[0], most, generator).exp()
    return cropped(1 / x_N, 1 / y_N, torch.zeros_like(x_N), torch.zeros_like(x_N))


def perspective(size: Size, strength: Strength, generator: Generator) -> Tensor:
    """Return matrices that move each corner in by up to `strength` times half of each side, as if seen aslant.

    Each corner draws its own share even where each image has its own strength: all moved alike were a change of size.
    """
    n, h, w = size
    corner_42 = torch.tensor([[-w, -h], [w, -h], [w, h], [-w, h]], dtype=torch.float64) / 2
    share_N42 = torch.rand(n, 4, 2, generator=generator, dtype=torch.float64)
    scale = strength[:, None, None] if isinstance(strength, Tensor) else strength
    return projected((1 - scale * share_N42) * corner_42, corner_42)


def lens(size: Size, strength: Strength, generator: Generator) -> Tensor:
    """Return bend_N, up to `strength` either way: how much of a barrel or a pincushion (see `sampled`)."""
    return signed(size[0], strength, generator)


HOMOGRAPHIES: Mapping[str, Callable[[Size, Strength, Generator], Tensor]] = {
    "crop": crop,
    "rotate": rotate,
    "shear": shear,
    "stretch": stretch,
    "perspective": perspective,
}
WARPS = (*HOMOGRAPHIES, "lens")


def warped(x_NHWC: Tensor, strengths: Mapping[str, Strength], generator: Generator) -> Tensor:
    """Apply those of WARPS that have a strength, in their order, by sampling once."""
    size = (x_NHWC.shape[0], x_NHWC.shape[1], x_NHWC.shape[2])
    strengths = {name: strength for name, strength in strengths.items() if name in WARPS and not absent(strength)}
    if not strengths:
        return x_NHWC
    matrix_N33 = torch.eye(3, dtype=torch.float64).repeat(size[0], 1, 1)
    for name, matrices in HOMOGRAPHIES.items():
        if name in strengths:
            matrix_N33 = matrix_N33 @ matrices(size, strengths[name], generator)
    bend_N = lens(size, strengths["lens"], generator) if "lens" in strengths else None

    def change(x_MHWC: Tensor, place_M: Tensor) -> Tensor:
        return sampled(x_MHWC, matrix_N33[place_M], None if bend_N is None else bend_N[place_M])

    return on_those(x_NHWC, strengths.values(), change)


def sampled(x_NHWC: Tensor, matrix_N33: Tensor, bend_N: Tensor | None = None) -> Tensor:
    """Return images whose pixel at p is the old one at M q / (M q)_3, where q = (p (1 + b (r² - 1)), 1).

    r is the distance from the centre as a share of a corner's; b, `bend_N`, bends straight lines as a lens does:
    b > 0 magnifies the middle (barrel), b < 0 shrinks it (pincushion). The corners stay (Brown, 1966).
    """
    _, h, w, _ = x_NHWC.shape
    y_H1 = torch.arange(h, device=x_NHWC.device)[:, None] - (h - 1) / 2
    x_1W = torch.arange(w, device=x_NHWC.device)[None, :] - (w - 1) / 2
    x, y = x_1W[None], y_H1[None]
    if bend_N is not None:
        corner = max((h - 1) ** 2 + (w - 1) ** 2, 1) / 4
        factor_NHW = 1 + bend_N.to(x.device, x.dtype)[:, None, None] * ((x.square() + y.square()) / corner - 1)
        x, y = x * factor_NHW, y * factor_NHW
    # By elements and not by a matrix product, whose last bit would depend on the number of threads.
    m = matrix_N33.to(x.device, x.dtype)[..., None, None].unbind(1)
    to = [row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in m]
    if bool((matrix_N33[:, 2, :2] != 0).any()):
        to = [to[0] / to[2], to[1] / to[2]]
    grid_NHW2 = torch.stack([to[0] * (2 / max(w - 1, 1)), to[1] * (2 / max(h - 1, 1))], -1)
    x_NCHW = x_NHWC.permute(0, 3, 1, 2).to(grid_NHW2.dtype)
    out_NCHW = F.grid_sample(x_NCHW, grid_NHW2, mode="bilinear", padding_mode="reflection", align_corners=True)
    return as_given(out_NCHW.permute(0, 2, 3, 1), x_NHWC)


def cropped(x_N: Tensor, y_N: Tensor, right_N: Tensor, down_N: Tensor) -> Tensor:
    """Return the matrices of a part of `x_N` times the width, `y_N` times the height, off the centre by so much."""
    zero_N, one_N = torch.zeros_like(x_N), torch.ones_like(x_N)
    return _matrix(x_N, zero_N, right_N, zero_N, y_N, down_N, zero_N, zero_N, one_N)


def turned(degrees_N: Tensor) -> Tensor:
    """Return the matrices of a turn against the clock."""
    angle_N = degrees_N.double().deg2rad()
    cos_N, sin_N, zero_N = angle_N.cos(), angle_N.sin(), torch.zeros_like(angle_N)
    return _matrix(cos_N, -sin_N, zero_N, sin_N, cos_N, zero_N, zero_N, zero_N, zero_N + 1)


def slanted(x_N: Tensor, y_N: Tensor) -> Tensor:
    """Return the matrices of a shear: x + `x_N` y, then y + `y_N` x."""
    zero_N, one_N = torch.zeros_like(x_N), torch.ones_like(x_N)
    return _matrix(1 + x_N * y_N, x_N, zero_N, y_N, one_N, zero_N, zero_N, zero_N, one_N)


def projected(from_N42: Tensor, to_N42: Tensor) -> Tensor:
    """Return the matrices that take each of four points to another, from the eight equations they give."""
    from_N42, to_N42 = torch.broadcast_tensors(from_N42, to_N42)
    x_N4, y_N4 = from_N42.unbind(-1)
    zero_N4, one_N4 = torch.zeros_like(x_N4), torch.ones_like(x_N4)
    rows = []
    for axis, u_N4 in enumerate(to_N42.unbind(-1)):
        place = [x_N4, y_N4, one_N4]
        none = [zero_N4] * 3
        rows.append(torch.stack([*(none + place if axis else place + none), -u_N4 * x_N4, -u_N4 * y_N4], -1))
    right_N8 = torch.cat(to_N42.unbind(-1), -1)
    solved_N8 = torch.linalg.solve(torch.cat(rows, -2), right_N8)
    return torch.cat([solved_N8, torch.ones_like(solved_N8[..., :1])], -1).view(-1, 3, 3)


def log1p(strength: Strength) -> Strength:
    """Return ln(1 + strength)."""
    return strength.log1p() if isinstance(strength, Tensor) else log(1 + strength)


def _matrix(*entries_N: Tensor) -> Tensor:
    return torch.stack([entry.double() for entry in entries_N], -1).view(-1, 3, 3)
