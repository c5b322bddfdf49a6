"""`train`: the same bits for any number of workers, a user's epochs kept, faults named."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from saccade import recipe
from saccade.classifiers import NetworkClassifier
from saccade.errors import ModelError, RunError, SettingError, TrainingError
from saccade.events import Event, Finding, StageEnded, listening
from saccade.files import read_json
from saccade.recipe import contest, network
from saccade.recipe.material import parts_of
from saccade.recipe.network import paced, start
from saccade.recipe.plan import Plan
from saccade.run import Run
from saccade.settings import TrainSettings
from saccade.train import Clock
from tests.conftest import Saccade
from tests.photos import photo_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of photos of many sizes in three classes."""
    return photo_folder(tmp_path_factory.mktemp("source") / "photos", 24)


def weights(photos: Path, out: Path, **settings: Any) -> str:
    """Train two epochs and return the hash of the saved weights."""
    recipe.train(photos, TrainSettings(**{"epochs": 2, "size": 32, "seed": 3, **settings}), out=out)
    return hashlib.sha256((out / "model" / "model.safetensors").read_bytes()).hexdigest()


def test_weights_are_the_same_to_the_bit_with_any_number_of_workers(photos: Path, tmp_path: Path) -> None:
    held = {weights(photos, tmp_path / f"held-{workers}", workers=workers) for workers in (0, 2)}
    streamed = {weights(photos, tmp_path / f"streamed-{workers}", workers=workers, memory=0.0) for workers in (0, 2)}
    assert len(held | streamed) == 1
    assert weights(photos, tmp_path / "seed", seed=4) not in held


