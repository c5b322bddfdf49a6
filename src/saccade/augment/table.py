"""Every augmentation by name, several applied together at the least cost, and random mixes of them."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Generator, Tensor

from saccade.augment.colours import COLOURS, hue, recoloured
from saccade.augment.draws import Strength, absent, as_given, on_those, uniform
from saccade.augment.geometry import cutout, mirror_some, translate, upside_down
from saccade.augment.textures import blur, noise
from saccade.augment.warps import WARPS, warped
from saccade.errors import InputError, entry
from saccade.strengths import STRENGTHS

Augmentation = Callable[[Tensor, Strength, Generator], Tensor]
"""x_NHWC in 0…255, uint8 or float, on any device; a strength; a generator on the CPU → the same, changed."""


def _warp(name: str) -> Augmentation:
    return lambda x_NHWC, strength, generator: warped(x_NHWC, {name: strength}, generator)


def _colour(name: str) -> Augmentation:
    return lambda x_NHWC, strength, generator: recoloured(x_NHWC, {name: strength}, generator)


FIRST: Mapping[str, Augmentation] = {"mirror": mirror_some, "upside_down": upside_down, "translate": translate}
"""Whole pixels moved, without loss."""
LAST: Mapping[str, Augmentation] = {"hue": hue, "blur": blur, "noise": noise, "cutout": cutout}
TABLE: Mapping[str, Augmentation] = {
    **FIRST,
    **{name: _warp(name) for name in WARPS},
    **{name: _colour(name) for name in COLOURS},
    **LAST,
}
"""Each augmentation alone, in the order in which they are applied."""
MIXED = tuple(name for name in TABLE if name not in ("mirror", "upside_down"))
"""What mixes are of, where nothing else is said: what hardly ever changes what an image shows."""


def apply(
    x_NHWC: Tensor, strengths: Mapping[str, Strength], generator: Generator, axes_33: Tensor | None = None
) -> Tensor:
    """Apply every augmentation named, in the table's order, at its strength: one for all images, or one for each (N,).

    With one for all, every image draws its amount up to it; with one for each, that is the amount, and what has two
    directions draws only which. All that move places between pixels cost one sampling, all linear changes of colour
    one product, and bytes are rounded to once, in the end. What an image has a strength of 0 of leaves it as it is.
    `axes_33` are for "pca" (see `colour_axes`). Raises SettingError for a name that is not in the table, InputError
    for a strength below 0 or not finite, and where images without three channels are to change their colours.

    >>> x_NHWC = torch.randint(0, 256, (8, 16, 16, 3), dtype=torch.uint8)
    >>> changed = apply(x_NHWC, {"rotate": 15, "contrast": 0.2}, torch.Generator().manual_seed(0))
    >>> changed.shape, changed.dtype
    (torch.Size([8, 16, 16, 3]), torch.uint8)
    """
    _check_names(strengths)
    for name, strength in strengths.items():
        _check_strength(name, strength, len(x_NHWC))
    strengths = {name: strength for name, strength in strengths.items() if not absent(strength)}
    x = x_NHWC
    for name, augmentation in FIRST.items():
        if name in strengths:
            x = augmentation(x, strengths[name], generator)
    if not strengths.keys() - FIRST.keys() - {"cutout"}:
        return cutout(x, strengths["cutout"], generator) if "cutout" in strengths else x
    x = warped(x.float(), strengths, generator)
    x = recoloured(x, strengths, generator, axes_33)
    for name, augmentation in LAST.items():
        if name in strengths:
            x = _last(x, augmentation, strengths[name], generator)
    return as_given(x, x_NHWC)


def randaugment(
    x_NHWC: Tensor,
    strength: float,
    generator: Generator,
    axes_33: Tensor | None = None,
    *,
    names: tuple[str, ...] = MIXED,
    each: int = 2,
) -> Tensor:
    """Apply `each` augmentations drawn for every image, at `strength` of their strong strengths (Cubuk et al., 2020).

    All by that one amount, in a direction drawn at random where there are two. Unlike there, they are drawn without
    replacement, of saccade's own `names`, none of which leaves an image alone. Raises SettingError and InputError
    as `apply` does.
    """
    chance_NA = torch.rand(len(x_NHWC), len(names), generator=generator)
    chosen_NA = chance_NA.argsort(1).argsort(1) < each
    return apply(x_NHWC, _strong(names, chosen_NA * strength), generator, axes_33)


def trivialaugment(
    x_NHWC: Tensor,
    strength: float,
    generator: Generator,
    axes_33: Tensor | None = None,
    *,
    names: tuple[str, ...] = MIXED,
) -> Tensor:
    """Apply one augmentation drawn for every image, at up to `strength` of its strong one (Müller and Hutter, 2021).

    The amount is uniform up to there, its direction drawn at random where there are two, so there is nothing to tune.
    The augmentations are saccade's own `names`. Raises SettingError and InputError as `apply` does.
    """
    drawn_N = torch.randint(len(names), (len(x_NHWC),), generator=generator)
    share_N = uniform(len(x_NHWC), generator) * strength
    chosen_NA = drawn_N[:, None] == torch.arange(len(names))
    return apply(x_NHWC, _strong(names, chosen_NA * share_N[:, None]), generator, axes_33)


MIXES: Mapping[str, Callable[..., Tensor]] = {"randaugment": randaugment, "trivialaugment": trivialaugment}


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        entry(TABLE, name, "augmentation")


def _check_strength(name: str, strength: Strength, images: int) -> None:
    strengths_N = torch.as_tensor(strength)
    if strengths_N.shape not in ((), (images,)):
        raise InputError(
            f"{name} has strengths of shape {tuple(strengths_N.shape)} for {images} images; give one number, or (N,)."
        )
    for end in map(float, strengths_N.aminmax()) if strengths_N.numel() else ():
        if not 0 <= end < math.inf:
            raise InputError(f"{name} has the strength {end:g}; give a finite number, at least 0.")


def _last(x: Tensor, augmentation: Augmentation, strength: Strength, generator: Generator) -> Tensor:
    if not isinstance(strength, Tensor):
        return augmentation(x, strength, generator)
    return on_those(x, [strength], lambda some, place_M: augmentation(some, strength[place_M], generator))


def _strong(names: tuple[str, ...], share_NA: Tensor) -> dict[str, Strength]:
    """Return a strength an image of each augmentation, from its share of the strong one."""
    _check_names(names)
    shares = zip(names, share_NA.double().unbind(1), strict=True)
    return {name: share_N * STRENGTHS[name].strong for name, share_N in shares}
