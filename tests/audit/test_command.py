"""`saccade audit`: its answer, its page, its manifest, its cache, and what it refuses."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import f1_score

from saccade import data, recipe
from saccade.cli.audit import audit_text
from saccade.data import Cache
from saccade.data.trees import Folder
from saccade.errors import SourceError
from saccade.events import Progress, listening
from saccade.files import original
from saccade.recipe import audit as auditing
from saccade.recipe.audit import audit
from saccade.recipe.comparison import Recorded
from saccade.report.audit import summary_rows
from saccade.run import Run
from saccade.settings import AuditSettings, TrainSettings
from tests.conftest import Saccade
from tests.photos import messy_folder, photo, photo_folder

UNFIXABLE = "is not a folder or a manifest of files, so --fix has no paths to write; unpack it into a folder first."
MAKE = "make it, or give --fix another name."
SETTINGS = AuditSettings(pretrained="none", budget=20)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def messy(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    root = tmp_path / "messy photos"
    root.mkdir()
    return root, messy_folder(root)


def run(source: Path, tmp_path: Path, fix: Path | None = None, settings: AuditSettings = SETTINGS) -> dict[str, Any]:
    return audit(source, settings, fix=fix, page=tmp_path / "page.html")


def test_the_command_answers_with_one_json_object(saccade: Saccade, messy: tuple[Path, dict[str, str]]) -> None:
    root, planted = messy
    page = root.parent / "page.html"
    done = saccade("audit", root, "--json", "--page", page, "--pretrained", "none")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["images"] == 300
    assert value["classes"] == {"disc": 98, "square": 99, "stripes": 100}
    found = {path: finding["kind"] for finding in value["findings"] for path in finding["paths"]}
    for fault, kind in {"truncated": "unreadable", "empty": "unreadable", "text": "unreadable",
                        "copy": "duplicate", "hidden": "ignored", "class": "empty-class"}.items():  # fmt: skip
        assert found[planted[fault]] == kind
    text = page.read_text()
    assert "data:image/jpeg;base64," in text
    assert "<script" not in text
    assert "://" not in text


def test_a_fixed_manifest_leaves_the_bad_ones_out_and_touches_nothing(
    messy: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    root, planted = messy
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}
    fix = tmp_path / "good.csv"
    value = run(root, tmp_path, fix)
    assert (value["left_out"], value["emptied"]) == (4, [])
    assert audit_text(value, []).splitlines()[-2:] == ["Left out  4 of 300 images", f"Fit   saccade fit {fix}"]
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    images = data.integrity(data.open(fix))
    names = {key.removeprefix("messy photos/") for key in images.keys}
    assert len(names) == 296
    assert names.isdisjoint(planted[fault] for fault in ("truncated", "empty", "text"))
    assert len(names & {planted["copy"], planted["original"]}) == 1
    assert images.classes == ("disc", "square", "stripes")


def test_a_manifest_that_leaves_one_class_is_not_offered_to_fit(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", 6, suffix=".png")
    for name in ("square", "stripes"):
        for path in (root / name).iterdir():
            shutil.copy(next((root / "disc").iterdir()), path)
    value = run(root, tmp_path, tmp_path / "good.csv")
    assert value["emptied"] == ["square", "stripes"]
    last = audit_text(value, []).splitlines()[-1]
    assert last == "Left out  13 of 18 images; none is left of “square” and “stripes”"


def test_a_class_without_a_readable_file_is_named_and_the_others_are_offered_to_fit(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", {"disc": 6, "square": 6}, suffix=".png")
    (root / "ant").mkdir()
    (root / "ant" / "broken.png").write_bytes(b"")
    value = run(root, tmp_path, fix := tmp_path / "good.csv")
    assert value["emptied"] == ["ant"]
    assert audit_text(value, []).splitlines()[-2:] == [
        "Left out  1 of 13 images; none is left of “ant”",
        f"Fit   saccade fit {fix}",
    ]


def test_where_a_group_of_copies_begins_is_told_and_drawn(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    photo_folder(root, 12, suffix=".png")
    for name, copies in (("disc/0001", 2), ("square/0002", 1)):
        for number in range(copies):
            shutil.copy(root / f"{name}.png", root / f"{name}-{number}.png")
    [found] = [finding for finding in run(root, tmp_path)["findings"] if finding["kind"] == "duplicate"]
    first, second = found["paths"][:3], found["paths"][3:]
    assert [len(first), len(second)] == list(found["groups"]) == [3, 2]
    assert {path.split("/")[0] for path in first} == {"disc"}
    page = (tmp_path / "page.html").read_text()
    assert page.count('class="starts"') == 1
    assert second[0] in page[page.index('class="starts"') :].split("</li>")[0]


def test_near_duplicates_share_a_group_and_given_parts_stay(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for part in ("train", "test"):
        photo_folder(root / part, 30, seed=int(part == "test"), suffix=".png")
    original = Image.open(root / "train" / "disc" / "0003.png")
    original.save(root / "test" / "disc" / "again.jpg", quality=92)
    fix = tmp_path / "good.csv"
    value = run(root, tmp_path, fix)
    leaks = [finding for finding in value["findings"] if finding["kind"] == "leak"]
    assert [leak["paths"] for leak in leaks] == [["test/disc/again.jpg"]]
    with fix.open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    one, other = rows["photos/train/disc/0003.png"], rows["photos/test/disc/again.jpg"]
    assert one["group"] == other["group"] != ""
    assert (one["split"], other["split"]) == ("train", "test")


def test_odd_names_survive_the_manifest(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    photo_folder(root, {"a": 3, "b": 3, "=cmd()": 3})
    odd = ["=cmd().jpg", "-rf.jpg", "new\nline.jpg", "émoji 🐈.jpg", 'qu"ote,comma.jpg', "x" * 250 + ".jpg"]
    for seed, name in enumerate(odd):
        Image.fromarray(photo(0, seed=50 + seed)).save(root / "a" / name)
    fix = tmp_path / "good.csv"
    run(root, tmp_path, fix)
    images = data.integrity(data.open(fix))
    assert {f"photos/a/{name}" for name in odd} <= set(images.keys)
    assert images.classes == data.open(root).classes


def test_no_cell_of_the_manifest_is_a_formula(tmp_path: Path) -> None:
    root = tmp_path / "=photos"
    photo_folder(root, {"=cmd()": 3, "+1": 3, "'-b": 3})
    fix = tmp_path / "good.csv"
    run(root, tmp_path, fix, SETTINGS.model_copy(update={"group_pattern": "[=+-].*/000[01]"}))
    with fix.open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert {"'=cmd()", "'+1", "''-b"} <= set(cells)
    images = data.integrity(data.open(fix))
    assert images.classes == data.open(root).classes
    assert all(Path(key).is_relative_to("=photos") for key in images.keys)


def test_labels_are_doubted_by_folds_that_keep_a_group_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = photo_folder(tmp_path / "photos", 50)
    original, told = auditing._suspects, []

    def noted(part: data.Part, groups_N: NDArray[np.int64], *rest: Any) -> Any:
        told.append({(key[-5], group) for key, group in zip(part.images.keys, groups_N.tolist(), strict=True)})
        return original(part, groups_N, *rest)

    monkeypatch.setattr(auditing, "_suspects", noted)
    run(root, tmp_path)
    run(root, tmp_path, settings=SETTINGS.model_copy(update={"group_pattern": r"([0-9])\.jpg"}))
    alone, grouped = told  # the second did not take what the cache keeps of the first
    assert len(alone) > 100
    assert len(grouped) == len({digit for digit, _ in grouped}) > 5


def test_a_second_audit_reads_nothing_and_a_changed_file_is_read_again(
    messy: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, planted = messy
    first = run(root, tmp_path)
    read: list[str] = []
    original = Folder.read

    def noted(folder: Folder, file: str) -> bytes:
        read.append(file)
        return original(folder, file)

    monkeypatch.setattr(Folder, "read", noted)
    again = run(root, tmp_path)
    assert read == []
    assert [again[name] for name in ("images", "classes", "findings")] == [
        first[name] for name in ("images", "classes", "findings")
    ]
    (root / planted["empty"]).write_bytes(b"no longer empty")
    run(root, tmp_path)
    assert set(read) == {planted["empty"]}
    read.clear()
    run(root, tmp_path, settings=SETTINGS.model_copy(update={"cache": False}))
    assert len(set(read)) == 300


@pytest.mark.parametrize("damage", [b"this is no database", b""])
def test_a_damaged_cache_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    root = photo_folder(tmp_path / "photos", 4)
    run(root, tmp_path)
    cache = Cache.of(root)
    cache.path.write_bytes(damage)
    assert run(root, tmp_path)["images"] == 12
    assert run(root, tmp_path)["images"] == 12
    images = data.open(root)
    assert cache.recall(images, images.pixels.stamps(images.keys)) == 12


def test_what_cannot_be_written_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", 4)
    arrays = tmp_path / "x.npz"
    np.savez(arrays, images=np.zeros((6, 8, 8), np.uint8), labels=np.arange(6) % 2)
    taken = tmp_path / "taken.csv"
    taken.write_text("")
    cases = [
        (root, root / "fix.csv", f"{root / 'fix.csv'} would lie inside the source; give --fix a file elsewhere."),
        (root, tmp_path, f"{tmp_path} is a folder; give --fix the name of a file."),
        (root, taken, f"{taken} already exists; give --fix another name, or remove it."),
        (
            root,
            tmp_path / "no" / "x.csv",
            f"There is no folder {tmp_path / 'no'}; {MAKE}",
        ),
        (arrays, tmp_path / "fix.csv", f"{arrays} {UNFIXABLE}"),
    ]
    if Path("/proc/self").exists():
        nowhere = "/proc/x.csv cannot be written; give --fix the name of a file in a folder to write to."
        cases.append((root, Path("/proc/x.csv"), nowhere))
    for source, fix, sentence in cases:
        with pytest.raises(SourceError) as caught:
            run(source, tmp_path, fix)
        assert str(caught.value) == sentence


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", 4)
    images, cache = data.open(root), Cache.of(root)
    stamps = images.pixels.stamps(images.keys)
    reasons = images.pixels.check(images.keys)
    (root / "disc" / "0001.jpg").write_bytes(b"another, and of another size")
    cache.keep(images, reasons, stamps)
    again = data.open(root)
    assert cache.recall(again, again.pixels.stamps(again.keys)) == 11


def test_the_page_is_neither_the_source_nor_the_manifest(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", 4)
    fix = tmp_path / "good.csv"
    run(root, tmp_path, fix)
    before = fix.read_bytes()
    for source, other in ((fix, None), (root, tmp_path / "new.csv")):
        with pytest.raises(SourceError, match="give --page another name"):
            audit(source, SETTINGS, fix=other, page=other or fix)
    assert fix.read_bytes() == before


def test_a_page_takes_the_place_of_another_page_of_an_audit_alone(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", 4)
    run(root, tmp_path)
    first = (tmp_path / "page.html").read_bytes()
    run(photo_folder(tmp_path / "others", 5), tmp_path)
    assert (tmp_path / "page.html").read_bytes() != first
    for content in ("<!doctype html><title>Mine</title>", "", "\xff\x00"):
        (tmp_path / "page.html").write_text(content)
        with pytest.raises(SourceError, match=r"page\.html already exists and is no page of an audit"):
            run(root, tmp_path)
        assert (tmp_path / "page.html").read_text() == content


def test_doubts_of_images_made_square_otherwise_are_others(tmp_path: Path) -> None:
    images = data.open(photo_folder(tmp_path / "photos", 4))
    names = {
        auditing._name(images, None, SETTINGS.model_copy(update={"fit_to_square": how})) for how in ("stretch", "crop")
    }
    assert len(names) == 2


def test_too_few_images_to_split_are_a_finding(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", {"a": 1, "b": 1})
    told = {finding["kind"]: finding["detail"] for finding in run(root, tmp_path)["findings"]}
    assert "has too few images to split" in told["unsplit"]
    assert "small-class" in told


def test_a_source_without_training_images_is_not_said_to_have_small_classes(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos" / "test", {"cat": 6, "dog": 6})
    value = run(tmp_path / "photos", tmp_path)
    told = {finding["kind"]: finding["detail"] for finding in value["findings"]}
    assert "has no training images" in told["unsplit"]
    assert "small-class" not in told
    assert "No way to split" in audit_text(value, summary_rows(value))


def test_the_text_is_a_table_of_kinds(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", {"a": 12, "b": 2})
    value = run(root, tmp_path)
    text = audit_text(value, summary_rows(value))
    assert text.splitlines()[0] == "14 images, 2 classes"
    assert "  warning  Unbalanced classes" in text
    clean = {**value, "findings": [], "seconds": 1.0, "page": "p.html"}
    assert audit_text(clean, []).splitlines()[1:] == ["  Nothing doubtful was found.", "Took  1.0 s", "Page  p.html"]
    fixed = audit_text({**clean, "fix": "my clean.csv", "left_out": 1, "emptied": []}, [])
    assert fixed.splitlines()[-1] == "Fit   saccade fit 'my clean.csv'"


def test_metrics_equal_a_hand_count_whatever_the_class_folders_are(tmp_path: Path, ledger_folder: Path) -> None:
    # Other letter case, another Unicode form, other order, an empty class in validation, an extra one in test.
    root = tmp_path / "photos"
    spelt = {
        "train": {"caf\u00e9": 0, "Square": 1, "zebra": 2},
        "validation": {"cafe\u0301": 0, "square": 1},
        "test": {"zebra": 2, "square": 1, "caf\u00e9": 0, "=cmd()": 0},
    }
    for part, names in spelt.items():
        for name, label in names.items():
            (root / part / name).mkdir(parents=True)
            for seed in range({"train": 30, "validation": 8, "test": 10}[part]):
                place = root / part / name / f"{seed}.png"
                Image.fromarray(photo(label, seed=1000 * len(part) + 100 * len(name) + seed)).save(place)
    (root / "validation" / "zebra").mkdir()
    trained = recipe.train(root, TrainSettings(epochs=4, size=16), out=tmp_path / "run")
    assert trained.summary["classes"] == ["=cmd()", "caf\u00e9", "Square", "zebra"]
    assert trained.summary["split"] == {"train": 90, "validation": 16, "test": 40}
    figures = recipe.evaluate(tmp_path / "run")
    with (tmp_path / "run" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == {"'=cmd()", "caf\u00e9", "Square", "zebra"}
    assert Recorded("run", Run.open(tmp_path / "run")).right  # `compare` reads the names as they were
    folder = {"square": "Square"}
    truth = [row["image"].split("/")[1] for row in rows]
    right = [row["predicted"] == folder.get(name, name) for row, name in zip(rows, truth, strict=True)]
    assert figures["accuracy"] == pytest.approx(sum(right) / 40)
    classes, asked = trained.summary["classes"], [folder.get(name, name) for name in truth]
    pairs = Counter(zip(asked, [original(row["predicted"]) for row in rows], strict=True))
    assert figures["confusion"] == [[pairs[own, taken] for taken in classes] for own in classes]
    for row in figures["per_class"]:
        name, named = row["class"], sum(pairs[own, row["class"]] for own in classes)
        assert row["recall"] == pytest.approx(pairs[name, name] / 10)
        assert row["precision"] == pytest.approx(pairs[name, name] / named if named else 0)
    assert pairs["=cmd()", "=cmd()"] == 0
    expected = f1_score(asked, [original(row["predicted"]) for row in rows], average="macro")
    assert figures["macro_f1"] == pytest.approx(expected)


def test_labels_are_doubted_anew_by_other_weights_of_the_same_network(tmp_path: Path) -> None:
    root = photo_folder(tmp_path / "photos", 60, size=(40, 40))
    looked: list[float] = []

    def count(event: object) -> None:
        if isinstance(event, Progress) and event.task == "labels" and event.unit == "folds":
            looked.append(event.done)

    def folds(seed: int) -> int:
        torch.manual_seed(seed)
        network = timm.create_model("test_resnet.r160_in1k", pretrained=False)
        save_file(network.state_dict(), tmp_path / "own.safetensors")
        given = f"timm/test_resnet.r160_in1k={tmp_path / 'own.safetensors'}"
        looked.clear()
        with listening(count):
            run(root, tmp_path, settings=AuditSettings(pretrained=given, budget=20))
        return len(looked)

    first, again, other = folds(0), folds(0), folds(1)
    assert first > 0
    assert again == 0
    assert other > 0
