"""A training that goes back to its last sound state, at a lower rate, where its loss explodes or is no number."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from torch import Tensor

from saccade.errors import DivergedError
from saccade.events import Finding, Passed, emit
from saccade.train.budget import Decision, Pace
from saccade.train.checkpoint import Checkpoint
from saccade.train.course import Course, below
from saccade.train.session import Session
from saccade.train.watch import Watch

SLOWER = 0.2
"""Factor on the learning rates each time."""
TIMES = 4
"""After which a training is given up: at 1/625 of its rate the fault is another."""


class Recovery:
    """A session's course that the watch may turn back; iterate to train, as a Course.

    What the watch finds is emitted as it is found. The state to go back to is a part of each checkpoint, and is taken
    at steps that losses alone decide on, so that a training that was killed goes back to the same. `replan(decisions)`
    records a pace before it is acted on: a replay of it never goes astray, and comes to the same weights.
    """

    def __init__(
        self,
        session: Session,
        pace: Pace,
        kept: Checkpoint | None = None,
        replan: Callable[[Sequence[Decision]], None] = lambda decisions: None,
    ) -> None:
        self.session, self.pace, self.replan = session, pace, replan
        self.times = kept.plain["times back"] if kept else 0
        self.course = session.course(pace, kept, tell=self._tell)
        self.back = _within(kept) if kept else _before_the_first(self.course)
        for finding in self.watch.told:
            self._tell(finding)

    @property
    def watch(self) -> Watch:
        """The watch over the course."""
        return self.course.watch

    def checkpoint(self, **plain: Any) -> Checkpoint:
        """Return the state after the step yielded last, and the one to go back to; raises as `Watch.read` does."""
        now = self.course.checkpoint(**plain)
        back = {f"back/{name}": value for name, value in self.back.tensors.items()}
        return Checkpoint({**now.plain, "back": self.back.plain, "times back": self.times}, {**now.tensors, **back})

    def __iter__(self) -> Iterator[tuple[int, float]]:
        while True:
            course = self.course
            try:
                for done, progress in course:
                    if self.watch.exploded:
                        raise DivergedError(self.watch.exploded, self.pace.step)
                    if self.watch.sound:
                        self.back = _copied(self.course.checkpoint(), self.back.tensors)
                    yield done, progress
                    if self.course is not course:
                        break
                else:
                    return
            except DivergedError as error:
                self.go_back(error)

    def go_back(self, error: DivergedError) -> None:
        """Go on from the state to go back to, whoever met the error; raises it where that would not help."""
        first = self.back.plain["pace"]["step"] + 1
        if self.times == TIMES or error.step == first:  # at the same weights a lower rate makes no difference
            raise error
        self.times += 1
        slowed = self.pace.rate * SLOWER
        self.pace.load_state_dict(self.back.plain["pace"])
        self.pace.slow(slowed / self.pace.rate)
        self.replan(self.pace.decisions)
        reason = "" if self.watch.exploded else f"{error} "
        told = [each for each in self.watch.told if each.kind != "exploded"]
        self.course = self.session.course(self.pace, self.back, tell=self._tell)
        self.watch.told = told
        where = f"the weights after step {first}" if first else "the first weights"
        detail = (
            f"{reason}Went back from step {error.step + 1} to {where}, at {self.pace.rate:.3g} times the learning rate."
        )
        self._tell(Finding(kind="went back", severity="warning", detail=detail))

    def passed(self, kind: str) -> None:
        """Tell that what the watch found of a kind is over, now that the training has ended."""
        for finding in self.watch.told:
            if finding.kind == kind:
                emit(Passed(finding=self._named(finding)))

    def _tell(self, finding: Finding) -> None:
        emit(self._named(finding))

    def _named(self, finding: Finding) -> Finding:
        return replace(finding, detail=f"{self.session.settings.model}: {finding.detail}")


def _before_the_first(course: Course) -> Checkpoint:
    """Return the state before any step."""
    state = _copied(course.checkpoint())
    return Checkpoint({**state.plain, "pace": {**state.plain["pace"], "step": -1}}, state.tensors)


def _copied(checkpoint: Checkpoint, into: Mapping[str, Tensor] = MappingProxyType({})) -> Checkpoint:
    """Return a checkpoint that training does not change, in the memory of an earlier one: new memory costs more."""

    def copied(name: str, value: Tensor) -> Tensor:
        old = into.get(name)
        fits = old is not None and (old.shape, old.dtype, old.device) == (value.shape, value.dtype, value.device)
        return old.copy_(value.detach()) if old is not None and fits else value.detach().clone()

    tensors = checkpoint.tensors.items()
    return Checkpoint(
        checkpoint.plain, {name: value if name.startswith("best/") else copied(name, value) for name, value in tensors}
    )


def _within(kept: Checkpoint) -> Checkpoint:
    """Return the state to go back to that a checkpoint holds."""
    return Checkpoint(kept.plain["back"], below("back/", kept.tensors))
