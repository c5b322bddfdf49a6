"""Random search: short trials of drawn settings, the hopeless ones stopped early (lectures 6 and 7)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.device import derived_seed
from saccade.errors import TrainingError
from saccade.train.budget import Pace
from saccade.train.session import Session

EXPLODED = 3.0
"""A trial is stopped once its loss is more than this times its first one (lecture 6)."""
LOST = 1.25
"""And half-way, where its validation loss is more than this times the best trial's at that point."""
HALF = 0.5
TIME_UP = "its time was up"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: their logarithms evenly likely where `log`, else they themselves."""

    low: float
    high: float
    log: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """Return one number, rounded to three digits.

        >>> Range(2.0, 2.0, log=True).draw(np.random.default_rng(0))
        2.0
        """
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return float(f"{value:.3g}")


@dataclass(frozen=True)
class Trial:
    """Settings, the losses of each validation image after training with them, and why it was stopped early ("": not).

    `half_loss` is the mean validation loss half-way; infinite where it did not come so far.
    """

    settings: Mapping[str, Any]
    losses_N: NDArray[np.float64]
    accuracy: float
    half_loss: float
    stopped: str = ""

    @property
    def loss(self) -> float:
        """The mean validation loss at the end; infinite where the trial was stopped."""
        return float(self.losses_N.mean()) if len(self.losses_N) else math.inf


def draws(space: Mapping[str, Range], seed: int) -> Iterator[dict[str, float]]:
    """Yield settings without end: first none, which are the defaults, then random ones out of the space."""
    yield {}
    rng = np.random.default_rng(derived_seed(seed, "search"))
    while True:
        yield {name: values.draw(rng) for name, values in space.items()}


Held = Callable[[Session], tuple[NDArray[np.float64], float]]
"""Returns a session's loss on each of some validation images (N,), and its accuracy on them."""


def run_trial(
    session: Session,
    settings: Mapping[str, Any],
    steps: int,
    held: Held,
    rivals: Sequence[Trial],
    *,
    seconds: Callable[[], float] = lambda: math.inf,
) -> Trial:
    """Train a session for a few steps, with a schedule that ends with them, and measure it on validation images.

    It is stopped when its loss passes EXPLODED times the first or is no number, and half-way when it
    clearly loses against the best of `rivals`; and when `seconds()`, the time left, runs out.
    """
    best_half = min((rival.half_loss for rival in rivals), default=math.inf)
    nothing = np.empty(0)
    first: float | None = None
    half_loss = math.inf
    try:
        for done, _, watch in session.run(Pace.fixed(steps)):
            if seconds() <= 0:
                return Trial(settings, nothing, 0.0, half_loss, TIME_UP)
            if first is None:
                first = watch.latest
            elif watch.latest is not None and watch.latest > EXPLODED * first:
                return Trial(settings, nothing, 0.0, math.inf, f"its loss passed {EXPLODED:g} times the first")
            if done == max(1, round(HALF * steps)):
                half_loss = float(held(session)[0].mean())
                if not half_loss <= LOST * best_half:
                    return Trial(settings, nothing, 0.0, half_loss, "it clearly lost half-way")
    except TrainingError:
        return Trial(settings, nothing, 0.0, math.inf, "its loss was no number any more")
    losses_N, accuracy = held(session)
    return Trial(settings, losses_N, accuracy, half_loss)


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial to follow: the first, of the defaults, unless another is better by more than chance.

    Better by chance is a lead in the mean loss of less than one standard error, over the same images.
    """
    default, best = trials[0], min(trials, key=lambda trial: trial.loss)
    if not len(default.losses_N):
        return best
    lead_N = default.losses_N - best.losses_N
    error = float(lead_N.std() / math.sqrt(len(lead_N) - 1)) if len(lead_N) > 1 else math.inf
    return best if float(lead_N.mean()) > error else default
