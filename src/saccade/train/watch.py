"""The watch during training: stops on a loss that is not a finite number, naming step and images."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from saccade.errors import TrainingError

EVERY = 8


class Watch:
    """Keeps the last few losses on the device and reads them only every few steps.

    `names(indices)` turns image indices into the names to blame. `latest` is the mean loss of the
    steps read last; None before any was.
    """

    def __init__(self, names: Callable[[Sequence[int]], Sequence[str]] = lambda indices: [*map(str, indices)]) -> None:
        self.names = names
        self.latest: float | None = None
        self._unread: list[tuple[int, Tensor, Tensor]] = []
        self._total, self._steps = 0.0, 0

    def __call__(self, step: int, loss_N: Tensor, index_N: Tensor) -> None:
        """Take note of a step's losses, one an image; every few steps, read them.

        Raises TrainingError when one of them is NaN or infinite.
        """
        self._unread.append((step, loss_N.detach(), index_N))
        if len(self._unread) == EVERY:
            self.read()

    def read(self) -> None:
        """Read the losses not read yet; raises TrainingError as above."""
        if not self._unread:
            return
        means = [float(loss_N.cpu().double().mean()) for _, loss_N, _ in self._unread]
        if not math.isfinite(sum(means)):
            self._blame()
        for mean in means:  # one by one, so that the sum does not depend on when it is read
            self._total += mean
        self._steps += len(means)
        self.latest = sum(means) / len(means)
        self._unread.clear()

    def mean(self) -> float:
        """Return the mean loss of all steps since the last call of `mean`."""
        self.read()
        mean = self._total / max(1, self._steps)
        self._total, self._steps = 0.0, 0
        return mean

    def state_dict(self) -> dict[str, Any]:
        """Read, then return plain values from which another watch goes on; raises TrainingError as above."""
        self.read()
        return {"total": self._total, "steps": self._steps, "latest": self.latest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._total, self._steps, self.latest = state["total"], state["steps"], state["latest"]

    def _blame(self) -> None:
        step, loss_N, index_N = next(kept for kept in self._unread if not kept[1].isfinite().all())
        wrong = index_N[~loss_N.isfinite().to(index_N.device)].tolist()
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        value = "not a number" if loss_N.isnan().any() else "infinite"
        raise TrainingError(
            f"The loss became {value} at step {step}, on {len(wrong)} of {len(loss_N)} images "
            f"({', '.join(self.names(wrong[:3]))}{more}); try a lower learning rate, or precision=float32."
        )
