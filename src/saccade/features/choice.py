"""The features that need no network, chosen for images of a side."""

from saccade.features.base import ImageFeatures
from saccade.features.colour import ColourHistogram
from saccade.features.hog import HOG
from saccade.features.words import VisualWords


def handmade(side: int, words: int = 0) -> list[ImageFeatures]:
    """Return edges and colours, and a codebook of so many words of patches where there are to be any.

    Cells of HOG are an eighth of the side, or a quarter beside words, which say more of what is small:
    there are as many numbers whatever the side.
    """
    found: list[ImageFeatures] = [
        HOG(cell=max(1, side // (4 if words else 8))),
        ColourHistogram("hue", bins=16, cells=2),
        ColourHistogram("rgb", bins=4, cells=2),
    ]
    return [*found, VisualWords(words=words, patch=min(6, side // 2))] if words else found
