"""The networks that may enter a `fit`: saccade's own from scratch, and a pretrained one, each planned and measured."""

import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from saccade import study
from saccade.classifiers import Member, Model, NetworkClassifier
from saccade.data import Part, Parts
from saccade.errors import ModelError
from saccade.events import Finding, emit, stage
from saccade.nn import zoo
from saccade.nn.published import Pretrained
from saccade.recipe import cells
from saccade.recipe import plan as planning
from saccade.recipe.candidates import Candidate, Candidates, Judge, test_time
from saccade.recipe.network import WORTH_BEGINNING, start
from saccade.recipe.plan import Plan
from saccade.recipe.provenance import Seen
from saccade.settings import DataSettings, FitSettings, TrainSettings
from saccade.study.adviser import CELLS, Advice
from saccade.study.baselines import stratified_share
from saccade.study.transfer import Probe
from saccade.train import timing
from saccade.train.forward import Forward
from saccade.train.session import Session

PROBE_SHARE = 0.12
"""Of the time left, for the features of all images, the test part's included, should they be wanted."""
PROBE_SECONDS, PROBE_MOST_SHARE = 20.0, 0.5
"""What they may take, and of the time left at the most, where it is too short for enough of the smallest images."""
PROBE_ENOUGH, PROBE_FEWEST, PROBE_MOST = 10_000, 200, 50_000
"""Training images whose features are enough; below which they are not worth it; and the most that are taken."""
TRANSFER_BATCH = 64
WANTED = (4.0, 40_000)
"""Passes of fine-tuning, or images, for which a smaller side is taken rather than go without them."""
AMPLE = (10.0, 100_000)
"""Passes, or images, of the largest side, below which the lowest layers stay as they are: others get more images so."""
STILL = cells.LAYERS["few"]
"""The share of layers that are the lowest."""
CACHED_PIXELS, AT_ONCE = 150_000, 16
"""Pixels whose activations stay in a CPU's caches in training; and images at once, at the least."""
HEADS_SHARE = 0.05
"""Of the time left, for finding the best linear head."""
ADVICE_SHARE, ADVICE_FEWEST, ADVICE_MOST = 0.03, 100, 500
"""Of the time left, for advice on transfer; and the training images it is measured on, at the least and the most."""
MEASURED_SIDE = 64
BOTH = (3.0, 40_000)
"""Passes, or images, of one from scratch, from which it is trained beside a pretrained one: they err differently."""


@dataclass(frozen=True)
class Entry:
    """A network that may be trained: resolved settings, what an image costs, and its update rule.

    `small` is the side of the smallest images it is trained on, `smallest` of those it may be tried on;
    `begin` is the network whose weights it begins with, None for new ones.
    """

    name: str
    settings: TrainSettings
    image_seconds: float
    rule: str
    small: int
    smallest: int
    begin: nn.Module | None = None


@dataclass(frozen=True)
class Features:
    """With which settings a pretrained network's features are taken, of how many training images, at what cost each."""

    settings: TrainSettings
    images: int
    image_seconds: float


@dataclass(frozen=True)
class Field:
    """The networks planned: saccade's own, a pretrained one where there is one, and whether `both` are trained."""

    own: Entry
    tuned: Entry | None = None
    features: Features | None = None
    both: bool = False

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        return [self.own] if self.tuned is None else [self.own, self.tuned]

    def plain(self) -> dict[str, Any]:
        """Return plain values that `of` makes the same field of."""
        features = None if self.features is None else {**vars(self.features), "settings": _dumped(self.features)}
        entries = [{**vars(entry), "settings": _dumped(entry), "begin": None} for entry in self.entries]
        return {"entries": entries, "features": features, "both": self.both}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Field":
        """Return the field that `plain` described."""
        entries = [Entry(**{**each, "settings": TrainSettings(**each["settings"])}) for each in plain["entries"]]
        told = plain["features"]
        features = told and Features(**{**told, "settings": TrainSettings(**told["settings"])})
        return cls(entries[0], entries[1] if len(entries) > 1 else None, features, plain["both"])


def _dumped(described: Entry | Features) -> dict[str, Any]:
    return described.settings.model_dump(mode="json")


@dataclass(frozen=True)
class Contest:
    """What the networks' stages share: the images, the plan, and what is kept of them on disk."""

    parts: Parts
    settings: FitSettings
    plan: Plan
    candidates: Candidates
    judge: Judge
    flip: bool = False
    """Whether images may be mirrored."""
    seen: Seen = field(default_factory=Seen)
    """What the pretrained weights were trained on or chosen by."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """A number for each training and validation image, equal where they must stay together; empty where none must."""

    def keep(self, name: str, candidate: Candidate) -> Candidate:
        """Write a candidate to disk, and return it."""
        return self.candidates.keep(name, candidate, self.judge(candidate))

    def groups_of(self, part: Part) -> NDArray[np.int64]:
        """Return the group numbers of a part's images."""
        keys = part.images.keys
        return np.array([self.groups[key] for key in keys]) if self.groups else np.arange(len(keys))


