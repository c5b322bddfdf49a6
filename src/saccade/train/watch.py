"""The watch during training: stops on a loss that is not a finite number, naming step and images."""

from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from saccade.errors import TrainingError


class Watch:
    """Keeps the last few losses on the device and reads them only every `every` steps.

    `names(index)` turns image indices into the names to blame.
    """

    def __init__(self, names: Callable[[Sequence[int]], Sequence[str]], *, every: int = 8) -> None:
        self.names, self.every = names, every
        self.recent: deque[tuple[int, Tensor, Tensor]] = deque(maxlen=every)
        self.mean_loss = float("nan")

    def __call__(self, step: int, loss_N: Tensor, index_N: Tensor) -> None:
        """Take note of a step's losses, one an image; every few steps, look at them.

        Raises TrainingError when one of them is NaN or infinite.
        """
        self.recent.append((step, loss_N.detach(), index_N))
        if (step + 1) % self.every == 0:
            self.look()

    def look(self) -> None:
        """Read the losses kept since the last look; raises TrainingError as above."""
        if not self.recent:
            return
        self.mean_loss = float(torch.stack([loss_N.mean() for _, loss_N, _ in self.recent]).mean())
        if not torch.isfinite(torch.tensor(self.mean_loss)):
            self._blame()
        self.recent.clear()

    def _blame(self) -> None:
        step, loss_N, index_N = next(kept for kept in self.recent if not kept[1].isfinite().all())
        wrong = index_N[~loss_N.isfinite().to(index_N.device)].tolist()
        named = ", ".join(self.names(wrong[:3])) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        value = "not a number" if loss_N.isnan().any() else "infinite"
        raise TrainingError(
            f"The loss became {value} at step {step}, on {len(wrong)} of {len(loss_N)} images ({named}); "
            "try a lower learning rate, or precision=float32."
        )
