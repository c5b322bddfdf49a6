"""The log of samples: which image was drawn when, kept as one hash that a resumed training goes on from."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from saccade.data.batches import Batch

EVERY = 64
"""Steps after which the indices are fetched from the device."""


class SampleLog:
    """How many images were drawn, and a hash of which, in which order and epoch.

    From "" on, each step's `sha256` is that of the one before it followed by the step's indices and epochs, as
    int64. Two trainings with the same hash saw the same images in the same order; which these were follows from
    `data.batches.Order` alone.
    """

    def __init__(self) -> None:
        self.images, self.sha256 = 0, ""
        self._unread: list[tuple[Tensor, Tensor]] = []

    def following(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the same batches, each noted as it is drawn."""
        for batch in batches:
            self._unread.append((batch.index_N, batch.epoch_N))
            if len(self._unread) == EVERY:
                self._read()
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return plain values from which another log goes on."""
        self._read()
        return {"images": self.images, "sha256": self.sha256}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.images, self.sha256 = state["images"], state["sha256"]

    def _read(self) -> None:
        for index_N, epoch_N in self._unread:
            self.images += len(index_N)
            digest = hashlib.sha256(self.sha256.encode())
            for part_N in (index_N, epoch_N):
                digest.update(part_N.cpu().long().numpy().tobytes())
            self.sha256 = digest.hexdigest()
        self._unread.clear()
