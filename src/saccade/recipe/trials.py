"""Short trials: which networks are worth their time, and which learning rate and augmentation suit the images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from saccade.events import Progress, emit
from saccade.optim import DEFAULTS
from saccade.recipe.contest import Contest, Entry
from saccade.recipe.network import MOST_EPOCHS as LONGEST
from saccade.recipe.network import Glance, start
from saccade.recipe.plan import TRAINING_SHARE
from saccade.settings import TrainSettings
from saccade.study.search import TIME_UP, Trial, best_trial, draws, run_trial
from saccade.study.space import Range
from saccade.train.session import Session
from saccade.words import plural

SHARE = 0.12
"""Of the time left, for all trials together; and all that the networks cannot use."""
FEWEST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 40, 1.5, 6.0
"""Of a trial: fewer tell nothing, more tell little."""
FEWEST_TRIALS, MOST_TRIALS = 5, 24
"""Of each network."""
SLACK = 1.5
"""How much longer than planned trials may take before they are broken off."""
FACTORS: Mapping[str, Range] = {"learning_rate": Range(0.3, 2.5, log=True), "weight_decay": Range(0.1, 10.0, log=True)}
"""On the defaults of the optimizer."""
STRENGTHS: Mapping[str, Range] = {"translate": Range(0.02, 0.15), "cutout": Range(0.0, 0.5)}
"""Of the augmentations."""


@dataclass(frozen=True)
class _Scale:
    """How many trials of a network there can be, of how many steps, on images of which side, in so many seconds."""

    side: int
    steps: int
    trials: int
    seconds: float

    def plain(self) -> dict[str, int]:
        """Return what it comes to, for the record."""
        return {"trials": self.trials, "steps": self.steps, "side": self.side} if self.trials else {"trials": 0}


def try_all(contest: Contest, entries: Sequence[Entry]) -> tuple[list[Entry], list[dict[str, Any]]]:
    """Return the networks with the settings that did best in short trials, and what is told of the trials.

    Each is tried with its defaults, then with random draws of learning rate, weight decay and augmentation;
    one whose every trial failed is left out, and one whose trials would be too few or too short to tell
    anything stays as it is. What was found before an interruption is taken from there.
    """
    noted = contest.candidates.noted("trials")
    if noted is not None:
        known = {entry.name: entry for entry in entries}
        kept = [(known[name], settings) for name, settings in noted["settings"].items() if name in known]
        return [_with(entry, TrainSettings(**settings)) for entry, settings in kept], noted["trials"]
    rows: list[dict[str, Any]] = []
    seconds = _seconds(contest, entries) / len(entries)
    scales = [_scale(entry, len(contest.parts.train), seconds) for entry in entries]
    total = sum(scale.trials for scale in scales)
    told = {entry.name: scale.plain() for entry, scale in zip(entries, scales, strict=True)}
    contest.plan.decide("trials", told, f"in {seconds:.1f} s each; fewer than {FEWEST_TRIALS} would tell nothing")
    tuned = [
        _Race(contest, entry, scale, rows, total=total).best() if scale.trials else entry
        for entry, scale in zip(entries, scales, strict=True)
    ]
    chosen = [entry for entry in tuned if entry is not None]
    settings = {entry.name: entry.settings.model_dump(mode="json") for entry in chosen}
    contest.candidates.note("trials", {"trials": rows, "settings": settings})
    return chosen, rows


def _seconds(contest: Contest, entries: Sequence[Entry]) -> float:
    """Return the time for all trials: a share of what is left, and what the networks' trainings will leave over."""
    left = contest.plan.left()
    longest = sum(LONGEST * len(contest.parts.train) * entry.image_seconds for entry in entries)
    return max(SHARE * left, TRAINING_SHARE * left - longest)


