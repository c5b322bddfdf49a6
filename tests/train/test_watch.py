"""The watch names step and images where a loss is no number, and reads the mean of the others right."""

import math

import numpy as np
import pytest
import torch

from saccade.errors import TrainingError
from saccade.train.watch import EVERY, Watch


def names(indices: object) -> list[str]:
    assert isinstance(indices, list)
    return [f"cat/{index}.jpg" for index in indices]


@pytest.mark.parametrize(
    ("values", "became"),
    [
        ({2: math.nan}, "not a number at step 6, on 1 of 6 images (cat/12.jpg)"),
        ({1: math.inf, 4: -math.inf}, "infinite at step 6, on 2 of 6 images (cat/11.jpg, cat/14.jpg)"),
        (
            dict.fromkeys(range(5), math.nan),
            "not a number at step 6, on 5 of 6 images (cat/10.jpg, cat/11.jpg, cat/12.jpg and 2 more)",
        ),
    ],
)
def test_step_and_images_are_named(values: dict[int, float], became: str) -> None:
    watch = Watch(names)
    bad_N = torch.ones(6)
    bad_N[list(values)] = torch.tensor(list(values.values()))
    for step in range(EVERY - 1):
        watch(step, torch.ones(6) if step < 5 else bad_N, torch.arange(10, 16))
    with pytest.raises(TrainingError) as caught:
        watch(EVERY - 1, bad_N, torch.arange(20, 26))
    assert str(caught.value) == f"The loss became {became}; try a lower learning rate, or precision=float32."


def test_a_bad_loss_is_found_at_the_end_too() -> None:
    watch = Watch()
    watch(0, torch.tensor([1.0, math.nan]), torch.tensor([7, 8]))
    with pytest.raises(TrainingError, match=r"at step 1, on 1 of 2 images \(8\); try"):
        watch.read()


@pytest.mark.parametrize("steps", [1, EVERY - 1, EVERY, 3 * EVERY + 2])
def test_means_are_numpys_in_float64(steps: int) -> None:
    draw = torch.Generator().manual_seed(0)
    watch = Watch()
    losses = [5 * torch.rand(16, generator=draw) for _ in range(steps)]
    for step, loss_N in enumerate(losses):
        watch(step, loss_N.requires_grad_(), torch.arange(16))
    means = [float(loss_N.detach().numpy().astype(np.float64).mean()) for loss_N in losses]
    whole = steps - steps % EVERY
    assert watch.latest == (pytest.approx(np.mean(means[whole - EVERY : whole]), rel=1e-12) if whole else None)
    assert watch.mean() == pytest.approx(np.mean(means), rel=1e-12)
    watch(steps, torch.full((4,), 2.5), torch.arange(4))
    assert watch.mean() == 2.5, "only what came since"
    assert watch.mean() == 0.0


def test_losses_that_are_huge_and_finite_do_not_stop_it() -> None:
    watch = Watch()
    watch(0, torch.full((4,), 3e38), torch.arange(4))
    assert watch.mean() == pytest.approx(3e38)
