"""Faults planted in whole trainings are named by the watch; healthy ones of the same length are left alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from saccade import recipe
from saccade.errors import TrainingError
from saccade.events import Event, Finding, listening
from saccade.nn import zoo
from saccade.recipe import network, stages
from saccade.settings import TrainSettings
from saccade.study.search import HopelessError, hopeful
from scripts.healthy import arrays, ask, dead, dense, digits, saturated, session, twice

SHORT = 140


@pytest.mark.parametrize(
    ("build", "changed", "kinds"),
    [
        (lambda: dense(nn.ReLU()), {}, set()),
        (lambda: dense(nn.BatchNorm1d(32), nn.Sigmoid()), {"learning_rate": 3e-3}, set()),
        (dead, {}, {"all dead"}),
        (saturated, {}, {"saturated", "rate too low"}),
        (lambda: dense(nn.ReLU()), {"learning_rate": 1e-6}, {"rate too low"}),
        (lambda: dense(nn.ReLU()), {"learning_rate": 30.0, "warmup": 0.0}, {"went back"}),
    ],
    ids=["healthy", "healthy sigmoids", "dead", "saturated", "rate x 0.001", "rate x 30000"],
)  # fmt: skip
def test_what_goes_wrong_in_a_training_is_named_live(
    build: Callable[[], nn.Module], changed: dict[str, Any], kinds: set[str]
) -> None:
    torch.manual_seed(0)
    found = ask(session(build(), **changed), checks=False, steps=SHORT)
    assert found.watch >= kinds
    assert bool(found.watch) == bool(kinds)


def test_a_trial_of_a_network_that_is_dead_is_stopped() -> None:
    torch.manual_seed(0)
    with pytest.raises(HopelessError, match=r"100% of the units of 3 are 0 on every image"):
        for _ in hopeful(session(dead()), SHORT):
            pass


def test_validation_images_that_are_the_training_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Every training image of .* is also in its validation or test part"):
        recipe.train(twice(tmp_path), TrainSettings(model="linear", epochs=1), out=tmp_path / "run")


def test_a_run_that_goes_back_says_so_and_replays_to_the_same_weights(tmp_path: Path) -> None:
    source = arrays(tmp_path, "digits", digits(400))
    wild: dict[str, Any] = {
        "model": "mlp",
        "norm": "none",
        "optimizer": "sgd",
        "learning_rate": 3.0,
        "warmup": 0.9,
        "width": 0.25,
    }
    settings = TrainSettings(**{"epochs": 15, "size": 16, "batch_size": 32, "flip": False, **wild})
    heard: list[Event] = []
    with listening(heard.append):
        first = recipe.train(source, settings, out=tmp_path / "first")
    details = [event.detail for event in heard if isinstance(event, Finding) and event.kind == "went back"]
    assert details
    assert [each["detail"] for each in first.summary["findings"] if each["kind"] == "went back"] == details
    steps = [line["step"] for line in first.run.history()]
    assert steps == sorted(set(steps)), "what went astray is not in the history"
    last = first.run.history()[-1]
    assert set(last["layers"]) == {"body.1", "body.3", "body.5"}
    assert set(last["activations"]) == {"body.2", "body.4"}
    assert "Change of the weights in a step" in first.run.report.read_text(encoding="utf-8")
    assert details[0].split(".")[0] in first.run.report.read_text(encoding="utf-8")
    again = TrainSettings.load(first.run.network("mlp")).override([f"replay={first.run.path / 'plan.json'}"])
    second = recipe.train(source, again, out=tmp_path / "second")
    saved = [(run.path / "model" / "model.safetensors").read_bytes() for run in (first.run, second.run)]
    assert saved[0] == saved[1]
    assert not any(each["kind"] == "went back" for each in second.summary["findings"])


def test_a_hopeless_network_is_given_up_where_asked_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def build(settings: TrainSettings, classes: int) -> nn.Module:
        lifeless = zoo.build("mlp", classes=classes, side=settings.size or 16, width=0.1)
        nn.init.constant_(lifeless.get_parameter("body.2.bias"), -1000.0)
        return lifeless

    monkeypatch.setattr(zoo, "from_settings", build)
    monkeypatch.setattr(stages, "train_network", partial(network.train_network, stop=True))
    settings = TrainSettings(model="mlp", epochs=12, size=16, batch_size=32, flip=False)
    with pytest.raises(TrainingError, match=r"it was stopped as hopeless\. Step 17: 100% of the units of body\.3"):
        recipe.train(arrays(tmp_path, "digits", digits(300)), settings, out=tmp_path / "run")
