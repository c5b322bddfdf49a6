"""What an earlier run has seen stays out of the test part of a run that begins with its weights."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from saccade import recipe
from saccade.errors import RunError, SourceError
from saccade.events import Finding, listening
from saccade.recipe.combining import combine
from saccade.recipe.conclusion import Result
from saccade.run import Run
from saccade.settings import TrainSettings, TransferSettings
from tests.photos import photo_folder

pytestmark = pytest.mark.usefixtures("ledger_folder")
QUICK: dict[str, Any] = {"epochs": 1, "size": 16, "width": 0.25, "batch_size": 16}


@pytest.fixture(scope="module")
def first(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Return a run whose weights others begin with."""
    return recipe.train(photos, TrainSettings(**QUICK), out=tmp_path_factory.mktemp("first") / "run")


def begun(source: Path, first: Path, out: Path, **chosen: Any) -> tuple[Result, list[Finding]]:
    """Return a run that begins with the weights of another, and what was found on the way."""
    heard: list[object] = []
    with listening(heard.append):
        settings = TrainSettings(pretrained=f"run/{first}", epochs=1, batch_size=16, **chosen)
        result = recipe.train(source, settings, out=out)
    return result, [event for event in heard if isinstance(event, Finding) and event.kind == "seen"]


def hashes(run: Run, *parts: str) -> set[str]:
    return {row["hash"] for row in run.read_split() if row["part"] in parts}


@pytest.mark.parametrize("seed", [0, 7])
def test_what_the_weights_have_seen_is_not_tested_on(first: Result, photos: Path, tmp_path: Path, seed: int) -> None:
    run = first.run
    result, found = begun(photos, run.path, tmp_path / "second", seed=seed)
    for part in ("train", "validation", "test"):
        assert hashes(result.run, part) == hashes(run, part)
    trained, chosen = first.summary["split"]["train"], first.summary["split"]["validation"]
    assert len(found) == 1
    assert found[0].detail == (
        f"The run in {run.path} was trained on {trained} of the {trained + chosen} training and validation images and "
        f"chosen by {chosen}: none that it has seen is in the test part."
    )
    transferred = recipe.transfer(
        photos, TransferSettings(pretrained=f"run/{run.path}", cell="top", seed=seed), out=tmp_path / "third"
    )
    assert hashes(transferred.run, "test") == hashes(run, "test")
    told = transferred.summary["transfer"]
    assert told["seen"] == trained
    assert f"The network was trained on {trained} of these {trained} training images" in told["why"]
    for known, what in ((transferred, "a simple classifier on what a network trained in an earlier run sees in yours"),
                        (result, "a network trained in an earlier run, then on yours (convnet)")):  # fmt: skip
        page = known.run.report.read_text()
        assert what in page
        assert "other photos" not in page


def test_new_images_beside_known_ones_are_split_as_ever(first: Result, photos: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(photos, tmp_path / "photos"))
    photo_folder(source / "more", 20, seed=5)
    for image in sorted((source / "more").rglob("*.jpg")):
        image.rename(source / image.parent.name / f"new-{image.name}")
    shutil.rmtree(source / "more")
    result, _ = begun(source, first.run.path, tmp_path / "second", seed=3)
    assert not hashes(result.run, "test") & hashes(first.run, "train", "validation")
    assert not hashes(result.run, "validation") & hashes(first.run, "train")
    rows = result.run.read_split()
    assert {row["class"] for row in rows if row["part"] == "test"} == set(first.summary["classes"])
    assert result.summary["split"]["test"] == pytest.approx(0.15 * len(rows), abs=3)
    assert result.summary["split"]["validation"] == pytest.approx(0.15 * len(rows), abs=3)


