"""Synthetic loss curves of each kind are read right, over many seeds; healthy ones are left alone."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.recipe.summary import reading
from saccade.train.reading import read_curve

STEPS = np.arange(120) / 120
Curve = Callable[[np.random.Generator], NDArray[np.float64]]


def noisy(curve: NDArray[np.float64], rng: np.random.Generator, share: float = 0.04) -> NDArray[np.float64]:
    return curve * (1 + share * rng.standard_normal(len(curve)))


CURVES: dict[str, Curve] = {
    "too high": lambda rng: noisy(2.3 + 20 * STEPS**2, rng),
    "not started": lambda rng: noisy(np.full(120, 2.3), rng, 0.005),
    "too low": lambda rng: noisy(2.3 - 0.9 * STEPS, rng, 0.01),
    "plateau": lambda rng: noisy(1.9 + 0.4 * np.exp(-30 * STEPS), rng, 0.003),
    "noise": lambda rng: noisy(0.3 + 2.0 * np.exp(-9 * STEPS), rng, 0.5),
    "": lambda rng: noisy(0.1 + 2.2 * np.exp(-7 * STEPS), rng),
}


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize("seed", range(10))
def test_each_kind_is_read_right(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = {each.kind for each in read_curve(CURVES[kind](rng).tolist())}
    assert found == ({kind} if kind else set())


@pytest.mark.parametrize("seed", range(10))
def test_a_plateau_is_not_told_of_a_curve_too_noisy_to_show_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    falling = 2.1 + 0.2 * np.exp(-20 * STEPS) + 0.03 * (1 - STEPS)
    assert [each.kind for each in read_curve(noisy(falling, rng, 0.025).tolist())] == []


@pytest.mark.parametrize("seed", range(10))
def test_overfitting_is_told_by_the_validation_loss(seed: int) -> None:
    rng = np.random.default_rng(seed)
    epochs = np.arange(30) / 30
    held = noisy(1.2 + 1.1 * np.exp(-9 * epochs), rng, 0.02)
    rising = held + 1.5 * np.maximum(epochs - 0.3, 0)
    training = CURVES[""](rng).tolist()
    assert [each.kind for each in read_curve(training, rising.tolist())] == ["overfitting"]
    assert read_curve(training, held.tolist()) == []


@pytest.mark.parametrize("kind", CURVES)
def test_the_end_of_an_annealed_curve_shows_its_schedule(kind: str) -> None:
    losses = CURVES[kind](np.random.default_rng(0)).tolist()
    found = {each.kind for each in read_curve(losses, annealed=True)}
    assert found == {kind} & {"too high", "not started"}


def line(step: int, loss: float, held: float, accuracy: float) -> dict[str, float]:
    return {
        "step": step, "epoch": float(step), "loss": loss, "validation_loss": held, "validation_accuracy": accuracy
    }  # fmt: skip


def test_the_summary_says_how_it_went_and_what_the_curves_show() -> None:
    falling = [line(step, 2.3 / step, 2.0 / step, 0.1 * step) for step in range(1, 9)]
    assert reading(falling[:2]) == []
    assert reading(falling) == [
        "Validation accuracy went from 10.0% (epoch 1.0) to 80.0% (epoch 8.0).",
        "The validation loss was still about its lowest at the end: no sign of overfitting.",
        "The training loss lies above it because it is measured on changed images and smoothed labels.",
    ]
    rising = [{**each, "validation_loss": 1.0 + abs(each["step"] - 3) / 5} for each in falling]
    assert reading(rising)[1] == (
        "The validation loss was lowest at 1 and has risen to 2: the network overfits; stop there, or add images, "
        "augmentation or weight decay."
    )
    still = [{**each, "loss": 2.3, "validation_loss": 2.3} for each in falling]
    assert "has not begun to fall" in reading(still)[1]


def test_the_sentence_gives_evidence_and_advice() -> None:
    told = read_curve([2.3, 2.2, 2.0, 1.9, 5.0, 9.0, 12.0, 15.0])
    assert [each.sentence for each in told] == [
        "The loss rose from 1.9 to 13.5: the learning rate is too high; try a third of it."
    ]
    assert "stopped being a number" in read_curve([2.3] * 5 + [float("nan")])[0].sentence


def test_a_few_points_are_not_read() -> None:
    assert read_curve([2.3, 9.0], [1.0]) == []
