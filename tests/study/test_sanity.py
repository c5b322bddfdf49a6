"""Sanity checks before training: the penalty is the sum it should be, blind networks are named, steps are counted."""

import platform
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.data.batches import ArrayImages, Batch
from saccade.device import release_memory
from saccade.study import sanity
from saccade.study.checks import overfit_handful
from saccade.study.sanity import inputs_matter, penalty_moderate, step_affordable, step_bytes
from saccade.train import Forward, Session
from tests.study.test_checks import X_NHWC, Y_N
from tests.study.test_checks import session as started


def penalty_of(start: Session, batch: Batch) -> Any:
    scores_NK = start.network(start.forward.to_input(batch.x_NHWC)).float().detach()
    return penalty_moderate(start, scores_NK, batch.y_N), scores_NK


@pytest.mark.parametrize(
    ("settings", "l1", "l2"),
    [
        ({"optimizer": "sgd", "weight_decay": 0.01}, 0.0, 0.01),
        ({"optimizer": "adam", "weight_decay": 0.0, "l1": 1e-3, "l2": 0.02}, 1e-3, 0.02),
        ({"optimizer": "adamw", "weight_decay": 0.5, "l2": 0.02}, 0.0, 0.02),
        ({"optimizer": "lbfgs", "weight_decay": 0.03}, 0.0, 0.03),
    ],
    ids=str,
)
def test_the_loss_with_the_penalty_is_that_of_float64(settings: dict[str, Any], l1: float, l2: float) -> None:
    start, batch = started(model="mlp", label_smoothing=0.0, **settings)
    check, scores_NK = penalty_of(start, batch)
    weights = [each.detach().double().numpy() for each in start.network.parameters() if each.ndim > 1]
    added = sum(l1 * np.abs(each).sum() + l2 / 2 * (each**2).sum() for each in weights)
    loss = float(F.cross_entropy(scores_NK.double(), batch.y_N))
    assert check.measured == f"a loss of {loss:.3f} without and {loss + added:.3f} with it"
    assert check.passed


def test_a_penalty_that_drowns_the_loss_is_named_and_none_is_none() -> None:
    check, _ = penalty_of(*started(model="mlp", l2=100.0))
    assert not check.passed
    assert check.advice == (
        "The penalty drowns the loss: lower l1, l2 or weight_decay, or make the initial weights smaller."
    )
    assert penalty_of(*started(model="mlp", optimizer="adamw", weight_decay=0.5))[0] is None


@pytest.mark.parametrize("model", ["convnet", "mlp", "linear"])
def test_a_sound_network_learns_from_its_inputs(model: str) -> None:
    check = inputs_matter(*started(model=model), lambda: 60.0)
    assert check is not None
    assert check.passed, check
    assert check.advice == ""


def test_checks_that_train_draw_nothing_from_the_callers_generator() -> None:
    start, batch = started(model="mlp")
    before = torch.get_rng_state()
    assert inputs_matter(start, batch, lambda: 60.0) is not None
    assert overfit_handful(start, batch, lambda: 60.0) is not None
    assert torch.equal(torch.get_rng_state(), before)


class Blind(nn.Module):
    """A network of which nothing of the input reaches the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return scores (N, 3)."""
        scores_NK: Tensor = self.linear(torch.ones(len(x_NCHW), 4))
        return scores_NK


def test_a_blind_network_is_named_and_a_single_class_is_no_answer() -> None:
    _, batch = started()
    settings = started(optimizer="adam")[0].settings
    blind = Session(Forward.of(Blind(), settings), ArrayImages(X_NHWC, Y_N), ["x"] * len(Y_N), settings)
    check = inputs_matter(blind, batch, lambda: 60.0)
    assert check is not None
    assert not check.passed
    assert check.advice == (
        "The network learns no more from the images than from none: look at what it is given, and whether anything "
        "of it reaches the scores."
    )
    assert inputs_matter(*started(y_N=torch.zeros_like(Y_N)), lambda: 60.0) is None
    assert inputs_matter(blind, batch, lambda: 0.0) is None


def test_the_bytes_of_a_step_are_those_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear layer keeps its input, the loss its log-probabilities; Adam keeps two moments and a count."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(768, 3)

        def forward(self, x_NCHW: Tensor) -> Tensor:
            scores_NK: Tensor = self.linear(x_NCHW.flatten(1))
            return scores_NK

    settings = started(optimizer="adam")[0].settings
    start = Session(Forward.of(Plain(), settings), ArrayImages(X_NHWC, Y_N), ["x"] * len(Y_N), settings)
    parameters, activations = 4 * (768 * 3 + 3), 4 * 32 * (768 + 3)
    assert step_bytes(start) == pytest.approx(4 * parameters + activations, rel=0.02)
    check = step_affordable(start, lambda: 60.0)
    assert check is not None
    assert check.passed
    assert check.measured.endswith("MB at 32 images a step")
    monkeypatch.setattr(sanity, "FREE", 0.0)
    check = step_affordable(start, lambda: 60.0)
    assert check is not None
    assert not check.passed
    assert check.advice == ("A step may not fit into memory: give a smaller --batch-size, or --accumulate 2 or more.")
    assert step_affordable(start, lambda: 0.0) is None


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are not told to keep memory")
def test_what_measuring_a_step_took_is_free_again_when_the_free_memory_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x_NCHW: Tensor) -> Tensor:
            return (x_NCHW.flatten(1).repeat(1, 512)[:, None] * self.weight[:, None]).tanh().mean(-1)

    settings = started()[0].settings
    start = Session(Forward.of(Wide(), settings), ArrayImages(X_NHWC, Y_N), ["x"] * len(Y_N), settings)
    needed, held = step_bytes(start), []

    def looked(_: torch.device) -> int:
        held.append(psutil.Process().memory_info().rss)
        return 2 * needed

    monkeypatch.setattr(sanity, "_free", looked)
    step_affordable(start, lambda: 60.0)  # what is loaded once is
    release_memory()
    before = psutil.Process().memory_info().rss
    check = step_affordable(start, lambda: 60.0)
    assert check is not None
    assert check.passed
    assert needed > 150e6
    assert held[-1] - before < 0.2 * needed
