"""`fit` on a folder with everything wrong in it, and `evaluate` on images it must and must not take."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import saccade
from saccade import data, recipe, report
from saccade.classifiers import Model
from saccade.data import named
from saccade.errors import DecodeError, InputError, RunError, SourceError
from saccade.events import Finding, listening
from saccade.recipe.material import Material, discarded_on_refusal, tell_small
from saccade.run import Run
from saccade.settings import DataSettings, FitSettings, TrainSettings
from tests.photos import messy_folder, photo_folder


def test_a_messy_folder_is_finished_and_every_fault_named(tmp_path: Path, ledger_folder: Path) -> None:
    faults = messy_folder(tmp_path / "mess")
    result = recipe.fit(tmp_path / "mess", FitSettings(budget=15), out=tmp_path / "run")
    findings = json.loads((tmp_path / "run" / "findings.json").read_text())
    named = {Path(path).name for finding in findings for path in finding["paths"]}
    report = (tmp_path / "run" / "report.html").read_text()
    for fault, name in faults.items():
        assert Path(name).name in named, fault
        assert Path(name).name in report, fault
    assert {finding["kind"] for finding in findings} >= {
        "unreadable",
        "converted",
        "duplicate",
        "ignored",
        "empty-class",
    }
    assert result.summary["unreadable"] == 3
    assert result.summary["duplicates"] == 1
    assert result.summary["images"] - 3 == sum(result.summary["split"].values())
    graver = [each for each in findings if each["severity"] != "note"]
    assert any(each["kind"] == "unreadable" for each in graver)
    for warning, each in zip(result.summary["warnings"], graver, strict=True):
        assert warning.endswith(each["detail"])
        assert not each["paths"] or warning.startswith(each["paths"][0]) or f'"{each["paths"][0]}"' in each["detail"]
    assert [finding["count"] for finding in result.summary["findings"]] == [len(each["paths"]) for each in findings]
    (linear,) = [row for row in result.summary["baselines"] if row["name"] == "linear softmax"]
    assert [each["class"] for each in linear["templates"]] == result.summary["classes"]
    assert all((tmp_path / "run" / each["picture"]).is_file() for each in linear["templates"])
    assert report.count('alt="Weights of ') == len(result.summary["classes"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of small photos in three classes."""
    return photo_folder(tmp_path / "photos", 12)


@pytest.fixture
def run(photos: Path, tmp_path: Path, ledger_folder: Path) -> Path:
    """Return a run of a linear classifier on the photos."""
    recipe.train(photos, TrainSettings(model="linear", epochs=2, size=16), out=tmp_path / "run")
    return tmp_path / "run"


def test_new_images_are_matched_by_name_and_their_looks_counted(run: Path, tmp_path: Path) -> None:
    new = photo_folder(tmp_path / "new", {"square": 5, "disc": 4}, seed=9)
    first, second = recipe.evaluate(run, new), recipe.evaluate(run, new)
    assert first["images"] == 9
    assert [row["images"] for row in first["per_class"]] == [4, 5, 0]
    assert (first["looks"], second["looks"]) == (1, 2)


def test_images_the_model_was_trained_on_are_refused(run: Path, photos: Path, tmp_path: Path) -> None:
    some = Path(shutil.copytree(photos, tmp_path / "some"))
    (some / next(row["image"] for row in Run(run).read_split() if row["part"] == "test")).unlink()
    with pytest.raises(
        SourceError, match=r"30 of the 35 images in .* were used to train or choose this model; give new"
    ):
        recipe.evaluate(run, some)


def test_a_runs_own_test_part_is_measured_where_its_images_lie_by_now(
    photos: Path, tmp_path: Path, ledger_folder: Path
) -> None:
    source = Path(shutil.copytree(photos, tmp_path / "before"))
    run = recipe.train(source, TrainSettings(model="linear", epochs=2, size=16), out=tmp_path / "run").run
    first = recipe.evaluate(run.path)
    predictions = run.predictions.read_text()
    source.rename(tmp_path / "after")
    run.predictions.unlink()
    with pytest.raises(RunError, match=r"The run's images lay in .*before, .*: saccade evaluate .*run FOLDER\.$"):
        recipe.evaluate(run.path)
    again = recipe.evaluate(run.path, tmp_path / "after")
    assert run.predictions.read_text() == predictions
    same = ("accuracy", "confusion", "log_loss", "own", "images", "mistakes")
    assert {name: again[name] for name in same} == {name: first[name] for name in same}
    assert (first["looks"], again["looks"]) == (1, 2)
    for place, file in enumerate(sorted((tmp_path / "after").rglob("*.*"))):
        file.rename(file.with_name(f"renamed-{place}{file.suffix}"))
    photo_folder(tmp_path / "after", {"square": 5}, seed=77)  # and there are new ones beside them
    renamed = recipe.evaluate(run.path, tmp_path / "after")
    assert run.predictions.read_text() == predictions
    assert {name: renamed[name] for name in same} == {name: first[name] for name in same}
    assert (len(run.own_looks()), renamed["looks"]) == (3, 3)


