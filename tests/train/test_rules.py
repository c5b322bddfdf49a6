"""Each rule of the watch names a synthetic training of its kind, with the numbers, and leaves healthy ones alone."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from saccade.train.look import Activation, Layer, Sample
from saccade.train.rules import RULES, Story

RNG = np.random.default_rng(0)
LN_10 = math.log(10)


def sample(step: int = 128, *, rate: float = 1.0, relu: dict[str, Any] | None = None, **layers: float) -> Sample:
    """Return a look in which layers move by so much of themselves, all well otherwise."""
    moved = {name: Layer(0.01, update) for name, update in ({"first": 1e-3, "last": 2e-3} | layers).items()}
    activations = {
        "relu": Activation(**{"mean": 0.4, "sd": 0.6, "dead": 0.1, **(relu or {})}),
        "tanh": Activation(0, 0.5),
    }
    return Sample(step, rate, 10, moved, activations)


def losses(level: float, spread: float = 0.05, count: int = 64) -> list[float]:
    return [level * (1 + spread * value) for value in RNG.standard_normal(count).tolist()]


HEALTHY = Story(
    step=191,
    epoch=20,
    recent=losses(0.7),
    curve=(0.6 + 1.7 * np.exp(-np.arange(192) / 30) + 0.05 * RNG.standard_normal(192)).tolist(),
    first=2.31,
    lowest=0.65,
    samples=(sample(128), sample(192)),
    held=[(2.3 / epoch, 2.0 / epoch + 0.3) for epoch in range(1, 10)],
)


def both(**changed: Any) -> Story:
    """Return a healthy story whose newest two looks were both so."""
    return replace(HEALTHY, samples=(sample(128, **changed), sample(192, **changed)))


def gradients(first: float, last: float) -> Story:
    layers = {"first": Layer(first, 1e-3), "last": Layer(last, 1e-3)}
    return replace(HEALTHY, samples=[replace(each, layers=layers) for each in HEALTHY.samples])


def dead_and_cut_off() -> Story:
    layers = {"first": Layer(0.0, 1e-6), "last": Layer(0.1, 1e-3)}
    return replace(HEALTHY, samples=[replace(each, layers=layers) for each in both(relu={"dead": 1.0}).samples])


STORIES: dict[str, tuple[str, Story, str]] = {
    "rising": ("exploded", replace(HEALTHY, recent=losses(9.0)), "rose from 2.31 to"),
    "back at the start": ("exploded", replace(HEALTHY, recent=losses(2.3)), "had fallen from 2.31 to 0.65 and is back"),
    "half dead": ("dead", both(relu={"dead": 0.62}), "62% of the units of relu are 0 on every image"),
    "cut off": ("all dead", dead_and_cut_off(), "100% of the units of relu are 0 on every image"),
    "saturated": ("saturated", both(relu={"dead": None, "saturated": 0.94}), "94% of the outputs of relu"),
    "constant": ("vanished", both(relu={"sd": 2e-5}), "The outputs of relu vary by 2e-05"),
    "vanishing": ("gradient", gradients(1e-12, 0.1), "The gradient of first is 1e-11 times"),
    "still": ("still", both(first=0.0), "The weights of first do not change"),
    "far": ("rate too high", both(first=0.9, last=2.0), "changes the weights by 1.4 of themselves"),
    "short": (
        "rate too low",
        replace(both(first=1e-6, last=2e-6), recent=losses(2.3, 0.01), lowest=2.29),
        "changes the weights by 2e-06 of themselves",
    ),
    "at ln K": ("not started", replace(HEALTHY, recent=losses(2.302, 0.01), lowest=2.3), "ln 10 = 2.3"),
    "from above to ln K": (
        "not started", replace(HEALTHY, first=45.0, recent=losses(2.302, 0.01), lowest=23.0), "was 45 at first"
    ),
    "flat": (
        "plateau",
        replace(
            HEALTHY, recent=losses(1.9, 0.003), lowest=1.89,
            curve=(1.9 + 0.4 * np.exp(-np.arange(192) / 6) + 0.006 * RNG.standard_normal(192)).tolist(),
        ),
        "and stays there",
    ),
    "jumping": ("noise", replace(HEALTHY, recent=losses(1.4, 0.6)), "The loss jumps from step to step by"),
    "one step": (
        "spike", replace(HEALTHY, recent=[*losses(0.7)[:-5], 4.2, *losses(0.7)[:4]]), "jumped to 4.2 at step 188"
    ),
    "memorising": (
        "overfitting",
        replace(HEALTHY, held=[(1.5, 1.6), (1.0, 1.2), (0.7, 1.3), (0.5, 1.5), (0.3, 1.6), (0.2, 1.8)]),
        "lowest at 1.2 and has been above 1.5 for 3 looks, while the training loss fell from 1 to 0.2",
    ),
}  # fmt: skip


def told(story: Story) -> dict[str, str]:
    return {rule.kind: found for rule in RULES if (found := rule.reads(story))}


@pytest.mark.parametrize("name", STORIES)
def test_a_training_gone_wrong_is_named_with_the_evidence(name: str) -> None:
    kind, story, evidence = STORIES[name]
    found = told(story)
    assert evidence in found[kind]
    assert set(found) <= {kind, "not started", "plateau"}, "what follows from it may be told too, and nothing else"


def test_every_rule_has_a_training_that_it_names() -> None:
    assert {rule.kind for rule in RULES} == {kind for kind, _, _ in STORIES.values()}


def test_a_healthy_training_is_left_alone() -> None:
    assert told(HEALTHY) == {}


@pytest.mark.parametrize(
    "story",
    [
        replace(both(relu={"dead": 0.9}), samples=(sample(128), sample(192, relu={"dead": 0.9}))),
        replace(
            HEALTHY, recent=losses(2.302, 0.01), lowest=2.3, samples=(sample(128, rate=0.1), sample(192, rate=0.1))
        ),
        replace(HEALTHY, recent=losses(2.302, 0.01)[:3], step=2, samples=(), held=()),
        replace(HEALTHY, held=[(1.5, 1.6), (1.0, 1.2), (0.7, 1.5)]),
        replace(HEALTHY, held=[(1.5, 1.6), (1.0, 1.2), (0.7, 1.5), (0.6, 1.21), (0.5, 1.6)]),
        replace(HEALTHY, recent=losses(0.02, 1.0)),
        Story(step=8, epoch=3, recent=[2.3] * 9),
    ],
    ids=["dead once", "warming up", "just begun", "few looks", "one bad look", "small numbers", "nothing seen"],
)
def test_chance_and_the_schedule_are_not_named(story: Story) -> None:
    assert told(story) == {}
