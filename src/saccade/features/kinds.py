"""The one table of kinds of features, by which they are saved and loaded."""

from collections.abc import Mapping
from typing import Any

from saccade.features.base import Array, ImageFeatures, State
from saccade.features.colour import ColourHistogram
from saccade.features.deep import DeepFeatures
from saccade.features.hog import HOG
from saccade.features.words import VisualWords

KINDS: Mapping[str, type[ImageFeatures]] = {
    "colour": ColourHistogram,
    "hog": HOG,
    "words": VisualWords,
    "deep": DeepFeatures,
}


def described(features: ImageFeatures) -> State:
    """Return the arrays and the plain values of features of any kind, the kind's name among them."""
    tensors, config = features.to_state()
    return tensors, {"kind": next(name for name, kind in KINDS.items() if type(features) is kind), **config}


def restored(tensors: dict[str, Array], config: dict[str, Any]) -> ImageFeatures:
    """Return the features that `described` described."""
    return KINDS[config["kind"]].from_state(tensors, config)
