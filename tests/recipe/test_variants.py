"""One network with each of several settings: a run each, equal to one trained alone, and a page of all."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade import recipe
from saccade.cli import main
from saccade.cli.summary import variants_text
from saccade.errors import ModelError, RunError, SettingError, TrainingError
from saccade.events import Event, Finding, Progress, StageEnded, listening
from saccade.run import Run
from saccade.settings import TrainSettings
from tests.conftest import Saccade
from tests.photos import photo_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of photos in three classes."""
    return photo_folder(tmp_path_factory.mktemp("source") / "photos", 24)


SETTINGS = TrainSettings(model="mlp", epochs=2, size=16, width=0.05, batch_size=8)


def test_each_is_the_run_it_would_be_alone_and_one_that_fails_does_not_end_the_others(
    photos: Path, tmp_path: Path
) -> None:
    variants = SETTINGS.override(["optimizer=sgd", "norm=none"]).variants(["learning_rate=0.01,1e30", "depth=2,3"])
    compared = recipe.train_each(photos, variants, out=tmp_path / "each")
    names = [f"learning_rate={rate} depth={depth}" for rate in ("0.01", "1e30") for depth in (2, 3)]
    assert [run["name"] for run in compared["runs"]] == names
    first, _, failed, _ = compared["runs"]
    alone = recipe.train(photos, variants[names[0]], out=tmp_path / "alone")
    weights = [Path(run, "model", "model.safetensors").read_bytes() for run in (first["run"], alone.run.path)]
    assert weights[0] == weights[1]
    assert first["validation_accuracy"] == alone.summary["validation"]["accuracy"]
    assert [each["kind"] for each in first["activations"]["start"]] == ["ReLU", "ReLU"]
    assert "The loss became" in failed["error"]
    page = Path(compared["page"]).read_text()
    assert page.count("<svg") >= 3
    assert all(name in page for name in names)
    assert "<script" not in page
    assert json.loads((tmp_path / "each" / "comparison.json").read_text()) == compared
    again = recipe.train_each(photos, variants, out=tmp_path / "each", resume=True)
    assert [run.get("seconds") for run in again["runs"]] == [run.get("seconds") for run in compared["runs"]]
    with pytest.raises(RunError, match="already exists"):
        recipe.train_each(photos, variants, out=tmp_path / "each")
    with pytest.raises(SettingError, match=r"name its folder with --out DIR"):
        recipe.train_each(photos, variants, resume=True)


def test_what_is_the_same_for_all_trainings_is_told_once(photos: Path, tmp_path: Path) -> None:
    variants = SETTINGS.override(["optimizer=sgd", "norm=none"]).variants(["depth=1,2", "learning_rate=0.01,1e30"])
    heard: list[Event] = []
    with listening(heard.append):
        told = recipe.train_each(photos, variants, out=tmp_path / "each")
    stages = [event.stage for event in heard if isinstance(event, StageEnded)]
    once = ("open", "integrity", "duplicates", "split", "plan", "check", "report")
    assert [stages.count(name) for name in once] == [1] * len(once)
    assert stages.count("train") == 2, "where the loss is no number a training has no end"
    assert [name for name in stages if " of 4: " in name] == [
        f"{number} of 4: {run['name']}" for number, run in enumerate(told["runs"], 1)
    ]
    kinds = [event.kind for event in heard if isinstance(event, Finding)]
    assert (kinds.count("small-part"), kinds.count("training")) == (1, 2)
    warned = [Run(Path(run["run"])).read_summary()["warnings"] for run in told["runs"] if run["error"] is None]
    assert all(any("part has" in warning for warning in each) for each in warned), "each run's own record has it"


