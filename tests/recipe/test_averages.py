"""Averages in whole runs: snapshots, several runs as one, early stopping; what is told, kept and refused."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade import recipe, study
from saccade.classifiers import Model
from saccade.cli.app import main
from saccade.cli.ensemble import ensemble_text
from saccade.cli.summary import evaluation_text
from saccade.errors import DeviceError, InputError, RunError, SettingError
from saccade.events import Event, StageEnded, StageStarted, listening
from saccade.recipe.candidates import Judge
from saccade.recipe.combining import combine
from saccade.recipe.finishing import finished
from saccade.recipe.material import parts_of
from saccade.recipe.network import paced, start
from saccade.recipe.plan import Plan
from saccade.run import Run
from saccade.settings import FitSettings, TrainSettings
from saccade.study.compare import compare
from saccade.study.ensemble import Ensemble
from saccade.train import Clock, Pace, timing
from tests.photos import photo_folder

pytestmark = pytest.mark.usefixtures("ledger_folder")
QUICK: dict[str, Any] = {"epochs": 3, "size": 16, "width": 0.25, "split_seed": 0, "flip": False, "translate": 0.0}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of photos in three classes."""
    return photo_folder(tmp_path_factory.mktemp("source") / "photos", 40)


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Return two runs of other seeds and one of another kind of network, on one split."""
    folder = tmp_path_factory.mktemp("trained")
    kinds: list[dict[str, Any]] = [{"seed": 1}, {"seed": 2}, {"model": "mlp"}]
    for place, chosen in enumerate(kinds):
        recipe.train(photos, TrainSettings(**{**QUICK, **chosen}), out=folder / f"run-{place}")
    return tuple(folder / f"run-{place}" for place in range(3))


def test_runs_are_averaged_as_their_validation_predictions_are_and_evaluated_against_the_best(
    trained: tuple[Path, ...], tmp_path: Path
) -> None:
    result = combine(trained, out=tmp_path / "together")
    told = result.summary["ensemble"]
    best = max(json.loads((run / "summary.json").read_text())["validation"]["accuracy"] for run in trained)
    assert result.summary["validation"]["accuracy"] >= best
    assert [each["name"] for each in told["members"]] == ["run-0", "run-1", "run-2"]
    assert Run(tmp_path / "together").read_split() == Run(trained[0]).read_split()
    model = Model.load(tmp_path / "together" / "model")
    assert model.name == result.summary["chosen"]
    x_NHWC = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    alone = {run.name: Model.load(run / "model").probabilities(lambda *_: x_NHWC) for run in trained}
    weights = {each["name"]: each["weight"] for each in told["members"]}
    if not told["accepted"]:
        weights = {name: float(name == told["best"]) for name in weights}
    expected_NK = sum(weights[name] * alone[name] for name in alone)
    np.testing.assert_allclose(model.probabilities(lambda *_: x_NHWC), expected_NK, rtol=1e-6)
    assert "sealed" in (tmp_path / "together" / "report.html").read_text()
    assert "Several classifiers as one" in (tmp_path / "together" / "report.html").read_text()
    seen = recipe.evaluate(tmp_path / "together")
    assert seen["looks"] == 1
    if told["accepted"]:
        gain = seen["averaging"]
        assert gain["over"].endswith(f"({told['best']})")
        assert gain["first_accuracy"] == seen["accuracy"]
        assert gain["interval"][0] <= gain["difference"] <= gain["interval"][1]


def test_the_licence_of_the_members_weights_is_told(trained: tuple[Path, ...], tmp_path: Path) -> None:
    for run in (copies := [Path(shutil.copytree(run, tmp_path / run.name)) for run in trained[:2]]):
        described = json.loads((run / "model" / "model.json").read_text())
        described["weights"] = {"source": f"{run.name}'s", "licence": "cc-by-nc-4.0"}
        (run / "model" / "model.json").write_text(json.dumps(described))
    result = combine(copies, out=tmp_path / "together")
    summary = result.summary
    assert all(each.name in ("convnet (run-0)", "convnet (run-1)") for each in result.model.members)
    assert summary["weights"]["licence"] == "cc-by-nc-4.0"
    assert summary["weights"]["commercial_use"] is False
    assert any("(cc-by-nc-4.0, from run-" in warning for warning in summary["warnings"])
    assert "forbids commercial use" in (result.run.path / "report.html").read_text()


def test_runs_of_one_name_are_told_apart_where_no_average_is_kept(
    trained: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = study.ensemble
    monkeypatch.setattr(study, "ensemble", lambda *given: replace(ensemble(*given), accepted=False))
    summary = combine(trained[:2], out=tmp_path / "together").summary
    accuracy = {each["name"]: each["accuracy"] for each in summary["ensemble"]["members"]}
    best = max(accuracy, key=lambda name: accuracy[name])
    assert summary["chosen"] in {f"convnet ({name})" for name in accuracy if accuracy[name] == accuracy[best]}
    assert f"Not kept: the model is {summary['chosen']} alone, the best by accuracy." in ensemble_text(summary)
    assert "weights" not in summary


def test_of_one_member_no_average_is_told(
    trained: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_best(*given: Any) -> Ensemble:
        found = study_ensemble(*given)
        weights = tuple(float(place == found.best) for place in range(len(found.weights)))
        return replace(found, weights=weights, accepted=False, gain=0.0, disagreement=0.0)

    study_ensemble = study.ensemble
    monkeypatch.setattr(study, "ensemble", of_the_best)
    summary = combine(trained[:2], out=tmp_path / "together").summary
    told, page = ensemble_text(summary), (tmp_path / "together" / "report.html").read_text()
    assert "No average has a lower validation log loss than the best classifier alone." in told
    assert told.splitlines()[-2].endswith(f"sealed until `saccade evaluate {tmp_path / 'together'}`")
    assert "no average has a lower validation log loss" in page
    for what in ("their average", "Gain in log loss", "of those averaged"):
        assert what not in told
        assert what not in page


def test_what_averaging_gained_is_told_where_a_test_part_is_looked_at() -> None:
    gain = {"over": "mlp (a)", "difference": 0.021, "interval": [-0.01, 0.05], "log_loss": 0.0312,
            "log_loss_interval": [0.01, 0.05]}  # fmt: skip
    figures = {"accuracy": 0.9, "interval": [0.8, 0.95], "macro_f1": 0.9}
    assert evaluation_text({**figures, "averaging": gain}).splitlines()[-1] == (
        "Averaging  +2.1 points against mlp (a) alone (95 % interval -1.0 to +5.0), log loss lower by 0.031 (0.010 to "
        "0.050)"
    )
    assert "Averaging" not in evaluation_text(figures)


def test_an_average_of_an_average_gives_its_members(trained: tuple[Path, ...], tmp_path: Path) -> None:
    first, second = combine(trained[:2], out=tmp_path / "first"), combine(trained, out=tmp_path / "second")
    again = combine([first.run.path, second.run.path], out=tmp_path / "again")
    assert sum(member.weight for member in again.model.members) == pytest.approx(1)
    assert again.summary["validation"]["accuracy"] >= second.summary["validation"]["accuracy"]


def test_runs_that_cannot_judge_each_other_are_refused(photos: Path, trained: tuple[Path, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"`saccade ensemble` needs two runs or more, and one was given"):
        combine(trained[:1], out=out)
    with pytest.raises(RunError, match="are the same run; give each run once"):
        combine([trained[0], trained[0]], out=out)
    other = {**QUICK, "epochs": 1, "split_seed": 5}
    recipe.train(photos, TrainSettings(**other), out=tmp_path / "other")
    short = {**QUICK, "epochs": 1}
    folds = [recipe.train(photos, TrainSettings(**short, fold=fold), out=tmp_path / f"fold-{fold[0]}")
             .run.path for fold in ("1/2", "2/2")]  # fmt: skip
    with pytest.raises(RunError) as caught:
        combine(folds, out=out)
    assert str(caught.value) == (
        f"{folds[0].name} and {folds[1].name} hold out different folds: what chose one trained the other; give runs "
        "that hold out the same images, as `saccade train` does without --folds."
    )
    with pytest.raises(RunError, match=r"run-0 and other have different images or splits: what chose one trained"):
        combine([trained[0], tmp_path / "other"], out=out)
    square = {**QUICK, "epochs": 1, "fit_to_square": "crop"}
    recipe.train(photos, TrainSettings(**square), out=tmp_path / "square")
    with pytest.raises(RunError, match=r"run-0 and square make images square in different ways"):
        combine([trained[0], tmp_path / "square"], out=out)
    plan = json.loads((tmp_path / "square" / "plan.json").read_text())
    plan["decisions"].append({"at": 1.0, "what": "refit", "value": ["linear softmax"], "why": ""})
    (tmp_path / "square" / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(RunError, match=r"square was fitted to its validation images too, in the end"):
        combine([trained[0], tmp_path / "square"], out=out)
    assert not out.exists()


def test_images_that_changed_are_named(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", 24)
    for seed in (1, 2):
        recipe.train(photos, TrainSettings(**{**QUICK, "epochs": 1, "seed": seed}), out=tmp_path / f"run-{seed}")
    gone = next(row["image"] for row in Run(tmp_path / "run-1").read_split())
    (photos / gone).unlink()
    with pytest.raises(RunError, match=r"1 of the \d+ images of .*run-1 are missing or changed .*put them back"):
        combine([tmp_path / "run-1", tmp_path / "run-2"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_snapshots_of_one_training_are_averaged_or_the_best_is_kept(photos: Path, tmp_path: Path) -> None:
    result = recipe.train(photos, TrainSettings(**{**QUICK, "epochs": 4, "snapshots": 3}), out=tmp_path / "run")
    told = result.summary["network"]["snapshots"]
    assert [each["name"] for each in told["members"]] == ["cycle 1", "cycle 2", "cycle 3"]
    best = max(each["accuracy"] for each in told["members"])
    reached = result.summary["validation"]["accuracy"]
    assert reached >= best if told["accepted"] else reached == best
    assert len(result.model.members) == (sum(each["weight"] > 0 for each in told["members"]) if told["accepted"] else 1)
    rates = [line["learning_rate"] for line in Run(tmp_path / "run").history()]
    assert rates[1] > rates[0] or rates[2] > rates[1]


def test_more_snapshots_than_steps_are_refused_before_the_first_and_before_the_check(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("saccade.study.checks")
    settings = TrainSettings(**{**QUICK, "epochs": 1, "batch_size": 84, "snapshots": 2})
    refusal = r"^The training has 1 step, too few for snapshots=2, one at the end of each cycle; give fewer snapshots,"
    with pytest.raises(SettingError, match=refusal):
        recipe.train(photos, settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_stops_when_patience_is_over_and_keeps_the_best_epoch(photos: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "epochs": 40, "patience": 2, "model": "mlp", "optimizer": "sgd", "learning_rate": 0.5}
    result = recipe.train(photos, TrainSettings(**settings), out=tmp_path / "run")
    history = Run(tmp_path / "run").history()
    losses = [line["validation_loss"] for line in history]
    assert len(losses) < 40
    assert int(np.argmin(losses)) == len(losses) - 3
    kept = history[int(np.argmin(losses))]
    assert result.summary["network"]["best_epoch"] == kept["epoch"]
    assert result.summary["validation"]["accuracy"] == kept["validation_accuracy"]


@pytest.mark.parametrize(
    ("spoilt", "kept", "best_epoch"),
    [("", "averaged", None), ("averaged", "last", None), ("last", "averaged", None), ("averaged", "last", 1.0),
     ("last", "best epoch's", 1.0)],
)  # fmt: skip
def test_averaged_weights_are_kept_unless_the_last_are_better_on_validation(
    photos: Path, tmp_path: Path, spoilt: str, kept: str, best_epoch: float | None
) -> None:
    """Weights that are all 0 know nothing; those that are equal are the average, which was asked for."""
    settings = TrainSettings(**{**QUICK, "model": "mlp", "batch_size": 16, "ema": 0.9, "views": False})
    parts, plan = parts_of(photos, settings), Plan(Run.create(tmp_path / "run", "photos"), Clock(1000.0), 0)
    trained = start(parts.train, settings)
    course = trained.course(Pace.fixed(6))
    for _ in course:
        pass
    average, patience = course.training.average, course.patience
    assert average is not None
    assert patience is not None
    average.other = {name: value.clone() for name, value in trained.network.state_dict().items()}
    if spoilt:
        weights = trained.network.state_dict() if spoilt == "averaged" else average.other
        weights[[name for name in weights if name.endswith("weight")][-1]].zero_()
    if best_epoch is not None:
        patience.epoch, patience.weights, patience.clear = best_epoch, {"any": torch.zeros(1)}, True
    candidate = finished(trained, course, parts.validation, plan)
    [decision] = [each for each in plan.decisions if each["what"] == "weights"]
    assert (candidate.facts["kept_weights"], decision["value"]) == (kept, kept)
    assert candidate.facts["best_epoch"] == (None if kept == "last" else best_epoch)
    assert Judge(parts.validation.labels_N).accuracy(candidate) > 0.6
    predicted_NK = candidate.model.probabilities_of(parts.validation)
    np.testing.assert_allclose(predicted_NK, candidate.validation_NK, atol=1e-5)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("chosen", [{"ema": 0.99}, {"model": "mlp", "swa": 0.9}], ids=str)
def test_which_weights_are_kept_is_told_and_the_same_after_an_interruption(
    chosen: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    def ended(out: Path, *, resume: bool = False) -> list[str]:
        heard: list[Event] = []
        with listening(heard.append):
            recipe.train(photos, TrainSettings(**{**QUICK, **chosen}), out=out, resume=resume)
        return [each.outcome for each in heard if isinstance(each, StageEnded) and each.stage == "validate"]

    def interrupt(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "validate":
            raise KeyboardInterrupt

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    [outcome] = ended(whole)
    kept = Run(whole).read("summary")["network"]["kept_weights"]
    assert outcome.endswith(f"%, with the {kept} weights")
    [decision] = [each for each in Run(whole).read("plan")["decisions"] if each["what"] == "weights"]
    assert decision["value"] == kept
    assert re.fullmatch(
        r"the validation accuracy is .*% with the .* weights \(log loss .*\), .*% with the last weights \(.*\)",
        decision["why"],
    )
    with listening(interrupt), pytest.raises(KeyboardInterrupt):
        ended(broken)
    assert ended(broken, resume=True) == [outcome]
    assert saved(broken) == saved(whole)


def saved(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_time_is_kept_for_a_look_at_averaged_weights_and_one_at_the_last(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {**QUICK, "epochs": None, "model": "mlp", "batch_size": 16, "views": False}
    parts = parts_of(photos, TrainSettings(**plain))
    monkeypatch.setattr(timing, "prediction_seconds", lambda session: 300 / len(parts.validation))
    monkeypatch.setattr(timing, "image_seconds", lambda *args, **named: 1 / 16)

    def steps(**chosen: float) -> int:
        plan = Plan(Run.create(tmp_path / f"run{chosen}", "photos"), Clock(1200.0), 0)
        return paced(start(parts.train, TrainSettings(**{**plain, **chosen})), parts, plan)[1].steps

    twice = pytest.approx(steps(snapshots=2), abs=2)
    assert steps() - 50 > steps(ema=0.9) == twice
    assert steps(swa=0.25) == twice


def test_a_fit_tells_what_averaging_gained_on_its_test_images(photos: Path, tmp_path: Path) -> None:
    result = recipe.fit(photos, FitSettings(budget=12, pretrained="none"), out=tmp_path / "run")
    told, gain = result.summary["ensemble"], result.summary["test"].get("averaging")
    assert told is None or len(told["members"]) == 2
    assert (gain is not None) == (len(result.model.members) > 1)


def test_the_gain_of_averaging_is_that_of_the_paired_answers(trained: tuple[Path, ...]) -> None:
    from saccade.recipe.evaluation import averaging_gain

    members = [Model.load(run / "model").members[0] for run in trained[:2]]
    model = Model(tuple(members), ("a", "b", "c"), "stretch")
    rows_MNK = np.random.default_rng(3).dirichlet(np.ones(3), (2, 40))
    labels_N = np.random.default_rng(4).integers(0, 3, 40)
    gain = averaging_gain(model, rows_MNK, labels_N)
    mean_NK = rows_MNK.mean(0)
    expected = compare(mean_NK.argmax(1) == labels_N, rows_MNK[0].argmax(1) == labels_N)
    assert (gain["difference"], gain["p"]) == (expected.difference, expected.p)
    at = np.arange(40), labels_N
    assert gain["log_loss"] == pytest.approx(float(np.log(mean_NK[at] / rows_MNK[0][at]).mean()))
    low, high = gain["log_loss_interval"]
    assert low < gain["log_loss"] < high


def test_where_the_gpu_fails_all_that_reads_a_run_works_on_the_cpu(
    trained: tuple[Path, ...],
    photos: Path,
    tmp_path: Path,
    break_gpu: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    break_gpu()
    commands = [
        ["predict", str(trained[0]), str(photos)],
        ["evaluate", str(trained[0])],
        ["ensemble", *map(str, trained), "--out", str(tmp_path / "together")],
        ["baselines", str(photos), *"--folds 2 --pretrained none --words 5 --out".split(), str(tmp_path / "b")],
    ]
    failing = r'^saccade: The device "cuda" .* cannot be used .*; give --device cpu\.$'
    for command in commands:
        assert main(command) == 2
        assert re.search(failing, capsys.readouterr().err, re.MULTILINE)
        assert main([*command, "--device", "cpu"]) == 0, capsys.readouterr().err
    assert Run(tmp_path / "b").read_settings()["device"] == "cpu"
    with pytest.raises(DeviceError, match="give --device cpu"):
        recipe.train(photos, TrainSettings(), out=trained[0], resume=True)
