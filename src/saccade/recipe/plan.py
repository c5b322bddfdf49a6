"""The plan: what data, device and clock decide about a network, written down before it is acted on."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saccade import study
from saccade.data import Part, Parts
from saccade.device import Usage, cores, free_threads
from saccade.errors import RunError, SettingError
from saccade.events import stage
from saccade.files import read_json
from saccade.run import Run
from saccade.settings import TrainSettings
from saccade.train.budget import Clock, Decision, Pace
from saccade.train.checkpoint import seconds_spent

SIDES = (16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)
"""Sides a network may be trained at."""
TRAINING_SHARE = 0.85
"""Of the time left, that a network is planned to be trained for; the rest is for what is around it."""
ENOUGH = 450_000.0
"""Images after which a network gains little from smaller ones, were they as cheap as larger ones."""
WIDEST = 2.0
"""The largest factor on the ConvNet's channels."""


class Plan:
    """The decisions of a run, each on disk in plan.json before anything acts on it."""

    def __init__(self, run: Run, clock: Clock, seed: int) -> None:
        self.run, self.clock, self.seed = run, clock, seed
        self.decisions: list[dict[str, Any]] = []
        self.paces: dict[str, list[Decision]] = {}
        self.kept: dict[str, float] = {}
        self.deadline = math.inf

    @classmethod
    def resume(cls, run: Run, clock: Clock, seed: int) -> "Plan":
        """Return the plan of a run begun before: its decisions so far, and a clock that counts the time it has spent.

        Time counts as far as it was recorded, in plan.json or in a checkpoint.
        """
        plan = cls(run, clock, seed)
        spent = seconds_spent(run.checkpoints)
        if (run.path / "plan.json").exists():
            recorded = run.read("plan")
            try:
                spent = max(spent, recorded["seconds"])
                plan.decisions, plan.paces = recorded["decisions"], _paces(recorded)
            except (KeyError, TypeError, AttributeError) as error:
                raise RunError(f"{run.path / 'plan.json'} is damaged; the run's files were changed.") from error
        plan.clock = replace(clock, spent=spent)
        return plan

    def choose_threads(self, usage: Usage) -> None:
        """Compute with no more threads than there are cores that other programs leave free."""
        threads = free_threads(usage)
        if threads < torch.get_num_threads():
            torch.set_num_threads(threads)
            self.decide("threads", threads, f"other programs keep {usage.elsewhere():.1f} of {cores()} cores busy")

    def decide(self, what: str, value: Any, why: str) -> None:
        """Record that `what` shall be `value`, and why."""
        self.decisions.append({"at": round(self.clock.elapsed(), 2), "what": what, "value": value, "why": why})
        self._write()

    def keep(self, what: str, seconds: float) -> None:
        """Keep some of the time for `what` is to be done later; 0 seconds give it back."""
        self.kept[what] = seconds

    def left(self) -> float:
        """Return the seconds left for the work at hand: until its deadline, or the budget's end less what is kept."""
        return min(self.deadline - self.clock.elapsed(), self.clock.remaining() - sum(self.kept.values()))

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Give the work in the block a deadline: so many seconds from now."""
        before, self.deadline = self.deadline, min(self.deadline, self.clock.elapsed() + seconds)
        try:
            yield
        finally:
            self.deadline = before

    def pace(self, network: str, *decisions: Decision) -> None:
        """Record decisions about the number of a network's training steps."""
        self.paces.setdefault(network, []).extend(decisions)
        self._write()

    def go_back(self, network: str, paces: Sequence[Decision]) -> None:
        """Record that of the decisions about a network's steps only these hold: it goes on from a checkpoint."""
        self.paces[network] = list(paces)
        self._write()

    def _write(self) -> None:
        written = {"budget_seconds": self.clock.budget, "seconds": round(self.clock.elapsed(), 2)}
        paces = {network: [asdict(decision) for decision in each] for network, each in self.paces.items()}
        self.run.write("plan", {**written, "decisions": self.decisions, "paces": paces})


def recorded_pace(path: Path, network: str) -> Pace:
    """Return a network's pace that an earlier run's plan.json recorded; raises SettingError where there is none."""
    try:
        return Pace(_paces(read_json(path))[network])
    except FileNotFoundError as error:
        raise SettingError(f"The plan {path} does not exist; give the plan.json of a run with a budget.") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{path} is not a plan.json with recorded steps of {network}; give that of a run with a budget."
        raise SettingError(reason) from error


