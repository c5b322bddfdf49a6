"""`saccade compare`: runs side by side, by what they recorded and nothing else."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import pytest
import yaml

from saccade.cli.compare import comparison_text
from saccade.errors import InputError, RunError
from saccade.files import append_lines, write_csv
from saccade.metrics import wilson_interval
from saccade.recipe.comparison import compare
from saccade.run import Run
from tests.conftest import Saccade

Image = tuple[str, str, str]
"""Content, class and part of an image."""


def images(numbers: Sequence[int], part: str = "test") -> list[Image]:
    return [(f"hash{number}", "ab"[number % 2], part) for number in numbers]


TRAINED = [*images(range(1000, 1010), "train"), *images(range(2000, 2005), "validation")]


def record(
    folder: Path, tested: Sequence[Image], wrong: Sequence[str] | None = (), settings: Mapping[str, Any] | None = None
) -> Path:
    """Write a run's folder whose test part is `tested`; contents in `wrong` were mislabelled, None: never looked at."""
    run = Run.create(folder, "photos")
    every = [*TRAINED, *tested]
    names = [f"{folder.name}-{n}.png" for n in range(len(every))]
    rows = [(name, *image) for name, image in zip(names, every, strict=True)]
    write_csv(run.split, ("image", "hash", "class", "part"), rows)
    run.settings.write_text(yaml.safe_dump(dict(settings or {"seed": 0})))
    (run.model / "model.json").write_text("{}")
    summary: dict[str, Any] = {
        "command": "fit", "source": f"/photos/{folder.name}", "images": len(every),
        "classes": ["a", "b"], "chosen": "convnet",
        "split": {"train": 10, "validation": 5, "test": len(tested)},
        "validation": {"accuracy": 0.8, "interval": [0.5, 0.9], "images": 5},
        "network": {"name": "convnet", "parameters": 10, "size": 32, "epochs": 2.5},
        "seconds": 9.5, "budget_seconds": 10.0,
    }  # fmt: skip
    if wrong is not None:
        right = sum(content not in wrong for content, _, _ in tested)
        summary["test"] = {
            "accuracy": right / len(tested), "interval": list(wilson_interval(right, len(tested))),
            "macro_f1": 0.75, "calibration_error": 0.125, "images": len(tested), "looks": 2,
        }  # fmt: skip
        predictions = [
            (name, label, label if content not in wrong else "ba"[label == "b"], "0.9")
            for name, content, label, part in rows
            if part == "test"
        ]
        write_csv(run.path / "predictions.csv", ("image", "class", "predicted", "probability"), reversed(predictions))
    run.write("summary", summary)
    return run.path


def contents(numbers: Sequence[int]) -> list[str]:
    return [f"hash{number}" for number in numbers]


def test_images_are_matched_by_content_never_by_name_or_place(tmp_path: Path) -> None:
    """Names differ between the runs, and the second's test part lies in another order."""
    first = record(tmp_path / "a", images(range(40)), contents([0, 1, 2]))
    second = record(tmp_path / "b", images(range(39, -1, -1)), contents(range(2, 17)))
    [pair] = compare([first, second])["pairs"]
    assert (pair["both"], pair["first_alone"], pair["second_alone"], pair["neither"]) == (23, 14, 2, 1)
    assert (pair["first_accuracy"], pair["second_accuracy"]) == (37 / 40, 25 / 40)
    assert pair["p"] == pair["p_adjusted"] == pytest.approx(2 * (1 + 16 + 120) / 2**16)
    assert pair["better"] == "a"
    sentence = "a is better than b on these 40 images: 14 it alone got right against 2, p = 0.0042."
    assert pair["sentence"] == sentence
    [turned] = compare([second, first])["pairs"]
    assert (turned["difference"], turned["sentence"]) == (-pair["difference"], sentence)


def test_runs_that_cannot_be_told_apart(tmp_path: Path) -> None:
    first = record(tmp_path / "a", images(range(20)), contents([0]))
    second = record(tmp_path / "b", images(range(20)), contents([1, 2]))
    [pair] = compare([first, second])["pairs"]
    assert pair["better"] is None
    assert pair["sentence"] == (
        "a and b cannot be told apart on these 20 images: 2 a alone got right, 1 b alone, p = 1."
    )


