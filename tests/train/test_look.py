"""A look into a step reads what NumPy computes from it, and changes no bit of the training."""

import hashlib
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.settings import TrainSettings
from saccade.train import Pace, Watch, train
from saccade.train import watch as watching
from saccade.train.look import Look, Sample
from tests.train.test_session import session, settings

X_ND = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
Y_N = torch.arange(40) % 3


class Own(nn.Module):
    """What a user might bring: activations called as functions, a layer that is left out, one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.one, self.two, self.unused = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(2, 2)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        with torch.no_grad():
            self.one.bias[:3] = -100

    def forward(self, x_ND: Tensor) -> Tensor:
        """Return scores (N, 3)."""
        scores_NK: Tensor = self.two(F.relu(self.one(torch.tanh(4 * self.frozen(x_ND)))))
        return scores_NK


def test_a_look_reads_what_numpy_computes() -> None:
    network = Own()
    rule = torch.optim.SGD((each for each in network.parameters() if each.requires_grad), lr=0.3)
    before = {name: each.detach().numpy().astype(np.float64).copy() for name, each in network.named_parameters()}
    look = Look(network)
    with look.seeing():
        loss = F.cross_entropy(network(X_ND), Y_N)
    loss.backward()
    rule.step()
    sample = look.sample(7, 0.5)
    assert sample is not None
    assert (sample.step, sample.rate, sample.classes) == (7, 0.5, 3)
    assert list(sample.layers) == ["one", "two", "unused", "frozen"]
    for name, layer in sample.layers.items():
        old, new = before[f"{name}.weight"], network.get_parameter(f"{name}.weight")
        moved = np.linalg.norm(new.detach().numpy() - old) / np.linalg.norm(old)
        assert layer.update == pytest.approx(moved, rel=1e-4)
        gradient = 0.0 if new.grad is None else float(np.sqrt((new.grad.numpy().astype(np.float64) ** 2).mean()))
        assert layer.gradient == pytest.approx(gradient, rel=1e-4)
        assert layer.trained == (name != "frozen")
    assert (sample.layers["unused"].update, sample.layers["frozen"].update) == (0.0, 0.0)
    [(name, seen)] = sample.activations.items()
    tanh_ND = np.tanh(4 * (X_ND.numpy() @ before["frozen.weight"].T + before["frozen.bias"]))
    relu_ND = np.maximum(tanh_ND @ before["one.weight"].T + before["one.bias"], 0)
    assert name == "Own"
    assert seen.mean == pytest.approx(tanh_ND.mean(), rel=1e-4), "of the first of several"
    assert seen.sd == pytest.approx(min(tanh_ND.std(), relu_ND.std()), rel=1e-4), "and the worst of them"
    assert seen.dead == pytest.approx((relu_ND.max(0) == 0).mean())
    assert seen.saturated == pytest.approx((np.abs(tanh_ND) > 0.96).mean())
    assert Sample.of(sample.plain()) == sample


def test_what_overflows_is_no_sample() -> None:
    network = Own()
    look = Look(network)
    with torch.no_grad():
        network.two.weight.fill_(torch.inf)
    assert look.sample(0, 1.0) is None
    assert Look(nn.ReLU()).sample(0, 1.0) is None, "nothing is trained"


def state_hash(chosen: TrainSettings, *, watched: bool, apart: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the SHA-256 of weights, the optimizer's numbers and the generators after 24 steps."""
    monkeypatch.setattr(watching, "APART", apart)
    monkeypatch.setattr(watching, "LOOKS", tuple(range(3, 24, 2)))
    start = session(chosen)
    torch.manual_seed(0)
    training, watch = start.training(), Watch(epoch=4 if watched else None)
    for _ in train(training, Pace.fixed(24), watch):
        pass
    assert bool(watch.samples) == watched
    content = hashlib.sha256()
    for name, value in [*start.network.state_dict().items(), ("draws", training.draws.get_state()),
                        ("torch", torch.get_rng_state())]:  # fmt: skip
        content.update(name.encode() + value.contiguous().numpy().tobytes())
    for rule in training.optimizer.state_dict():
        content.update(repr([(k, v.sum() if isinstance(v, Tensor) else v) for s in rule["state"].values()
                             for k, v in s.items()]).encode())  # fmt: skip
    return content.hexdigest()


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "convnet"},
        {"model": "convnet", "precision": "bfloat16", "accumulate": 2, "ema": 0.9, "clip": 0.5, "activation": "relu"},
        {"model": "mlp", "optimizer": "adamw", "dropout": 0.3, "activation": "sigmoid"},
        {"model": "torchvision/squeezenet1_1", "size": 32, "optimizer": "momentum"},
    ],
    ids=["convnet", "options", "dropout", "squeezenet"],
)
def test_looking_changes_no_bit(changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(**changed)
    assert state_hash(chosen, watched=True, apart=2, monkeypatch=monkeypatch) == state_hash(
        chosen, watched=False, apart=2, monkeypatch=monkeypatch
    )


def test_a_session_is_looked_into_now_and_then() -> None:
    start = session(settings("convnet"))
    seen = [watch.samples[-1].step for _, _, watch in islice(start.run(Pace.fixed(40)), 40) if watch.samples]
    assert sorted(set(seen)) == [8, 16, 32]
    [sample] = {
        each.step: each for _, _, watch in session(settings("mlp")).run(Pace.fixed(9)) for each in watch.samples
    }.values()
    assert sample.classes == 3
    assert all(1e-5 < each.update < 0.5 for each in sample.layers.values())
    assert [*sample.activations] == ["body.3", "body.6"]


def test_units_are_counted_where_channels_come_last() -> None:
    linear = nn.Linear(3, 4)
    network = nn.Sequential(linear, nn.ReLU())
    nn.init.constant_(linear.bias[:1], -1000.0)
    look = Look(network)
    with look.seeing():
        network(torch.randn(6, 5, 5, 3)).sum().backward()
    sample = look.sample(0, 1.0)
    assert sample is not None
    assert sample.activations["1"].dead == 0.25
