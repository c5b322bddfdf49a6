"""`fit` and `train` from pretrained weights: what enters, what is kept, what is refused before anything is written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from saccade import data, recipe
from saccade.classifiers import Model, NetworkClassifier
from saccade.data import decode, square
from saccade.data.batches import ArrayImages
from saccade.errors import InputError, ModelError
from saccade.nn import pretrained
from saccade.recipe.candidates import Candidates, Judge
from saccade.recipe.conclusion import Result
from saccade.recipe.contest import (
    STILL,
    Contest,
    Features,
    Field,
    advice,
    plan_field,
    plan_transfer,
    probe_features,
    probe_stages,
)
from saccade.recipe.plan import Plan
from saccade.run import Run
from saccade.settings import FitSettings, TrainSettings
from saccade.train import Clock, timing
from saccade.train.session import Session
from tests.photos import photo_folder

SHARED = Path(__file__).parents[3] / "shared" / "weights" / "squeezenet1_0_imagenet.safetensors"


@pytest.fixture(scope="module")
def result(photos: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Return a short `fit` that had these weights."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SACCADE_STATE", str(tmp_path_factory.mktemp("state")))
        settings = FitSettings(budget=25, pretrained=f"timm/test_resnet={weights}")
        return recipe.fit(photos, settings, out=tmp_path_factory.mktemp("runs") / "run")


def test_every_kind_of_candidate_is_told(result: Result) -> None:
    told = {row["name"]: row for row in result.summary["candidates"]}
    assert "linear on test_resnet" in told
    assert any(row["name"] in told for row in result.summary["baselines"])
    for row in told.values():
        low, high = row["interval"]
        assert low <= row["validation_accuracy"] <= high
    best = max(row["score"] for row in told.values())
    assert (result.summary["ensemble"] or {}).get("accepted") or told[result.summary["chosen"]]["score"] == best
    assert result.summary["chosen_by"] == "accuracy"


def test_the_clock_was_kept_and_its_decisions_are_on_disk(result: Result) -> None:
    assert result.summary["seconds"] < 30
    decided = {row["what"] for row in json.loads((result.run.path / "plan.json").read_text())["decisions"]}
    assert {"flip", "features", "megapixels a second", "size", "learning_rate", "trials", "refit"} <= decided


def test_the_run_holds_what_a_finished_one_should_and_no_more(result: Result) -> None:
    names = {path.name for path in result.run.path.iterdir()}
    assert {"model", "summary.json", "report.html", "plan.json", "settings.yaml", "split.csv"} <= names
    assert "candidates" not in names
    report = (result.run.path / "report.html").read_text()
    assert "linear on test_resnet" in report
    assert "What to do next" in report


def test_the_saved_model_predicts_as_the_one_that_was_evaluated(result: Result, photos: Path) -> None:
    again = Model.load(result.run.model)
    images = sorted(photos.rglob("*.jpg"))[:12] or sorted(photos.rglob("*.png"))[:12]
    assert [p.label for p in again.predict(images)] == [p.label for p in result.model.predict(images)]


def test_a_pretrained_network_is_trained_saved_and_loaded(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = TrainSettings(pretrained=str(weights), epochs=2, size=64, batch_size=16, device="cpu")
    first = recipe.train(photos, settings, out=tmp_path / "first")
    second = recipe.train(photos, settings, out=tmp_path / "second")
    assert first.summary["network"]["name"] == "timm/test_resnet"
    assert first.summary["network"]["settings"]["optimizer"] is None
    files = [(result.run.model / "model.safetensors").read_bytes() for result in (first, second)]
    assert files[0] == files[1]
    classifier = Model.load(first.run.model).members[0].classifier
    assert isinstance(classifier, NetworkClassifier)
    trained = classifier.forward_.network.state_dict()
    before = timm.create_model("test_resnet", num_classes=0)
    before.load_state_dict(load_file(weights), strict=False)
    moved = [
        not torch.equal(trained[f"body.trunk.{name}"], value)
        for name, value in before.state_dict().items()
        if value.ndim == 4
    ]
    assert all(moved)
    published = timm.get_pretrained_cfg("test_resnet")
    assert published is not None
    mean = published.mean
    np.testing.assert_allclose(trained["standardize.mean_C"].numpy() / 255, mean, atol=1e-6)


def test_images_are_resized_as_the_weights_expect(photos: Path, tmp_path: Path) -> None:
    """In training, validation and prediction alike; unless settings say otherwise."""
    torch.manual_seed(0)
    file = tmp_path / "elsewhere.safetensors"
    save_file(timm.create_model("test_convnext", num_classes=5).state_dict(), file)
    asked = TrainSettings(pretrained=f"timm/test_convnext={file}", epochs=1, size=64, views=False)
    result = recipe.train(photos, asked, out=tmp_path / "run")
    member = Model.load(result.run.model).members[0]
    assert member.sight == (64, "bicubic")
    rows = [row.split(",") for row in (result.run.path / "split.csv").read_text().splitlines()]
    names, labels = zip(*((row[0], row[2]) for row in rows if row[3] == "validation"), strict=True)
    x_NHWC = np.stack([square(decode((photos / name).read_bytes()).x_HWC, 64, how="bicubic") for name in names])
    expected_NK = member.classifier.predict_proba(x_NHWC)
    said = result.model.predict([photos / name for name in names])
    np.testing.assert_allclose([each.probability or 0.0 for each in said], expected_NK.max(1), rtol=1e-5)
    right = np.mean([result.model.classes[k] == label for k, label in zip(expected_NK.argmax(1), labels, strict=True)])
    assert right == pytest.approx(result.summary["validation"]["accuracy"])
    again = pretrained.find(f"run/{result.run.path}")
    assert again is not None
    assert again.interpolation == "bicubic"
    assert pretrained.suited(TrainSettings(interpolation="bilinear"), again).interpolation == "bilinear"


def _contest(photos: Path, settings: FitSettings, out: Path) -> Contest:
    images = data.integrity(data.open(photos, settings))
    parts = data.split(images, np.arange(len(images)), settings)
    run = Run.create(out, "photos")
    judge = Judge.of(parts.train, parts.validation)
    return Contest(parts, settings, Plan(run, Clock(settings.budget), 0), Candidates(run), judge)


def test_a_linear_classifier_on_all_stages_is_a_candidate(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = FitSettings(budget=600, pretrained=f"timm/test_resnet={weights}")
    contest = _contest(photos, settings, tmp_path / "run")
    asked = TrainSettings(model="timm/test_resnet", pretrained=settings.pretrained, size=64, batch_size=16, flip=False)
    features = Features(asked, len(contest.parts.train), 0.01)
    _, probe = probe_features(contest, features)
    found = probe_stages(contest, features, probe)
    member = found.model.members[0]
    assert isinstance(member.classifier, NetworkClassifier)
    assert (member.name, len(member.classifier.settings_.stages)) == ("linear on test_resnet, all stages", 5)
    again_NK = Model.load(tmp_path / "run" / "candidates" / "stages").probabilities_of(contest.parts.validation)
    np.testing.assert_allclose(again_NK, found.validation_NK, atol=1e-4)
    np.testing.assert_array_equal(probe_stages(contest, features, probe).validation_NK, found.validation_NK)


def test_advice_on_transfer_is_measured_across_groups(photos: Path, weights: Path, tmp_path: Path) -> None:
    """Four copies of each image of noise, of classes drawn at random: by its copies alone one is told from another."""
    rng = np.random.default_rng(0)
    group_N = np.repeat(np.arange(50), 4)
    x_NHWC = rng.integers(0, 256, (50, 32, 32, 3), np.uint8)[group_N]
    x_NHWC[:, 0, 0, 0] = np.arange(200)
    images = data.integrity(data.from_arrays(x_NHWC, rng.permutation(50)[group_N] % 2, name="noise"))
    settings = FitSettings(budget=6000, pretrained=f"timm/test_resnet={weights}")
    parts = data.split(images, group_N, settings)
    contest = replace(
        _contest(photos, settings, tmp_path / "run"),
        parts=parts,
        judge=Judge.of(parts.train, parts.validation),
        groups=dict(zip(images.keys, group_N.tolist(), strict=True)),
    )
    asked = TrainSettings(model="timm/test_resnet", pretrained=settings.pretrained, size=32, batch_size=16, flip=False)
    features = Features(asked, len(parts.train), 0.01)
    _, probe = probe_features(contest, features)
    found = advice(contest, features, probe)
    assert found is not None
    assert found.together < 0.7


def test_a_transformer_is_planned_at_the_one_side_it_takes(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "vit.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224", num_classes=5).state_dict(), file)
    settings = FitSettings(budget=600, pretrained=f"timm/vit_tiny_patch16_224={file}")
    contest = _contest(photos, settings, tmp_path / "run")
    field = plan_field(contest, pretrained.find(settings.pretrained))
    assert field.tuned is not None
    assert field.features is not None
    assert (field.features.settings.size, field.tuned.settings.size, field.tuned.small) == (224, 224, 224)
    assert Field.of(json.loads(json.dumps(field.plain()))) == field


@pytest.mark.parametrize(
    ("passes", "side", "frozen"),
    [(200.0, 112, 0.0), (18.0, 112, STILL), (6.0, 80, STILL), (0.1, 64, STILL)],
)
def test_fine_tuning_is_planned_by_what_its_images_cost(
    passes: float, side: int, frozen: float, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of 64 px could be shown so often; a pixel of one of 96 px and more costs three times as much."""

    def cost(session: Session, side: int, **_: int) -> float:
        small = 200 / (passes * len(contest.parts.train))
        return small * (side / 64) ** 2 * (3 if side >= 96 else 1) * (1 - session.settings.frozen)

    file = tmp_path / "convnext.safetensors"
    save_file(timm.create_model("test_convnext", num_classes=5).state_dict(), file)
    settings = FitSettings(budget=600, pretrained=f"timm/test_convnext={file}")
    contest = _contest(photos, settings, tmp_path / "run")
    monkeypatch.setattr(timing, "image_seconds", cost)
    found = pretrained.find(settings.pretrained)
    assert found is not None
    planned = plan_transfer(contest, found, 0.5)
    assert planned is not None
    entry, _ = planned
    chosen = entry.settings
    assert (chosen.size, chosen.frozen, chosen.grow) == (side, frozen, passes >= 4)
    # Layer norm sees each image alone, so that a batch may go through in parts of what the caches hold.
    assert chosen.accumulate == (4 if side >= 96 else 2 if side == 80 else 1)