def plan_field(contest: Contest, weights: Pretrained | None) -> Field:
    """Return the networks that the time left affords, measured and planned; those planned before an interruption."""
    noted = contest.candidates.noted("field")
    if noted is not None:
        return Field.of(noted)
    contest = replace(contest, flip=planning.may_flip(contest.parts, contest.plan))
    budget, left = contest.settings.budget, contest.plan.left()
    another = weights is not None and not weights.settings  # one of saccade's own would go by the same name
    own = plan_own(contest, 0.5 if another else 1.0)
    fewest = min(BOTH[0] * len(contest.parts.train), BOTH[1])
    enough = planning.TRAINING_SHARE * 0.5 * left >= fewest * own.image_seconds
    both = another and enough and 0.8 * left / 2 > WORTH_BEGINNING * budget
    transfer = None if weights is None else _transfer_if_fit(contest, weights, 0.5 if both else 1.0)
    tuned, features = transfer or (None, None)
    both = both and tuned is not None
    if another and not both:
        own = plan_own(contest, 1.0)
    field = Field(own, tuned, features, both)
    contest.candidates.note("field", field.plain())
    return field


def _transfer_if_fit(contest: Contest, weights: Pretrained, share: float) -> tuple[Entry, Features] | None:
    """Plan the transfer; where weights found on the machine turn out not to be usable, say so and go on without."""
    try:
        return plan_transfer(contest, weights, share)
    except ModelError as error:
        emit(Finding(kind="weights", severity="warning", detail=f"{weights.model} is left out: {error}"))
        return None


