"""Random search: short trials of drawn settings, the hopeless ones stopped early (lectures 6 and 7)."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.device import derived_seed
from saccade.errors import DivergedError, TrainingError
from saccade.study.space import Range
from saccade.train.budget import Pace
from saccade.train.rules import EXPLODED
from saccade.train.session import Session

LOST = 1.25
"""And half-way, where its validation loss is more than this times the best trial's at that point."""
HALF = 0.5
TIME_UP = "its time was up"


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


class HopelessError(Exception):
    """A trial is not worth going on with; the message is why."""


def hopeful(session: Session, steps: int, *, exploded: float = EXPLODED) -> Iterator[int]:
    """Train a session for a few steps, with a schedule that ends with them, yielding the steps done after each.

    Raises HopelessError when its loss passes `exploded` times the first, which is the lowest of the first few, or is no
    number, or the watch says that no step can help; where `exploded` is infinite, only when it is no number.
    """
    course = session.run(Pace.fixed(steps))
    while True:
        try:
            done, _, watch = next(course)
        except StopIteration:
            return
        except DivergedError:
            raise HopelessError("its loss was no number any more") from None
        except TrainingError as error:
            raise HopelessError(str(error)) from None
        if watch.latest is not None and watch.latest > exploded * min(watch.first):
            raise HopelessError(f"its loss passed {exploded:g} times the first")
        if watch.hopeless and math.isfinite(exploded):
            raise HopelessError(watch.hopeless)
        yield done


def run_trial(
    session: Session,
    settings: Mapping[str, Any],
    steps: int,
    held: Held,
    rivals: Sequence[Trial],
    *,
    seconds: Callable[[], float] = lambda: math.inf,
) -> Trial:
    """Train a session for a few steps and measure it on validation images.

    It is stopped where `hopeful` does, and half-way when it clearly loses against the best of `rivals`; and
    when `seconds()`, the time left, runs out.
    """
    best_half = min((rival.half_loss for rival in rivals), default=math.inf)
    nothing = np.empty(0)
    half_loss = math.inf
    try:
        for done in hopeful(session, steps):
            if seconds() <= 0:
                return Trial(settings, nothing, 0.0, half_loss, TIME_UP)
            if done == max(1, round(HALF * steps)):
                half_loss = float(held(session)[0].mean())
                if not half_loss <= LOST * best_half:
                    return Trial(settings, nothing, 0.0, half_loss, "it clearly lost half-way")
    except HopelessError as reason:
        return Trial(settings, nothing, 0.0, math.inf, str(reason))
    losses_N, accuracy = held(session)
    return Trial(settings, losses_N, accuracy, half_loss)


def halved(value: float, others: Sequence[float], share: float = HALF) -> bool:
    """Return whether a trial is to be stopped at a rung: others that came so far are enough of the better ones.

    `value` and `others` are accuracies at the same share of the training; the first to come goes on, then who
    is among the better `share` of those seen so far (Li et al., 2020: successive halving that waits for nobody).

    >>> halved(0.5, []), halved(0.5, [0.7]), halved(0.5, [0.7, 0.2])
    (False, True, False)
    """
    return sum(other > value for other in others) >= math.ceil(share * (len(others) + 1))


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
