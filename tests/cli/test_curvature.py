"""`saccade curvature`: what it tells and draws, exactly and by samples, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade import study
from saccade.cli.curvature import text
from saccade.data.batches import ArrayImages
from saccade.errors import RunError, SettingError
from saccade.recipe.curvature import measure_curvature
from saccade.report import charts, curvature_page
from saccade.settings import TrainSettings
from saccade.study.curvature import curvature_of
from saccade.study.symmetry import SymmetryResult
from tests.conftest import Saccade
from tests.train.test_session import CLASSES, X_NHWC, Y_N, session, settings


def test_it_tells_the_condition_number_of_a_linear_classifier(saccade: Saccade, tmp_path: Path) -> None:
    out = tmp_path / "curvature"
    chosen = ("--model", "linear", "--size", "4", "--weight-decay", "0.1", "--label-smoothing", "0")
    done = saccade("curvature", "digits", *chosen, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["method"] == "exact"
    assert told["parameters"] == 490 == len(told["density"]["values"])
    assert told == json.loads((out / "curvature.json").read_text())
    assert told["smallest"] > -1e-5
    curved = [value for value in told["density"]["values"] if value > 1e-6 * told["largest"]]
    assert told["condition"] == pytest.approx(max(curved) / min(curved))
    assert told["leading"][0] == told["largest"] > told["leading"][1]
    assert told["noise_scale"] > 0
    page = (out / "curvature.html").read_text()
    assert "The condition number is" in page
    assert "<svg" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("penalty", "rise"),
    [
        ({"optimizer": "sgd", "weight_decay": 0.02}, 0.02),
        ({"optimizer": "adam", "l2": 0.03}, 0.03),
        ({"optimizer": "adamw", "weight_decay": 0.5, "l2": 0.03}, 0.03),
        ({"optimizer": "momentum", "weight_decay": 0.01, "l1": 0.2, "l2": 0.03}, 0.04),
        ({"optimizer": "lbfgs", "weight_decay": 0.02}, 0.02),
        ({"optimizer": "momentum"}, 5e-4),
    ],
    ids=str,
)
def test_the_curvature_of_a_linear_classifier_is_that_of_its_formula(penalty: dict[str, Any], rise: float) -> None:
    """H = mean of (diag p - pp') x xx', x with a 1 for the bias, and the penalty on the weights; in float64."""
    start = session(settings("linear", size=4, **penalty))
    measured = curvature_of(start, probes=1, steps=1)
    assert measured.exact
    x_NCHW = start.forward.to_input(X_NHWC)
    scores_NK = start.network(x_NCHW).detach().double()
    x_ND = start.network[0](x_NCHW).flatten(1).double()  # type: ignore[index]
    x_ND = torch.cat([x_ND, torch.ones(len(x_ND), 1)], 1)
    p_NK = scores_NK.softmax(1)
    s_NKK = torch.diag_embed(p_NK) - p_NK[:, :, None] * p_NK[:, None]
    whole = torch.einsum("nij,na,nb->iajb", s_NKK, x_ND, x_ND) / len(x_ND)
    hessian = whole.reshape(CLASSES * x_ND.shape[1], -1)
    penalised = torch.ones(CLASSES, x_ND.shape[1])
    penalised[:, -1] = 0
    values = torch.linalg.eigvalsh(hessian + rise * torch.diag(penalised.flatten().double())).numpy()
    np.testing.assert_allclose(measured.spectrum.values_M, values, atol=1e-5 * values.max())
    curved = values[values > 1e-6 * values.max()]
    assert measured.condition == pytest.approx(curved.max() / curved.min(), rel=0.01)


def test_l1_is_in_loss_and_gradient_and_bends_nothing() -> None:
    starts = [session(settings("linear", optimizer="adam", size=4, l1=l1)) for l1 in (0.0, 0.5)]
    plain, with_l1 = (curvature_of(start, probes=1, steps=1) for start in starts)
    weight = starts[0].network[1][-1].weight  # type: ignore[index]
    assert with_l1.loss - plain.loss == pytest.approx(0.5 * float(weight.detach().double().abs().sum()), rel=1e-4)
    assert with_l1.gradient_norm > plain.gradient_norm
    np.testing.assert_allclose(with_l1.spectrum.values_M, plain.spectrum.values_M, atol=1e-6)


def test_samples_agree_with_the_whole_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    start = session(settings("linear", optimizer="sgd", flip=False, weight_decay=0.0))
    before = {name: value.clone() for name, value in start.network.state_dict().items()}
    monkeypatch.setattr("saccade.study.curvature.EXACT", 10**4)
    whole = curvature_of(start, probes=1, steps=1)
    monkeypatch.setattr("saccade.study.curvature.EXACT", 0)
    sampled = curvature_of(start, probes=2, steps=40)
    assert (whole.exact, sampled.exact) == (True, False)
    assert sampled.leading[:5] == pytest.approx(whole.leading[:5], rel=0.01)
    assert sampled.spectrum.mean == pytest.approx(whole.spectrum.mean, rel=0.5)
    assert sampled.noise_scale == whole.noise_scale
    assert sampled.loss == whole.loss
    assert all(torch.equal(value, before[name]) for name, value in start.network.state_dict().items())


def test_the_noise_of_a_linear_classifier_is_that_of_its_images_gradients() -> None:
    """tr(Σ) / |g|² from the gradient of every image by itself: softmax - y, times the image."""
    start = session(settings("linear", optimizer="sgd", flip=False, label_smoothing=0.0))
    many = session(settings("linear", optimizer="sgd", flip=False, label_smoothing=0.0, batch_size=2))
    x_NCHW = start.forward.to_input(X_NHWC)
    x_ND = start.network[0](x_NCHW).flatten(1)  # type: ignore[index]
    errors_NK = start.network(x_NCHW).softmax(1) - torch.eye(CLASSES)[Y_N]
    each_ND = torch.cat([(errors_NK[:, :, None] * x_ND[:, None]).flatten(1), errors_NK], 1).detach().double()
    mean_D = each_ND.mean(0)
    variance = float((each_ND - mean_D).square().sum()) / (len(each_ND) - 1)
    truth = variance / (float(mean_D.square().sum()) - variance / len(each_ND))
    measured = curvature_of(many, probes=1, steps=1).noise_scale
    assert measured == pytest.approx(truth, rel=0.25)


def test_one_image_has_no_noise() -> None:
    start = session(settings("linear", optimizer="sgd", batch_size=1))
    alone = replace(start, images=ArrayImages(X_NHWC[:1], Y_N[:1]))
    assert curvature_of(alone, probes=1, steps=2).noise_scale is None


def test_a_convnet_is_sampled_after_training(tmp_path: Path) -> None:
    chosen = TrainSettings(model="convnet", width=0.25, size=8, epochs=0.5, flip=False)
    told = measure_curvature("digits", chosen, images=64, products=12, out=tmp_path / "out")
    assert told["method"] == "lanczos"
    assert (told["epochs"], told["images"], told["condition"]) == (0.5, 64, None)
    assert sum(told["density"]["shares"]) == pytest.approx(1)
    assert len(told["density"]["values"]) == 12
    lines = text(told)
    assert "after 0.5 epochs" in lines
    assert "condition" not in lines


@pytest.mark.parametrize(
    ("model", "size"), [("mlp", 8), pytest.param("timm/test_vit", 160, marks=pytest.mark.filterwarnings("ignore"))]
)
def test_few_images_batch_norm_and_fused_attention_are_measured_too(tmp_path: Path, model: str, size: int) -> None:
    chosen = TrainSettings(model=model, size=size, width=0.1 if model == "mlp" else None)
    told = measure_curvature("digits", chosen, images=12, products=4, out=tmp_path / "out")
    assert told["images"] == 12
    assert np.isfinite(told["largest"])


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"largest": -0.5}, "curves up nowhere"),
        ({"leading": []}, "give more --products"),
        ({"noise_scale": None}, "no gradient can be told from it"),
        ({"condition": 2000.0, "method": "lanczos"}, "at least 2e+03"),
        ({"epochs": 1.0}, "after 1 epoch\n"),
        ({"negative_share": 0.0}, "0.0 % below 0"),
    ],
)
def test_what_is_not_known_is_said(changed: dict[str, Any], expected: str) -> None:
    told = {
        "model": "linear", "source": "digits", "epochs": 0, "images": 10, "parameters": 4, "loss": 1.0,
        "gradient_norm": 0.0, "method": "exact", "leading": [2.0], "largest": 2.0, "smallest": -1.0, "mean": 0.5,
        "negative_share": 0.25, "flat_share": 0.5, "condition": None, "noise_scale": 12.0, "folder": "out",
        "density": {"values": [-1.0, 0.0, 0.0, 2.0], "shares": [0.25] * 4, "errors": [0.0] * 4},
    }  # fmt: skip
    assert expected in text({**told, **changed})
    page = curvature_page({**told, **changed})
    assert "<svg" in page
    assert ("No direction is known to curve down, as in a bowl." in page) == ("negative_share" in changed)


def test_flat_losses_are_drawn() -> None:
    assert "from 0 to 0" in charts.spectrum({"values": [0.0, 0.0], "shares": [0.5, 0.5], "errors": [0.0, 0.0]})


def test_it_refuses_what_it_has_no_use_for(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="measured at new weights, or after --epochs; leave budget and replay out"):
        measure_curvature("digits", TrainSettings(budget=5.0), images=8, products=4)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    with pytest.raises(RunError, match="already exists"):
        measure_curvature("digits", TrainSettings(), images=8, products=4, out=tmp_path / "taken")
    with pytest.raises(SettingError, match="images is 1; expected 2 or more"):
        measure_curvature("digits", TrainSettings(model="mlp"), images=1, products=4, out=tmp_path / "out")


def test_it_takes_the_settings_of_a_training_by_the_clock(saccade: Saccade, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(TrainSettings(model="linear", size=4, budget=60.0, patience=2, views=True).to_yaml())
    done = saccade("curvature", "digits", "--config", file, "--images", "8", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 0
    refused = saccade("curvature", "digits", "--config", file, "--budget", "60s", cwd=tmp_path)
    assert refused.returncode == 2
    assert "leave budget and replay out" in refused.stderr


def test_what_it_is_measured_after_is_mirrored_as_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = SymmetryResult(True, "yes", 0.9, 0.9, 100, "all are right: mirroring keeps their class")
    monkeypatch.setattr(study, "mirror_symmetric", lambda _: result)
    for epochs, flip in ((0.5, True), (None, False)):
        given = TrainSettings(model="linear", size=4, epochs=epochs)
        told = measure_curvature("digits", given, images=8, products=4, out=tmp_path / str(flip))
        assert told["flip"] is flip, "a new network is none the worse for it"


def test_parts_of_a_loss_are_large_enough_for_batch_norm_and_nothing_is_left_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = TrainSettings(model="mlp", size=8, width=0.1, batch_size=2)
    told = measure_curvature("digits", chosen, images=5, products=2, out=tmp_path / "out")
    assert np.isfinite(told["largest"])
    monkeypatch.setattr("saccade.recipe.curvature.curvature_of", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        measure_curvature("digits", chosen, images=5, products=2, out=tmp_path / "failed")
    assert not (tmp_path / "failed").exists()


@pytest.mark.parametrize(("option", "value"), [("--images", "1"), ("--products", "0"), ("--model", "convnt")])
def test_wrong_use_is_one_sentence(saccade: Saccade, option: str, value: str) -> None:
    done = saccade("curvature", "digits", option, value)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert value in done.stderr
