"""The report of a run that is not finished: what there is so far, or one sentence."""

import json
import re
from pathlib import Path

import pytest

from saccade import report
from saccade.cli import main
from saccade.files import write_json
from saccade.recipe import train
from saccade.report import render, write
from saccade.run import Run
from saccade.settings import TrainSettings
from saccade.train import checkpoint
from tests.recipe.test_resume import EPOCHS, begin


def headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", page)


@pytest.mark.usefixtures("often")
def test_an_interrupted_training_is_drawn_as_far_as_it_came(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    begin(photos, out, 20, **EPOCHS)
    assert main(["report", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(out / "report.html")}
    page = (out / "report.html").read_text()
    seen = [line["validation_accuracy"] for line in Run(out).history()]
    assert len(seen) >= 2
    assert f"Validation accuracy from {seen[0]:.1%} to {seen[-1]:.1%}." in page
    assert headings(page) == [
        "How training went",
        "Checks before training",
        "Classes and split",
        "Settings and machine",
    ]
    assert "2 of 2 checks passed" in page
    assert '<th scope="col" class="n">test</th>' not in page, "the test part is sealed"
    [(done, steps)] = re.findall(r"<h1[^>]*>This run is not finished: (\d+) of (\d+) steps</h1>", page)
    result = train(photos, TrainSettings(), out=out, resume=True)
    assert (int(done), int(steps)) == (20, result.summary["network"]["steps"])
    assert "not finished" not in (out / "report.html").read_text()


@pytest.mark.usefixtures("often")
def test_a_run_ended_between_summary_and_report_gets_the_report_of_a_finished_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(run: Run) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    begin(photos, out, 20, **EPOCHS)
    write(Run(out))
    with monkeypatch.context() as patch:
        patch.setattr(report, "write", ended)
        with pytest.raises(KeyboardInterrupt):
            train(photos, TrainSettings(), out=out, resume=True)
    assert (out / "summary.json").exists()
    assert not Run(out).finished
    train(photos, TrainSettings(), out=out, resume=True)
    assert "not finished" not in (out / "report.html").read_text()


def test_what_is_not_on_disk_yet_is_not_drawn(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FIRST", float("inf"))
    begin(photos, tmp_path / "run", 20, **EPOCHS)
    last = Run(tmp_path / "run").history()[-1]["step"]
    page = render(Run(tmp_path / "run"))
    assert f"This run is not finished: {last} steps so far</h1>" in page
    assert headings(page) == ["How training went", "Classes and split", "Settings and machine"]


def test_before_the_first_epoch_there_are_stages_or_nothing_to_show(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpoint, "FIRST", float("inf"))
    out = tmp_path / "run"
    begin(photos, out, 1, **EPOCHS)
    assert main(["report", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"saccade: The run in {out} has nothing to show yet: ")
    assert len(told.splitlines()) == 1
    assert not (out / "report.html").exists()
    finding = {"kind": "duplicate", "severity": "note", "paths": ["a.jpg", "b.jpg"], "detail": "the same picture"}
    (out / "candidates").mkdir()
    stages = [{"name": "baselines", "seconds": 3.0, "validation_accuracy": 0.75}]
    write_json(out / "candidates" / "diary.json", {"stages": stages, "findings": [finding]})
    page = render(Run(out))
    assert "This run is not finished: no epoch of a training has ended</h1>" in page
    assert headings(page) == ["What the data check found", "Classes and split", "Where the time went",
                              "Settings and machine"]  # fmt: skip
    assert "a.jpg" in page
    assert "75.0" in page
