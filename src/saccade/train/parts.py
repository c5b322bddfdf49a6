"""A batch in parts: as many as were asked for, and twice as many each time memory runs out."""

from collections.abc import Callable

import torch
from torch import Tensor

from saccade.device import release_memory
from saccade.errors import TrainingError, out_of_memory
from saccade.events import Finding, emit

SMALLEST = 2
"""Images of a part at the least: batch norm needs two."""


class Parts:
    """In how many parts, one after another, a batch goes through the network: `number`, or as many as have two images.

    The gradients add up to those of the whole batch; only batch norm sees each part alone.
    """

    def __init__(self, number: int = 1) -> None:
        self.number = number

    def each(
        self, backward: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, forget: Callable[[], None]
    ) -> Tensor:
        """Return the losses (N,) that `backward(some_x, some_y)` gives, which adds their gradients to those there.

        Where memory runs out, `forget()` takes all of them back, and the batch begins again in twice as many parts,
        as all that follow do; a Finding says so. Raises TrainingError where parts would be too small.
        """
        while True:
            number = self.of(len(x))
            try:
                return torch.cat(list(map(backward, x.tensor_split(number), y.tensor_split(number))))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            # Only here does nothing refer any more to what was computed.
            forget()
            release_memory()
            self._halve(len(x))

    def of(self, images: int) -> int:
        """Return in how many parts so many images go through."""
        return max(1, min(self.number, images // SMALLEST))

    def _halve(self, images: int) -> None:
        size = -(-images // self.of(images))
        if images // self.number < 2 * SMALLEST:
            raise TrainingError(
                f"There is not enough memory to train on {size} images at a time; give a smaller --size, --width or "
                "network."
            )
        self.number *= 2
        detail = (
            f"Memory ran out with {size} images at a time: from here on a batch of {images} goes through in "
            f"{self.number} parts, one after another. The gradient is still that of the whole batch; batch norm "
            "sees each part alone."
        )
        emit(Finding(kind="memory", severity="warning", detail=detail))


def piecewise(rows_of: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Return the rows that `rows_of(some_x)` gives, of `size` at a time.

    Where memory runs out, the rest follows half as many at a time; the error is raised where there is none for one.
    """
    rows: list[Tensor] = []
    done, size = 0, max(1, min(size, len(x)))
    while done < len(x) or not rows:
        try:
            rows.append(rows_of(x[done : done + size]))
            done += size
            continue
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        # Only here does nothing refer any more to what was computed.
        release_memory()
        size = -(-size // 2)
    return torch.cat(rows)
