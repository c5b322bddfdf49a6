"""Short trials: which networks are worth their time, and which learning rate and augmentation suit the images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.events import Progress, emit
from saccade.optim import DEFAULTS
from saccade.recipe.contest import Contest, Entry
from saccade.recipe.network import Glance, start
from saccade.settings import TrainSettings
from saccade.study.search import TIME_UP, Range, Trial, best_trial, draws, run_trial
from saccade.train.session import Session

SHARE = 0.15
"""Of the time left, for all trials together."""
ONE_SHARE, ONE_MOST = 0.02, 60.0
"""Of the time left, for one trial, and the seconds it takes at the most."""
SLACK = 1.5
"""How much longer than planned trials may take before they are broken off."""
FEWEST_STEPS, MOST_TRIALS = 40, 24
FACTORS: Mapping[str, Range] = {"learning_rate": Range(0.3, 2.5, log=True), "weight_decay": Range(0.1, 10.0, log=True)}
"""On the defaults of the optimizer."""
STRENGTHS: Mapping[str, Range] = {"translate": Range(0.02, 0.15), "cutout": Range(0.0, 0.5)}
"""Of the augmentations."""


def try_all(contest: Contest, entries: Sequence[Entry]) -> tuple[list[Entry], list[dict[str, Any]]]:
    """Return the networks with the settings that did best in short trials, and what is told of the trials.

    Each is tried with its defaults, then with random draws of learning rate, weight decay and augmentation;
    one whose every trial failed is left out. Where a trial would be too short to tell anything, there is
    none. What was found before an interruption is taken from there.
    """
    noted = contest.candidates.noted("trials")
    if noted is not None:
        known = {entry.name: entry for entry in entries}
        kept = [(known[name], settings) for name, settings in noted["settings"].items() if name in known]
        return [_with(entry, TrainSettings(**settings)) for entry, settings in kept], noted["trials"]
    rows: list[dict[str, Any]] = []
    plan, left = contest.plan, contest.plan.left()
    one = min(ONE_SHARE * left, ONE_MOST)
    short = [entry for entry in entries if _steps(entry, one) < FEWEST_STEPS]
    if short:
        plan.decide("trials", 0, f"{one:.1f} s would be {_steps(short[0], one)} steps of {short[0].name}: too few")
        chosen = list(entries)
    else:
        each = min(MOST_TRIALS, int(SHARE * left / len(entries) / one))
        plan.decide("trials", {"of each network": each, "seconds each": round(one, 1)}, f"{SHARE:.0%} of {left:.0f} s")
        races = [_Race(contest, entry, one, rows, total=each * len(entries)) for entry in entries]
        chosen = []
        for race in races:
            with plan.within(SLACK * SHARE * left / len(races)):
                tuned = race.best(each)
            chosen += [tuned] if tuned else []
    settings = {entry.name: entry.settings.model_dump(mode="json") for entry in chosen}
    contest.candidates.note("trials", {"trials": rows, "settings": settings})
    return chosen, rows


def _with(entry: Entry, settings: TrainSettings) -> Entry:
    return replace(entry, settings=settings)


class _Race:
    """The trials of one network: all of the same number of steps, on the same images of its smallest side."""

    def __init__(
        self, contest: Contest, entry: Entry, seconds: float, rows: list[dict[str, Any]], *, total: int
    ) -> None:
        self.contest, self.entry, self.rows, self.total = contest, entry, rows, total
        self.steps = _steps(entry, seconds)
        self.trials: list[Trial] = []

    def best(self, count: int) -> Entry | None:
        """Run so many trials; return the network with the settings of the best, None where every loss went astray."""
        small = self.entry.settings.model_copy(update={"size": self.entry.small})
        session = start(self.contest.parts.train, small, begin=self.entry.begin)
        glance = Glance.at(self.contest.parts.validation, session)
        for drawn in islice(_draws(self.entry, self.contest.settings.seed), count):
            if self.trials and self.contest.plan.left() <= 0:
                break
            self._run(session, glance, drawn)
        best = best_trial(self.trials)
        why = _why(best, self.trials)
        self.contest.plan.decide(f"settings of {self.entry.name}", dict(best.settings) or "defaults", why)
        tuned = self.entry.settings.model_copy(update=dict(best.settings))
        return None if best.stopped not in ("", TIME_UP) else _with(self.entry, tuned)

    def _run(self, session: Session, glance: Glance, drawn: Mapping[str, Any]) -> None:
        trial_session = replace(session.on_trial(), settings=session.settings.model_copy(update=dict(drawn)))
        held = partial(_held, glance)
        trial = run_trial(trial_session, drawn, self.steps, held, self.trials, seconds=self.contest.plan.left)
        self.trials.append(trial)
        told = {"network": self.entry.name, "settings": dict(drawn), "stopped": trial.stopped, "steps": self.steps}
        measured = {} if trial.stopped else {"accuracy": trial.accuracy, "loss": trial.loss}
        self.rows.append({**told, **measured})
        detail = f"{self.entry.name}: {trial.stopped or f'validation {trial.accuracy:.1%}'}"
        emit(Progress(task="search", done=len(self.rows), total=self.total, unit="trials", detail=detail))


def _held(glance: Glance, session: Session) -> tuple[NDArray[np.float64], float]:
    log_NK = session.forward.log_probabilities(glance.x_NHWC, over_views=False).double().numpy()
    losses_N = -log_NK[np.arange(len(log_NK)), glance.labels_N]
    return losses_N, float((log_NK.argmax(1) == glance.labels_N).mean())


def _draws(entry: Entry, seed: int) -> Iterator[dict[str, float]]:
    """Yield settings for a network: none, then random factors on its defaults and strengths of augmentation."""
    default = DEFAULTS[entry.rule]
    rate = entry.settings.learning_rate or default.learning_rate
    scale = {"learning_rate": rate, "weight_decay": default.weight_decay}
    space = {**{name: factor for name, factor in FACTORS.items() if scale[name]}, **STRENGTHS}
    for drawn in draws(space, seed):
        yield {name: float(f"{value * scale.get(name, 1.0):.3g}") for name, value in drawn.items()}


def _steps(entry: Entry, seconds: float) -> int:
    assert entry.settings.batch_size is not None
    assert entry.settings.size is not None
    cheaper = (entry.small / entry.settings.size) ** 2
    return int(seconds / (entry.settings.batch_size * entry.image_seconds * cheaper))


def _why(best: Trial, trials: Sequence[Trial]) -> str:
    stopped = sum(bool(trial.stopped) for trial in trials)
    told = f"best of {len(trials)} trials, {stopped} of them stopped early"
    return told if best.settings else f"{told}: none was better than the defaults by more than chance"
