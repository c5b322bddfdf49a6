"""Planted faults are each named before training by the check made for them; sound networks pass all."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from saccade.data.batches import ArrayImages, Batch, Order
from saccade.nn import zoo
from saccade.nn.layers import WhiteningConv
from saccade.settings import TrainSettings
from saccade.study.checks import Verdict, gradients, verdict
from saccade.study.faults import labels_in_place, mixed, parts_apart
from saccade.train import Forward, Session

DIGITS = load_digits()
X_NHWC = torch.from_numpy(
    (DIGITS.images[:600] * 15.9).astype(np.uint8)[..., None].repeat(3, axis=3).repeat(2, axis=1).repeat(2, axis=2)
)
Y_N = torch.from_numpy(DIGITS.target[:600].astype(np.int64))
PIXELS = 3 * 16 * 16


class Scale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 75.0) / 95.0


def dense(*middle: nn.Module, scaled: bool = True) -> nn.Sequential:
    first = [Scale()] if scaled else []
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(PIXELS, 32), *middle, nn.Linear(32, 10))


class Sorted(ArrayImages):
    """Images in the order of their classes, whatever order is asked for."""

    def batches(self, order: Order, first: int = 0) -> Iterator[Batch]:
        by_class = self.y_N.argsort(stable=True)
        for step, batch in enumerate(super().batches(order, first)):
            start = step * order.batch_size % len(by_class)
            index_N = by_class[start : start + order.batch_size]
            yield Batch(self.x_NHWC[index_N], self.y_N[index_N], index_N, batch.epoch_N[: len(index_N)])


class AlwaysTraining(nn.Sequential):
    def train(self, mode: bool = True) -> "AlwaysTraining":
        super().train(True)
        return self


def session(network: nn.Module, images: type[ArrayImages] = ArrayImages, **changed: Any) -> Session:
    plain = {"size": 16, "batch_size": 32, "flip": False, "device": "cpu", "precision": "float32", "optimizer": "adam"}
    settings = TrainSettings(**{**plain, **changed})
    return Session(Forward.of(network, settings), images(X_NHWC, Y_N), [str(i) for i in range(len(Y_N))], settings)


def ask(start: Session, **options: Any) -> Verdict:
    left = iter([*[60.0] * 60, *[0.0] * 100_000])  # enough for a few gradients, then none for the range test
    return verdict(start, 10, lambda: next(left), **options)


def failed(start: Session, **options: Any) -> set[str]:
    return {check.name for check in ask(start, **options).checks if not check.passed}


def healthy() -> nn.Module:
    return dense(nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2))


def zeros() -> nn.Module:
    network = dense(nn.ReLU())
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def dead() -> nn.Module:
    network = dense(nn.ReLU())
    nn.init.constant_(network[2].bias, -1000.0)  # type: ignore[arg-type]
    return network


def saturated() -> nn.Module:
    layers = [part for _ in range(20) for part in (nn.Linear(32, 32), nn.Sigmoid())]
    for layer in layers[::2]:
        nn.init.normal_(layer.weight, std=5.0)  # type: ignore[arg-type]
    return dense(nn.Sigmoid(), *layers)


def vanishing() -> nn.Module:
    return dense(nn.Sigmoid(), *[part for _ in range(20) for part in (nn.Linear(32, 32), nn.Sigmoid())])


def frozen() -> nn.Module:
    network = dense(nn.ReLU())
    network[2].requires_grad_(False)
    return network


PLANTED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "pixels of 0 to 255": (lambda: dense(nn.ReLU(), scaled=False), "input scale"),
    "zero initialisation": (zeros, "initial weights"),
    "dead ReLUs": (dead, "live units"),
    "saturated sigmoids at depth 20": (saturated, "unsaturated units"),
    "vanishing gradient at depth 20": (vanishing, "gradient flow"),
    "a frozen layer": (frozen, "every layer learns"),
    "softmax twice": (lambda: nn.Sequential(dense(nn.ReLU()), nn.Softmax(1)), "scores"),
    "batch norm in training mode": (
        lambda: AlwaysTraining(*dense(nn.BatchNorm1d(32), nn.ReLU())),
        "independent predictions",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_named_with_advice(fault: str) -> None:
    torch.manual_seed(0)
    build, name = PLANTED[fault]
    found = {check.name: check for check in ask(session(build())).checks}
    assert not found[name].passed
    assert found[name].advice


def test_batches_sorted_by_class_are_named() -> None:
    torch.manual_seed(0)
    assert failed(session(healthy(), Sorted)) >= {"mixed batches"}


@pytest.mark.parametrize("seed", range(3))
def test_a_sound_network_passes_all(seed: int) -> None:
    torch.manual_seed(seed)
    assert failed(session(healthy())) == set()


def test_grey_images_even_areas_and_constant_channels_are_no_wrong_gradient() -> None:
    torch.manual_seed(0)
    network = zoo.build("convnet", classes=10, side=16, width=0.1)
    whitening = next(each for each in network.modules() if isinstance(each, WhiteningConv))
    whitening.fit(X_NHWC.permute(0, 3, 1, 2) / 95.0)
    start = session(nn.Sequential(Scale(), network).eval())
    batch = next(start.images.batches(Order(600, 32, 0)))
    check = gradients(start, batch, lambda: math.inf)
    assert check is not None
    assert check.passed, check.measured
    assert not start.network.training


def test_what_is_declared_frozen_may_be() -> None:
    torch.manual_seed(0)
    assert "every layer learns" in failed(session(frozen()))
    assert "every layer learns" not in failed(session(frozen()), declared=["2"])


def test_labels_shifted_by_one_are_named() -> None:
    x_NHWC, y_N = X_NHWC.numpy(), Y_N.numpy()
    places = np.arange(len(y_N))
    sound = labels_in_place(x_NHWC, places, dict(enumerate(y_N.tolist())))
    assert sound is not None
    assert sound.passed
    check = labels_in_place(x_NHWC, places, dict(enumerate(np.roll(y_N, 1).tolist())))
    assert check is not None
    assert not check.passed
    assert "each image fits the label 1 place further on" in check.advice


@pytest.mark.parametrize("seed", range(5))
def test_labels_at_random_or_in_turn_are_not_called_shifted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for labels_N in (rng.integers(0, 10, 600), np.arange(600) % 10, np.sort(rng.integers(0, 10, 600))):
        check = labels_in_place(X_NHWC.numpy(), np.arange(600), dict(enumerate(labels_N.tolist())), seed=seed)
        assert check is None or check.passed


def test_validation_images_among_the_training_images_are_counted() -> None:
    assert parts_apart(["a", "b"], ["c"]).passed
    check = parts_apart(["a", "b"], ["b", "c"])
    assert not check.passed
    assert check.measured == "1 of 2 are training images"


def test_shuffled_labels_are_mixed_however_rare_a_class_is() -> None:
    rng = np.random.default_rng(0)
    for shares in ([0.5, 0.5], [0.9, 0.1], [0.1] * 10):
        labels_N = rng.choice(len(shares), 256, p=shares)
        check = mixed(labels_N, 16)
        assert check is not None
        assert check.passed
        sorted_check = mixed(np.sort(labels_N), 16)
        assert sorted_check is not None
        assert not sorted_check.passed
