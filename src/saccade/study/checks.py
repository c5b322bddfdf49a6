"""The verdict before training: first loss, a handful learnt by heart, gradients, faults, a rate that works."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from saccade.data.batches import ArrayImages, Batch, Order
from saccade.device import Stream, derived_seed, generator
from saccade.errors import TrainingError
from saccade.events import Finding, emit
from saccade.graph import GradientCheck, check_gradients
from saccade.study import faults, sanity
from saccade.study.check import Check
from saccade.study.probe import first_part, first_updates, probe
from saccade.study.rates import RangeTest, range_test
from saccade.train.balance import loss_of
from saccade.train.budget import Pace
from saccade.train.loop import train
from saccade.train.preparing import unchanged
from saccade.train.session import Session, at_once
from saccade.train.watch import Watch

MOST_STEPS = 60
ENOUGH = 0.95
RATES_SHARE, HANDFUL_SHARE, INPUTS_SHARE = 0.5, 0.5, 0.5
"""Of the time then left, for the range test, for learning a handful by heart, and for learning it without pixels."""
FEW = 4
"""Images that gradients are checked on."""
COORDINATES = 8
"""Numbers of each tensor whose gradient is checked: a run of the network takes its time."""
JITTER = 0.01
"""Standard deviation of the noise added to them, as a share of their own."""
TOO_LOW = 100.0
"""A learning rate this many times below the suggestion is too low."""
BY_CHANCE = 0.001
"""Share of sound networks, at the most, whose first loss is as low as if they knew the labels."""
BALANCED = 0.95
"""Entropy of the training priors, as a share of ln K, from which on the two references are one."""
SURE = (
    "The untrained network is already sure of wrong answers: look at its initial weights, at the "
    "preprocessing and at the labels before training."
)
KNOWS = (
    "The untrained network already knows the labels: see whether they reach it with the images, whether its weights "
    "were trained on these very images, and whether a batch is of one class alone."
)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Verdict:
    """The checks before training, the learning-rate range test, and the names of the checks `left_out`.

    There was no time for these; `rates` is None where the range test is among them.
    """

    checks: tuple[Check, ...]
    rates: RangeTest | None = None
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Verdict":
        """Return what `plain` told of, without the range test."""
        return cls(tuple(Check(**each) for each in told["checks"]), left_out=tuple(told["left_out"]))

    def plain(self) -> dict[str, list[Any]]:
        """Return the checks and the names of those left out as plain values."""
        return {"checks": [asdict(each) for each in self.checks], "left_out": [*self.left_out]}

    def tell(self) -> str:
        """Emit a Finding for each check that failed; return in words how each ended."""
        for check in self.checks:
            if not check.passed:
                detail = f"{check.name}: {check.measured}. {check.advice}"
                emit(Finding(kind="check", severity="warning", detail=detail))
        told = [f"{check.name} {'passed' if check.passed else 'failed'}" for check in self.checks]
        return "; ".join([*told, *(f"{name} left out for lack of time" for name in self.left_out)])


def verdict(session: Session, classes: int, seconds: Callable[[], float], *, declared: Sequence[str] = ()) -> Verdict:
    """Return every check that a session alone can answer, within `seconds()`; the session is left as it was.

    `declared` are the names of modules and parameters that are meant to be frozen. What takes long gets a share
    of the time each, what is wanted most first; the gradients, of which a few say something, get the rest.
    """
    stream = Stream(derived_seed(session.settings.seed, "checks"), session.forward.device)
    with stream.drawing():
        batch = next(session.images.batches(Order(len(session.images), at_once(session), session.settings.seed)))
        seen = probe(session, batch)
        asked = [
            faults.inputs_scaled(seen),
            faults.scores_plain(seen),
            initial_loss(session.on_trial(), batch, classes),
            sanity.penalty_moderate(session, seen.scores_NK, batch.y_N[: len(seen.scores_NK)]),
            faults.units_alive(seen),
            faults.units_unsaturated(seen),
            faults.gradient_reaches(seen),
            faults.batches_mixed(session),
            faults.prediction_independent(session, batch),
        ]
        with suppress(TrainingError):  # the loss was no number, which the other checks name
            updates = first_updates(session)
            trainable = {name for name, each in session.network.named_parameters() if each.requires_grad}
            asked += [faults.weights_differ(updates), faults.layers_learn(updates, trainable, declared)]
        dear = _Dear(seconds)
        with suppress(TrainingError):
            asked.append(dear.ask("cost of a step", 1.0, lambda left: sanity.step_affordable(session, left)))
        rates = dear.ask("learning rate", RATES_SHARE, lambda left: range_test(session, seconds=left))
        asked += [
            None if rates is None else learning_rate(session, rates),
            dear.ask("overfit a handful", HANDFUL_SHARE, lambda left: overfit_handful(session, batch, left)),
            dear.ask("inputs matter", INPUTS_SHARE, lambda left: sanity.inputs_matter(session, batch, left)),
            dear.ask("gradients", 1.0, lambda left: gradients(session, batch, left)),
        ]
        return Verdict(tuple(check for check in asked if check is not None), rates, tuple(dear.left_out))


def checks(
    session: Session, batch: Batch, classes: int, seconds: Callable[[], float], *, fitted: bool = False
) -> Verdict:
    """Return the two checks that come before every training, within `seconds()`; the session is left as it was.

    The network's head may have been `fitted` to the training images.
    """
    stream = Stream(derived_seed(session.settings.seed, "checks"), session.forward.device)
    with stream.drawing():
        dear = _Dear(seconds)
        first = initial_loss(session.on_trial(), batch, classes, fitted=fitted)
        handful = dear.ask("overfit a handful", 1.0, lambda left: overfit_handful(session, batch, left))
        return Verdict((first, *([handful] if handful else [])), left_out=tuple(dear.left_out))


@torch.no_grad()
def initial_loss(session: Session, batch: Batch, classes: int, *, fitted: bool = False) -> Check:
    """Hold the untrained network's loss against those of two guesses (lecture 7, step 1).

    Of each of K classes the same, ln K; and of each as often as it is among the training images, their entropy. More
    than the first is a network that is sure of wrong answers. Less than the second is one that knows labels that it
    has not learnt, unless its head was `fitted` to these images: chance alone takes the loss of n images t / n
    below that of the priors, smoothed as the labels are, with a probability of exp(-t) at the most, whatever the
    network says without their labels (Markov's inequality on the likelihood ratio, whose mean is at most 1).

    Of the first part of a batch, and without weights of the classes: with them a guess may cost anything.
    """
    batch = first_part(session, batch)
    scores_NK = session.network.train()(session.forward.to_input(batch.x_NHWC)).float()
    plain = loss_of(session.settings.model_copy(update={"balance": "none"}), session.images)
    y_N = batch.y_N.to(scores_NK.device)
    loss, chance = float(plain(scores_NK, y_N).mean()), math.log(classes)
    priors_K = _priors(session, batch, scores_NK.shape[1]).to(scores_NK)
    priors = float(plain(priors_K.log().expand_as(scores_NK), y_N).mean())
    entropy = float(torch.special.entr(priors_K).sum())
    expected = f"about ln {classes} = {chance:.3f}, as from guessing"
    if entropy < BALANCED * chance:
        smoothed = "smoothed " if session.settings.label_smoothing else ""
        expected += f", or {entropy:.3f}, the entropy of the {smoothed}training priors"
    low = not fitted and loss < priors + math.log(BY_CHANCE) / len(y_N)
    passed = not low and loss < 1.5 * chance + 0.5  # which no loss is that is no number
    return Check(
        name="initial loss",
        passed=passed,
        expected=f"at most {expected}: the last layer was fitted to these images" if fitted else expected,
        measured=f"{loss:.3f}",
        advice="" if passed else KNOWS if low else SURE,
    )


def _priors(session: Session, batch: Batch, classes: int) -> Tensor:
    """Return the shares (K,) of the classes among training labels, smoothed; a batch's, where others are not known."""
    y_N = batch.y_N if session.images.y_N is None else session.images.y_N
    share_K = y_N.cpu().bincount(minlength=classes) / len(y_N)
    return torch.lerp(share_K, torch.full_like(share_K, 1 / classes), session.settings.label_smoothing)


def overfit_handful(session: Session, batch: Batch, seconds: Callable[[], float]) -> Check | None:
    """Train a copy on a handful of images alone until it knows them by heart (lecture 7, step 2).

    None where `seconds()` ran out before there was an answer.
    """
    trial, handful = sanity.on_a_handful(session, batch)
    training = replace(trial.training(), prepare=unchanged(trial.forward))
    steps, accuracy, trouble = 0, 0.0, ""
    stream = Stream(derived_seed(session.settings.seed, "handful"), session.forward.device)
    try:
        with stream.drawing():
            for steps, _ in train(training, Pace.fixed(MOST_STEPS), Watch()):
                if steps % 5 == 0:
                    accuracy = _known_by_heart(trial, handful)
                if accuracy >= ENOUGH:
                    break
                if seconds() <= 0:
                    return None
    except TrainingError:
        accuracy, trouble = 0.0, ", when the loss stopped being a number"
    passed = accuracy >= ENOUGH
    advice = (
        "The network cannot even memorise a few images: look for equal images with different labels, "
        "a learning rate that is too low or too high, or too small a network."
    )
    return Check(
        name="overfit a handful",
        passed=passed,
        expected=f"at least {ENOUGH:.0%} of {len(handful)} training images learnt by heart within {MOST_STEPS} steps",
        measured=f"{accuracy:.0%} after {steps} steps{trouble}",
        advice="" if passed else advice,
    )


def gradients(session: Session, batch: Batch, seconds: Callable[[], float]) -> Check | None:
    """Compare the gradients of a network's scores with numerical ones near a few images (lecture 4).

    None where `seconds()` ran out before anything was compared.
    """
    x_NCHW = session.forward.to_input(batch.x_NHWC[:FEW]).float().cpu()
    # Even areas and grey images lie on kinks: maxima tie, and a constant channel's batch norm is all slope.
    draws = generator(session.settings.seed, "jitter")
    x_NCHW = x_NCHW + JITTER * x_NCHW.std() * torch.randn(x_NCHW.shape, generator=draws)
    network = session.on_trial().network.train()
    found = check_gradients(network, x_NCHW, coordinates=COORDINATES, seconds=seconds)
    return gradient_verdict("gradients", found)


def gradient_verdict(name: str, found: GradientCheck) -> Check | None:
    """Return what a gradient check found as a check before training; None where nothing was compared."""
    expected = "gradients within a relative error of 1e-7 of numerical ones, or 1e-4 near kinks"
    if found.trouble:
        advice = "Its gradients cannot be checked; draw from the global generators, and look for divisions by 0."
        return Check(name, False, expected, f"nothing: {found.trouble}", advice)
    worst = found.worst
    if worst is None:
        return None
    compared, kinks = sum(each.compared for each in found.tensors), sum(each.kinks for each in found.tensors)
    tensors, reached = len(found.tensors), sum(each.compared > 0 for each in found.tensors)
    measured = f"{worst.error:.1g} at the most, in {worst.name}; {compared} numbers of "
    measured += f"{tensors if reached == tensors else f'{reached} of {tensors}'} tensor{'s' if tensors > 1 else ''}"
    measured += f", {kinks} more on kinks" if kinks else ""
    measured += ", random draws held still" if found.random else ""
    if found.verdict == "wrong":
        where = f" of {', '.join(found.wrong_modules)}" if found.wrong_modules else ""
        advice = (
            f"The backward{where} is wrong: for {worst.name} it gives {worst.analytic:.6g} where the loss changes by "
            f"{worst.numerical:.6g}."
        )
    else:
        advice = "Larger than rounding explains: look for a constant that the backward has slightly different."
    return Check(name, found.passed, expected, measured, "" if found.passed else advice)


def learning_rate(session: Session, rates: RangeTest) -> Check:
    """Ask whether the session's learning rate lies where the range test saw the loss go down (lecture 7, step 3)."""
    chosen, suggested = session.highest_rate, rates.suggestion
    if suggested is None:
        advice = "No rate made the loss go down: look at the labels, the preprocessing and the initial weights."
        return Check("learning rate", False, "a rate at which the loss falls", "it fell at none", advice)
    low = suggested / TOO_LOW
    passed = low <= chosen <= rates.limit
    sure = f"another test would say so within a factor of {rates.spread:.1f}"
    if math.isinf(rates.spread):
        sure = "how surely, one repetition cannot tell"
    advice = (
        f"The learning rate is too {'high: the loss rises at it' if chosen > rates.limit else 'low to learn'}; "
        f"try {suggested:.2g}."
    )
    return Check(
        "learning rate",
        passed,
        f"between {low:.2g} and {rates.limit:.2g}; the loss falls fastest at {suggested:.2g} ({sure})",
        f"{chosen:.3g}",
        "" if passed else advice,
    )


class _Share:
    """The time left of a share of it, from now on; `up` once it was found to be gone."""

    def __init__(self, seconds: Callable[[], float], share: float) -> None:
        left = seconds()
        self.seconds, self.up = seconds, False
        self.kept = 0.0 if math.isinf(left) else (1 - share) * left

    def __call__(self) -> float:
        left = self.seconds() - self.kept
        self.up = left <= 0
        return left


class _Dear:
    """Asks what takes time, and keeps the names of what time ran out for."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self.left_out: list[str] = []

    def ask(self, name: str, share: float, question: Callable[[_Share], Answer | None]) -> Answer | None:
        """Return the answer that a share of the time left allows for; None where there is none."""
        left = _Share(self.seconds, share)
        answer = question(left)
        if answer is None and left.up:
            self.left_out.append(name)
        return answer


@torch.no_grad()
def _known_by_heart(trial: Session, handful: ArrayImages) -> float:
    """Return the accuracy on the handful as training sees it: batch norm by the batch."""
    scores_NK = trial.network.train()(trial.forward.to_input(handful.x_NHWC))
    return float((scores_NK.argmax(1).cpu() == handful.y_N.cpu()).float().mean())