def test_only_common_images_count_and_copies_once(tmp_path: Path) -> None:
    first = record(tmp_path / "a", [*images(range(10)), *images([3, 3])], contents([0]))
    second = record(tmp_path / "b", [*images(range(5, 30)), ("hash0", "b", "test")], contents([7]))
    compared = compare([first, second])
    [pair] = compared["pairs"]
    assert (pair["images"], pair["test_images"]) == (5, [10, 26])
    assert (pair["both"], pair["first_alone"]) == (4, 1)
    assert compared["warnings"] == [
        "1 test image has one class in a and another in b; it is left out of the comparison."
    ]
    text = comparison_text(compared)
    assert "5 of 10 and 26" in text
    assert "A picture that lies in a test part several times counts once here." in text


def test_nothing_in_common_is_said_with_the_reason(tmp_path: Path) -> None:
    first, second = record(tmp_path / "a", images(range(5))), record(tmp_path / "b", images(range(5, 9)))
    compared = compare([first, second])
    [pair] = compared["pairs"]
    assert (pair["images"], pair["p"], pair["better"]) == (0, None, None)
    assert pair["sentence"] == "Nothing can be tested between a and b: no image is in the test part of both."
    assert "McNemar" not in comparison_text(compared)


def test_a_sealed_test_part_stays_sealed(tmp_path: Path) -> None:
    first, second = record(tmp_path / "a", images(range(5))), record(tmp_path / "b", images(range(5)), None)
    compared = compare([first, second])
    assert compared["pairs"][0]["sentence"] == (
        "Nothing can be tested between a and b: b has no recorded predictions on the test part."
    )
    assert compared["runs"][1]["test"] is None
    assert "sealed" in comparison_text(compared)
    third = record(tmp_path / "c", images(range(5)), None)
    assert "b and c have no recorded predictions" in compare([second, third])["pairs"][0]["sentence"]


def test_the_latest_look_at_the_own_test_part_is_shown(tmp_path: Path) -> None:
    tested = images(range(5))
    first, second = record(tmp_path / "a", tested, None), record(tmp_path / "b", tested)
    look = {"accuracy": 0.6, "interval": [0.2, 0.9], "macro_f1": 0.6, "calibration_error": 0.1, "looks": 3}
    lines = [{**look, "images": 5, "own": True}, {**look, "accuracy": 0.1, "images": 5, "own": False}]
    append_lines(first / "evaluations.jsonl", lines)
    shown = compare([first, second])["runs"]
    assert shown[0]["test"] == {**look, "images": 5}
    assert shown[1]["test"]["looks"] == 2


