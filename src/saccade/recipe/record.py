"""What a run keeps of one network's training while it goes on: lines of the history, and checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.files import slug
from saccade.run import Run
from saccade.train.checkpoint import Checkpoint, Checkpoints
from saccade.train.recovery import Recovery


@dataclass
class Record:
    """One network's part of a run. `kept` is the checkpoint that its training goes on from, None where it begins.

    `lines` of the history are its own; `seconds` is how long it has been trained.
    """

    run: Run
    name: str
    checkpoints: Checkpoints
    kept: Checkpoint | None
    lines: int = 0
    seconds: float = 0.0

    @classmethod
    def open(cls, run: Run, name: str) -> "Record":
        """Return the record as it was at its newest whole checkpoint; what the history says beyond it is cut off."""
        checkpoints = Checkpoints(run.checkpoints / slug(name))
        kept = checkpoints.newest()
        record = cls(run, name, checkpoints, kept)
        if kept is not None:
            record.lines, record.seconds = kept.plain["lines"], kept.plain["trained"]
        run.cut_history(name, record.lines)
        return record

    def add(self, line: Mapping[str, Any]) -> None:
        """Append a line to the history."""
        self.run.add_history({"network": self.name, **line})
        self.lines += 1

    def history(self) -> list[dict[str, Any]]:
        """Return its lines of the history."""
        return [line for line in self.run.history() if line.get("network") == self.name]

    def go_back(self, step: int) -> None:
        """Forget what lies beyond a step: lines of the history, and checkpoints of weights that went astray."""
        self.lines = sum(line["step"] <= step for line in self.history())
        self.run.cut_history(self.name, self.lines)
        self.checkpoints.drop(step)

    def keep(self, course: Recovery, *, now: bool = False, **plain: Any) -> None:
        """Write a checkpoint of a course between two steps, where it is time for one, or it must be `now`."""
        done = course.pace.step + 1
        if now or self.checkpoints.due(last=done == course.pace.steps, sound=course.watch.sound):
            self.checkpoints.save(done, course.checkpoint(lines=self.lines, trained=self.seconds, **plain))