@pytest.mark.parametrize(("passes", "both"), [(50.0, True), (0.1, False)])
def test_a_network_from_scratch_is_trained_too_where_it_gets_some_passes(
    passes: float, both: bool, photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FitSettings(budget=600, pretrained=f"timm/test_resnet={weights}")
    contest = _contest(photos, settings, tmp_path / "run")
    seconds = 250 / (passes * len(contest.parts.train))
    monkeypatch.setattr(timing, "image_seconds", lambda session, side, **_: seconds)
    field = plan_field(contest, pretrained.find(settings.pretrained))
    assert field.tuned is not None
    assert field.both == both


def test_batch_norm_keeps_the_batch_whole(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = FitSettings(budget=600, pretrained=f"timm/test_resnet={weights}")
    field = plan_field(_contest(photos, settings, tmp_path / "run"), pretrained.find(settings.pretrained))
    assert field.tuned is not None
    assert (field.tuned.settings.size or 0) >= 96
    assert field.tuned.settings.accumulate == 1


def test_a_network_that_is_not_the_weights_is_refused(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = TrainSettings(model="convnet", pretrained=str(weights), epochs=1)
    with pytest.raises(ModelError, match="weights are of timm/test_resnet, and model=convnet was given; leave"):
        recipe.train(photos, settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_that_hold_no_numbers_are_refused_before_anything_is_written(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    tensors = load_file(weights)
    tensors["conv1.0.weight"][0] = torch.nan
    save_file(tensors, tmp_path / "broken.safetensors")
    with pytest.raises(ModelError, match="holds values that are not numbers"):
        recipe.fit(photos, FitSettings(pretrained=str(tmp_path / "broken.safetensors")), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings_without_weights_to_be_had_train_nothing(photos: Path) -> None:
    x_NHWC = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
    settings = TrainSettings(model="timm/test_resnet", pretrained="none", size=64, batch_size=2, flip=False)
    with pytest.raises(ModelError, match='There are no weights for "pretrained=none" here; give a NAME or a FILE'):
        Session.start(settings, ArrayImages(x_NHWC, torch.zeros(4).long()), x_NHWC, classes=2, names=["a"] * 4)


def test_weights_that_cannot_be_had_leave_nothing_behind(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "not.safetensors").write_bytes(b"weights")
    for asked in (str(tmp_path / "not.safetensors"), str(tmp_path / "none.safetensors"), "resnet1800"):
        with pytest.raises(InputError):
            recipe.fit(photos, FitSettings(pretrained=asked), out=tmp_path / "run")
        with pytest.raises(InputError):
            recipe.train(photos, TrainSettings(pretrained=asked, epochs=1), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not SHARED.exists(), reason="the SqueezeNet weights are not at hand (../shared)")
def test_real_features_beat_pixels_on_few_photos(tmp_path: Path, ledger_folder: Path) -> None:
    few = photo_folder(tmp_path / "few", 14)
    result = recipe.fit(few, FitSettings(budget=25, pretrained=str(SHARED)), out=tmp_path / "run")
    told = {row["name"]: row["validation_accuracy"] for row in result.summary["candidates"]}
    classical = max(row["validation_accuracy"] for row in result.summary["baselines"])
    assert told["linear on squeezenet1_0"] >= classical