def test_images_that_the_other_run_was_trained_on_are_warned_of(tmp_path: Path) -> None:
    seen = [("hash1000", "a", "test"), ("hash1001", "b", "test"), ("hash2000", "a", "test")]
    first, second = record(tmp_path / "a", images(range(4))), record(tmp_path / "b", images(range(4)))
    with (second / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = [list(row.values()) for row in csv.DictReader(file) if row["hash"] not in {each[0] for each in seen}]
    write_csv(
        second / "split.csv",
        ("image", "hash", "class", "part"),
        [*rows, *((f"seen-{n}", *each) for n, each in enumerate(seen))],
    )
    with (second / "predictions.csv").open("a", encoding="utf-8") as file:
        file.writelines(f"seen-{n},{label},{label},0.9\n" for n, (_, label, _) in enumerate(seen))
    compared = compare([first, second])
    assert compared["pairs"][0]["images"] == 4
    [warning] = compared["warnings"]
    assert warning == (
        "3 of b's 7 test images were used to train or choose a: "
        "it must not be measured on them, and they are in no comparison."
    )
    assert f"Warning  {warning}" in comparison_text(compared)


def test_several_pairs_are_corrected_and_it_is_said(tmp_path: Path) -> None:
    runs = [
        record(tmp_path / "a", images(range(60)), contents([0, 1])),
        record(tmp_path / "b", images(range(60)), contents(range(2, 14))),
        record(tmp_path / "c", images(range(60)), contents(range(3, 14))),
        record(tmp_path / "d", images(range(60)), None),
    ]
    compared = compare(runs)
    assert compared["correction"] == {"method": "Holm", "comparisons": 3}
    tested = {(pair["first"], pair["second"]): pair for pair in compared["pairs"] if pair["untested"] is None}
    assert set(tested) == {("a", "b"), ("a", "c"), ("b", "c")}
    p = [pair["p"] for pair in tested.values()]
    assert p == pytest.approx([2 * 106 / 2**14, 2 * 92 / 2**13, 1.0])
    assert [pair["p_adjusted"] for pair in tested.values()] == pytest.approx([3 * p[0], 2 * p[1], 1.0])
    assert [pair["better"] for pair in tested.values()] == ["a", "a", None]
    assert "Holm's method for 3 comparisons" in comparison_text(compared)


def test_what_correction_makes_undecided(tmp_path: Path) -> None:
    runs = [record(tmp_path / name, images(range(30))) for name in "ab"]
    runs.append(record(tmp_path / "c", images(range(30)), contents(range(6))))
    compared = compare(runs)
    [_, pair, _] = compared["pairs"]
    assert pair["p"] == pytest.approx(2 / 2**6)
    assert pair["p_adjusted"] == pytest.approx(3 * pair["p"])
    assert pair["better"] is None
    assert compare(runs[1:])["pairs"][0]["better"] == "b"


def test_settings_that_differ(tmp_path: Path) -> None:
    tested = images(range(4))
    first = record(tmp_path / "a", tested, settings={"seed": 0, "memory": 4.0, "budget": 10.0})
    second = record(tmp_path / "b", tested, settings={"seed": 1, "memory": 4.0, "epochs": None})
    compared = compare([first, second])
    assert compared["settings"] == {"seed": {"a": 0, "b": 1}, "budget": {"a": 10.0}, "epochs": {"b": None}}
    lines = comparison_text(compared).splitlines()
    assert ["seed", "0", "1"] in [line.split() for line in lines]
    assert "Settings that only one of the runs has: budget, epochs" in lines
    assert (
        compare(
            [first, record(tmp_path / "c", tested, settings=yaml.safe_load((first / "settings.yaml").read_text()))]
        )["settings"]
        == {}
    )


def test_only_what_differs_is_in_the_table_and_in_the_words_of_the_settings(tmp_path: Path) -> None:
    tested = images(range(4))
    own = {f"own{number}": number for number in range(8)}
    runs = [
        record(tmp_path / "fit", tested, settings={"seed": 0, "size": None, "augment": {}, "budget": 20.0}),
        record(
            tmp_path / "one", tested, settings={"seed": 0, "size": 32, "augment": {"rotate": 5}, "flip": True, **own}
        ),
        record(tmp_path / "two", tested, settings={"seed": 0, "size": 32, "augment": {}, "flip": False, **own}),
    ]
    lines = comparison_text(compare(runs)).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("Settings that differ"))
    rows = [line.split(maxsplit=1) for line in lines[start + 1 : lines.index("", start)]]
    assert {name: " ".join(values.split()) for name, values in rows} == {
        "size": "null 32 32",
        "augment": "{} {rotate: 5} {}",
        "flip": "– true false",
    }
    assert "Settings that not all of the runs have: budget, own0, own1, own2, own3, own4 and 3 more" in lines


def test_runs_of_the_same_name_are_called_by_their_paths(tmp_path: Path) -> None:
    paths = [record(tmp_path / place / "run", images(range(3))) for place in ("x", "y")]
    paths.append(record(tmp_path / "other", images(range(3))))
    assert [run["name"] for run in compare(paths)["runs"]] == [str(paths[0]), str(paths[1]), "other"]


def test_names_cannot_command_the_terminal(tmp_path: Path) -> None:
    paths = [record(tmp_path / name, images(range(3))) for name in ("a\x1b[2J[red]", "b")]
    text = comparison_text(compare(paths))
    assert "\x1b" not in text
    assert "a\\x1b[2J[red] and b cannot be told apart" in text


