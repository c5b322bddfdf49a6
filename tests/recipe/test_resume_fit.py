"""`fit --resume`: interrupted at the beginning of every stage, one run goes on to its end, and looks once."""

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from saccade import recipe
from saccade.classifiers import Model
from saccade.errors import RunError
from saccade.events import Event, StageStarted, listening
from saccade.run import Run
from saccade.settings import FitSettings
from saccade.train import checkpoint
from tests.conftest import Saccade
from tests.photos import photo_folder

STAGES = ("integrity", "baselines", "features", "search", "train", "ensemble", "evaluate", "report")


class Interrupted(BaseException):
    """Ends the work as a signal would."""


def ended_at(stage: str, source: Path, settings: FitSettings, out: Path) -> None:
    """Begin or go on with a run, and be interrupted when the stage begins."""

    def listener(event: Event) -> None:
        if event == StageStarted(stage=stage):
            raise Interrupted

    with pytest.raises(Interrupted), listening(listener):
        recipe.fit(source, settings, out=out, resume=True)


def test_interrupted_at_every_stage_it_ends_and_looks_once(
    tmp_path: Path, ledger_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FIRST", 0.0), ("EVERY", 0.0), ("SHARE", float("inf"))):
        monkeypatch.setattr(checkpoint, name, value)
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), tmp_path / "w.safetensors")
    photos, out = photo_folder(tmp_path / "photos", 24), tmp_path / "run"
    one = min((photos / "disc").iterdir())
    shutil.copy(one, one.with_stem("copy"))
    settings = FitSettings(budget=60, pretrained=f"timm/test_resnet={tmp_path / 'w.safetensors'}")
    for stage in STAGES:
        ended_at(stage, photos, settings, out)
        assert not Run(out).finished
    chosen = (out / "model" / "model.safetensors").read_bytes()
    decided = [each["what"] for each in Run(out).read("plan")["decisions"]]
    result = recipe.fit(photos, settings, out=out, resume=True)
    assert Run(out).finished
    assert decided.count("flip") == 1, "what was planned is not planned again"
    assert decided.count("features") == 1
    assert (out / "model" / "model.safetensors").read_bytes() == chosen, "what was looked at stays chosen"
    assert {"baselines", "features", "train", "evaluate"} <= {each["name"] for each in result.summary["stages"]}
    assert result.summary["next"]["learning_curve"] is not None
    findings = [json.dumps(each) for each in Run(out).read("findings")]
    assert any('"duplicate"' in each for each in findings)
    assert len(findings) == len(set(findings)), "nothing is told twice"
    assert result.summary["test"]["looks"] == 1
    assert len((ledger_folder / "ledger.jsonl").read_text().splitlines()) == 1
    assert {"linear on test_resnet", "timm/test_resnet"} <= {row["name"] for row in result.summary["candidates"]}
    assert not (out / "candidates").exists()
    assert Model.load(out / "model").name == result.summary["chosen"]
    with pytest.raises(RunError, match=r"is finished, and is of .*photos, not of digits; give --out another name"):
        recipe.fit("digits", settings, out=out, resume=True)
    assert recipe.fit(photos, settings, out=out, resume=True).summary == json.loads((out / "summary.json").read_text())


def test_the_command_goes_on_with_a_killed_fit(saccade: Saccade, tmp_path: Path) -> None:
    """The settings need not be repeated; another budget is refused."""
    first = saccade("fit", "digits", "--budget", "8s", "--out", str(tmp_path / "run"), "--json")
    assert first.returncode == 0
    (tmp_path / "run" / "report.html").unlink()
    picture = tmp_path / "run" / "inputs.png"
    shutil.copy(tmp_path / "run" / "pictures" / "inputs.png", picture)
    told = saccade("predict", str(tmp_path / "run"), str(picture))
    assert told.returncode == 0
    assert "has not finished: this is its best classifier so far, " in told.stderr
    other = saccade("fit", "digits", "--budget", "9s", "--out", str(tmp_path / "run"), "--resume")
    assert other.returncode == 2
    assert "was begun with budget=8.0, and budget=9.0 was given" in other.stderr
    again = saccade("fit", "digits", "--out", str(tmp_path / "run"), "--resume", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["chosen"]
    assert (tmp_path / "run" / "report.html").exists()