def test_random_crops_are_the_same_by_the_command_and_with_any_number_of_workers(
    saccade: Saccade, photos: Path, tmp_path: Path
) -> None:
    given = "--epochs 2 --size 32 --seed 3 --random-crops 0.3 --workers 2".split()
    done = saccade("train", photos, *given, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert Run.open(tmp_path / "run").read_settings()["random_crops"] == 0.3
    saved = hashlib.sha256((tmp_path / "run" / "model" / "model.safetensors").read_bytes()).hexdigest()
    assert saved == weights(photos, tmp_path / "same", random_crops=0.3, workers=0, memory=0.0)
    assert saved != weights(photos, tmp_path / "smaller", random_crops=0.1)
    assert saved != weights(photos, tmp_path / "whole")


@pytest.mark.parametrize("model", ["linear", "mlp", "torchvision/squeezenet1_1"])
def test_every_family_trains_and_saves(photos: Path, tmp_path: Path, model: str) -> None:
    result = recipe.train(photos, TrainSettings(model=model, epochs=1, size=32), out=tmp_path / "run")
    assert result.summary["network"]["name"] == model
    history = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert history[-1]["epoch"] == pytest.approx(1.0, abs=0.5)
    assert result.summary["chosen"] == model


def test_one_step_learns_and_its_rate_is_recorded(photos: Path, tmp_path: Path) -> None:
    settings = TrainSettings(model="mlp", epochs=1, size=16, batch_size=1000, optimizer="sgd", learning_rate=0.01)
    result = recipe.train(photos, settings, out=tmp_path / "run")
    assert [line["learning_rate"] for line in result.run.history()] == [0.01]


def test_a_rate_that_is_far_too_high_ends_with_step_and_images(photos: Path, tmp_path: Path) -> None:
    settings = TrainSettings(model="mlp", optimizer="sgd", learning_rate=1e30, epochs=20, size=16)
    told = r"The loss became infinite after step \d+, on .* images.*lower learning rate"
    with pytest.raises(TrainingError, match=told):
        recipe.train(photos, settings, out=tmp_path / "run")


def test_an_unknown_network_or_device_writes_nothing(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'There is no network "convnt"\. Did you mean "convnet"\?'):
        recipe.train(photos, TrainSettings(model="convnt", epochs=1), out=tmp_path / "run")
    with pytest.raises(SettingError, match=r'Device "cuda:7" is not available'):
        recipe.train(photos, TrainSettings(epochs=1, device="cuda:7"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_cannot_take_the_size_says_so(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot take images of 16 x 16 pixels .* give another size"):
        recipe.train(photos, TrainSettings(model="torchvision/alexnet", epochs=1, size=16), out=tmp_path / "run")


def test_a_slow_machine_is_given_smaller_images(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = contest.speed
    monkeypatch.setattr(contest, "speed", lambda *given: (measured(*given)[0], 100.0))
    assert recipe.train(photos, TrainSettings(budget=8), out=tmp_path / "timed").summary["network"]["size"] == 16
    plan = read_json(tmp_path / "timed" / "plan.json")
    assert "megapixels a second" in [each["what"] for each in plan["decisions"]]
    assert recipe.train(photos, TrainSettings(epochs=1), out=tmp_path / "counted").summary["network"]["size"] == 40


def test_a_fast_machine_is_given_a_wider_network(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = contest.speed
    monkeypatch.setattr(contest, "speed", lambda *given: (measured(*given)[0], 1e9))

    def network(name: str, **settings: Any) -> dict[str, Any]:
        told: dict[str, Any] = recipe.train(photos, TrainSettings(**settings), out=tmp_path / name).summary["network"]
        return told

    wide = network("timed", budget=30)
    assert (wide["size"], wide["settings"]["width"]) == (40, 2.0)
    decided = {each["what"]: each["why"] for each in read_json(tmp_path / "timed" / "plan.json")["decisions"]}
    assert "images of 40 px could be trained on at a width of 1" in decided["width"]
    counted, given = network("counted", epochs=1), network("given", budget=30, width=0.5)
    assert counted["settings"]["width"] == 1.0
    assert given["settings"]["width"] == 0.5
    assert given["parameters"] < counted["parameters"] < wide["parameters"] / 3


def test_what_is_given_is_not_measured_and_what_is_not_is_measured_at_it(photos: Path, tmp_path: Path) -> None:
    def measured(name: str, **settings: Any) -> list[str]:
        recipe.train(photos, TrainSettings(budget=20, size=16, **settings), out=tmp_path / name)
        decided = read_json(tmp_path / name / "plan.json")["decisions"]
        return [each["why"] for each in decided if each["what"] == "megapixels a second"]

    assert measured("linear", model="linear") == []
    assert measured("wide", width=1.0) == []
    assert measured("open") == ["convnet, measured at 16 px"]


def test_a_check_that_there_was_no_time_for_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "CHECK_SHARE", 0.0)
    heard: list[Event] = []
    settings = TrainSettings(model="mlp", width=0.1, size=8, flip=False, budget=8)
    with listening(heard.append):
        result = recipe.train(photos, settings, out=tmp_path / "run")
    assert [check["name"] for check in result.summary["checks"]] == ["initial loss"]
    assert read_json(tmp_path / "run" / "summary.json")["left_out"] == ["overfit a handful"]
    [checking] = [each for each in heard if isinstance(each, StageEnded) and each.stage == "check"]
    assert checking.outcome == "initial loss passed; overfit a handful left out for lack of time"
    page = result.run.report.read_text()
    assert "Left out for lack of time: overfit a handful. Give a longer <code>--budget</code> than 8" in page


def test_where_the_time_is_up_before_anything_is_planned_it_says_so(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="The budget left no time to train a network; give a longer one"):
        recipe.train(photos, TrainSettings(budget=1), out=tmp_path / "run", clock=Clock(1, spent=30))


def test_more_parts_than_images_have_pairs_are_as_many_as_they_have(photos: Path, tmp_path: Path) -> None:
    settings = TrainSettings(model="mlp", batch_size=16, accumulate=16, epochs=1, size=16)
    assert recipe.train(photos, settings, out=tmp_path / "run").summary["network"]["steps"] > 1


def test_a_budgeted_run_equals_a_replay_of_its_recorded_plan(photos: Path, tmp_path: Path) -> None:
    first = recipe.train(photos, TrainSettings(budget=20, size=32), out=tmp_path / "first")
    settings = TrainSettings.load(first.run.network("convnet")).override([f"replay={first.run.path / 'plan.json'}"])
    second = recipe.train(photos, settings, out=tmp_path / "second")
    assert first.summary["network"]["steps"] == second.summary["network"]["steps"] > 1
    saved = [(run / "model" / "model.safetensors").read_bytes() for run in (tmp_path / "first", tmp_path / "second")]
    assert saved[0] == saved[1]


def test_a_replay_needs_a_plan_with_recorded_steps(photos: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"paces": {}}')
    with pytest.raises(SettingError, match=r"is not a plan\.json with recorded steps of convnet; give that of a run"):
        recipe.train(photos, TrainSettings(size=16, replay=str(plan)), out=tmp_path / "run")
    with pytest.raises(SettingError, match=r"^The plan nope\.json does not exist; give the plan\.json of a run"):
        recipe.train(photos, TrainSettings(size=16, replay="nope.json"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_steps_are_whole_and_that_is_said_where_it_changes_the_epochs(photos: Path, tmp_path: Path) -> None:
    chosen = TrainSettings(model="linear", size=8, batch_size=40, flip=False)
    images = len(parts_of(photos, chosen).train)
    heard: list[Event] = []
    with listening(heard.append):
        recipe.train(photos, chosen.override(["epochs=2"]), out=tmp_path / "uneven")
        recipe.train(photos, chosen.override(["epochs=2", "batch_size=1"]), out=tmp_path / "even")
    uneven, even = [each.outcome for each in heard if isinstance(each, StageEnded) and each.stage == "train"]
    steps = round(2 * images / 40)
    assert uneven.startswith(
        f"{steps} steps, {steps * 40 / images:.1f} epochs, the nearest to 2 in whole steps of 40 images"
    )
    assert even.split(";")[0] == f"{2 * images} steps, 2.0 epochs"


def test_a_batch_of_all_images_is_recorded_and_goes_on_as_it_was_given(photos: Path, tmp_path: Path) -> None:
    chosen = TrainSettings(model="linear", size=8, batch_size="all", epochs=3, flip=False)
    images = len(parts_of(photos, chosen).train)
    result = recipe.train(photos, chosen, out=tmp_path / "run")
    network, plan = result.summary["network"], read_json(tmp_path / "run" / "plan.json")
    assert (network["steps"], network["epochs"]) == (3, 3.0)
    assert [each["value"] for each in plan["decisions"] if each["what"] == "batch_size"] == [images]
    assert TrainSettings.load(tmp_path / "run" / "settings.yaml").batch_size == "all"
    recipe.train(photos, chosen, out=tmp_path / "run", resume=True)
    with pytest.raises(RunError, match=r"was begun with batch_size=all, and batch_size=8 was given"):
        recipe.train(photos, chosen.override(["batch_size=8"]), out=tmp_path / "run", resume=True)


def test_lbfgs_goes_on_as_long_as_a_budget_lasts_and_says_where_it_ended_too_early(
    photos: Path, tmp_path: Path
) -> None:
    chosen = TrainSettings(model="linear", optimizer="lbfgs", size=8, batch_size=16, flip=False, views=False)
    parts = parts_of(photos, chosen)
    plan = Plan(Run.create(tmp_path / "timed", "photos"), Clock(1000.0), 0)
    _, pace = paced(start(parts.train, chosen), parts, plan)
    assert pace.steps > 60
    heard: list[Event] = []
    with listening(heard.append):
        recipe.train(photos, chosen.override(["epochs=2"]), out=tmp_path / "short")
    [checked] = [each.outcome for each in heard if isinstance(each, StageEnded) and each.stage == "check"]
    assert all(each.endswith((" passed", " failed")) for each in checked.split("; "))
    assert ", " not in checked
    [outcome] = [each.outcome for each in heard if isinstance(each, StageEnded) and each.stage == "train"]
    assert outcome.startswith("2 steps, 2.0 epochs; the loss would still fall: the largest derivative is ")


@pytest.mark.parametrize(("model", "rate", "clean"), [("mlp", 0.01, True), ("convnet", None, False)])
def test_of_overfitting_a_run_says_at_its_end_what_the_finished_curve_shows(
    model: str, rate: float | None, clean: bool, tmp_path: Path
) -> None:
    """Noise, learnt by heart: the one network's validation loss falls again to where it was, the other's stays high."""
    rng, noise = np.random.default_rng(0), tmp_path / "noise"
    for number in range(120):
        folder = noise / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    heard: list[Event] = []
    settings = TrainSettings(model=model, epochs=40, size=16, flip=False, views=False, learning_rate=rate, device="cpu")
    with listening(heard.append):
        summary = recipe.train(noise, settings, out=tmp_path / "run").summary
    overfits = "the network overfits; stop"
    assert any(isinstance(event, Finding) and overfits in event.detail for event in heard), "told while it was so"
    advice = [step["text"] for step in summary["next"]["advice"]]
    findings = [each["detail"] for each in Run(tmp_path / "run").read("findings")]
    says = [any(overfits in each for each in told) for told in (summary["warnings"], advice, findings)]
    assert says == [not clean] * 3
    healthy = "The validation loss was still about its lowest at the end: no sign of overfitting."
    assert (healthy in summary["reading"]) == clean


def test_the_notes_own_choices_make_a_network_that_learns(tmp_path: Path) -> None:
    """The command that docs/convnet.md gives, on few images."""
    text = (Path(__file__).parents[2] / "docs" / "convnet.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^saccade train SOURCE (.*?)^```", text, re.MULTILINE | re.DOTALL)
    given = {name.replace("-", "_"): value for name, value in re.findall(r"--([a-z-]+) (\S+)", command)}
    settings = TrainSettings.model_validate({**given, "epochs": 2, "width": 0.25, "size": 8, "device": "cpu"})
    done = recipe.train("digits", settings, out=tmp_path / "run")
    assert done.summary["validation"]["accuracy"] > 0.5
    classifier = done.model.members[0].classifier
    assert isinstance(classifier, NetworkClassifier)
    modules = {type(module).__name__ for module in classifier.forward_.network.modules()}
    assert "ReLU" in modules
    assert not {"SiLU", "Dropout"} & modules
    written = TrainSettings.load(done.run.path / "settings.yaml")
    assert TrainSettings.model_validate(given).model_dump(include=set(given)) == written.model_dump(include=set(given))
