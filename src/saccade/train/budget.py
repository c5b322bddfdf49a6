"""Time: the clock a budget runs by, and the pace that turns what is left of it into steps."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import psutil


@dataclass(frozen=True)
class Clock:
    """A budget in seconds (None: no limit) and the moment, by `time.time()`, it began to run."""

    budget: float | None = None
    begun: float = field(default_factory=time.time)

    @classmethod
    def of_command(cls, budget: float | None) -> "Clock":
        """Return a clock that began with this process, so that imports count too."""
        return cls(budget, psutil.Process().create_time())

    def elapsed(self) -> float:
        """Seconds since the clock began."""
        return time.time() - self.begun

    def remaining(self) -> float:
        """Seconds left of the budget; infinite where there is none, negative once it is spent."""
        return math.inf if self.budget is None else self.budget - self.elapsed()


@dataclass(frozen=True)
class Decision:
    """From `step` on, training is to end after `steps` steps in all."""

    step: int
    steps: int


class Pace:
    """Yields `(step, progress)` until training should end; progress in [0, 1) drives every schedule.

    The number of steps is either fixed, or replayed from recorded decisions, or (`Pace.timed`)
    decided by the clock and revised as steps turn out faster or slower than expected. Each revision
    is handed to `record` before it is acted on, and the progress goes on from where it is: what is
    left of it is spread evenly over the steps that are left, so that a schedule has no jump.

    >>> [round(progress, 2) for _, progress in Pace.fixed(4)]
    [0.0, 0.25, 0.5, 0.75]
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self.decisions = list(decisions)
        self.steps = decisions[0].steps

    @classmethod
    def fixed(cls, steps: int) -> "Pace":
        """Return a pace of exactly so many steps."""
        return cls([Decision(0, steps)])

    @classmethod
    def timed(
        cls,
        seconds: Callable[[], float],
        cost: Callable[[float], float],
        record: Callable[[Decision], None],
        *,
        most_steps: int,
    ) -> "Pace":
        """Return a pace that ends when `seconds()`, the time left for training, runs out.

        `cost(progress)` is the measured time of a step at that progress, in seconds.
        """
        return _TimedPace(seconds, cost, record, most_steps)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        step, progress = 0, 0.0
        pending = list(self.decisions[1:])
        while step < self.steps:
            yield step, progress
            progress += (1 - progress) / (self.steps - step)
            step += 1
            self._revise(step, progress, pending)

    def _revise(self, step: int, progress: float, pending: list[Decision]) -> None:
        while pending and pending[0].step == step:
            self.steps = pending.pop(0).steps


class _TimedPace(Pace):
    """A pace by the clock: looks at it each time some 3 % of what is left has gone by."""

    def __init__(
        self,
        seconds: Callable[[], float],
        cost: Callable[[float], float],
        record: Callable[[Decision], None],
        most_steps: int,
    ) -> None:
        self.seconds, self.cost, self.record, self.most_steps = seconds, cost, record, most_steps
        self.slowness = 1.0
        first = Decision(0, min(self._affordable(0.0), most_steps))
        record(first)
        super().__init__([first])
        self._begin_span()

    def _begin_span(self) -> None:
        self.begun, self.expected = time.perf_counter(), 0.0
        self.span = max(0.1, 0.03 * self.seconds())

    def _affordable(self, progress: float) -> int:
        """Return the steps that fit into the time left, at the mean cost of the progress that is left."""
        grid = [progress + (1 - progress) * (i + 0.5) / 20 for i in range(20)]
        return max(0, int(self.seconds() / (self.slowness * sum(map(self.cost, grid)) / len(grid))))

    def _revise(self, step: int, progress: float, pending: list[Decision]) -> None:
        self.expected += self.cost(progress)
        spent = time.perf_counter() - self.begun
        last_chance = step + 1 == self.steps
        if (spent < self.span and not last_chance) or step >= self.steps:
            return
        self.slowness += 0.3 * (spent / self.expected - self.slowness)
        decision = Decision(step, min(step + self._affordable(progress), self.most_steps))
        if abs(decision.steps - self.steps) > 0.03 * (self.steps - step):
            self.record(decision)
            self.decisions.append(decision)
            self.steps = decision.steps
        self._begin_span()