def test_why_a_runs_images_cannot_be_opened_again_is_told(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "a run"
    run.rename(there)
    shutil.rmtree(photos)
    for seed, part in enumerate(("train", "eval")):
        photo_folder(photos / part, 2, seed=seed)
    hint = f" Mend that, or give where they lie now: saccade evaluate '{there}' FOLDER."
    with pytest.raises(RunError) as told:
        recipe.evaluate(there)
    assert str(told.value).startswith(f"The run's images cannot be opened again. {photos} holds what look like parts")
    assert str(told.value).endswith(hint)
    summary = json.loads((there / "summary.json").read_text())
    (there / "summary.json").write_text(json.dumps({**summary, "source": "cifar10"}))
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(named, "unreachable", lambda home: "no network")
    with pytest.raises(RunError, match=r'again\. The data set "cifar10" is not on this machine and .* \(no network\)'):
        recipe.evaluate(there)
    photos.rename(tmp_path / "after")
    (there / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(
        RunError, match=r"The run's images lay in .*photos, where there is no such source any more; give"
    ):
        recipe.evaluate(there)


def relabelled(run: Run, name: str, source: Path | None = None) -> dict[str, Any]:
    """Return the figures of a run's test part after one image got another class, which a Finding is to name."""
    told: list[Finding] = []
    before = run.predictions.read_text()
    with listening(lambda event: told.append(event) if isinstance(event, Finding) else None):
        figures = recipe.evaluate(run.path, source)
    [finding] = [each for each in told if each.kind == "label"]
    assert (finding.paths, finding.severity) == ((name,), "warning")
    assert finding.detail.startswith(f"of another class in {figures['source']} than the run recorded: measured by the")
    assert (figures["own"], run.predictions.read_text()) == (False, before)  # which `compare` holds against split.csv
    return figures


def test_test_images_count_by_the_class_that_their_place_gives_them_now(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    rows = [row for row in Run(run).read_split() if row["part"] == "test"]
    name = next(row["image"] for row in rows if row["class"] == "disc")
    copy = next(row["image"] for row in rows if row["class"] == "square")
    first = recipe.evaluate(run)
    other = photos / name.replace("disc", "stripes")
    (photos / name).rename(other.with_stem("moved"))
    shutil.copy(photos / copy, (photos / copy).with_stem("copy").with_suffix(".jpg"))  # of its own class: no change
    figures = relabelled(Run(run), name, photos)
    before, after = ({row["class"]: row["images"] for row in each["per_class"]} for each in (first, figures))
    assert after == {"disc": before["disc"] - 1, "square": before["square"], "stripes": before["stripes"] + 1}
    assert figures["looks"] == 2
    assert len(Run(run).own_looks()) == 1
    other.with_stem("moved").rename(tmp_path / other.name)
    (photos / "zebra").mkdir()
    (tmp_path / other.name).rename(photos / "zebra" / other.name)
    with pytest.raises(SourceError, match='class "zebra", which the model does not know'):
        recipe.evaluate(run, photos)


def test_a_table_that_gives_a_test_image_another_class_counts(tmp_path: Path, ledger_folder: Path) -> None:
    photos = photo_folder(tmp_path / "photos", 12)
    table = tmp_path / "photos.csv"
    lines = [f"photos/{file.relative_to(photos)},{file.parent.name}" for file in sorted(photos.rglob("*.*"))]
    table.write_text("\n".join(["path,label", *lines]))
    run = recipe.train(table, TrainSettings(model="linear", epochs=2, size=16), out=tmp_path / "run").run
    assert recipe.evaluate(run.path)["own"]
    name = next(row["image"] for row in run.read_split() if row["part"] == "test" and row["class"] == "disc")
    table.write_text(table.read_text().replace(f"{name},disc", f"{name},SQUARE").replace(",square", ",SQUARE"))
    assert relabelled(run, name)["looks"] == 2


def test_some_of_the_test_images_are_a_look_at_the_test_part(run: Path, photos: Path, tmp_path: Path) -> None:
    test = [row["image"] for row in Run(run).read_split() if row["part"] == "test"]
    for name in test[:-1]:
        (tmp_path / "some" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, tmp_path / "some" / name)
    assert recipe.evaluate(run)["looks"] == 1
    assert recipe.evaluate(run, tmp_path / "some")["looks"] == 2


def test_a_class_the_model_does_not_know_is_refused(run: Path, tmp_path: Path) -> None:
    new = photo_folder(tmp_path / "new", {"square": 3, "zebra": 3}, seed=9)
    with pytest.raises(
        SourceError, match=r'class "zebra", which the model does not know; it knows disc, square, stripes'
    ):
        recipe.evaluate(run, new)


def test_new_classes_are_matched_in_other_case_but_not_two_of_them_to_one(run: Path, tmp_path: Path) -> None:
    new = photo_folder(tmp_path / "new", {"Square": 5, "DISC": 4}, seed=9)
    told: list[Finding] = []
    with listening(lambda event: told.append(event) if isinstance(event, Finding) else None):
        figures = recipe.evaluate(run, new)
    assert [(row["class"], row["images"]) for row in figures["per_class"]] == [
        ("disc", 4), ("square", 5), ("stripes", 0)
    ]  # fmt: skip
    assert [(finding.detail, finding.paths) for finding in told if finding.kind == "class-name"] == [
        ('taken for the class "disc", as the model spells it', ("DISC",)),
        ('taken for the class "square", as the model spells it', ("Square",)),
    ]
    photo_folder(new, {"square": 2}, seed=10)
    with pytest.raises(SourceError, match=r'class "Square", which the model does not know'):
        recipe.evaluate(run, new)


def test_labels_are_those_recorded_even_where_a_class_was_unreadable(tmp_path: Path, ledger_folder: Path) -> None:
    photos = photo_folder(tmp_path / "photos", {"bee": 12, "cat": 12})
    (photos / "ant").mkdir()
    (photos / "ant" / "broken.jpg").write_bytes(b"")
    result = recipe.fit(photos, FitSettings(budget=10), out=tmp_path / "run")
    assert recipe.evaluate(tmp_path / "run")["accuracy"] == result.summary["test"]["accuracy"]


@pytest.mark.parametrize("name", ["summary.json", "settings.yaml", "split.csv"])
@pytest.mark.parametrize("content", ["", "[]", "x", "{"])
def test_a_damaged_run_says_which_file(run: Path, name: str, content: str) -> None:
    (run / name).write_text(content)
    with pytest.raises(RunError, match=rf"{name} is missing or damaged"):
        recipe.evaluate(run)


@pytest.mark.parametrize("content", ["[{}]", "{}", "x"])
def test_damaged_findings_are_refused_before_there_is_a_look(run: Path, ledger_folder: Path, content: str) -> None:
    (run / "findings.json").write_text(content)
    with pytest.raises(RunError, match=r"findings\.json is missing or damaged"):
        recipe.evaluate(run)
    assert (ledger_folder / "ledger.jsonl").read_text() == ""


@pytest.mark.parametrize("name", ["members", "classes"])
def test_a_model_without_members_or_classes_is_damaged(run: Path, name: str) -> None:
    place = run / "model" / "model.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), name: []}))
    with pytest.raises(RunError, match="cannot be loaded"):
        recipe.evaluate(run)


def test_a_run_inside_its_source_is_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    with pytest.raises(RunError, match=r"would lie inside the source; give --out a folder elsewhere"):
        recipe.fit(".", FitSettings(budget=5))
    assert not (photos / "runs").exists()


def test_an_empty_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="The source is an empty text; give a folder, a file, or a data set's name"):
        recipe.fit("", FitSettings(budget=5))


@pytest.mark.parametrize(
    "source",
    [np.zeros((2, 4, 4, 3), np.uint8), ["photos"], None, data.from_arrays(np.zeros((2, 4, 4)), [0, 1])],
    ids=lambda source: type(source).__name__,
)
def test_a_source_that_is_no_path_is_refused(source: Any) -> None:
    told = f"The source is of type {type(source).__name__}; give the path of a folder or a file, or a data set's name"
    for use in (saccade.fit, saccade.train_network, data.open):
        with pytest.raises(SourceError, match=told):
            use(source)


def test_one_image_instead_of_several_is_refused(run: Path, photos: Path) -> None:
    model = Model.load(run / "model")
    with pytest.raises(InputError, match=r"A single image given; expected several: predict\(\[image\]\)"):
        model.predict(str(photos / "disc" / "0000.jpg"))
    assert model.predict([None])[0].error  # type: ignore[list-item]


def test_small_parts_are_told() -> None:
    """Of thirty images in a hundred ten points are chance; of eight hundred they are not."""

    def told(images: int, **shares: Any) -> list[str]:
        heard: list[object] = []
        x_NHW = np.arange(images * 16).reshape(images, 4, 4)
        arrays = data.from_arrays((x_NHW % 251).astype(np.uint8), [0, 1] * (images // 2), name="x")
        parts = data.split(arrays, np.arange(images), DataSettings(**shares))
        with listening(heard.append):
            tell_small(parts)
        return [event.detail for event in heard if isinstance(event, Finding) and event.kind == "small-part"]

    both = "the validation part has 30 images and the test part has 30 images"
    may = "where 80 % of them are named correctly, anything"
    assert told(200) == [f"{both}: {may} from 63 to 90 % may be true"]
    assert told(800) == []
    assert told(400, validation_fraction=0.5) == [f"the test part has 60 images: {may} from 68 to 88 % may be true"]
    [uneven] = told(100, validation_fraction=0.3)
    assert uneven == (
        f"the validation part has 30 images and the test part has 16 images: {may} from 63 to 90 % and from 57 to 93 % "
        "may be true"
    )


def test_parts_of_few_groups_are_told_as_small() -> None:
    heard: list[object] = []
    arrays = data.from_arrays((np.arange(1200 * 16) % 251).astype(np.uint8).reshape(1200, 4, 4), [0, 1] * 600, name="x")
    arrays = replace(arrays, groups=tuple(str(number // 10) for number in range(1200)))
    with listening(heard.append):
        tell_small(data.split(arrays, np.arange(1200), DataSettings(test_fraction=0.5)), arrays)
    [told] = [event.detail for event in heard if isinstance(event, Finding) and event.kind == "small-part"]
    assert told == (
        "the validation part has 180 images of 18 groups: where 80 % of them are named correctly, anything from 55 to "
        "91 % may be true"
    )


def test_new_images_may_be_of_one_class_and_what_cannot_be_read_is_told(run: Path, tmp_path: Path) -> None:
    new = photo_folder(tmp_path / "new", {"square": 5}, seed=9)
    (new / "square" / "bad.jpg").write_bytes(b"")
    told: list[Finding] = []
    with listening(lambda event: told.append(event) if isinstance(event, Finding) else None):
        assert recipe.evaluate(run, new)["images"] == 5
    [unreadable] = [finding for finding in told if finding.kind == "unreadable"]
    assert unreadable.detail.endswith(": left out")
    assert unreadable.paths == ("square/bad.jpg",)
    (tmp_path / "gone.csv").write_text("path,label\nno/1.jpg,square\nno/2.jpg,disc\n")
    with pytest.raises(
        SourceError, match=r'has no image that can be read\. The first of 2 unreadable ones is "no/1.jpg"'
    ):
        recipe.evaluate(run, tmp_path / "gone.csv")


def test_the_report_tells_the_commonest_class_of_the_test_part_looked_at_since(
    tmp_path: Path, ledger_folder: Path
) -> None:
    photos = tmp_path / "photos"
    for seed, (part, discs, squares) in enumerate((("train", 9, 6), ("val", 8, 2), ("test", 1, 9))):
        photo_folder(photos / part, {"disc": discs, "square": squares}, seed=seed)
    run = recipe.train(photos, TrainSettings(model="linear", epochs=2, size=16), out=tmp_path / "run").run
    told = "commonest class {}\xa0%, this classifier"
    assert told.format("80.0") in report.render(run)
    assert '<th scope="col" class="n">test</th>' not in report.render(run)
    recipe.evaluate(run.path)
    assert told.format("10.0") in report.render(run)
    assert '<th scope="col" class="n">test</th>' in report.render(run)


def test_the_report_tells_of_the_looks_since(run: Path) -> None:
    assert "still sealed" in report.write(Run(run)).read_text()
    recipe.evaluate(run)
    told = report.write(Run(run)).read_text()
    assert "still sealed" not in told
    assert "This was the first look" in told
    recipe.evaluate(run)
    assert "have been looked at 2 times" in report.write(Run(run)).read_text()


def test_what_was_saved_stays_where_a_file_can_no_longer_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(out: Path, *, saved: bool) -> Run:
        begun = Run.create(out, "x")
        begun.checkpoints.mkdir()
        if saved:
            (begun.checkpoints / "some").write_text("")
        images = data.from_arrays(np.arange(96, dtype=np.uint8).reshape(6, 4, 4), [0, 1] * 3)
        part = data.Part("train", images)
        material = Material(data.Parts(part, part, data.SealedPart(part)), begun, "x", 6, 0)
        with pytest.raises(DecodeError), discarded_on_refusal(material):
            raise DecodeError("it is gone")
        return begun

    assert not refused(tmp_path / "new", saved=False).path.exists()
    assert (refused(tmp_path / "old", saved=True).checkpoints / "some").exists()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    assert refused(tmp_path / "link", saved=False).path.is_symlink()
    monkeypatch.chdir(tmp_path / "elsewhere")
    refused(Path(), saved=False)
    assert [*(tmp_path / "elsewhere").iterdir()] == []
