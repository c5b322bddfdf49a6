"""A run from end to end through the real command: JSON, exit codes, files."""

import csv
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import draw
from tests.conftest import Saccade

Digits = tuple[Path, dict[str, Any]]


def rows(text: str) -> list[dict[str, Any]]:
    predictions: list[dict[str, Any]] = json.loads(text)["predictions"]
    return predictions


def test_fit_prints_the_contract_as_one_json_object(digits_run: Digits) -> None:
    run, summary = digits_run
    assert summary["schema"] == 1
    assert summary["source"] == "digits"
    assert summary["images"] == 1797
    assert sorted(summary["classes"]) == [str(digit) for digit in range(10)]
    assert sum(summary["split"].values()) == 1797
    assert {"name", "seconds", "validation_accuracy"} <= set(summary["stages"][0])
    assert summary["test"]["accuracy"] > 0.9
    low, high = summary["test"]["interval"]
    assert low < summary["test"]["accuracy"] <= high
    assert summary["test"]["looks"] == 1
    assert summary["budget_seconds"] == 12
    assert Path(summary["run"]) == run
    assert {"unreadable", "duplicates", "chosen", "validation", "seconds", "warnings"} <= set(summary)


def test_the_runs_folder_is_complete(digits_run: Digits) -> None:
    run, summary = digits_run
    for name in ("settings.yaml", "plan.json", "split.csv", "findings.json", "model/model.json", "report.html"):
        assert (run / name).stat().st_size > 0
    assert json.loads((run / "summary.json").read_text()) == summary


def test_a_second_look_says_so(digits_run: Digits, saccade: Saccade) -> None:
    run, summary = digits_run
    done = saccade("evaluate", run, "--json")
    assert done.returncode == 0, done.stderr
    test = json.loads(done.stdout)
    assert test["accuracy"] == pytest.approx(summary["test"]["accuracy"])
    assert test["looks"] >= 2


def test_report_is_written_again(digits_run: Digits, saccade: Saccade) -> None:
    run, _ = digits_run
    (run / "report.html").unlink()
    done = saccade("report", run, "--json")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["report"]) == run / "report.html"
    assert (run / "report.html").exists()


def test_predict_a_picture(digits_run: Digits, saccade: Saccade, digit: Path) -> None:
    done = saccade("predict", digits_run[0], digit, "--json", "--top", "4")
    assert done.returncode == 0, done.stderr
    [row] = rows(done.stdout)
    assert set(row) == {"path", "label", "probability", "top", "error"}
    assert (row["path"], row["label"], row["error"]) == (str(digit), "0", None)
    assert row["top"][0] == ["0", row["probability"]]
    probabilities = [probability for _, probability in row["top"]]
    assert len(probabilities) == 4
    assert probabilities == sorted(probabilities, reverse=True)


def test_predict_folders_and_archives(digits_run: Digits, saccade: Saccade, digit: Path, tmp_path: Path) -> None:
    deep = tmp_path / "photos" / "deep" / "deeper"
    deep.mkdir(parents=True)
    (deep / "a.PNG").write_bytes(digit.read_bytes())
    (deep / "notes.txt").write_text("not a picture, and not taken for one")
    (deep / ".hidden.png").write_text("left alone")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"\xff\xd8 cut short")
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.write(digit, "inside/z.png")
        archive.writestr("inside/bad.png", b"no picture")
    with tarfile.open(tmp_path / "some.tar.gz", "w:gz") as tape:
        tape.add(digit, "t.png")
    (tmp_path / "broken.zip").write_bytes(b"PK no archive")
    named = ["photos", "some.zip", "some.tar.gz", "broken.zip", "nowhere.png"]
    done = saccade("predict", digits_run[0], *named, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {row["path"]: row for row in rows(done.stdout)}
    readable = {"photos/deep/deeper/a.PNG", "some.zip/inside/z.png", "some.tar.gz/t.png"}
    unreadable = {"photos/bad.jpg", "some.zip/inside/bad.png", "broken.zip", "nowhere.png"}
    assert set(found) == readable | unreadable
    assert all(found[name]["label"] == "0" and found[name]["error"] is None for name in readable)
    assert all(found[name]["label"] is None and found[name]["error"] for name in unreadable)


def test_a_table_is_never_written_over_a_picture(
    digits_run: Digits, saccade: Saccade, digit: Path, tmp_path: Path
) -> None:
    for table in (digit, tmp_path / "other.jpg"):
        done = saccade("predict", digits_run[0], digit, "--csv", table)
        assert done.returncode == 2
        assert "is what images come from, not a table to write" in done.stderr
    assert digit.read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "other.jpg").exists()