def _scale(entry: Entry, images: int, seconds: float) -> _Scale:
    """Return the trials that so many seconds afford, on smaller images where they would be too few on larger ones."""
    assert isinstance(entry.settings.batch_size, int)
    assert entry.settings.size is not None
    batch = min(entry.settings.batch_size, images)
    fewest = max(FEWEST_STEPS, round(FEWEST_EPOCHS * images / batch))
    for side in (entry.small, entry.smallest):
        steps = seconds / (batch * entry.image_seconds * (side / entry.settings.size) ** 2)
        if steps >= FEWEST_TRIALS * fewest:
            trials = min(MOST_TRIALS, int(steps / fewest))
            each = min(steps / trials, max(fewest, MOST_EPOCHS * images / batch))
            return _Scale(side, int(each), trials, seconds)
    return _Scale(side, fewest, 0, seconds)


def _with(entry: Entry, settings: TrainSettings) -> Entry:
    return replace(entry, settings=settings)


class _Race:
    """The trials of one network: all of the same number of steps, on the same small images."""

    def __init__(
        self, contest: Contest, entry: Entry, scale: _Scale, rows: list[dict[str, Any]], *, total: int
    ) -> None:
        self.contest, self.entry, self.scale, self.rows, self.total = contest, entry, scale, rows, total
        self.trials: list[Trial] = []

    def best(self) -> Entry | None:
        """Run the trials; return the network with the settings of the best, None where every loss went astray."""
        plan = self.contest.plan
        with plan.within(SLACK * self.scale.seconds):
            self._run_all()
        best = best_trial(self.trials)
        plan.decide(f"settings of {self.entry.name}", dict(best.settings) or "defaults", _why(best, self.trials))
        tuned = self.entry.settings.model_copy(update=dict(best.settings))
        return None if best.stopped not in ("", TIME_UP) else _with(self.entry, tuned)

    def _run_all(self) -> None:
        elapsed = self.contest.plan.clock.elapsed
        end = elapsed() + self.scale.seconds
        small = self.entry.settings.model_copy(update={"size": self.scale.side, "grow": False})
        session = start(self.contest.parts.train, small, begin=self.entry.begin)
        glance = Glance.at(self.contest.parts.validation, session)
        longest = 0.0
        for drawn in islice(_draws(self.entry, self.contest.settings.seed), self.scale.trials):
            begun = elapsed()
            if self.trials and begun + longest > end:
                break
            self._run(session, glance, drawn)
            longest = max(longest, elapsed() - begun)

    def _run(self, session: Session, glance: Glance, drawn: Mapping[str, Any]) -> None:
        trial_session = replace(session.on_trial(), settings=session.settings.model_copy(update=dict(drawn)))
        left = self.contest.plan.left
        trial = run_trial(trial_session, drawn, self.scale.steps, glance.losses, self.trials, seconds=left)
        self.trials.append(trial)
        told = {
            "network": self.entry.name,
            "settings": dict(drawn),
            "stopped": trial.stopped,
            "steps": self.scale.steps,
        }
        measured = {} if trial.stopped else {"accuracy": trial.accuracy, "loss": trial.loss}
        self.rows.append({**told, **measured})
        detail = f"{self.entry.name}: {trial.stopped or f'validation {trial.accuracy:.1%}'}"
        emit(Progress(task="search", done=len(self.rows), total=self.total, unit="trials", detail=detail))


def _draws(entry: Entry, seed: int) -> Iterator[dict[str, float]]:
    """Yield settings for a network: none, then random factors on its defaults and strengths of augmentation."""
    scale = scales(entry.rule, entry.settings)
    space = {**{name: factor for name, factor in FACTORS.items() if scale[name]}, **STRENGTHS}
    for drawn in draws(space, seed):
        yield {name: float(f"{value * scale.get(name, 1.0):.3g}") for name, value in drawn.items()}


def scales(rule: str, settings: TrainSettings) -> dict[str, float]:
    """Return what FACTORS are factors on: learning rate and weight decay as given, else those of an update rule."""
    given = {name: getattr(settings, name) for name in FACTORS}
    return {name: getattr(DEFAULTS[rule], name) if value is None else value for name, value in given.items()}


def _why(best: Trial, trials: Sequence[Trial]) -> str:
    stopped = sum(bool(trial.stopped) for trial in trials)
    told = f"best of {plural(len(trials), 'trial')}, {stopped} of them stopped early"
    return told if best.settings else f"{told}: none was better than the defaults by more than chance"
