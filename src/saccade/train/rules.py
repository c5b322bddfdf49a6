"""What the watch asks of a training: each rule reads plain numbers and gives the evidence and the advice, or nothing.

Rules are pure. Their thresholds come from CS231n's notes on "babysitting the learning process" (lectures 6 and 7),
from `nn.activity` and `study.search`, or were set so that healthy trainings pass (`scripts/healthy.py`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from saccade.nn.activity import MOSTLY_DEAD, MOSTLY_SATURATED, VANISHED
from saccade.train.look import Activation, Layer, Sample
from saccade.train.reading import NOISY, read_curve, spread
from saccade.words import some

WINDOW = 16
"""Steps whose mean is taken for the loss of the moment."""
RECENT = 64
"""Steps that are kept one by one."""
FEW = 4
"""Steps whose lowest is the first loss: at a rate far too high, only the first of all is."""
EXPLODED = 3.0
"""Times its first value a loss has exploded at (lecture 6: a trial is stopped there)."""
LEARNT, FORGOTTEN = 0.5, 0.9
"""Shares of its first value: a loss that was below the one and is above the other has lost what it had learnt."""
SPIKE = 3.0
"""Times its neighbours' median a single loss is a spike at."""
LEAST_GRADIENT = 1e-7
"""The gradient that must arrive at the first layer, as a share of the largest."""
LARGEST_UPDATE, SMALLEST_UPDATE = 0.5, 1e-4
"""|Δw| / |w| is about 1e-3 in health (lecture 6); Muon's, of kernels of fixed norm, is up to 0.25 by its design."""
UNLEARNT = 0.98
"""Share of the first loss, or of ln K, above which nothing has been learnt."""
AWAKE = 0.3
"""Share of the highest learning rate below which a loss that does not fall shows the schedule."""
OVERFITTED, LOOKS = 1.2, 3
"""Times its lowest value that the validation loss has risen to, and for how many looks, while training went on."""


@dataclass(frozen=True)
class Story:
    """A training up to one step, as plain numbers: all that a rule may know.

    `curve` are means of neighbouring steps' losses from the first step on, `recent` the newest single ones; `first`
    is the lowest loss of the first FEW steps, `lowest` that of a WINDOW. `samples` are the newest two looks into a
    step, `held` (training, validation) losses of each look at validation images, `epoch` the steps of a pass.
    """

    step: int
    epoch: int
    recent: Sequence[float]
    curve: Sequence[float] = ()
    first: float = math.inf
    lowest: float = math.inf
    samples: Sequence[Sample] = ()
    held: Sequence[tuple[float, float]] = ()

    @property
    def now(self) -> float:
        """The loss of the moment."""
        return fmean(self.recent[-WINDOW:])

    @property
    def settled(self) -> bool:
        """Whether there were steps enough, a whole pass among them, at a rate high enough to have learnt by."""
        return self.step + 1 >= max(RECENT, self.epoch) and bool(self.samples) and self.samples[-1].rate >= AWAKE

    @property
    def unlearnt(self) -> float:
        """The loss above which nothing has been learnt: the first, or that of a guess among K classes, ln K."""
        classes = self.samples[-1].classes if self.samples else 0
        return UNLEARNT * min(self.first, math.log(classes) if classes > 1 else math.inf)


@dataclass(frozen=True)
class Rule:
    """`reads(story)` gives evidence and advice in a sentence or two, "" where all is well."""

    kind: str
    severity: str
    reads: Callable[[Story], str]


def exploded(story: Story) -> str:
    """Tell a loss that rose far above where it began, or back to it (lecture 6)."""
    if len(story.recent) < WINDOW:
        return ""
    if story.now > EXPLODED * story.first:
        return f"The loss rose from {story.first:.3g} to {story.now:.3g}: the learning rate is too high."
    if story.lowest < LEARNT * story.first and story.now > FORGOTTEN * story.first:
        return (
            f"The loss had fallen from {story.first:.3g} to {story.lowest:.3g} and is back at {story.now:.3g}: the "
            "learning rate is too high."
        )
    return ""


