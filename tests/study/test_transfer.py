"""A linear classifier on frozen features: the head against scikit-learn's, and one network that predicts as both."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from saccade import data, study
from saccade.nn import zoo
from saccade.nn.transfer import Transfer
from saccade.settings import DataSettings, TrainSettings
from saccade.train.forward import Forward
from tests.photos import photo_folder

MODEL = "timm/test_resnet"


@pytest.fixture
def parts(tmp_path: Path) -> data.Parts:
    images = data.integrity(data.open(photo_folder(tmp_path / "photos", 20), DataSettings()))
    return data.split(images, np.arange(len(images)), DataSettings())


@pytest.fixture
def forward() -> Forward:
    torch.manual_seed(0)
    network = zoo.blank(TrainSettings(model=MODEL, size=64), 3)
    zoo.standardize_by(network, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    settings = TrainSettings(model=MODEL, pretrained=MODEL, size=64, views=True, device="cpu", precision="float32")
    return Forward.of(network, settings)


def test_the_head_is_scikit_learns_optimum_at_the_same_penalty(parts: data.Parts, forward: Forward) -> None:
    found = study.probe(forward, parts.train, parts.validation, name="probe")
    x_ND = found.x_VND.reshape(-1, found.x_VND.shape[-1]).astype(np.float64)
    y_N = np.tile(parts.train.labels_N, 2)
    # Ours: mean loss + penalty * sum W^2; scikit-learn's: C * sum of losses + sum W^2 / 2.
    theirs = LogisticRegression(C=1 / (2 * found.penalty * len(y_N)), tol=1e-8, max_iter=5000)
    scaler = StandardScaler().fit(x_ND)
    z_ND = scaler.transform(x_ND)
    theirs.fit(z_ND, y_N)
    body = zoo.body(found.forward.network)
    assert isinstance(body, Transfer)
    head = body.head
    weights_KD = head.weight.detach().double().numpy() * scaler.scale_
    bias_K = head.bias.detach().double().numpy() + weights_KD @ (scaler.mean_ / scaler.scale_)

    def objective(weights_KD: NDArray[np.float64], bias_K: NDArray[np.float64]) -> float:
        log_NK = log_softmax(z_ND @ weights_KD.T + bias_K, axis=1)
        return float(-log_NK[np.arange(len(y_N)), y_N].mean() + found.penalty * (weights_KD**2).sum())

    assert objective(weights_KD, bias_K) == pytest.approx(objective(theirs.coef_, theirs.intercept_), rel=5e-3)


def test_the_network_predicts_what_its_features_say(parts: data.Parts, forward: Forward) -> None:
    found = study.probe(forward, parts.train, parts.validation, name="probe")
    x_NHWC = torch.from_numpy(parts.validation.squares(64))
    whole_NK = found.forward.log_probabilities(x_NHWC).double().numpy()
    np.testing.assert_allclose(whole_NK, study.log_probabilities(found.forward, found.held_VND), atol=1e-4)
    everything = np.arange(len(parts.train))
    plain_NK = study.log_probabilities(found.forward, found.held_VND)
    np.testing.assert_array_equal(found.predict(everything), plain_NK.argmax(1))


@pytest.mark.parametrize("training", [True, False])
def test_features_are_those_of_evaluation_and_the_network_stays_in_its_mode(
    parts: data.Parts, forward: Forward, training: bool
) -> None:
    expected_VND = study.probe(forward, parts.train, parts.validation, name="probe").held_VND
    forward.network.train(training)
    found = study.probe(forward, parts.train, parts.validation, name="probe")
    np.testing.assert_array_equal(found.held_VND, expected_VND)
    assert {module.training for module in forward.network.modules()} == {training}


def test_a_class_without_training_images_is_not_predicted(parts: data.Parts, forward: Forward) -> None:
    two = parts.train.select(np.flatnonzero(parts.train.labels_N != 1))
    found = study.probe(forward, two, parts.validation, name="probe")
    assert not (study.log_probabilities(found.forward, found.held_VND).argmax(1) == 1).any()


def test_refitting_takes_the_validation_images_too(parts: data.Parts, forward: Forward) -> None:
    found = study.probe(forward, parts.train, parts.validation, name="probe")
    again = found.refitted()
    assert again is not None
    assert found.refitted(seconds=0.0) is None
    before_NK, after_NK = (study.log_probabilities(each, found.held_VND) for each in (found.forward, again))
    rows = np.arange(len(found.held_y_N))
    assert after_NK[rows, found.held_y_N].mean() > before_NK[rows, found.held_y_N].mean()


def test_one_class_alone_is_predicted_always(parts: data.Parts, forward: Forward) -> None:
    found = study.probe(forward, parts.train, parts.validation, name="probe")
    of_two = np.flatnonzero(parts.train.labels_N == 2)
    assert (found.predict(of_two) == 2).all()


def test_lower_layers_learn_less(forward: Forward) -> None:
    body = zoo.body(forward.network)
    assert isinstance(body, Transfer)
    factors = list(body.depth_factors(0.1).values())
    assert factors[0] == pytest.approx(0.1)
    assert factors[-1] == 1
    ratios = np.divide(factors[1:], factors[:-1])
    np.testing.assert_allclose(ratios, ratios[0])
    assert body.head.weight not in body.depth_factors(0.1)
