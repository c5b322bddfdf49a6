"""The three parts of a data set; the test part is sealed: to open it is to record a look."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.data.imageset import ImageSet
from saccade.ledger import Ledger, part_hash
from saccade.settings import Interpolation


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a data set, called "train", "validation" or "test"."""

    name: str
    images: ImageSet

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels_N(self) -> NDArray[np.int64]:  # noqa: N802 (the suffix is its shape)
        """Each image's class, an index into `classes`."""
        return self.images.labels_N

    @property
    def groups_N(self) -> NDArray[np.int64]:  # noqa: N802 (the suffix is its shape)
        """Each image's group as a number, as `ImageSet.groups_N` has it."""
        return self.images.groups_N

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names; all parts have the same."""
        return self.images.classes

    @property
    def content_hash(self) -> str:
        """The hash of the part's decoded images, whatever their names and order."""
        return part_hash(self.images.hashes())

    def squares(self, side: int, how: Interpolation = "bilinear") -> NDArray[np.uint8]:
        """Return all images as x_NHWC, uint8 RGB, `side` by `side`, resized as `how` says."""
        return self.images.pixels.squares(self.images.keys, side, how)

    def select(self, indices: Sequence[int] | NDArray[np.integer[Any] | np.bool_]) -> "Part":
        """Return the part with the images at `indices` alone, or where a mask is True: as `ImageSet.select` does."""
        return replace(self, images=self.images.select(indices))


class SealedPart:
    """The test part before it is looked at: its size and hash are known, its pixels and labels are not."""

    __slots__ = ("__open", "content_hash", "name")

    def __init__(self, part: Part) -> None:
        self.name = part.name
        self.content_hash = part.content_hash
        # A closure, so that no attribute leads to the images.
        self.__open: Callable[[], Part] = lambda: part

    def __len__(self) -> int:
        return len(self.__open())

    def unseal(
        self, ledger: Ledger, *, run: str, command: str, recorded: bool = False
    ) -> tuple[Part, list[dict[str, str]]]:
        """Record a look in the ledger, then return the part and all looks so far, oldest first.

        A look that was `recorded` before the command was interrupted is not counted again. Raises
        RunError, and stays sealed, where the look cannot be recorded.
        """
        if recorded:
            return self.__open(), ledger.looks(self.content_hash)
        looks = ledger.record(self.content_hash, run=run, command=command)
        return self.__open(), looks

    def record(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield `(key, hash, class, "test")` of each image: what a run's split.csv keeps, for nothing else."""
        return _rows(self.__open())


@dataclass(frozen=True, eq=False)
class Parts:
    """Training, validation and sealed test part, with the same classes."""

    train: Part
    validation: Part
    test: SealedPart

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return self.train.classes

    @property
    def known(self) -> Part:
        """Training and validation images as one part: all that may be looked at."""
        return Part("train", self.train.images.joined(self.validation.images))

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield `(key, hash, class, part)` of every image, for the run's record of the split."""
        yield from _rows(self.train)
        yield from _rows(self.validation)
        yield from self.test.record()


def _rows(part: Part) -> Iterator[tuple[str, str, str, str]]:
    images: Any = zip(part.images.keys, part.images.hashes(), part.labels_N.tolist(), strict=True)
    for key, digest, label in images:
        yield key, digest, part.classes[label], part.name