def spiked(story: Story) -> str:
    """Tell a step whose loss stands out from those around it."""
    losses = story.recent[-WINDOW:]
    if len(losses) < WINDOW:
        return ""
    highest = max(losses)
    place = losses.index(highest)
    others = [*losses[:place], *losses[place + 1 :]]
    usual, apart = median(others), _steps_apart(others)
    if highest < SPIKE * usual or highest < usual + max(0.5 * story.first, 8 * apart):
        return ""
    step = story.step + 1 - len(others) + place
    return (
        f"The loss jumped to {highest:.3g} at step {step}, among losses of about {usual:.3g}: clip the gradient "
        "(clip=1), or look at that batch's images."
    )


def dead(story: Story) -> str:
    """Tell rectified units that are 0 on every image, look after look (lecture 6)."""
    return "" if all_dead(story) else _of_dead(story, MOSTLY_DEAD)


def all_dead(story: Story) -> str:
    """Tell a layer of which no unit answers to any image, so that the first layer has no gradient and never will."""
    firsts = [next((each for each in sample.layers.values() if each.trained), None) for sample in story.samples]
    if any(first is None or first.gradient > 0 for first in firsts):
        return ""
    return _of_dead(story, 1.0)


def saturated(story: Story) -> str:
    """Tell sigmoids and tanhs that work at the ends of their range (lecture 6)."""
    found = _twice(story, lambda each: each.saturated is not None and each.saturated >= MOSTLY_SATURATED)
    if not found:
        return ""
    first = next(iter(found.values()))
    return (
        f"{first.saturated:.0%} of the outputs of {some([*found], 1)} are at the ends of their range, where the "
        "gradient is about 0: smaller initial weights (init=xavier), norm=batch, or activation=relu."
    )


def vanished(story: Story) -> str:
    """Tell activations that are the same for every image (lecture 6)."""
    found = _twice(story, lambda each: each.sd < VANISHED and (each.dead is None or each.dead < MOSTLY_DEAD))
    if not found:
        return ""
    first = next(iter(found.values()))
    return (
        f"The outputs of {some([*found], 1)} vary by {first.sd:.1g} over all images, so what comes in is lost on the "
        "way: larger initial weights (init=he), or norm=batch."
    )


def unreached(story: Story) -> str:
    """Tell a first layer whose gradient is nothing beside the others' (lecture 6)."""
    shares = []
    for sample in story.samples:
        sizes = [each.gradient for each in sample.layers.values() if each.trained]
        shares.append(sizes[0] / max(sizes) if len(sizes) > 1 and max(sizes) > 0 else 1.0)
    if len(shares) < 2 or max(shares) >= LEAST_GRADIENT or all_dead(story):
        return ""
    first = next(name for name, each in story.samples[-1].layers.items() if each.trained)
    return (
        f"The gradient of {first} is {shares[-1]:.1g} times the largest of a layer: it vanishes on its way back; use "
        "ReLU with He initialisation, norm=batch, residual connections, or fewer layers."
    )


def still(story: Story) -> str:
    """Tell layers that do not move although they are to be trained and others move."""
    held = [{name for name, each in sample.layers.items() if _held(each)} for sample in story.samples]
    moving = [any(each.update > 0 for each in sample.layers.values()) for sample in story.samples]
    names = sorted(set.intersection(*held)) if len(held) > 1 and all(moving) else []
    if not names:
        return ""
    return (
        f"The weights of {some(names, 1)} do not change although they are to be trained: no gradient reaches "
        "them; look at how they are connected, or declare them frozen (requires_grad = False)."
    )


def too_far(story: Story) -> str:
    """Tell updates that are large beside the weights: the learning rate is too high (lecture 6)."""
    updates = [_update(sample) for sample in story.samples]
    if len(updates) < 2 or min(updates) <= LARGEST_UPDATE:
        return ""
    return (
        f"A step changes the weights by {updates[-1]:.2g} of themselves (about 1e-3 in health): the learning rate is "
        "too high; try a tenth of it."
    )


def too_short(story: Story) -> str:
    """Tell updates that are small beside the weights, and a loss that hardly falls: the rate is too low (lecture 6)."""
    if not story.settled or story.now < 0.9 * story.unlearnt:
        return ""
    updates = [_update(sample) / sample.rate for sample in story.samples if sample.rate >= AWAKE]
    if not updates or max(updates) >= SMALLEST_UPDATE or not max(updates):  # none at all has other reasons
        return ""
    return (
        f"A step changes the weights by {updates[-1]:.1g} of themselves (about 1e-3 in health), and the loss went from "
        f"{story.first:.3g} to {story.now:.3g}: the learning rate is too low; try ten times as much."
    )