def test_images_seen_by_a_run_before_the_last_are_known_too(first: Result, tmp_path: Path) -> None:
    second, _ = begun(photo_folder(tmp_path / "others", 12, seed=9), first.run.path, tmp_path / "second")
    with pytest.raises(SourceError, match="were used to train or choose this model"):
        recipe.evaluate(second.run.path, first.summary["source"])
    third, found = begun(Path(first.summary["source"]), second.run.path, tmp_path / "third", seed=7)
    assert hashes(third.run, "test") == hashes(first.run, "test")
    assert len(found) == 1
    sibling, _ = begun(Path(second.summary["source"]), first.run.path, tmp_path / "sibling")
    together = combine([second.run.path, sibling.run.path], out=tmp_path / "together")
    with pytest.raises(SourceError, match="were used to train or choose this model"):
        recipe.evaluate(together.run.path, first.summary["source"])
    second.run.seen.write_text("hash\n")
    with pytest.raises(RunError, match=r"seen\.csv is damaged; the run's files were changed\."):
        recipe.evaluate(second.run.path, first.summary["source"])


def test_other_images_are_split_as_without_weights(first: Result, tmp_path: Path) -> None:
    source = photo_folder(tmp_path / "others", 12, seed=9)
    plain = recipe.train(source, TrainSettings(**QUICK), out=tmp_path / "plain")
    result, found = begun(source, first.run.path, tmp_path / "second")
    assert result.run.read_split() == plain.run.read_split()
    assert not found


def given(first: Result, folder: Path, parts: Sequence[tuple[str, str]]) -> Path:
    """Return a source whose parts have the images that a run had in these parts."""
    for row in first.run.read_split():
        for was, now in parts:
            if row["part"] == was:
                place = folder / now / row["image"]
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(first.summary["source"]) / row["image"], place)
    return folder


def test_a_given_part_of_seen_images_is_refused_as_a_test_and_named_as_validation(
    first: Result, tmp_path: Path
) -> None:
    source = given(first, tmp_path / "source", [("train", "test"), ("validation", "train")])
    trained = first.summary["split"]["train"]
    with pytest.raises(SourceError) as caught:
        begun(source, first.run.path, tmp_path / "no")
    assert str(caught.value) == (
        f"{trained} of the {trained} test images of {source} were used to train or choose the run in {first.run.path}, "
        "so they are no test of what begins with its weights; give other test images, or other weights."
    )
    assert not (tmp_path / "no").exists()
    source = given(first, tmp_path / "other", [("train", "validation"), ("validation", "train"), ("test", "test")])
    _, found = begun(source, first.run.path, tmp_path / "second")
    assert found[-1].severity == "warning"
    assert found[-1].detail == (
        f"The run in {first.run.path} was trained on {trained} of the {trained} images held out to validate on: "
        "figures on these are better than on new images."
    )


def test_where_too_few_are_new_nothing_is_begun(first: Result, tmp_path: Path) -> None:
    source = given(first, tmp_path / "source", [("train", "a"), ("validation", "a")])
    known = first.summary["split"]["train"] + first.summary["split"]["validation"]
    with pytest.raises(SourceError) as caught:
        begun(source / "a", first.run.path, tmp_path / "no")
    assert str(caught.value) == (
        f"{known} of the {known} images of {source / 'a'} were used to train or choose the run whose weights are "
        "asked for, and the others are too few to leave any for test; give more images that it has not seen, or other "
        "weights."
    )
    assert not (tmp_path / "no").exists()


def test_a_run_without_a_record_of_its_images_is_taken_with_a_warning(
    first: Result, photos: Path, tmp_path: Path
) -> None:
    bare = Path(shutil.copytree(first.run.path, tmp_path / "bare"))
    (bare / "split.csv").unlink()
    _, found = begun(photos, bare, tmp_path / "second")
    assert [each.severity for each in found] == ["warning"]
    assert "has no split.csv, so it is not known which images it was trained on" in found[0].detail


def test_a_fold_of_seen_images_says_so(first: Result, photos: Path, tmp_path: Path) -> None:
    _, found = begun(photos, first.run.path, tmp_path / "second", fold="1/2")
    assert found[-1].severity == "warning"
    assert "images held out to validate on" in found[-1].detail
