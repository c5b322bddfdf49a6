"""`saccade baselines`: cross-validated on what may be looked at, saved, reported, evaluated by counted looks."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from safetensors.torch import save_file

from saccade import data, recipe
from saccade.classifiers import FeatureClassifier, Model
from saccade.data import SealedPart
from saccade.errors import SettingError
from saccade.files import read_json, slug
from saccade.nn import pretrained
from saccade.run import Run
from saccade.settings import BaselineSettings
from tests.conftest import Saccade
from tests.photos import photo_folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, saccade: Saccade) -> tuple[Path, dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("baselines")
    done = saccade(
        "baselines", "digits", "--folds", "3", "--words", "30", "--pretrained", "none", "--out", "run", "--json",
        cwd=folder, env=_environment(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run", json.loads(done.stdout), folder


def _environment(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "SACCADE_CACHE": str(folder / "cache"), "SACCADE_STATE": str(folder / "state")}


def test_every_classifier_has_its_settings_over_the_folds(finished: tuple[Path, dict[str, Any], Path]) -> None:
    _, summary, folder = finished
    assert summary["command"] == "baselines"
    assert "test" not in summary
    names = [each["name"] for each in summary["classifiers"]]
    assert names == ["k-NN on pixels", "linear on pixels", "linear on HOG, colour and words"]
    for each in summary["classifiers"]:
        assert all(len(setting["folds"]) == 3 for setting in each["settings"])
        chosen = next(setting for setting in each["settings"] if setting["values"] == each["chosen"])
        assert chosen["mean"] == max(setting["mean"] for setting in each["settings"])
        assert chosen["mean"] == pytest.approx(np.mean(chosen["folds"]))
        assert chosen["sd"] == pytest.approx(np.std(chosen["folds"], ddof=1))
    best = max(summary["classifiers"], key=lambda each: each["mean"])
    assert summary["chosen"] == best["label"]
    assert summary["validation"]["accuracy"] == pytest.approx(best["mean"], abs=0.005)
    assert summary["validation"]["images"] == summary["split"]["train"] + summary["split"]["validation"]
    assert best["mean"] > 0.97
    assert len(list((folder / "cache" / "features").iterdir())) == 4


def test_features_of_digits_are_not_averaged_with_their_mirror_images(
    finished: tuple[Path, dict[str, Any], Path],
) -> None:
    measured, summary, root = finished
    assert "mirror images" in [each["name"] for each in summary["stages"]]
    told = recipe.baselines(
        "digits", BaselineSettings(folds=2, words=30, views=True, pretrained="none"), out=root / "told"
    )
    means = [each["classifiers"][2]["mean"] for each in (summary, told.summary)]
    assert means[0] > means[1] + 0.01
    places = [run.models / slug("linear on HOG, colour and words") for run in (Run(measured), told.run)]
    # The best one is the run's model, and not among the others.
    loaded = [Model.load(place if place.exists() else place.parent.parent / "model") for place in places]
    saved = [model.members[0].classifier for model in loaded]
    assert [isinstance(each, FeatureClassifier) and each.mirrored for each in saved] == [False, True]


def test_the_report_shows_the_folds(finished: tuple[Path, dict[str, Any], Path]) -> None:
    run, _, _ = finished
    page = (run / "report.html").read_text()
    assert "Classifiers over the folds" in page
    assert "a simple classifier, not a network" in page
    assert page.count("Accuracy over the folds of") == 3
    assert "still <b>sealed</b>" in page


def test_each_saved_classifier_is_evaluated_by_a_look_of_its_own(
    finished: tuple[Path, dict[str, Any], Path], saccade: Saccade
) -> None:
    run, summary, folder = finished
    done = saccade("evaluate", "run", "--json", cwd=folder, env=_environment(folder))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["name"] == summary["chosen"]
    assert len(figures["others"]) == 2
    assert sorted([figures["looks"], *(other["looks"] for other in figures["others"])]) == [1, 2, 3]
    assert {figures["name"], *(other["name"] for other in figures["others"])} == {
        each["label"] for each in summary["classifiers"]
    }
    for other in figures["others"]:
        assert other["accuracy"] > 0.9
    text = saccade("evaluate", "run", cwd=folder, env=_environment(folder)).stdout
    assert text.count("look") == 3
    assert "nearest neighbour" in text
    model = Model.load(Run.open(run).model)
    assert model.name == summary["chosen"]


def test_the_licence_of_the_features_weights_is_told_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "w.safetensors")
    found = pretrained.find(f"test_resnet={tmp_path / 'w.safetensors'}")
    assert found is not None
    forbidding = replace(found, licence="cc-by-nc-4.0")
    monkeypatch.setattr(pretrained, "find", lambda _: forbidding)
    settings = BaselineSettings(folds=2, words=10, size=16, deep_size=32, pretrained="here", neighbors=(1,))
    result = recipe.baselines(photo_folder(tmp_path / "photos", 12), settings, out=tmp_path / "run")
    assert result.summary["weights"] == forbidding.plain()
    assert any("(cc-by-nc-4.0, from" in warning for warning in result.summary["warnings"])
    assert "forbids commercial use" in result.run.report.read_text()
    folders = [result.run.model, *result.run.models.iterdir()]
    licences = {model.name.partition(" (")[0]: model.weights.get("licence") for model in map(Model.load, folders)}
    assert licences.pop("linear on test_resnet") == "cc-by-nc-4.0"
    assert [*licences.values()] == [None, None, None]


def test_the_test_part_is_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def opened(*_: object, **__: object) -> None:
        pytest.fail("the test part was unsealed")

    monkeypatch.setattr(SealedPart, "unseal", opened)
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))
    seen: set[str] = set()
    squares = data.Pixels.squares

    def watched(self: data.Pixels, keys: Any, *how: Any) -> Any:
        seen.update(keys)
        return squares(self, keys, *how)

    monkeypatch.setattr(data.Pixels, "squares", watched)
    settings = BaselineSettings(folds=2, words=10, pretrained="none")
    result = recipe.baselines("digits", settings, out=tmp_path / "run")
    sealed = {row["image"] for row in result.run.read_split() if row["part"] == "test"}
    assert seen.isdisjoint(sealed)
    assert len(seen) + len(sealed) == result.summary["images"]
    assert read_json(tmp_path / "run" / "summary.json") == result.summary


def test_a_calibrated_svm_is_chosen_saved_and_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, saccade: Saccade
) -> None:
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 200, (120, 8, 8, 3), np.uint8), np.arange(120) % 3
    x[np.arange(120), :, :, y] += 15
    np.savez(tmp_path / "few.npz", images=x, labels=y)
    settings = BaselineSettings(
        folds=2, words=4, pretrained="none", neighbors=(1, 3), metric=("l1",), loss=("hinge",), epochs=2,
        penalty=("l2", "elastic_net"), strength=(0.1,), solver=("optimum", "descent"), learning_rate=(0.01,),
    )  # fmt: skip
    result = recipe.baselines(tmp_path / "few.npz", settings, out=tmp_path / "run")
    near, straight, _ = result.summary["classifiers"]
    assert [each["values"] for each in near["settings"]] == [{"metric": "l1", "k": k} for k in (1, 3)]
    tried = [(penalty, 0.1, *rate) for penalty in ("l2", "elastic_net") for rate in ((), (0.01,))]
    assert [(*each["values"].values(),) for each in straight["settings"]] == [("hinge", *each) for each in tried]
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("Accuracy over the folds of linear on pixels") == 2  # over strengths, and over learning rates
    for folder in [result.run.model, *result.run.models.glob("*")]:
        model = Model.load(folder)
        rows_NK = model.probabilities(lambda side, _: np.resize(x, (120, side, side, 3)))
        np.testing.assert_allclose(rows_NK.sum(1), 1)
    done = saccade("graph", "--model", "run/run", cwd=tmp_path)
    assert done.returncode == 2
    assert f"chose {result.model.name}, which is no network: it has no layers to show." in done.stderr
    with pytest.raises(SettingError, match="Of 500 or more neighbours there are too few: a fold leaves 51 images"):
        recipe.baselines(tmp_path / "few.npz", BaselineSettings(neighbors=(500,), folds=2), out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_folds_that_cannot_be_leave_nothing(tmp_path: Path, saccade: Saccade) -> None:
    np.savez(tmp_path / "few.npz", images=np.arange(12 * 16 * 16).reshape(12, 16, 16) % 251, labels=np.arange(12) % 2)
    done = saccade("baselines", "few.npz", "--folds", "11", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "11 folds cannot be made of 10 different images; give a number from 2 to 10." in done.stderr
    assert not (tmp_path / "run").exists()
    with pytest.raises(SettingError, match="folds"):
        BaselineSettings(folds=1)