def _paces(recorded: Mapping[str, Any]) -> dict[str, list[Decision]]:
    return {network: [Decision(**each) for each in paces] for network, paces in recorded["paces"].items()}


def native_side(part: Part) -> int:
    """Return a part's median short side: half of its images would have to be enlarged to be larger."""
    return int(np.median(part.images.pixels.sizes(part.images.keys).min(1)))


def resolve(settings: TrainSettings, parts: Parts, plan: Plan, *, affordable: float | None = None) -> TrainSettings:
    """Return the settings with nothing left open, each decision recorded.

    `affordable` is how many pixels could be trained on in the time there is; without it nothing
    depends on the machine.
    """
    chosen: dict[str, Any] = {}
    images = len(parts.train)
    if settings.size is None:
        native = native_side(parts.train)
        chosen["size"] = side_for(native, images, affordable)
        plan.decide("size", chosen["size"], f"images of {native} px, {images:,} for training")
    if settings.width is None:
        chosen["width"] = 1.0
        if affordable is not None and settings.model == "convnet":
            side = settings.size or chosen["size"]
            shown = max(0.0, affordable / side**2)
            chosen["width"] = width_for(shown / enough(images))
            why = f"{shown:,.0f} images of {side} px could be trained on at a width of 1"
            plan.decide("width", chosen["width"], why)
    if settings.batch_size is None:
        chosen["batch_size"] = batch_for(images)
    if settings.batch_size in (None, "all"):
        plan.decide("batch_size", chosen.get("batch_size", images), f"{images:,} training images")
    if settings.flip is None:
        chosen["flip"] = may_flip(parts, plan)
    if settings.views is None:
        chosen["views"] = chosen.get("flip", settings.flip)
    return settings.model_copy(update=chosen)


def may_flip(parts: Parts, plan: Plan) -> bool:
    """Return whether training images may be mirrored, as measured."""
    symmetry = study.mirror_symmetric(parts)
    plan.decide("flip", symmetry.symmetric, symmetry.why)
    return symmetry.symmetric


def mirrored(settings: TrainSettings, parts: Parts) -> bool:
    """Return whether a command without a plan mirrors training images: as settings say, else as measured and told."""
    if settings.flip is not None:
        return settings.flip
    with stage("mirror") as record:
        symmetry = study.mirror_symmetric(parts)
        record.outcome = f"{'' if symmetry.symmetric else 'not '}mirrored: {symmetry.why}"
    return symmetry.symmetric


def short(model: str) -> str:
    """Return a network's name without its family.

    >>> short("torchvision/resnet18")
    'resnet18'
    """
    return model.rpartition("/")[2]


def full_side(native: int) -> int:
    """Return the largest side worth training at: the images' own, from 16 to 128.

    >>> full_side(8), full_side(32), full_side(400)
    (16, 32, 128)
    """
    return max(side for side in SIDES if side <= max(native, SIDES[0]))


def side_for(native: int, images: int, affordable: float | None) -> int:
    """Return the largest side at which the pixels that can be afforded show the network enough images.

    What is enough for a smaller side than the full one falls with the fifth power of the side, as
    measured: larger images pay only once smaller ones have been learnt.
    """
    full = full_side(native)
    if affordable is None:
        return full
    least = enough(images)
    fitting = [side for side in SIDES if side <= full and affordable / side**2 >= least * (side / full) ** 5]
    return max(fitting, default=SIDES[0])


def enough(images: int) -> float:
    """Return how many images, seen again and again, are enough for the full side: ENOUGH, or twenty epochs."""
    return min(ENOUGH, 20.0 * images)


def width_for(times: float) -> float:
    """Return the ConvNet's width where a width of 1 could be shown so many times the images that are enough.

    Up to twice as many a wider one does no better (docs/convnet.md); of further time, half goes into width, which
    costs its square, and half into images: in quarters, up to 2.

    >>> width_for(0.5), width_for(2.0), width_for(8.0), width_for(100.0)
    (1.0, 1.0, 1.5, 2.0)
    """
    return min(WIDEST, max(1.0, round(4 * math.sqrt(math.sqrt(times / 2))) / 4))


def batch_for(images: int) -> int:
    """Return the images a step: a power of two from 32 to 512 that leaves some forty steps an epoch.

    >>> batch_for(1_200), batch_for(45_000)
    (32, 512)
    """
    return 1 << min(9, max(5, int(math.log2(max(images, 1) / 40))))
