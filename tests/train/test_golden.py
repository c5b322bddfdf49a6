"""Golden losses: the first twenty of five short runs, stored, must not drift.

Written by `python -m tests.train.test_golden`, to be run, and the difference explained, only where a
change is meant to alter what training computes.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.settings import TrainSettings
from saccade.train import Pace
from tests.train.test_session import SIDE, session, settings

STORED = Path(__file__).with_name("golden.json")
RUNS: dict[str, TrainSettings] = {
    "linear-sgd": settings("linear", optimizer="sgd", schedule="step", learning_rate=0.01),
    "mlp-nesterov": settings("mlp", optimizer="nesterov", schedule="cosine"),
    "mlp-options": settings("mlp", optimizer="adam", accumulate=2, clip=1.0, ema=0.9, balance="weights"),
    "convnet-muon": settings("convnet"),
    "squeezenet-adamw": settings("torchvision/squeezenet1_1", size=2 * SIDE, optimizer="adamw", schedule="one_cycle"),
}
CLOSE = {"convnet-muon": 0.05, "squeezenet-adamw": 0.01}
"""Relative; 1e-3 where it is not said. Other processors round sums otherwise, Muon rounds to bfloat16 on some,
and AdamW's first steps are of one length however small the gradients."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def losses(chosen: TrainSettings) -> list[float]:
    return [watch.mean() for _, _, watch in session(chosen).run(Pace.fixed(20))]


@pytest.mark.parametrize("name", RUNS)
def test_the_first_losses_are_those_stored(name: str) -> None:
    stored: dict[str, Any] = json.loads(STORED.read_text())
    assert stored.keys() == RUNS.keys()
    assert losses(RUNS[name]) == pytest.approx(stored[name], rel=CLOSE.get(name, 1e-3))


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden = {name: [round(loss, 7) for loss in losses(chosen)] for name, chosen in RUNS.items()}
    STORED.write_text(json.dumps(golden, indent=1) + "\n")