def test_folds_are_held_out_in_turn_and_their_mean_is_told(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every image that is not the test part's is validated on once; the test part is that of any other run."""
    options = ["--model", "linear", "--epochs", "1", "--size", "16", "--out", str(tmp_path / "run")]
    assert main(["train", str(photos), *options, "--folds", "3", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    [told] = compared["folds"]
    accuracies = [run["validation_accuracy"] for run in compared["runs"]]
    assert (told["name"], told["folds"]) == ("", 3)
    assert told["mean"] == pytest.approx(np.mean(accuracies))
    assert told["sd"] == pytest.approx(np.std(accuracies, ddof=1))
    recipe.train(photos, SETTINGS, out=tmp_path / "alone")
    rows = [{row["image"]: row["part"] for row in Run(run).read_split()} for run in (
        tmp_path / "alone", *map(Path, (run["run"] for run in compared["runs"])))]  # fmt: skip
    tests = [{image for image, part in each.items() if part == "test"} for each in rows]
    assert tests == [tests[0]] * 4
    held = [image for each in rows[1:] for image, part in each.items() if part == "validation"]
    assert sorted(held) == sorted(rows[0].keys() - tests[0])
    page = Path(compared["page"]).read_text()
    assert "mean and standard deviation over 3 folds" in page
    assert variants_text(compared).splitlines()[-3].startswith("Mean")


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "x"])
def test_a_fold_that_is_none_is_refused(fold: str) -> None:
    with pytest.raises(SettingError, match=r'The setting fold cannot be ".*": expected which of how many, such as 2/5'):
        TrainSettings(fold=fold)


def test_nothing_is_written_where_one_of_them_cannot_be(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'The setting pool has no meaning for the network "mlp"'):
        recipe.train_each(photos, SETTINGS.variants(["pool=max,average"]), out=tmp_path / "each")
    with pytest.raises(ModelError, match="does not tile its input of 16 x 16"):
        recipe.train_each(photos, SETTINGS.variants(["model=conv4 pool3s2,conv5 pool3s2"]), out=tmp_path / "each")
    assert not (tmp_path / "each").exists()


def test_where_none_comes_to_an_end_that_is_an_error(photos: Path, tmp_path: Path) -> None:
    variants = SETTINGS.override(["optimizer=sgd", "norm=none"]).variants(["learning_rate=1e30,1e35"])
    with pytest.raises(TrainingError, match=r"^None of the 2 trainings came to an end\. learning_rate=1e30: The loss"):
        recipe.train_each(photos, variants, out=tmp_path / "each")


def test_the_command_trains_each_and_says_where_the_curves_are(saccade: Saccade, photos: Path, tmp_path: Path) -> None:
    done = saccade(
        "train", photos, "--model", "mlp", "--epochs", "1", "--size", "16", "--set", "norm=batch,none", "width=0.05",
        "--out", tmp_path / "each",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "norm=batch" in done.stdout
    assert str(tmp_path / "each" / "comparison.html") in done.stdout
    shown = saccade(
        "volumes", "conv8f5 pool global", "--size", "16", "--set", "norm=none", "--batch-size", "4", "--json"
    )
    told = json.loads(shown.stdout)
    assert told["layers"][0]["output"] == [8, 16, 16]
    assert told["totals"]["parameters"] == 75 * 8 + 8 + 8 * 1000 + 1000
    assert told["layers"][0]["training_bytes"] == 4 * 4 * 3 * 16 * 16
    text = saccade("volumes", "timm/resnet10t", "--size", "64").stdout
    assert "layer4.0" in text
    assert "The parameters take 21.7 MB" in text
    for arguments, sentence in (
        (("volumes", "convnet", "--size", "0"), "--size is 0; expected 1 or more."),
        (("volumes", "resnt18"), 'There is no network "resnt18".'),
    ):
        refused = saccade(*arguments)
        assert refused.returncode == 2
        assert sentence in refused.stderr


def test_settings_whose_names_look_the_same_as_folders_are_trained_in_two(photos: Path, tmp_path: Path) -> None:
    told = recipe.train_each(photos, SETTINGS.variants(["l2=.5,5"]), out=tmp_path / "each")
    assert [row["error"] for row in told["runs"]] == [None, None]
    assert len({row["run"] for row in told["runs"]}) == 2


def test_trainings_of_several_seeds_share_the_split_and_what_splits_otherwise_is_told(
    photos: Path, tmp_path: Path
) -> None:
    short = SETTINGS.override(["epochs=1"])
    same = recipe.train_each(photos, short.variants(["seed=0,1"]), out=tmp_path / "seeds")
    splits = [Run(Path(row["run"])).read_split() for row in same["runs"]]
    assert splits[0] == splits[1]
    assert [Run(Path(row["run"])).read_settings()["split_seed"] for row in same["runs"]] == [None, 0]
    said = "All were trained on the same images and measured on the same validation images"
    assert same["same_images"]
    assert said in Path(same["page"]).read_text()
    others = recipe.train_each(photos, short.variants(["split_seed=0,1"]), out=tmp_path / "splits")
    assert not others["same_images"]
    assert said not in Path(others["page"]).read_text()


@pytest.mark.parametrize(
    ("budget", "varied", "shares"),
    [
        ("60s", "init=he,small", [30.0, 30.0]),
        ("90s", "fold=1/3,2/3,3/3", [30.0] * 3),
        (None, "seed=0,1", [None, None]),
        (None, "budget=20s,40s", [20.0, 40.0]),
    ],
)
def test_one_budget_is_shared_equally_and_several_are_each_ones_own(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str | None, varied: str, shares: list[float]
) -> None:
    begun: list[float | None] = []

    def quick(source: Path, settings: TrainSettings, **given: Any) -> Any:
        begun.append(settings.budget)
        return recipe.train(source, settings.model_copy(update={"budget": None, "epochs": 1.0}), **given)

    monkeypatch.setattr("saccade.recipe.variants.train", quick)
    given = [varied] if budget is None else [varied, f"budget={budget}"]
    variants = TrainSettings(model="linear", size=16, batch_size=8).variants(given)
    told = recipe.train_each(photos, variants, out=tmp_path / "each")
    assert begun == shares
    assert "for the epochs or the time that its own settings tell" in Path(told["page"]).read_text()
    recipe.train_each(photos, variants, out=tmp_path / "each", resume=True)
    assert begun == 2 * shares, "resumed with what it was begun with"


def test_memory_that_runs_out_fails_one_and_the_others_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(source: Path, settings: TrainSettings, **given: Any) -> Any:
        if settings.depth == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if settings.depth == 4:
            raise RuntimeError("another fault")
        return recipe.train(source, settings, **given)

    monkeypatch.setattr("saccade.recipe.variants.train", narrow)
    told = recipe.train_each(photos, SETTINGS.override(["epochs=1"]).variants(["depth=2,1"]), out=tmp_path / "each")
    first, second = told["runs"]
    assert first["error"].startswith("There is not enough memory for what was asked for: give a smaller --size")
    assert second["error"] is None
    with pytest.raises(RuntimeError, match="another fault"):
        recipe.train_each(photos, SETTINGS.variants(["depth=4,1"]), out=tmp_path / "faulty")


def test_one_that_is_interrupted_says_how_all_of_them_go_on(photos: Path, tmp_path: Path) -> None:
    variants, out, heard = SETTINGS.variants(["depth=1,2"]), tmp_path / "each", list[Event]()

    def send(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Progress) and event.task == "train" and event.done == 2:
            signal.raise_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job has not
    try:
        with listening(send), pytest.raises(KeyboardInterrupt):
            recipe.train_each(photos, variants, out=out)
    finally:
        signal.signal(signal.SIGINT, handler)
    [finding] = [event for event in heard if isinstance(event, Finding) and event.kind == "interrupted"]
    assert f"with --out {out} --resume it goes on from there." in finding.detail
    with pytest.raises(RunError, match=r"already exists; go on with its run by --resume, give --out another name, or"):
        recipe.train_each(photos, variants, out=out)
    told = recipe.train_each(photos, variants, out=out, resume=True)
    assert [row["error"] for row in told["runs"]] == [None, None]


def test_one_that_cannot_be_trained_leaves_the_others(photos: Path, tmp_path: Path) -> None:
    told = recipe.train_each(photos, SETTINGS.variants(["optimizer=adam,muon"]), out=tmp_path / "each")
    first, second = told["runs"]
    assert first["error"] is None
    assert "muon" in second["error"]
    assert (tmp_path / "each" / "comparison.html").exists()
    with pytest.raises(SettingError, match="muon"):
        recipe.train_each(photos, SETTINGS.variants(["optimizer=muon,adam"]), out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
