"""Labels held to the number of scores that a network turns out to give."""

from collections.abc import Callable, Sequence

from saccade.data.batches import Batch
from saccade.errors import InputError

Names = Callable[[Sequence[int]], Sequence[str]]


def hold_labels(batch: Batch, classes: int, names: Names) -> None:
    """Raise InputError where a label of a batch is none of 0 to `classes` - 1; `names(indices)` gives whom to blame.

    Labels already on a GPU are not looked at: each step would wait for them.
    """
    if batch.y_N.device.type != "cpu":
        return
    outside_N = (batch.y_N < 0) | (batch.y_N >= classes)
    if outside_N.any():
        label, [name] = int(batch.y_N[outside_N][0]), names(batch.index_N[outside_N][:1].tolist())
        raise InputError(
            f"The network gives {classes} scores, for labels from 0 to {classes - 1}, but the label of {name} is "
            f"{label}; number the classes from 0, or give a network with more outputs."
        )
