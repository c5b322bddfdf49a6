"""Which images the weights that a run begins with were trained on or chosen by: no test of what comes of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.data import ImageSet, Part
from saccade.data.splits import PARTS, given_numbers
from saccade.errors import RunError, SourceError
from saccade.events import Finding, emit
from saccade.files import read_csv
from saccade.nn import runs
from saccade.run import SEEN, Run
from saccade.settings import DataSettings


@dataclass(frozen=True)
class Seen:
    """The images of an earlier `run`: content hash → "train" or "validation", the part it used them in.

    `run` is None, and there are none, where a run begins with no weights, or with those of no run.
    """

    run: Path | None = None
    part_of: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def by(cls, settings: DataSettings) -> "Seen":
        """Return what the run has seen whose weights the settings ask for; raises RunError where its record is damaged.

        Emits a Finding where it has no record.
        """
        asked: str | None = getattr(settings, "pretrained", None)
        folder = None if asked is None or asked in ("auto", "none") else runs.folder(asked)
        if folder is None:
            return cls()
        if not Run(folder).split.is_file():
            unknown = f"The run in {folder} has no split.csv, so it is not known which images it was trained on"
            detail = f"{unknown}: some of the new test part may be among them."
            emit(Finding(kind="seen", severity="warning", detail=detail))
            return cls()
        return cls(folder, used(Run(folder)))

    def latest(self, images: ImageSet) -> NDArray[np.int64] | None:
        """Return the last part that each image may go to, an index into PARTS: none after that it was used in.

        None where there is no run. Raises SourceError where the source itself puts one that was used into its test
        part.
        """
        if self.run is None:
            return None
        latest_N = np.array([PARTS.index(self.part_of.get(each, "test")) for each in images.hashes()], np.int64)
        tested_N = given_numbers(images) == PARTS.index("test")
        if spoilt := int((latest_N[tested_N] < PARTS.index("test")).sum()):
            raise SourceError(
                f"{spoilt:,} of the {int(tested_N.sum()):,} test images of {images.source} were used to train or "
                f"choose the run in {self.run}, so they are no test of what begins with its weights; give other test "
                "images, or other weights."
            )
        return latest_N

    def count(self, part: Part, used_in: str = "train") -> int:
        """Return how many of a part's images the run was trained on, or chosen by ("validation")."""
        return sum(self.part_of.get(digest) == used_in for digest in part.images.hashes())

    def tell(self, known: Part, held: Part) -> None:
        """Emit Findings on what was seen of the training and validation images, and of those `held` out for choices."""
        if self.run is None:
            return
        trained, chosen = self.count(known), self.count(known, "validation")
        if trained or chosen:
            detail = (
                f"The run in {self.run} was trained on {trained:,} of the {len(known):,} training and validation "
                f"images and chosen by {chosen:,}: none that it has seen is in the test part."
            )
            emit(Finding(kind="seen", detail=detail))
        if again := self.count(held):
            detail = (
                f"The run in {self.run} was trained on {again:,} of the {len(held):,} images held out to validate on: "
                "figures on these are better than on new images."
            )
            emit(Finding(kind="seen", severity="warning", detail=detail))


def used(run: Run) -> dict[str, str]:
    """Return the images that a run was trained on or chosen by, and the weights that it began with: hash → part.

    What any of them was trained on counts as "train". Raises RunError where the record is missing or damaged.
    """
    own = [(row["hash"], row["part"]) for row in run.read_split() if row["part"] != "test"]
    return joined([*own, *inherited(run).items()])


def inherited(run: Run) -> dict[str, str]:
    """Return the images that the weights which a run began with were trained on or chosen by; raises as `used` does."""
    try:
        return {row["hash"]: row["part"] for row in read_csv(run.seen, SEEN)} if run.seen.exists() else {}
    except (OSError, ValueError) as error:
        raise RunError(f"{run.seen} is damaged; the run's files were changed.") from error


def joined(rows: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return hash → part from pairs of them, the earliest where a hash has several.

    >>> joined([("a", "train"), ("a", "validation"), ("b", "validation")]) == {"a": "train", "b": "validation"}
    True
    """
    return dict(sorted(rows, key=lambda row: PARTS.index(row[1]), reverse=True))
