"""A run whose images are of groups: its intervals count groups, wherever it tells one, and so does what is compared."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from saccade import recipe, study
from saccade.cli.compare import comparison_text
from saccade.cli.summary import evaluation_text
from saccade.metrics import accuracy_interval, wilson_interval
from saccade.recipe.comparison import compare
from saccade.recipe.material import gather
from saccade.report import verdict
from saccade.settings import TrainSettings
from saccade.train.budget import Clock
from tests.data.test_groups import PATIENTS, patients

SETTINGS = TrainSettings(epochs=1, size=16, model="mlp", group_pattern=PATIENTS.group_pattern, split_seed=0)


def patient(name: str) -> int:
    found = re.search(r"patient(\d+)", name)
    assert found is not None
    return int(found[1])


def test_a_run_tells_of_groups_in_every_interval(tmp_path: Path, ledger_folder: Path) -> None:
    root = patients(tmp_path / "photos", ("a", "b"))
    runs = [recipe.train(root / "a", SETTINGS.model_copy(update={"seed": seed}), out=tmp_path / f"run{seed}").run
            for seed in (0, 1)]  # fmt: skip
    summary = json.loads((runs[0].path / "summary.json").read_text())
    validation = summary["validation"]
    held = [row["image"] for row in runs[0].read_split() if row["part"] == "validation"]
    assert (validation["images"], validation["groups"]) == (len(held), len({*map(patient, held)}))
    assert validation["interval"] == summary["network"]["interval"] == summary["candidates"][0]["interval"]

    figures, _ = (recipe.evaluate(run.path) for run in runs)
    with (runs[0].path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["group"]) for row in rows] == [patient(row["image"]) for row in rows]
    right_N = np.array([row["class"] == row["predicted"] for row in rows])
    groups_N = np.array([patient(row["image"]) for row in rows])
    groups = len(np.unique(groups_N))
    assert figures["interval"] == list(accuracy_interval(right_N, groups_N))
    assert figures["interval"] != list(wilson_interval(int(right_N.sum()), len(rows)))
    assert (figures["images"], figures["groups"]) == (len(rows), groups)
    assert f", {len(rows)} images of {groups} groups), look 1" in evaluation_text(figures)
    assert verdict({**summary, "test": figures}).groups == groups
    assert f"<b>{len(held)} images of {validation['groups']} groups</b>" in (runs[0].path / "report.html").read_text()

    compared = compare([run.path for run in runs])
    assert compared["pairs"][0]["groups"] == compared["runs"][0]["test"]["groups"] == groups
    text = comparison_text(compared)
    assert f"on these {len(rows)} images of {groups} groups" in text
    assert f"{len(rows)}, {groups} groups" in text
    assert "exact sign-flip test over groups" in text

    new = recipe.evaluate(runs[0].path, root / "b")
    assert (new["images"], new["groups"]) == (120, 15)
    for path in [*(root / "b").rglob("*.png")]:
        path.rename(path.with_name(path.name.replace("patient", "photo")))
    alone = recipe.evaluate(runs[0].path, root / "b")
    assert (alone["accuracy"], alone["groups"]) == (new["accuracy"], None)
    assert alone["interval"] == list(wilson_interval(round(120 * alone["accuracy"]), 120))


@pytest.mark.parametrize("by", ["pattern", "table"])
def test_a_runs_test_images_keep_their_groups_where_they_lie_by_now(
    by: str, tmp_path: Path, ledger_folder: Path
) -> None:
    photos = patients(tmp_path / "photos")
    table = tmp_path / "photos.csv"
    files = sorted(photos.rglob("*.png"))
    rows = [f"{file.relative_to(tmp_path)},{file.parent.name},{patient(file.name)}" for file in files]
    table.write_text("\n".join(["path,label,group", *rows]))
    source, pattern = (photos, PATIENTS.group_pattern) if by == "pattern" else (table, None)
    run = recipe.train(source, SETTINGS.model_copy(update={"group_pattern": pattern}), out=tmp_path / "run").run
    first, predictions = recipe.evaluate(run.path), run.predictions.read_text()
    assert predictions.startswith("image,class,predicted,probability,group\n")
    for place, file in enumerate(files):
        file.rename(file.with_name(f"patient{place % 2}.{place}.png"))  # of other groups, by the pattern
    photos.rename(tmp_path / "moved")
    moved = recipe.evaluate(run.path, tmp_path / "moved")
    assert {name: moved[name] for name in ("own", "groups", "interval")} == {
        name: first[name] for name in ("own", "groups", "interval")
    }
    assert run.predictions.read_text() == predictions


def test_a_baselines_interval_counts_groups(tmp_path: Path) -> None:
    with gather(patients(tmp_path / "photos"), PATIENTS, tmp_path / "run") as material:
        validation = material.parts.validation
        for found in study.baselines(material.parts, Clock(None), 16):
            predicted_N = found.classifier.predict(validation.squares(found.model_size))
            right_N = predicted_N == validation.labels_N
            groups_N = np.array([*map(patient, validation.images.keys)])
            assert found.interval == pytest.approx(accuracy_interval(right_N, groups_N), abs=1e-12)
