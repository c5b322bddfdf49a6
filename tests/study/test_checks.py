"""The verdict before training: a sound session passes, planted faults are named with advice."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import nn

from saccade.data.batches import ArrayImages, Batch, Order
from saccade.nn import zoo
from saccade.settings import TrainSettings
from saccade.study.check import Check
from saccade.study.checks import Verdict, checks, initial_loss, overfit_handful
from saccade.study.checks import verdict as full_verdict
from saccade.study.probe import first_updates, probe
from saccade.train import Forward, Session
from tests.photos import photo

SIDE, IMAGES, CLASSES = 16, 64, 3
X_NHWC = torch.from_numpy(np.stack([photo(i % CLASSES, (SIDE, SIDE), seed=i) for i in range(IMAGES)]))
Y_N = torch.arange(IMAGES) % CLASSES


def session(x_NHWC: torch.Tensor = X_NHWC, y_N: torch.Tensor = Y_N, **changed: Any) -> tuple[Session, Batch]:
    plain = {"model": "convnet", "size": SIDE, "batch_size": 32, "flip": False, "device": "cpu"}
    chosen = TrainSettings(**{**plain, "precision": "float32", "width": 0.5, **changed})
    images = ArrayImages(x_NHWC, y_N)
    start = Session.start(chosen, images, x_NHWC, classes=CLASSES, names=[str(i) for i in range(len(y_N))])
    return start, next(images.batches(Order(len(y_N), start.batch_size, 0)))


class Counted(ArrayImages):
    """Images that count the most that were drawn at once."""

    most = 0

    def batches(self, order: Order, first: int = 0) -> Iterator[Batch]:
        """Yield batches, and look at their sizes."""
        for batch in super().batches(order, first):
            self.most = max(self.most, len(batch.y_N))
            yield batch


def verdict(start: Session, batch: Batch) -> dict[str, Check]:
    return {check.name: check for check in checks(start, batch, CLASSES, lambda: 60.0).checks}


class Told(nn.Module):
    """Answers to each batch with the scores (N, K) it was given, whatever the images are."""

    def __init__(self, scores_NK: torch.Tensor) -> None:
        super().__init__()
        self.scores_NK = nn.Parameter(scores_NK)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores_NK.expand(len(x), -1)


def first_loss(scores_NK: torch.Tensor, y_N: torch.Tensor, classes: int, **options: Any) -> Check:
    """Return the check of such a network on all images of these labels as one batch."""
    x_NHWC, smoothing = torch.zeros(len(y_N), 4, 4, 3, dtype=torch.uint8), options.pop("label_smoothing", 0.0)
    chosen = TrainSettings(size=4, batch_size=len(y_N), label_smoothing=smoothing, device="cpu", precision="float32")
    index_N = torch.arange(len(y_N))
    names, images = [str(i) for i in index_N], ArrayImages(x_NHWC, y_N)
    start = Session(Forward.of(Told(scores_NK), chosen), images, names, chosen)
    return initial_loss(start, Batch(x_NHWC, y_N, index_N, index_N), classes, **options)


@pytest.mark.parametrize("model", ["convnet", "mlp"])
def test_a_sound_session_passes_and_is_left_as_it_was(model: str) -> None:
    start, batch = session(model=model)
    before = {name: value.clone() for name, value in start.network.state_dict().items()}
    found = verdict(start, batch)
    assert list(found) == ["initial loss", "overfit a handful"]
    for check in found.values():
        assert check.passed, check
        assert check.advice == ""
    assert found["initial loss"].expected == "about ln 3 = 1.099, as from guessing"
    assert found["overfit a handful"].expected == ("at least 95% of 32 training images learnt by heart within 60 steps")
    assert all(torch.equal(value, before[name]) for name, value in start.network.state_dict().items())


def test_the_first_loss_is_that_of_the_network_in_training_mode() -> None:
    start, batch = session(label_smoothing=0.1)
    with torch.no_grad():
        scores_NK = start.on_trial().network(batch.x_NHWC.permute(0, 3, 1, 2).float())
    expected = float(F.cross_entropy(scores_NK, batch.y_N, label_smoothing=0.1))
    assert float(verdict(start, batch)["initial loss"].measured) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("factor", [1e4, math.nan])
def test_huge_initial_weights_are_named(factor: float) -> None:
    start, batch = session()
    with torch.no_grad():
        start.network[1].head.weight.mul_(factor)  # type: ignore[index]
    check = initial_loss(start, batch, CLASSES)
    assert not check.passed
    assert check.advice == (
        "The untrained network is already sure of wrong answers: look at its initial weights, at the "
        "preprocessing and at the labels before training."
    )
    assert check.measured == "nan" or float(check.measured) > 10


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_network_that_knows_the_labels_is_named_unless_its_head_was_fitted(smoothing: float) -> None:
    y_N = torch.arange(32) % 10
    told = {"label_smoothing": smoothing}
    knows = first_loss(5.0 * F.one_hot(y_N).float(), y_N, 10, **told)
    assert not knows.passed
    assert knows.advice.startswith("The untrained network already knows the labels:")
    assert knows.expected == "about ln 10 = 2.303, as from guessing"
    fitted = first_loss(5.0 * F.one_hot(y_N).float(), y_N, 10, fitted=True, **told)
    assert fitted.passed
    assert fitted.expected == "at most about ln 10 = 2.303, as from guessing: the last layer was fitted to these images"
    assert not first_loss(-50.0 * F.one_hot(y_N).float(), y_N, 10, fitted=True, **told).passed


@pytest.mark.parametrize(("smoothing", "words"), [(0.0, "the"), (0.3, "the smoothed")])
def test_a_guess_by_the_training_priors_is_a_reference_of_its_own(smoothing: float, words: str) -> None:
    y_N, counts_K = torch.tensor([0] * 15 + [1]), np.array([15, 1])
    priors_K = (1 - smoothing) * counts_K / 16 + smoothing / 2
    entropy = scipy.stats.entropy(priors_K)
    guess = first_loss(torch.from_numpy(priors_K).log().float()[None], y_N, 2, label_smoothing=smoothing)
    assert guess.passed
    assert (
        guess.expected
        == f"about ln 2 = 0.693, as from guessing, or {entropy:.3f}, the entropy of {words} training priors"
    )
    assert guess.measured == f"{entropy:.3f}", "no guess costs less"
    assert first_loss(torch.zeros(1, 2), y_N, 2, label_smoothing=smoothing).passed
    wrong = first_loss(torch.tensor([[0.0, 4.0]]), y_N, 2, label_smoothing=smoothing)
    assert not wrong.passed
    assert wrong.advice.startswith("The untrained network is already sure of wrong answers")


@pytest.mark.parametrize(("images", "classes", "sure"), [(8, 2, 1.5), (16, 10, 1.0), (32, 3, 0.5)])
def test_chance_is_not_taken_for_knowledge_of_the_labels(images: int, classes: int, sure: float) -> None:
    draws = torch.Generator().manual_seed(0)
    found = [
        first_loss(
            sure * torch.randn(images, classes, generator=draws),
            torch.randint(classes, (images,), generator=draws),
            classes,
        )
        for _ in range(1000)
    ]
    assert sum(check.advice.startswith("The untrained network already knows") for check in found) <= 3, "0.1 % are 1"


def test_equal_images_with_labels_at_random_are_named() -> None:
    rng = np.random.default_rng(0)
    x_NHWC = X_NHWC[:1].repeat(IMAGES, 1, 1, 1)
    start, batch = session(x_NHWC, torch.from_numpy(rng.integers(0, CLASSES, IMAGES)))
    found = verdict(start, batch)
    assert found["initial loss"].passed
    check = found["overfit a handful"]
    assert not check.passed
    assert check.measured.endswith("after 60 steps")
    assert int(check.measured.split("%")[0]) < 70
    assert check.advice == (
        "The network cannot even memorise a few images: look for equal images with different labels, "
        "a learning rate that is too low or too high, or too small a network."
    )


def handful(start: Session, batch: Batch) -> Check:
    check = overfit_handful(start, batch, lambda: 60.0)
    assert check is not None
    return check


def test_a_rate_that_is_far_too_low_is_named() -> None:
    assert not handful(*session(model="mlp", optimizer="sgd", learning_rate=1e-7)).passed


def test_a_rate_at_which_the_loss_is_no_number_ends_in_a_verdict() -> None:
    start, _ = session(model="mlp", optimizer="sgd", learning_rate=1e30)
    found = {check.name: check for check in full_verdict(start, CLASSES, lambda: 60.0).checks}
    assert not found["learning rate"].passed
    assert "too high" in found["learning rate"].advice
    assert "cost of a step" not in found


def test_labels_at_random_on_different_images_can_be_learnt_by_heart() -> None:
    rng = np.random.default_rng(0)
    assert handful(*session(y_N=torch.from_numpy(rng.integers(0, CLASSES, IMAGES)))).passed


def test_where_time_is_up_there_is_no_verdict() -> None:
    start, batch = session(model="mlp", optimizer="sgd", learning_rate=1e-7)
    assert overfit_handful(start, batch, lambda: 0.0) is None
    found = checks(start, batch, CLASSES, lambda: 0.0)
    assert [check.name for check in found.checks] == ["initial loss"]
    assert found.left_out == ("overfit a handful",)
    assert Verdict.of(json.loads(json.dumps(found.plain()))) == found
    assert checks(start, batch, CLASSES, lambda: 60.0).left_out == ()


DEAR = ("cost of a step", "learning rate", "overfit a handful", "inputs matter", "gradients")
"""The checks that take time, the most wanted first."""


def test_what_time_ran_out_for_is_named_and_no_cheap_check_is_missing() -> None:
    start, _ = session()
    whole, short = full_verdict(start, CLASSES, lambda: math.inf), full_verdict(start, CLASSES, lambda: 0.0)
    names, fewer = [check.name for check in whole.checks], [check.name for check in short.checks]
    assert whole.left_out == ()
    assert whole.rates is not None
    assert names == [*fewer, *DEAR]
    assert short.left_out == DEAR
    assert short.rates is None


def test_the_learning_rate_comes_before_what_is_dearer_and_each_gets_a_share_of_the_time() -> None:
    start, _ = session()
    left = iter(range(600, 0, -1))  # each look at the clock costs a second
    found = full_verdict(start, CLASSES, lambda: float(next(left, 0)))
    assert [check.name for check in found.checks][-len(DEAR) :] == list(DEAR)
    left = iter(range(40, 0, -1))
    found = full_verdict(start, CLASSES, lambda: float(next(left, 0)))
    assert found.left_out[0] == "learning rate", "its share is too short, and only its share is spent"
    assert {"cost of a step", "gradients"} <= {check.name for check in found.checks}


def test_what_was_not_asked_for_is_not_left_out() -> None:
    start, _ = session(model="linear", optimizer="lbfgs", y_N=torch.zeros(IMAGES).long())
    found = full_verdict(start, CLASSES, lambda: 0.0)
    assert found.left_out == ("cost of a step", "overfit a handful", "gradients")


def test_a_handful_is_what_there_is() -> None:
    start, batch = session()
    check = handful(start, replace(batch, x_NHWC=batch.x_NHWC[:6], y_N=batch.y_N[:6]))
    assert check.passed
    assert "of 6 training images" in check.expected


def test_of_lbfgs_no_more_is_drawn_at_once_than_goes_into_memory_and_no_rate_is_asked_for() -> None:
    start, _ = session(model="linear", optimizer="lbfgs", batch_size=8)
    images = Counted(X_NHWC, Y_N)
    found = full_verdict(replace(start, images=images), CLASSES, lambda: 60.0)
    assert images.most == 8
    assert found.rates is None
    assert not {"learning rate", "mixed batches"} & {check.name for check in found.checks}


def test_of_a_batch_in_parts_one_part_alone_is_looked_at() -> None:
    start, batch = session(accumulate=4, l2=1e-3)
    assert len(probe(start, batch).scores_NK) == 8
    shorter = Batch(batch.x_NHWC[:8], batch.y_N[:8], batch.index_N[:8], batch.epoch_N[:8])
    plain, _ = session(l2=1e-3)
    assert initial_loss(start, batch, CLASSES) == initial_loss(plain, shorter, CLASSES)
    left = iter([*[60.0] * 60, *[0.0] * 100_000])  # enough for a few gradients
    found = full_verdict(start, CLASSES, lambda: next(left))
    assert {check.name for check in found.checks} >= {"penalty", "input scale"}


def test_weights_of_the_classes_do_not_count_in_the_first_loss() -> None:
    y_N = (torch.arange(IMAGES) % 16 == 0).long()
    start, batch = session(y_N=y_N, balance="weights")
    plain, _ = session(y_N=y_N)
    rare = torch.arange(IMAGES)[y_N == 1]
    alone = Batch(X_NHWC[rare], y_N[rare], rare, torch.zeros_like(rare))
    assert initial_loss(start, alone, 2) == initial_loss(plain, alone, 2)
    assert initial_loss(start, batch, 2).passed


def test_layers_that_thaw_late_are_seen_learning() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)]
    trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = zoo.transferred(trunk, classes=CLASSES, side=SIDE)
    nn.init.normal_(zoo.body(network).head.weight)  # type: ignore[union-attr, arg-type]
    chosen = TrainSettings(size=SIDE, batch_size=32, flip=False, device="cpu", precision="float32", thaw=1.0)
    start = Session(Forward.of(network, chosen), ArrayImages(X_NHWC, Y_N), [str(i) for i in range(IMAGES)], chosen)
    assert all(not torch.equal(before, after) for before, after in first_updates(start).values())


def test_a_verdict_on_a_network_that_drops_units_repeats_and_draws_nothing_from_the_callers_generator() -> None:
    start, batch = session(model="mlp", dropout=0.5)
    before, told = torch.get_rng_state(), []
    for _ in range(2):
        both = (full_verdict(start, CLASSES, lambda: 60.0), checks(start, batch, CLASSES, lambda: 60.0))
        told.append([[each.measured for each in found.checks if each.name == "initial loss"] for found in both])
        torch.rand(3)
    assert told[0] == told[1]
    torch.set_rng_state(before)
    checks(start, batch, CLASSES, lambda: 60.0)
    full_verdict(start, CLASSES, lambda: 60.0)
    assert torch.equal(torch.get_rng_state(), before)
