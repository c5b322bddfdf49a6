"""The terminal's face: listens to events and draws them on standard error, live or as plain lines."""

from __future__ import annotations

import sys
from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.text import Text

from saccade.cli.text import count, printable, seconds
from saccade.events import Event, Finding, Progress, StageEnded, StageStarted

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

SHOWN = 3
"""Findings of one kind shown in one stage, and names shown of one finding; the rest is counted."""

LINE_EVERY = 10.0
"""Seconds between two lines about one piece of work, where there is no live display."""

STYLES = {"note": "dim", "warning": "yellow", "error": "red"}


class _Console(Console):
    """Standard error; where nobody reads it any more the work goes on in silence."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Face:
    """Called with each event; within a `with` block it draws one live display, or plain lines."""

    def __init__(self) -> None:
        self._console = _Console(file=sys.stderr, markup=False, emoji=False, highlight=False)
        self._bars = _bars(self._console) if self._console.is_interactive else None
        self._tasks: dict[str, TaskID] = {}
        self._spoken = perf_counter()
        self._found: Counter[str] = Counter()

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._count_the_rest()
        if self._bars:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        match event:
            case StageStarted():
                self._spoken = perf_counter()
                if self._bars:
                    self._tasks[event.stage] = self._bars.add_task(event.stage, total=None, detail="")
            case Progress():
                self._progress(event)
            case Finding():
                self._finding(event)
            case StageEnded():
                self._stage_ended(event)

    def _progress(self, event: Progress) -> None:
        task = printable(event.task)
        amount = f"{count(event.done)} of {count(event.total)} {event.unit}".rstrip()
        detail = "  ".join(filter(None, (amount, printable(event.detail))))
        if self._bars:
            if task not in self._tasks:
                self._tasks[task] = self._bars.add_task(task, detail="")
            self._bars.update(self._tasks[task], completed=event.done, total=event.total, detail=detail)
        elif perf_counter() - self._spoken >= LINE_EVERY:
            self._spoken = perf_counter()
            self._line(f"  {task}: {detail}", "dim")

    def _finding(self, event: Finding) -> None:
        self._found[event.kind] += 1
        if self._found[event.kind] <= SHOWN:
            names = ", ".join(map(printable, event.paths[:SHOWN]))
            more = f" and {count(len(event.paths) - SHOWN)} more" if len(event.paths) > SHOWN else ""
            told = filter(None, (event.kind, names + more, printable(event.detail)))
            self._line("  " + ": ".join(told), STYLES.get(event.severity, ""))

    def _stage_ended(self, event: StageEnded) -> None:
        self._count_the_rest()
        if self._bars:
            for task in self._tasks.values():
                self._bars.remove_task(task)
        self._tasks.clear()
        self._line(f"{printable(event.stage):<12} {seconds(event.seconds):>8}  {printable(event.outcome)}".rstrip())

    def _count_the_rest(self) -> None:
        for kind, found in self._found.items():
            if found > SHOWN:
                self._line(f"  {kind}: {count(found - SHOWN)} more, all listed in the report", "dim")
        self._found.clear()

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)


def _bars(console: Console) -> Bars:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