def test_the_table_is_as_wide_as_it_needs_where_nobody_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    paths = [record(tmp_path / (letter * 90), images(range(3))) for letter in "abc"]
    rows = [line.split("  ") for line in comparison_text(compare(paths)).splitlines()]
    [chosen] = [row for row in rows if row[0] == "Chosen"]
    assert [cell.strip() for cell in chosen if cell.strip()] == ["Chosen", *["convnet"] * 3]


def test_wrong_use_is_one_sentence(tmp_path: Path) -> None:
    first, second = (record(tmp_path / name, images(range(3))) for name in "ab")
    with pytest.raises(InputError, match="needs two runs or more, and none was given"):
        compare([])
    with pytest.raises(InputError, match="needs two runs or more, and one was given"):
        compare([first])
    with pytest.raises(RunError, match=f"{first} and {first}/../a are the same run; give each run once"):
        compare([first, second, first / ".." / "a"])
    with pytest.raises(RunError, match="There is no run at nowhere"):
        compare([first, Path("nowhere")])
    (second / "summary.json").unlink()
    with pytest.raises(RunError, match=r"summary.json is missing or damaged; the run did not finish"):
        compare([first, second])
    rmtree(second / "model")
    with pytest.raises(RunError, match="holds no saved model: the run did not finish"):
        compare([first, second])


def test_damaged_predictions_are_refused(tmp_path: Path) -> None:
    first, second = (record(tmp_path / name, images(range(3))) for name in "ab")
    table = second / "predictions.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(RunError, match=r"predictions.csv does not tell of the test images in split.csv"):
        compare([first, second])
    table.write_text("\n".join(["image,class", *lines[1:]]))
    with pytest.raises(RunError, match=r"predictions.csv is damaged; the run's files were changed"):
        compare([first, second])
    table.unlink()
    table.mkdir()
    with pytest.raises(RunError, match=r"predictions.csv is damaged; the run's files were changed"):
        compare([first, second])


def test_wrong_use_of_the_command_ends_with_2(saccade: Saccade, tmp_path: Path) -> None:
    run = record(tmp_path / "a", images(range(3)))
    for arguments, words in (([], "none was given"), ([run], "one was given"), ([run, run], "are the same run")):
        done = saccade("compare", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        [sentence] = done.stderr.strip().splitlines()
        assert sentence.startswith("saccade: ")
        assert words in sentence


def test_two_real_runs_and_no_look(digits_run: tuple[Path, dict[str, Any]], saccade: Saccade, tmp_path: Path) -> None:
    """A shorter run against a longer one: figures as the runs have them, counts as their tables have them."""
    longer, summary = digits_run
    shorter = tmp_path / "shorter"
    done = saccade("fit", "digits", "--budget", "4s", "--out", shorter, "--json")
    assert done.returncode == 0, done.stderr
    ledger = Path(os.environ["SACCADE_STATE"]) / "ledger.jsonl"
    before, files = ledger.read_bytes(), {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    compared = saccade("compare", longer, shorter, "--json")
    assert compared.returncode == 0, compared.stderr
    answer = json.loads(compared.stdout)
    assert answer["runs"][0]["test"]["accuracy"] == summary["test"]["accuracy"]
    assert answer["settings"]["budget"] == {longer.name: 12.0, "shorter": 4.0}
    [pair] = answer["pairs"]
    right = []
    for run in (longer, shorter):
        with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
            right.append({row["image"]: row["class"] == row["predicted"] for row in csv.DictReader(file)})
    assert right[0].keys() == right[1].keys()  # the same seed, and so the same split
    pairs = [(right[0][name], right[1][name]) for name in right[0]]
    assert (pair["images"], pair["both"], pair["neither"]) == (
        len(pairs), pairs.count((True, True)), pairs.count((False, False))
    )  # fmt: skip
    assert pair["first_accuracy"] == pytest.approx(summary["test"]["accuracy"])
    text = saccade("compare", longer, copytree(shorter, tmp_path / "copy"))
    assert text.returncode == 0, text.stderr
    assert pair["sentence"].replace("shorter", "copy") in text.stdout
    assert ledger.read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in files if p != tmp_path} == {
        p: t for p, t in files.items() if p != tmp_path
    }
