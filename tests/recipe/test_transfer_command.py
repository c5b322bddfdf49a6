"""`saccade transfer`: measured, advised, run; from a library's network and from a run of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade import data, recipe
from saccade.classifiers import Model, NetworkClassifier
from saccade.data import Part
from saccade.errors import ModelError, RunError
from saccade.events import Event, Finding, Progress, listening
from saccade.nn import pretrained, published
from saccade.nn.convnets import ConvNet
from saccade.nn.published import Pretrained
from saccade.recipe import cells
from saccade.recipe.licences import tell_licence
from saccade.settings import DataSettings, FitSettings, TrainSettings, TransferSettings
from saccade.study import adviser
from tests.conftest import Saccade
from tests.photos import photo_folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_the_command_advises_runs_and_leaves_a_run_that_predicts(
    saccade: Saccade, photos: Path, weights: Path, tmp_path: Path
) -> None:
    done = saccade("transfer", photos, "--from", f"file/{weights}", "--size", "64", "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    advice = told["transfer"]
    assert advice["cell"] == advice["run"] in ("top", "stages")
    assert advice["images_a_class"] == 22
    assert [stage["name"] for stage in advice["stages"]][-1] == "end"
    assert all(stage["drift"] > 0 for stage in advice["stages"][:-1])
    assert told["weights"]["licence"] == "unknown"
    assert told["weights"]["source"] == weights.name
    assert "test" not in told
    page = (tmp_path / "run" / "report.html").read_text()
    assert advice["why"].split(":")[0] in page
    assert "What it took over from another network" in page
    image = next(photos.rglob("*.jpg"))
    predicted = json.loads(saccade("predict", tmp_path / "run", image, "--json").stdout)
    assert predicted["predictions"][0]["label"] in told["classes"]
    assert saccade("evaluate", tmp_path / "run", "--json").returncode == 0


def test_each_cell_runs_and_says_so(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = {}
    for cell in ("stages", "few", "more"):
        if cell == "few":
            monkeypatch.setattr(adviser, "FAR", 0.0)  # however little statistics moved, images are different
        epochs = None if cell == "stages" else 2  # which fits nothing by epochs
        settings = TransferSettings(pretrained=str(weights), cell=cell, epochs=epochs, size=64, device="cpu")
        result = recipe.transfer(photos, settings, out=tmp_path / cell)
        assert result.summary["transfer"]["run"] == cell
        moved[cell] = result
    names = [row["name"] for row in moved["stages"].summary["candidates"]]
    assert names == ["linear on test_resnet, all stages"]
    names = [row["name"] for row in moved["few"].summary["candidates"]]
    assert sorted(names) == ["linear on test_resnet", "linear on test_resnet, all stages", "timm/test_resnet"]
    assert moved["few"].summary["network"]["settings"]["frozen"] == cells.LAYERS["few"]
    [first] = [check for check in moved["few"].summary["checks"] if check["name"] == "initial loss"]
    assert first["expected"].endswith("the last layer was fitted to these images")
    loaded = Model.load(moved["stages"].run.model)
    classifier = loaded.members[0].classifier
    assert isinstance(classifier, NetworkClassifier)
    assert classifier.settings_.stages[-1] == "end"
    images = sorted(photos.rglob("*.jpg"))[:9]
    assert [p.label for p in loaded.predict(images)] == [p.label for p in moved["stages"].model.predict(images)]


def test_frozen_features_are_computed_once(photos: Path, weights: Path, tmp_path: Path) -> None:
    heard: list[object] = []
    settings = TransferSettings(pretrained=str(weights), cell="top", size=96, device="cpu")
    for name in ("first", "second"):
        with listening(heard.append):
            recipe.transfer(photos, settings, out=tmp_path / name)
    assert sum(getattr(event, "task", "") == "features of train" for event in heard) == 1


@pytest.mark.usefixtures("often")
def test_an_interrupted_transfer_goes_on(photos: Path, weights: Path, tmp_path: Path) -> None:
    settings = TransferSettings(pretrained=str(weights), cell="more", epochs=2, size=64, device="cpu")
    whole = recipe.transfer(photos, settings, out=tmp_path / "whole")

    def interrupt(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "train" and event.done >= 3:
            raise KeyboardInterrupt

    with listening(interrupt), pytest.raises(KeyboardInterrupt):
        recipe.transfer(photos, settings, out=tmp_path / "run")
    with pytest.raises(RunError, match="begun with cell=more, and cell=few was given"):
        recipe.transfer(photos, TransferSettings(cell="few"), out=tmp_path / "run", resume=True)
    again = recipe.transfer(photos, settings, out=tmp_path / "run", resume=True)
    tensors = [(result.run.model / "model.safetensors").read_bytes() for result in (whole, again)]
    assert tensors[0] == tensors[1]
    decisions = json.loads((again.run.path / "plan.json").read_text())["decisions"]
    assert "resumed after step" in {row["what"] for row in decisions}
    once_more = recipe.transfer(photos, settings, out=tmp_path / "run", resume=True)
    assert once_more.summary["validation"] == again.summary["validation"]


def test_a_run_is_a_source(photos: Path, tmp_path: Path) -> None:
    settings = TrainSettings(model="saccade/convnet", epochs=2, size=32, width=0.2, depth=2, batch_size=16)
    first = recipe.train(photos, settings, out=tmp_path / "first")
    found = pretrained.find(f"run/{first.run.path}")
    assert found is not None
    assert (found.model, found.size, found.licence) == ("convnet", 32, "your own run's")
    assert found.settings["depth"] == 2
    assert pretrained.find(str(first.run.path)) == found
    assert pretrained.find(found.asked) == found
    classifier = first.model.members[0].classifier
    assert isinstance(classifier, NetworkClassifier)
    x_NCHW = 255 * torch.rand(2, 3, 32, 32)
    network = classifier.forward_.network.eval()
    assert isinstance(network, torch.nn.Sequential)
    preprocess, body = network
    assert isinstance(body, ConvNet)
    trunk = pretrained.load(found).eval()
    with torch.no_grad():
        features_ND = trunk(preprocess(x_NCHW))
        scores_NK = body.head(features_ND) / features_ND.shape[1]
        torch.testing.assert_close(scores_NK, network(x_NCHW))
    second = recipe.transfer(
        photos, TransferSettings(pretrained=f"run/{first.run.path}", cell="more", epochs=1), out=tmp_path / "second"
    )
    assert second.summary["weights"]["source"] == "run first"
    again = Model.load(second.run.model)
    images = sorted(photos.rglob("*.jpg"))[:6]
    assert [p.label for p in again.predict(images)] == [p.label for p in second.model.predict(images)]
    third = recipe.train(photos, TrainSettings(pretrained=f"run/{second.run.path}", epochs=1), out=tmp_path / "third")
    assert third.summary["network"]["size"] == 32
    assert json.loads((third.run.model / "model.json").read_text())["weights"]["source"] == "run second, from run first"
    with pytest.raises(ModelError, match=r"The run's network has width=0.2, and width=1.5 was given; leave it out."):
        recipe.train(photos, TrainSettings(pretrained=f"run/{first.run.path}", width=1.5), out=tmp_path / "no")
    x_NHWC = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    fourth = NetworkClassifier(epochs=1, settings={"pretrained": found.asked}).fit(x_NHWC, [0, 1, 2] * 4)
    assert (fourth.settings_.size, fourth.settings_.width, fourth.settings_.depth) == (32, 0.2, 2)
    fifth = NetworkClassifier.from_state(*fourth.to_state())
    np.testing.assert_array_equal(fifth.predict_proba(x_NHWC), fourth.predict_proba(x_NHWC))


def test_a_training_that_goes_on_knows_where_its_weights_come_from(photos: Path, weights: Path, tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "train" and event.done >= 2:
            raise KeyboardInterrupt

    settings = TrainSettings(pretrained=str(weights), epochs=1, size=64, batch_size=16, device="cpu")
    with listening(interrupt), pytest.raises(KeyboardInterrupt):
        recipe.train(photos, settings, out=tmp_path / "run")
    again = recipe.train(photos, TrainSettings(), out=tmp_path / "run", resume=True)
    whole = recipe.train(photos, settings, out=tmp_path / "whole")
    told = [json.loads((result.run.model / "model.json").read_text())["weights"] for result in (again, whole)]
    assert told[0] == told[1]
    assert again.summary["weights"] == whole.summary["weights"]


@pytest.mark.usefixtures("ledger_folder")
def test_fit_transfers_from_a_run_of_a_network_of_ones_own(photos: Path, tmp_path: Path) -> None:
    made = TrainSettings(epochs=2, size=32, width=0.3, depth=2, norm="group", batch_size=16)
    first = recipe.train(photos, made, out=tmp_path / "first")
    asked = f"run/{first.run.path}"
    result = recipe.fit(photos, FitSettings(budget=60, pretrained=asked), out=tmp_path / "fit")
    names = [row["name"] for row in result.summary["candidates"]]
    assert {"linear on convnet", "convnet"} <= set(names)
    assert result.summary["weights"]["run"] == str(first.run.path)
    if (advice := result.summary.get("transfer")) is not None:  # there was time for it
        assert advice["seen"] == first.summary["split"]["train"]
    assert len(names) == len(set(names))
    tuned = TrainSettings.load(result.run.network("convnet"))
    assert (tuned.width, tuned.depth, tuned.norm, tuned.pretrained) == (0.3, 2, "group", asked)
    images = sorted(photos.rglob("*.jpg"))[:6]
    again = Model.load(result.run.model)
    assert [p.label for p in again.predict(images)] == [p.label for p in result.model.predict(images)]
    with pytest.raises(ModelError, match=r"takes images of 32 px, and size=64 was given; leave it out"):
        recipe.transfer(photos, TransferSettings(pretrained=asked, size=64), out=tmp_path / "no")


def test_what_is_no_source_is_refused(photos: Path, weights: Path, tmp_path: Path) -> None:
    def message(asked: str) -> str:
        with pytest.raises(ModelError) as caught:
            recipe.transfer(photos, TransferSettings(pretrained=asked), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    assert 'The run "nowhere" does not exist; give the folder of a finished one' in message("run/nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no saved model; give the folder of a finished one" in message(f"run/{tmp_path / 'empty'}")
    linear = recipe.train(photos, TrainSettings(model="linear", epochs=1, size=16), out=tmp_path / "linear")
    assert "is a linear classifier, which fits its own images alone" in message(f"run/{linear.run.path}")
    centred = TrainSettings(model="mlp", width=0.05, epochs=1, size=16, preprocess="center")
    other = recipe.train(photos, centred, out=tmp_path / "centred")
    assert "is trained with preprocess=center, which fits its own" in message(f"run/{other.run.path}")
    described = json.loads((other.run.model / "model.json").read_text())
    described["members"][0]["config"]["settings"]["what"] = 1
    (other.run.model / "model.json").write_text(json.dumps(described))
    assert "was written by another version of saccade" in message(f"run/{other.run.path}")
    described["members"][0]["kind"] = "neighbors"
    (other.run.model / "model.json").write_text(json.dumps(described))
    assert "which is no network; give a run of `saccade train`" in message(f"run/{other.run.path}")
    (other.run.model / "model.safetensors").write_bytes(b"cut")
    assert "is damaged: its checksum does not fit model.json" in message(f"run/{other.run.path}")
    (other.run.model / "model.json").write_text("{")
    assert "is damaged (JSONDecodeError)" in message(f"run/{other.run.path}")
    swapped = TrainSettings(model="timm/test_resnet", activation="gelu", epochs=1, size=64, batch_size=16)
    fourth = recipe.train(photos, swapped, out=tmp_path / "swapped")
    assert "is timm/test_resnet with modules of other kinds than the library's" in message(f"run/{fourth.run.path}")
    assert "There are no weights to transfer from on this machine" in message("none")
    stages = TrainSettings(pretrained=str(weights), stages=("layer11",), epochs=1, size=64)
    with pytest.raises(ModelError, match=r'has no stage "layer11". Did you mean "layer1"'):
        recipe.train(photos, stages, out=tmp_path / "run")
    with pytest.raises(ModelError, match="The setting frozen is for pretrained networks alone"):
        recipe.train(photos, TrainSettings(frozen=0.5, epochs=1), out=tmp_path / "run")


def test_a_licence_that_forbids_commerce_is_told() -> None:
    heard: list[object] = []
    with listening(heard.append):
        tell_licence(Pretrained("timm/x", Path("x"), licence="cc-by-nc-4.0", source="timm/x.in1k"))
        tell_licence(Pretrained("timm/x", Path("x"), licence="apache-2.0"))
        tell_licence(None)
    [finding] = heard
    assert isinstance(finding, Finding)
    assert finding.severity == "warning"
    assert "(cc-by-nc-4.0, from timm/x.in1k) forbids commercial use" in finding.detail


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        *((name, True) for name in ("Apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "your own run's")),
        *((name, False) for name in ("apple-amlr", "seer-license", "fair-noncommercial-research-license")),
        *((name, None) for name in ("unknown", "dinov3-license", "gemma", "openrail", "mit-like", "")),
        ("mit and your own run's", True),
        ("mit and unknown", None),
        ("unknown and cc-by-nc-4.0", False),
    ],
)
def test_commerce_is_allowed_only_where_that_is_known(licence: str, allowed: bool | None) -> None:
    assert published.allows_commerce(licence) is allowed
    assert Pretrained("timm/x", Path("x"), licence=licence).plain()["commercial_use"] is allowed


def test_published_licences_are_read_as_they_are() -> None:
    convnext = next(each for each in published.published("timm/convnextv2_atto") if each.known)
    assert published.allows_commerce(convnext.licence) is False
    swag = next(w for w in published.published("torchvision/regnet_y_16gf") if "SWAG" in w.licence)
    assert published.allows_commerce(swag.licence) is False
    assert published.allows_commerce(published.published("timm/resnet10t")[0].licence) is True
    assert published.published("timm/resnet10t")[0].interpolation == "bicubic"
    assert published.published("torchvision/resnet18")[0].interpolation == "bilinear"


def test_a_class_of_one_image_leaves_the_probes_their_folds(tmp_path: Path) -> None:
    def folds(**counts: int) -> int:
        source = photo_folder(tmp_path / str(sum(counts.values())), counts)
        part = Part("train", data.integrity(data.open(source, DataSettings())))
        return len(set(cells.folds_of(part, np.arange(len(part))).tolist()))

    assert folds(red=8, green=8, blue=1) == adviser.FOLDS
    assert folds(red=2, green=1) == 3


def test_images_of_one_group_leave_nothing_to_advise_on(tmp_path: Path) -> None:
    source = photo_folder(tmp_path / "source", {"red": 3, "green": 3})
    part = Part("train", data.integrity(data.open(source, DataSettings())))
    assert cells.divisible(part, np.arange(6))
    assert cells.divisible(part, np.array([0, 0, 0, 0, 0, 1]))
    assert not cells.divisible(part, np.zeros(6, np.int64))


def test_fewer_steps_get_a_lower_rate() -> None:
    rates = [cells.rate_for(steps) for steps in (10, 100, 200, 1000)]
    assert rates == sorted(rates)
    np.testing.assert_allclose(rates[1], 1e-3 / 2**0.5, rtol=0.02)
