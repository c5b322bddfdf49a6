"""How strong each augmentation may be, by name: plain values, so that settings can be checked without torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from saccade.errors import did_you_mean
from saccade.values import numeric, parse_several


@dataclass(frozen=True)
class Strength:
    """Strengths of one augmentation, in its own `unit`: a `usual` one, a `strong` one, and the `most` there is.

    At 0 an augmentation changes nothing; each image draws its own amount, up to the strength.
    """

    usual: float
    strong: float
    most: float
    unit: str


SIDE, SHARE = "of the side", "of the range"
STRENGTHS: Mapping[str, Strength] = {
    "mirror": Strength(0.5, 0.5, 1, "of the images mirrored left to right"),
    "upside_down": Strength(0.5, 0.5, 1, "of the images turned upside down"),
    "translate": Strength(0.0625, 0.25, 0.5, f"{SIDE} shifted"),
    "crop": Strength(0.5, 0.75, 0.99, "of the area cut off"),
    "rotate": Strength(15, 30, 180, "degrees turned"),
    "shear": Strength(0.15, 0.3, 1, "slope of what was upright or level"),
    "stretch": Strength(0.15, 0.3, 1, "longer or shorter, each side by itself"),
    "perspective": Strength(0.25, 0.5, 1, "of half the side that corners move in"),
    "lens": Strength(0.2, 0.4, 0.5, "larger or smaller in the middle than in the corners"),
    "brightness": Strength(0.2, 0.5, 1, "brighter or darker"),
    "contrast": Strength(0.2, 0.5, 1, "more or less contrast"),
    "saturation": Strength(0.3, 0.7, 1, "more or less colour"),
    "pca": Strength(0.1, 0.5, 2, "standard deviations along the training colours' own axes"),
    "hue": Strength(0.05, 0.15, 0.5, "of the colour circle"),
    "blur": Strength(0.02, 0.05, 0.2, f"{SIDE}, the blur's standard deviation"),
    "noise": Strength(0.05, 0.15, 1, f"{SHARE}, the noise's standard deviation"),
    "cutout": Strength(0.25, 0.5, 1, f"{SIDE} blanked out"),
}
"""In the order in which they are applied."""

POLICIES: Mapping[str, Strength] = {
    "randaugment": Strength(0.5, 1, 1, "of the strong strengths of two augmentations an image"),
    "trivialaugment": Strength(1, 1, 1, "of the strong strength of one augmentation an image, at the most"),
}
"""Random mixes of the others."""

APART: Mapping[str, str] = {
    "mirror": "flip=true",
    "translate": "translate=0.1",
    "cutout": "cutout=0.25",
    "mixup": "mixup=0.2",
    "cutmix": "cutmix=1",
}
"""What is a setting by itself."""


def parse_augment(value: object) -> object:
    """Turn a name, several names or a mapping of names to strengths into the mapping; names alone are as usual.

    Raises ValueError for an unknown name or a strength out of range, which pydantic makes part of its own.

    >>> parse_augment("rotate, noise"), parse_augment(["rotate", "noise"])
    ({'rotate': 15, 'noise': 0.05}, {'rotate': 15, 'noise': 0.05})
    """
    if value is None:
        return {}
    if isinstance(value, str | list):
        value = {name: _known(name).usual for name in parse_several(value)}
    if not isinstance(value, dict):
        raise ValueError("expected a name such as trivialaugment, or names with strengths such as {rotate: 15}")
    value = {name: numeric(strength) for name, strength in value.items()}
    for name, strength in value.items():
        limits = _known(name)
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength <= limits.most:
            raise ValueError(f"{name} takes a number from 0 to {limits.most:g} ({limits.unit})")
    return value


def _known(name: object) -> Strength:
    known = {**{each: s for each, s in STRENGTHS.items() if each not in APART}, **POLICIES}
    if not isinstance(name, str):
        raise ValueError(f"expected names such as rotate, or a mapping of them such as {{rotate: 15}}, not {name!r}")
    if name not in known:
        if name in APART:
            raise ValueError(f"{name} is a setting of its own, such as {APART[name]}")
        hint = did_you_mean(name, known).replace("Did", "did") or f" known are {', '.join(known)}"
        raise ValueError(f'there is no augmentation "{name}";{hint}')
    return known[name]