def plan_own(contest: Contest, share: float) -> Entry:
    """Return saccade's own network from scratch, at a size that its share of the time left affords."""
    parts, open_settings = contest.parts, _open(contest)
    session, pixels = speed(parts, open_settings, contest.plan)
    resolved = resolved_by(session, pixels, parts, open_settings, contest.plan, share)
    assert resolved.size is not None
    if resolved.width != 1:
        _, pixels = speed(parts, resolved, contest.plan)
    image_seconds = timing.mean_pixels(session, resolved.size) / pixels
    small, smallest = session.side_at(0.0, resolved.size), max(planning.SIDES[0], resolved.size // 2)
    return Entry(resolved.model, resolved, image_seconds, session.rule, small, smallest)


def speed(parts: Parts, settings: TrainSettings, plan: Plan) -> tuple[Session, float]:
    """Return a session on a few images, and how many pixels a second it trains on."""
    side = settings.size or min(planning.full_side(planning.native_side(parts.train)), MEASURED_SIDE)
    session = _measured(parts, settings, side)
    pixels = side**2 / timing.image_seconds(session, side)
    plan.decide("megapixels a second", round(pixels / 1e6, 3), f"{settings.model}, measured at {side} px")
    return session, pixels


def resolved_by(
    session: Session, pixels: float, parts: Parts, settings: TrainSettings, plan: Plan, share: float = 1.0
) -> TrainSettings:
    """Return the settings with nothing left open, as so many pixels a second and a share of the time left allow."""
    growth = timing.mean_pixels(session) / session.forward.side**2
    affordable = pixels * planning.TRAINING_SHARE * share * plan.left() / growth
    return planning.resolve(settings, parts, plan, affordable=affordable)


def plan_transfer(contest: Contest, weights: Pretrained, share: float) -> tuple[Entry, Features] | None:
    """Return the pretrained network to fine-tune, and how its features are to be taken.

    None, and the reason in plan.json, where the time left is not enough for either.
    """
    parts, plan = contest.parts, contest.plan
    asked = contest.settings.pretrained
    pretrained = weights.model if asked == "auto" else asked
    given = {**weights.settings, "model": weights.model, "pretrained": pretrained, "batch_size": TRANSFER_BATCH}
    given["interpolation"] = weights.interpolation
    open_settings = _open(contest).model_copy(update=given)
    sides = cells.sides(weights, planning.native_side(parts.train))
    session = _measured(parts, open_settings, sides[0])
    training = timing.image_seconds(session, sides[0], images=TRANSFER_BATCH) / sides[0] ** 2
    predicting = timing.prediction_seconds(session, images=TRANSFER_BATCH) / sides[0] ** 2
    loading = _loading_seconds(parts, sides[0])
    told = {"training": round(1e-6 / training, 3), "prediction": round(1e-6 / predicting, 3)}
    plan.decide("megapixels a second", told, f"{weights.model}, measured at {sides[0]} px")
    probing, enough = PROBE_SHARE * plan.left(), min(len(parts.train), PROBE_ENOUGH)
    others = len(parts.validation) + len(parts.test)

    def affordable(side: int) -> int:
        return min(len(parts.train), PROBE_MOST, int(probing / (predicting * side**2 + loading)) - others)

    if affordable(sides[0]) < enough:
        # They are worth more than what else so short a time buys.
        probing = max(probing, min(PROBE_SECONDS, PROBE_MOST_SHARE * plan.left()))
    side = max((side for side in sides if affordable(side) >= enough), default=sides[0])
    if affordable(side) < min(enough, PROBE_FEWEST):
        plan.decide("transfer", False, f"features of {enough:,} images would take more than {probing:.1f} s")
        return None
    plan.decide("features", {"side": side, "images": affordable(side)}, f"in {probing:.1f} s")
    seconds = predicting * side**2 + loading
    features = Features(open_settings.model_copy(update={"size": side}), affordable(side), seconds)
    tuning = planning.TRAINING_SHARE * share * (plan.left() - probing)
    return _plan_tuning(contest, session, sides, tuning, training), features


def _plan_tuning(contest: Contest, session: Session, sides: Sequence[int], seconds: float, pixel: float) -> Entry:
    """Return how a pretrained network is fine-tuned in so many seconds: which layers, on which side, at which rate.

    A pixel of the smallest images takes `pixel` seconds, one of larger images as long or longer.
    """
    plan, settings, count = contest.plan, session.settings, len(contest.parts.train)
    wanted, ample = (min(epochs * count, images) for epochs, images in (WANTED, AMPLE))
    most = {side: seconds / (pixel * timing.mean_pixels(session, side)) for side in sides}
    if most[sides[-1]] < ample:
        settings = settings.model_copy(update={"frozen": STILL})
        why = f"{most[sides[-1]]:,.0f} images of {sides[-1]} px could be trained on, {ample:,.0f} would be ample"
        plan.decide("frozen", STILL, why)
        session = _measured(contest.parts, settings, sides[0])

    @cache
    def shown(side: int) -> float:
        return seconds / (_pixel_seconds(session, side) * timing.mean_pixels(session, side))

    # Layers that stay as they are cost some of their time at least.
    fitting = [side for side in sides if most[side] / (1 - settings.frozen) >= wanted] or sides[:1]
    size = fitting[max(0, bisect_right(fitting, -wanted, key=lambda side: -shown(side)) - 1)]
    images = shown(size)
    plan.decide("size", size, f"{settings.model}, {images:,.0f} images could be trained on")
    rate = cells.rate_for(images / TRANSFER_BATCH)
    plan.decide("learning_rate", rate, "less for few steps: they could not mend what a high one breaks")
    # The head knows images of the whole side: few passes over smaller ones would first unlearn that.
    chosen = {"size": size, "grow": images >= wanted, "learning_rate": rate, "lowest_rate": cells.LOWEST}
    chosen["accumulate"] = _pieces(session, size)
    small, smallest = session.side_at(0.0, size), max(sides[0], size // 2)
    return Entry(settings.model, settings.model_copy(update=chosen), seconds / images, session.rule, small, smallest)


def _pixel_seconds(session: Session, side: int) -> float:
    """Return what training on a pixel of images of this side takes, in batches that go through in pieces."""
    in_pieces = session.settings.model_copy(update={"accumulate": _pieces(session, side)})
    seconds = timing.image_seconds(replace(session, settings=in_pieces), side, images=TRANSFER_BATCH, steps=2)
    return seconds / side**2


def _pieces(session: Session, side: int) -> int:
    """Return in how many parts a batch goes through fastest: what a CPU's caches hold at once, where that may be."""
    if session.forward.device.type != "cpu" or zoo.sees_batches(session.network):
        return 1
    return max(1, TRANSFER_BATCH // max(AT_ONCE, CACHED_PIXELS // side**2))


def probe_features(contest: Contest, features: Features) -> tuple[Candidate, Probe]:
    """Return the linear classifier on a pretrained network's features, as a candidate and with the features."""
    parts, plan, settings = contest.parts, contest.plan, features.settings
    kept, tensors = contest.candidates.get("probe"), contest.candidates.noted_arrays("features")
    if kept is not None and tensors is not None:
        plan.keep(test_time(kept.name), kept.image_seconds * len(parts.test))
        classifier = kept.model.members[0].classifier
        assert isinstance(classifier, NetworkClassifier)
        return kept, Probe(kept.name, classifier.forward_, **tensors, penalty=kept.facts["penalty"])
    forward = start(parts.train.select([0, 1]), settings).forward
    candidate, found = _linear(contest, features, forward, f"linear on {planning.short(settings.model)}")
    contest.candidates.note_arrays("features", found.arrays())
    return contest.keep("probe", candidate), found


def probe_stages(contest: Contest, features: Features, probe: Probe) -> Candidate:
    """Return the linear classifier on the features of all stages of a network, of the same images, as a candidate."""
    plan = contest.plan
    if (kept := contest.candidates.get("stages")) is not None:
        plan.keep(test_time(kept.name), kept.image_seconds * len(contest.parts.test))
        return kept
    forward, widths = cells.on_all_stages(probe.forward)
    all_stages = replace(features, settings=features.settings.model_copy(update={"stages": tuple(widths)}))
    with stage("features of all stages") as record:
        candidate, _ = _linear(contest, all_stages, forward, f"{probe.name}, all stages")
        record.validation_accuracy = contest.judge.accuracy(candidate)
        record.outcome = f"{candidate.name}: {record.validation_accuracy:.1%}"
    return contest.keep("stages", candidate)


def _linear(contest: Contest, features: Features, forward: Forward, name: str) -> tuple[Candidate, Probe]:
    """Return the linear classifier on the features that a network gives, as a candidate and with the features."""
    parts, plan, settings = contest.parts, contest.plan, features.settings
    train = stratified_share(parts.train, features.images)
    limit, begun = max(1.0, HEADS_SHARE * plan.left()), plan.clock.elapsed()
    found = study.probe(forward, train, parts.validation, name=name, seconds=limit)
    seconds = round(plan.clock.elapsed() - begun, 1)
    validation_NK = np.exp(study.log_probabilities(found.forward, found.held_VND))
    facts = {"size": settings.size, "penalty": found.penalty, "images": len(train), "seconds": seconds}
    model, image_seconds = _model(found, settings, parts), features.image_seconds
    plan.keep(test_time(name), image_seconds * len(parts.test))
    return Candidate(model, validation_NK, facts, image_seconds=image_seconds), found


def advice(contest: Contest, features: Features, probe: Probe) -> Advice | None:
    """Return what a sample of the training images says of transfer, where the time left is ample; else None."""
    parts, plan, noted = contest.parts, contest.plan, contest.candidates.noted("advice")
    if noted is not None:
        return Advice.of(noted)
    # Features of the sample, and as long again for the probes.
    most = int(ADVICE_SHARE * plan.left() / (2 * features.image_seconds))
    if min(most, len(parts.train)) < min(ADVICE_FEWEST, len(parts.train)):
        return None
    part = stratified_share(parts.train, min(most, ADVICE_MOST))
    groups_N = contest.groups_of(part)
    if not cells.divisible(part, groups_N):
        return None
    with stage("advice") as record:
        forward, widths = cells.on_all_stages(probe.forward)
        x_ND = study.features(replace(forward, views=False), part, task="features of stages")[0]
        counts_K, seen = parts.train.images.class_counts(), contest.seen.count(parts.train)
        found = cells.advised(part, forward, x_ND, widths, groups_N=groups_N, counts_K=counts_K, seen=seen)
        plan.decide("advice on transfer", found.cell, found.why)
        record.outcome = CELLS[found.cell]
    contest.candidates.note("advice", found.plain())
    return found


def refitted_probe(member: Member, probe: Probe, seconds: float) -> Member:
    """Return the linear classifier on features, fitted to training and validation images together, if in time."""
    classifier, forward = member.classifier, probe.refitted(seconds)
    assert isinstance(classifier, NetworkClassifier)
    if forward is None:
        return member
    return replace(member, classifier=NetworkClassifier.of(forward, classifier.settings_, len(classifier.classes_)))


def _model(probe: Probe, settings: TrainSettings, parts: Parts) -> Model:
    classifier = NetworkClassifier.of(probe.forward, settings, len(parts.classes))
    return Model((Member.of(probe.name, classifier),), parts.classes, settings.fit_to_square)


def _open(contest: Contest) -> TrainSettings:
    shared = {name: getattr(contest.settings, name) for name in (*DataSettings.model_fields, "device", "budget")}
    return TrainSettings(**shared, threads=torch.get_num_threads(), flip=contest.flip, views=contest.flip)


def _measured(parts: Parts, settings: TrainSettings, side: int) -> Session:
    """Return a session on a few images, to be measured."""
    few = parts.train.select(np.arange(min(len(parts.train), 256)))
    return start(few, settings.model_copy(update={"size": side, "batch_size": settings.batch_size or 128}))


def _loading_seconds(parts: Parts, side: int) -> float:
    """Return what reading, decoding and resizing an image takes."""
    few = parts.train.select(np.arange(min(len(parts.train), 64)))
    begun = time.perf_counter()
    few.squares(side)
    return (time.perf_counter() - begun) / len(few)
