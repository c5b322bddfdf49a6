"""Labels that a network gives no score for."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from saccade.data.batches import Batch
from saccade.errors import InputError

Names = Callable[[Sequence[int]], Sequence[str]]


@contextmanager
def scored(batch: Batch, classes: int, names: Names) -> Iterator[None]:
    """Around a loss: raise InputError, not IndexError, where a label of the batch is none of 0 to `classes` - 1.

    `names(indices)` gives whom to blame. On a GPU such a label ends the process instead.
    """
    try:
        yield
    except IndexError as error:
        outside_N = (batch.y_N < 0) | (batch.y_N >= classes)
        if not outside_N.any():
            raise
        label, [name] = int(batch.y_N[outside_N][0]), names(batch.index_N[outside_N][:1].tolist())
        raise InputError(
            f"The network gives {classes} scores, for labels from 0 to {classes - 1}, but the label of {name} is "
            f"{label}; number the classes from 0, or give a network with more outputs."
        ) from error
