"""The sealed test part: who reads it and when, and how looks are counted across runs."""

import csv
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from saccade import recipe
from saccade.data.pixels import Pixels
from saccade.events import Event, StageEnded, StageStarted, listening
from saccade.settings import FitSettings, TrainSettings
from tests.photos import photo_folder

MAY_READ = {"integrity", "duplicates", "split", "evaluate"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of small photos in three classes."""
    return photo_folder(tmp_path / "photos", 20)


class Spy:
    """Notes, for each stage, which images' pixels were handed out; the reads themselves go on as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stage = ""
        self.read: dict[str, set[str]] = defaultdict(set)
        for name in ("squares", "thumbnail", "read", "check", "facts", "sizes"):
            self._watch(name, monkeypatch)

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self.stage = event.stage
        elif isinstance(event, StageEnded):
            self.stage = ""

    def _watch(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(Pixels, name)

        def noted(pixels: Pixels, keys: Any, *rest: Any) -> NDArray[Any]:
            self.read[self.stage].update([keys] if isinstance(keys, str) else keys)
            result: NDArray[Any] = original(pixels, keys, *rest)
            return result

        monkeypatch.setattr(Pixels, name, noted)


def parts_of(run: Path) -> dict[str, set[str]]:
    """Return the names of each part's images, from split.csv."""
    parts: dict[str, set[str]] = defaultdict(set)
    with (run / "split.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            parts[row["part"]].add(row["image"])
    return parts


def test_only_integrity_duplicates_split_and_the_last_look_read_the_test_part(
    photos: Path, tmp_path: Path, ledger_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    with listening(spy):
        result = recipe.fit(photos, FitSettings(budget=12), out=tmp_path / "run")
    test = parts_of(result.run.path)["test"]
    assert len(test) == 9
    readers = {stage for stage, keys in spy.read.items() if keys & test}
    assert {"integrity", "evaluate"} <= readers <= MAY_READ
    assert {"baselines", "check"} <= spy.read.keys(), "the spy saw the stages that must not read it"


def test_training_one_network_never_looks(
    photos: Path, tmp_path: Path, ledger_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(monkeypatch)
    with listening(spy):
        result = recipe.train(photos, TrainSettings(epochs=1, size=16), out=tmp_path / "run")
    test = parts_of(result.run.path)["test"]
    assert {stage for stage, keys in spy.read.items() if keys & test} <= MAY_READ - {"evaluate"}
    assert "test" not in result.summary
    assert not (ledger_folder / "ledger.jsonl").exists()


def test_looks_are_counted_across_runs_copies_and_commands(photos: Path, tmp_path: Path, ledger_folder: Path) -> None:
    first = recipe.fit(photos, FitSettings(budget=6), out=tmp_path / "first")
    elsewhere = Path(shutil.copytree(photos, tmp_path / "copy of the photos"))
    second = recipe.fit(elsewhere, FitSettings(budget=6), out=tmp_path / "second")
    assert first.summary["test"]["looks"] == 1
    assert second.summary["test"]["looks"] == 2
    assert [look["command"] for look in second.summary["test"]["looked"]] == ["fit", "fit"]
    again = recipe.evaluate(tmp_path / "first")
    assert again["looks"] == 3
    assert again["accuracy"] == first.summary["test"]["accuracy"]
    other = recipe.fit(photos, FitSettings(budget=6, seed=1), out=tmp_path / "other split")
    assert other.summary["test"]["looks"] == 1


def test_changed_test_images_are_not_evaluated(photos: Path, tmp_path: Path, ledger_folder: Path) -> None:
    result = recipe.train(photos, TrainSettings(epochs=1, size=16), out=tmp_path / "run")
    victim = min(parts_of(result.run.path)["test"])
    (photos / victim).unlink()
    with pytest.raises(ValueError, match=r"1 of the run's 9 test images are missing or changed"):
        recipe.evaluate(tmp_path / "run")