def test_a_table_takes_the_place_of_another_such_table_alone(
    digits_run: Digits, saccade: Saccade, digit: Path, tmp_path: Path
) -> None:
    run, table = digits_run[0], tmp_path / "labels.csv"
    for top in ("1", "3"):
        done = saccade("predict", run, digit, "--top", top, "--csv", table)
        assert done.returncode == 0, done.stderr
    assert table.read_text().startswith("path,label,probability,label_2,")
    ranks = ",".join(f"label_{rank},probability_{rank}" for rank in range(2, 1001))
    table.write_text(f"path,label,probability,{ranks},error\n")  # of a thousand classes
    assert saccade("predict", run, digit, "--csv", table).returncode == 0
    assert table.read_text().startswith("path,label,probability,label_2,probability_2,label_3,probability_3,error\n")
    table.write_text("image,hash\nmine,1\n")
    split, model = (run / "split.csv").read_bytes(), (run / "model" / "model.json").read_bytes()
    taken = {table: "already exists", run / "model" / "model.json": "already exists", run / "split.csv": "its own"}
    for place, words in {**taken, run / "seen.csv": "its own"}.items():  # seen.csv would be read as the run's
        done = saccade("predict", run, digit, "--csv", place)
        assert done.returncode == 2
        assert words in done.stderr
    assert table.read_text() == "image,hash\nmine,1\n"
    assert (run / "split.csv").read_bytes() == split
    assert (run / "model" / "model.json").read_bytes() == model
    assert not (run / "seen.csv").exists()


def test_nothing_readable_is_a_failure_with_its_rows(digits_run: Digits, saccade: Saccade, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    done = saccade("predict", digits_run[0], tmp_path / "bad.png", "--json")
    assert done.returncode == 1
    assert rows(done.stdout)[0]["error"]
    assert "None of the 1 files could be read as an image" in done.stderr
    (tmp_path / "empty").mkdir()
    done = saccade("predict", digits_run[0], "empty", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "There are no images in empty; give images, folders or archives of them." in done.stderr


def test_what_is_no_image_by_name_or_content_is_wrong_input(
    digits_run: Digits, saccade: Saccade, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    done = saccade("predict", digits_run[0], "notes.txt", "--json", "--csv", "table.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "saccade: notes.txt cannot be labelled (" in done.stderr
    assert "); give images, folders or archives of them." in done.stderr
    assert not (tmp_path / "table.csv").exists()


def test_an_empty_folder_beside_others_is_told(
    digits_run: Digits, saccade: Saccade, digit: Path, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    done = saccade("predict", digits_run[0], "nothing", digit, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(rows(done.stdout)) == 1
    assert "nothing: there are no images in it" in done.stderr


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses names that are not UTF-8")
def test_strange_names(digits_run: Digits, saccade: Saccade, digit: Path, tmp_path: Path) -> None:
    names = [b"=cmd().png", b"-dash.png", b"two\nlines.png", b"not-utf8-\xff.png", "smile-😀.png".encode()]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(digit.read_bytes())
    table = tmp_path / "table.csv"
    done = saccade("predict", digits_run[0], *(os.fsdecode(n) for n in names[:1] + names[2:]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "two\\nlines.png: 0 " in done.stdout
    done = saccade("predict", digits_run[0], ".", "--json", "--csv", table, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {os.fsencode(row["path"]) for row in rows(done.stdout)} == set(names)
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        cells = list(csv.reader(file))
    assert cells[0] == ["path", "label", "probability", "label_2", "probability_2", "label_3", "probability_3", "error"]
    assert {os.fsencode(row[0].removeprefix("'")) for row in cells[1:]} == set(names)
    assert sum(row[0].startswith("'") for row in cells[1:]) == 2
    assert all(row[1] == "0" and float(row[2]) > 0.2 for row in cells[1:])


def test_train_runs_again_from_its_own_settings(photos: Path, saccade: Saccade, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    done = saccade("train", photos, "--epochs", "2", "--set", "model=linear", "seed=3", "--out", first, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["network"]["name"] == "linear"
    again = saccade("train", photos, "--config", first / "settings.yaml", "--out", second, "--json")
    assert again.returncode == 0, again.stderr
    assert (second / "settings.yaml").read_text() == (first / "settings.yaml").read_text()
    weights = "model/model.safetensors"
    assert (second / weights).read_bytes() == (first / weights).read_bytes()


def test_fit_without_json_ends_with_a_number_and_where_to_go(photos: Path, saccade: Saccade) -> None:
    draw(photos / "sky" / "last.png", (90, 140, 220), 99)
    (photos / "sky" / "broken.jpg").write_bytes(b"not a picture")
    done = saccade("fit", photos, "--budget", "10s", "--out", photos.parent / "run", "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Test ")
    assert "95 % interval" in done.stdout
    assert "saccade predict" in done.stdout
    assert "broken.jpg" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_models_and_datasets(saccade: Saccade) -> None:
    models = json.loads(saccade("models", "--json").stdout)["models"]
    assert {"linear", "mlp", "convnet"} <= set(models["saccade"])
    assert "digits" in json.loads(saccade("datasets", "--json").stdout)["datasets"]
    assert "digits" in saccade("datasets").stdout.split()