def not_started(story: Story) -> str:
    """Tell a loss that stays where it began, or at that of a guess, ln K."""
    late = story.step + 1 >= 2 * max(RECENT, story.epoch)
    if not (late and story.settled) or story.now < story.unlearnt or too_short(story):
        return ""
    classes = story.samples[-1].classes
    guess = f", and a guess among {classes} classes has ln {classes} = {math.log(classes):.3g}" if classes > 1 else ""
    return (
        f"The loss is {story.now:.3g} after {story.step + 1} steps: it was {story.first:.3g} at first{guess}. Nothing "
        "is learnt yet: ask saccade check, and look at the labels, the initial weights and the learning rate."
    )


def plateau(story: Story) -> str:
    """Tell a loss that fell a little and stays there, at a rate that is still high (lecture 6)."""
    if not story.settled or story.step + 1 < 3 * max(RECENT, story.epoch):
        return ""
    found = [each.sentence for each in read_curve(story.curve) if each.kind == "plateau"]
    return found[0] if found else ""


def noisy(story: Story) -> str:
    """Tell losses that jump from step to step by much of themselves and of the first (lecture 7, step 6)."""
    if not story.settled or len(story.recent) < RECENT:
        return ""
    apart, mean = _steps_apart(story.recent), fmean(story.recent)
    if apart < NOISY * mean or apart < 0.2 * story.first:
        return ""
    return (
        f"The loss jumps from step to step by {apart:.2g}, {apart / mean:.0%} of itself: a larger batch or a lower "
        "learning rate would make it smoother."
    )


def overfitted(story: Story) -> str:
    """Tell a validation loss that keeps above its lowest while the training loss goes on falling (lecture 6)."""
    if len(story.held) <= LOOKS:
        return ""
    place = min(range(len(story.held)), key=lambda each: story.held[each][1])
    (training, lowest), late = story.held[place], story.held[-LOOKS:]
    risen = min(validation for _, validation in late)
    if place >= len(story.held) - LOOKS or risen < max(OVERFITTED * lowest, lowest + 0.05 * story.first):
        return ""
    falling = fmean(each for each, _ in late)
    if falling >= training:
        return ""
    return (
        f"The validation loss was lowest at {lowest:.3g} and has been above {risen:.3g} for {LOOKS} looks, while the "
        f"training loss fell from {training:.3g} to {late[-1][0]:.3g}: the network overfits; stop earlier, or add "
        "images, augmentation or weight decay."
    )


RULES: tuple[Rule, ...] = (
    Rule("exploded", "warning", exploded),
    Rule("all dead", "error", all_dead),
    Rule("dead", "warning", dead),
    Rule("saturated", "warning", saturated),
    Rule("vanished", "warning", vanished),
    Rule("gradient", "warning", unreached),
    Rule("still", "warning", still),
    Rule("rate too high", "warning", too_far),
    Rule("rate too low", "warning", too_short),
    Rule("not started", "warning", not_started),
    Rule("plateau", "note", plateau),
    Rule("noise", "note", noisy),
    Rule("spike", "note", spiked),
    Rule("overfitting", "warning", overfitted),
)
"""In the order in which they are told; "exploded" is acted on by going back, an error makes a trial hopeless."""


def _of_dead(story: Story, least: float) -> str:
    found = _twice(story, lambda each: each.dead is not None and each.dead >= least)
    if not found:
        return ""
    first = next(iter(found.values()))
    return (
        f"{first.dead:.0%} of the units of {some([*found], 1)} are 0 on every image: they are dead, and no gradient "
        "passes; a lower learning rate, init=he, or activation=leaky_relu keeps them alive."
    )


def _twice(story: Story, ill: Callable[[Activation], bool]) -> dict[str, Activation]:
    """Return the activations, as last seen, that were ill in both of the newest looks: one may be chance."""
    if len(story.samples) < 2:
        return {}
    before, after = (sample.activations for sample in story.samples[-2:])
    return {name: each for name, each in after.items() if ill(each) and name in before and ill(before[name])}


def _held(layer: Layer) -> bool:
    return layer.trained and layer.update == 0


def _update(sample: Sample) -> float:
    """Return |Δw| / |w| of the median layer; NaN-free, 0 where none is trained."""
    updates = [each.update for each in sample.layers.values() if each.trained]
    return median(updates) if updates else 0.0


def _steps_apart(losses: Sequence[float]) -> float:
    return spread(np.asarray(losses, np.float64))
