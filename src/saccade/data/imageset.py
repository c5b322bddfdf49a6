"""ImageSet: named, labelled images of one source, whose pixels are decoded when they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.data.pixels import Pixels
from saccade.data.sketch import CELLS, SIDE
from saccade.errors import InputError
from saccade.events import Finding


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and their labels: N images, K classes; `select` makes smaller ones that share pixels."""

    source: str
    """What the user gave: a path or a data set's name."""
    name: str
    """A short name of the source."""
    keys: tuple[str, ...]
    """Each image's unique name within the source; printable whatever the file is called."""
    labels_N: NDArray[np.int64]
    """Each image's class, an index into `classes`."""
    classes: tuple[str, ...]
    """The classes' names in natural order (class "10" after "9")."""
    given_parts: tuple[str | None, ...]
    """The part the source puts an image in: "train", "validation", "test", or None."""
    groups: tuple[str | None, ...]
    """The user's name for images that must stay together (one patient, one video), or None."""
    pixels: Pixels
    """Where the decoded images are; answers for `keys` alone."""
    ignored: tuple[Finding, ...] = ()
    """What else lay in the source; `integrity` emits it."""

    def __len__(self) -> int:
        return len(self.keys)

    def select(self, indices: Sequence[int] | NDArray[np.integer[Any] | np.bool_]) -> "ImageSet":
        """Return the images at `indices`, in that order, with the same classes; or those where a mask (N,) is True.

        Raises InputError where it is neither.
        """
        chosen = self._places(np.asarray(indices))
        keys = tuple(self.keys[i] for i in chosen)
        return replace(
            self,
            keys=keys,
            labels_N=self.labels_N[chosen],
            given_parts=tuple(self.given_parts[i] for i in chosen),
            groups=tuple(self.groups[i] for i in chosen),
            pixels=self.pixels.only(keys),
        )

    def _places(self, given: NDArray[Any]) -> NDArray[np.int64]:
        """Return the places that indices, or a mask, are of."""
        if given.dtype == bool and given.shape == (len(self),):
            return np.flatnonzero(given)
        whole = given.dtype.kind in "iu" or (given.dtype.kind == "f" and given.size == 0)  # what [] is
        if not whole or given.ndim != 1 or (given < -len(self)).any() or (given >= len(self)).any():
            raise InputError(
                f"Images are selected by their places, from 0 to {len(self) - 1:,}, or by a mask, one bool for each of "
                f"the {len(self):,}; given is an array of shape {given.shape} and type {given.dtype}"
                + (f" that goes from {given.min():,} to {given.max():,}." if whole and given.size else ".")
            )
        return given.astype(np.int64)

    def joined(self, other: "ImageSet") -> "ImageSet":
        """Return these images, then the other ones, both selected from one set."""
        return replace(
            self,
            keys=self.keys + other.keys,
            labels_N=np.concatenate([self.labels_N, other.labels_N]),
            given_parts=self.given_parts + other.given_parts,
            groups=self.groups + other.groups,
            pixels=self.pixels.with_those_of(other.pixels),
        )

    def class_counts(self) -> NDArray[np.int64]:
        """Return the number of images of each class, (K,)."""
        return np.bincount(self.labels_N, minlength=len(self.classes)).astype(np.int64)

    @property
    def groups_N(self) -> NDArray[np.int64]:  # noqa: N802 (the suffix is its shape)
        """Each image's group as a number: the same where the user's name for it is, its own where there is none."""
        first: dict[str, int] = {}
        numbers = (i if name is None else first.setdefault(name, i) for i, name in enumerate(self.groups))
        return np.fromiter(numbers, np.int64, len(self))

    def hashes(self) -> tuple[str, ...]:
        """Return each image's content hash (`Facts.hash`): equal where the decoded pixels are."""
        return tuple(self.pixels.facts(key).hash for key in self.keys)

    def sketches(self) -> NDArray[np.uint8]:
        """Return each image's sketch (`data.sketch`), (N, 32, 32) uint8 grey."""
        grey = b"".join(self.pixels.facts(key).sketch.grey for key in self.keys)
        return np.frombuffer(grey, np.uint8).reshape(-1, SIDE, SIDE)

    def chroma(self) -> NDArray[np.uint8]:
        """Return the colours of each image's sketch (`data.sketch`), (N, 8, 8, 2) uint8: Cb and Cr."""
        chroma = b"".join(self.pixels.facts(key).sketch.chroma for key in self.keys)
        return np.frombuffer(chroma, np.uint8).reshape(-1, CELLS, CELLS, 2)
