"""Time: the clock a budget runs by, and the pace that turns what is left of it into steps."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil


@dataclass(frozen=True)
class Clock:
    """A budget in seconds (None: no limit) and the moment, by `time.time()`, it began to run.

    `spent` are the seconds that count already, of sessions that were interrupted.

    >>> round(Clock(budget=60, spent=45).remaining()), Clock().remaining()
    (15, inf)
    """

    budget: float | None = None
    begun: float = field(default_factory=time.time)
    spent: float = 0.0

    @classmethod
    def of_command(cls, budget: float | None) -> "Clock":
        """Return a clock that began with this process, so that imports count too."""
        return cls(budget, psutil.Process().create_time())

    def elapsed(self) -> float:
        """Seconds that count: those since the clock began, and those spent before."""
        return self.spent + time.time() - self.begun

    def remaining(self) -> float:
        """Seconds left of the budget; infinite where there is none, negative once it is spent."""
        return math.inf if self.budget is None else self.budget - self.elapsed()


@dataclass(frozen=True)
class Decision:
    """From `step` on, training is to end after `steps` steps in all, at `rate` times its learning rates."""

    step: int
    steps: int
    rate: float = 1.0


class Pace:
    """Yields `(step, progress)` until training should end; progress in [0, 1) drives every schedule.

    The number of steps is either fixed, or replayed from recorded decisions, or (`Pace.timed`)
    decided by the clock and revised as steps turn out faster or slower than expected. Each revision
    is handed to `record` before it is acted on, and the progress goes on from where it is: what is
    left of it is spread evenly over the steps that are left, so that a schedule has no jump.

    `step` and `progress` are those yielded last, `rate` is a factor on every learning rate. `state_dict`,
    taken before the next ones are asked for, lets another pace go on from there, to the bit.

    >>> [round(progress, 2) for _, progress in Pace.fixed(4)]
    [0.0, 0.25, 0.5, 0.75]
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self.decisions = list(decisions)
        self.steps, self.rate = self._begun.steps, self._begun.rate
        self.step, self.progress = 0, 0.0

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
        state: Mapping[str, Any] | None = None,
    ) -> "Pace":
        """Return a pace that ends when `seconds()`, the time left for training, runs out.

        `cost(progress)` is the measured time of a step at that progress, in seconds. With the
        `state` of an earlier one it goes on from there, and first decides what is still affordable.
        """
        return _TimedPace(seconds, cost, record, most_steps, state)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        while self.step < self.steps:
            yield self.step, self.progress
            self._advance()
            self._revise()

    @property
    def planned(self) -> int:
        """The number of steps that was decided on before the first."""
        return self._begun.steps

    @property
    def _begun(self) -> Decision:
        return [decision for decision in self.decisions if decision.step == 0][-1]

    def end(self) -> None:
        """Let the step yielded last be the last."""
        self.steps = self.step + 1

    def slow(self, factor: float) -> None:
        """Multiply every learning rate by a factor from the step that comes next on."""
        self.rate *= factor
        self.decisions.append(Decision(self.step, self.steps, self.rate))

    def state_dict(self) -> dict[str, Any]:
        """Return plain values from which to go on after the step yielded last."""
        decisions = [asdict(decision) for decision in self.decisions]
        place = {"step": self.step, "progress": self.progress, "steps": self.steps, "rate": self.rate}
        return {**place, "decisions": decisions}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the step that `state_dict` was taken at."""
        self._restore(state)
        self._revise()

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.decisions = decisions_of(state)
        self.step, self.progress, self.steps = state["step"], state["progress"], state["steps"]
        self.rate = state["rate"]
        if self.step < 0:  # before the first
            self.step, self.progress = 0, 0.0
        else:
            self._advance()

    def _advance(self) -> None:
        self.progress += (1 - self.progress) / (self.steps - self.step)
        self.step += 1

    def _revise(self) -> None:
        for decision in self.decisions[1:]:
            if decision.step == self.step < self.steps:
                self.steps, self.rate = decision.steps, decision.rate


class _TimedPace(Pace):
    """A pace by the clock: looks at it each time some 3 % of what is left has gone by."""

    def __init__(
        self,
        seconds: Callable[[], float],
        cost: Callable[[float], float],
        record: Callable[[Decision], None],
        most_steps: int,
        state: Mapping[str, Any] | None,
    ) -> None:
        self.seconds, self.cost, self.record, self.most_steps = seconds, cost, record, most_steps
        self.slowness = 1.0
        if state is None:
            first = Decision(0, min(self._affordable(0.0), most_steps))
            record(first)
            super().__init__([first])
            self._begin_span()
        else:
            self.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values from which to go on, with how much slower steps were than measured."""
        return {**super().state_dict(), "slowness": self.slowness}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the step that `state_dict` was taken at, at the number of steps the clock still affords."""
        self.slowness = state["slowness"]
        self._restore(state)
        if self.step < self.steps:
            self._decide()
        self._begin_span()

    def _begin_span(self) -> None:
        self.begun, self.expected = time.perf_counter(), 0.0
        self.span = max(0.1, 0.03 * self.seconds())

    def _affordable(self, progress: float) -> int:
        """Return the steps that fit into the time left, at the mean cost of the progress that is left."""
        grid = [progress + (1 - progress) * (i + 0.5) / 20 for i in range(20)]
        return max(0, int(self.seconds() / (self.slowness * sum(map(self.cost, grid)) / len(grid))))

    def _revise(self) -> None:
        self.expected += self.cost(self.progress)
        spent = time.perf_counter() - self.begun
        last_chance = self.step + 1 == self.steps
        if (spent < self.span and not last_chance) or self.step >= self.steps:
            return
        self.slowness += 0.3 * (spent / self.expected - self.slowness)
        self._decide()
        self._begin_span()

    def _decide(self) -> None:
        steps = min(self.step + self._affordable(self.progress), self.most_steps)
        decision = Decision(self.step, steps, self.rate)
        if abs(decision.steps - self.steps) > 0.03 * (self.steps - self.step):
            self.record(decision)
            self.decisions.append(decision)
            self.steps = decision.steps


def decisions_of(state: Mapping[str, Any]) -> list[Decision]:
    """Return the decisions in what `Pace.state_dict` returned."""
    return [Decision(**decision) for decision in state["decisions"]]
