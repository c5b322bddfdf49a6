"""`fit --resume`: interrupted at the beginning of every stage, one run goes on to its end, and looks once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from saccade import recipe
from saccade.classifiers import Model
from saccade.errors import RunError
from saccade.events import Event, Finding, StageStarted, listening
from saccade.recipe.search import search
from saccade.run import Run
from saccade.settings import BaselineSettings, FitSettings, SearchSettings, TrainSettings, TransferSettings
from saccade.train import checkpoint
from tests.conftest import Saccade
from tests.photos import photo_folder

WEIGHTS: dict[str, Any] = {"pretrained": "timm/test_resnet=w.safetensors"}
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


INTERRUPTED: dict[str, tuple[str, Callable[[Path, Path], object]]] = {
    "fit": ("baselines", lambda source, out: recipe.fit(source, FitSettings(budget=60, pretrained="none"), out=out)),
    "transfer": ("advice", lambda source, out: recipe.transfer(source, TransferSettings(**WEIGHTS, size=32), out=out)),
    "train": ("plan", lambda source, out: recipe.train(source, TrainSettings(epochs=1), out=out)),
    "search": (
        "coarse 2/3",
        lambda source, out: search(source, SearchSettings(model="linear", epochs=1, size=16, trials=4), out=out),
    ),
    "baselines": (
        "mirror images",
        lambda source, out: recipe.baselines(source, BaselineSettings(pretrained="none"), out=out),
    ),
}


@pytest.mark.parametrize("command", INTERRUPTED)
def test_a_signal_says_how_it_goes_on_or_leaves_nothing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), tmp_path / "w.safetensors")
    monkeypatch.chdir(tmp_path)
    photos, out, heard = photo_folder(tmp_path / "photos", 12), tmp_path / "run", list[Event]()
    stage, begin = INTERRUPTED[command]

    def listener(event: Event) -> None:
        heard.append(event)
        if event == StageStarted(stage=stage):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(listener):
        begin(photos, out)
    told = [event.detail for event in heard if isinstance(event, Finding) and event.kind == "interrupted"]
    how = {"search": f"--out {out}", "baselines": None}.get(command, f"--out {out} --resume")
    assert told == ([f"With {how} the same command goes on."] if how else [])
    assert out.exists() == (command != "baselines")
    if how and how.endswith("--resume"):
        with pytest.raises(RunError) as caught:
            begin(photos, out)
        assert str(caught.value) == (
            f"The output folder {out} already exists; go on with its run by --resume, give --out another name, or "
            "remove it."
        )


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
