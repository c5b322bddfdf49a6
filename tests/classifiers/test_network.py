"""The network as a scikit-learn classifier: its conventions, what it learns, what it refuses, how it comes back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from saccade.classifiers import NetworkClassifier
from saccade.errors import InputError, ModelError, SettingError
from tests.photos import CLASSES, photo

SETTINGS = {"width": 0.25, "precision": "float32", "device": "cpu", "batch_size": 16}


def photos(n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    x_NHWC = np.stack([photo(i % 3, (16, 16), seed=seed + i) for i in range(n)])
    return x_NHWC, np.array([CLASSES[i % 3] for i in range(n)])


def fitted(model: str = "convnet", **settings: Any) -> NetworkClassifier:
    return NetworkClassifier(model, epochs=6, settings={**SETTINGS, **settings}).fit(*photos(90))


@pytest.fixture(scope="module")
def classifier() -> NetworkClassifier:
    return fitted()


def test_it_learns_and_speaks_in_labels(classifier: NetworkClassifier) -> None:
    x, y = photos(60, seed=5000)
    assert classifier.classes_.tolist() == sorted(CLASSES)
    assert classifier.score(x, y) > 0.8
    probabilities_NK = classifier.predict_proba(x)
    assert probabilities_NK.shape == (60, 3)
    assert probabilities_NK.dtype == np.float64
    np.testing.assert_allclose(probabilities_NK.sum(1), 1, atol=1e-12)
    assert (classifier.predict(x) == classifier.classes_[probabilities_NK.argmax(1)]).all()


def test_scikit_learn_conventions() -> None:
    classifier = NetworkClassifier("mlp", epochs=2.0, settings=SETTINGS)
    assert is_classifier(classifier)
    assert classifier.get_params() == {"model": "mlp", "epochs": 2.0, "settings": SETTINGS}
    copy = clone(classifier)
    assert copy is not classifier
    assert copy.get_params() == classifier.get_params()
    assert classifier.fit(*photos(30)) is classifier
    assert set(vars(clone(classifier))) == {"model", "epochs", "settings"}, "fitted values are not cloned"
    assert "NetworkClassifier" in repr(classifier)


def test_before_fitting_nothing_is_predicted() -> None:
    for method in ("predict", "predict_proba", "to_state"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(NetworkClassifier(), method)(*(() if method == "to_state" else (photos(2)[0],)))


def test_fitting_draws_nothing_from_the_callers_generators() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    NetworkClassifier("mlp", epochs=1, settings={**SETTINGS, "dropout": 0.3}).fit(*photos(30))
    assert torch.equal(torch.rand(3), expected)


def test_scikit_learns_tools_drive_it() -> None:
    x, y = photos(60)
    classifier = NetworkClassifier("linear", epochs=3, settings=SETTINGS)
    assert cross_val_score(classifier, x, y, cv=2).shape == (2,)
    search = GridSearchCV(classifier, {"model": ["linear", "mlp"]}, cv=2).fit(x, y)
    assert search.best_params_["model"] in {"linear", "mlp"}


def test_the_same_twice_and_whatever_memory_the_images_lie_in() -> None:
    x, y = photos(48)
    expected = NetworkClassifier("mlp", 2, SETTINGS).fit(x, y).predict_proba(x)
    read_only = x.copy()
    read_only.flags.writeable = False
    strided = np.repeat(x, 2, axis=0)[::2]
    backwards = x[::-1].copy()[::-1]
    for other in (x, read_only, strided, backwards):
        again = NetworkClassifier("mlp", 2, SETTINGS).fit(other, y)
        np.testing.assert_array_equal(again.predict_proba(other), expected)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((4, 16, 16, 3), np.float32),
        np.zeros((4, 16, 12, 3), np.uint8),
        np.zeros((4, 16, 16, 1), np.uint8),
        np.zeros((4, 768), np.uint8),
    ],
)
def test_other_arrays_are_refused(classifier: NetworkClassifier, x: NDArray[Any]) -> None:
    for wrong in (lambda: NetworkClassifier().fit(x, [0, 1, 0, 1]), lambda: classifier.predict(x)):
        with pytest.raises(SettingError) as caught:
            wrong()
        assert str(caught.value) == f"Images of shape {x.shape} and type {x.dtype} given; expected (N, S, S, 3) uint8."


def test_wrong_models_settings_and_labels_are_refused() -> None:
    x, y = photos(6)
    with pytest.raises(ModelError, match=r'There is no network "mpl"\. Did you mean "mlp"\?'):
        NetworkClassifier("mpl").fit(x, y)
    with pytest.raises(SettingError, match=r'There is no setting "widht"\. Did you mean "width"\?'):
        NetworkClassifier(settings={"widht": 2}).fit(x, y)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[6, 5\]"):
        NetworkClassifier().fit(x, y[:5])


@pytest.mark.parametrize(
    ("y", "told"),
    [
        ([0, np.nan, 1, 0], r"Input y contains NaN\."),
        ([0.5, 1, 2, 3], r"Unknown label type: continuous"),
        (np.eye(4), r"y should be a 1d array, got an array of shape \(4, 4\) instead\."),
        (None, r"requires y to be passed, but the target y is None"),
        (["cat", 1, None, "dog"], r"The labels are of the types NoneType, int, str; give names alone, or whole"),
    ],
)
def test_labels_are_taken_as_its_siblings_take_them(y: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        NetworkClassifier("linear", 1, SETTINGS).fit(photos(4)[0], y)


def test_images_are_anything_that_numpy_makes_an_array_of() -> None:
    x, y = photos(12)
    expected = NetworkClassifier("linear", 1, SETTINGS).fit(x, y).predict(x)
    classifier = NetworkClassifier("linear", 1, SETTINGS).fit([*x], [*y])
    np.testing.assert_array_equal(classifier.predict([*x]), expected)
    with pytest.raises(InputError, match=r"The images are of several shapes; bring them to one, \(S, S, 3\) uint8"):
        classifier.predict([x[0], x[1, :8]])
    with pytest.raises(InputError, match=r"No images given: found 0 in an array of shape \(0, 16, 16, 3\)"):
        NetworkClassifier("linear", 1, SETTINGS).fit(x[:0], y[:0])


def test_epochs_are_a_number_above_0_wherever_they_are_given() -> None:
    x, y = photos(12)
    for epochs in (0, -1.0, np.nan):
        with pytest.raises(SettingError, match=rf'The setting epochs cannot be "{epochs}"'):
            NetworkClassifier("linear", epochs, SETTINGS).fit(x, y)
    with pytest.raises(SettingError, match="There are no epochs given"):
        NetworkClassifier("linear", settings={**SETTINGS, "epochs": None}).fit(x, y)
    one, other = (NetworkClassifier("linear", epochs, {**SETTINGS, "epochs": 2}).fit(x, y) for epochs in (1, 3))
    np.testing.assert_array_equal(one.predict_proba(x), other.predict_proba(x))
    assert one.settings_.epochs == 2


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("model", ["convnet", "mlp", "linear"])
def test_state_makes_the_same_classifier(model: str, views: bool) -> None:
    one = fitted(model, views=views)
    one.forward_ = replace(one.forward_, temperature=1.7)
    again = NetworkClassifier.from_state(*one.to_state())
    x, _ = photos(20, seed=900)
    np.testing.assert_array_equal(again.predict_proba(x), one.predict_proba(x))
    np.testing.assert_array_equal(again.predict(x), one.predict(x))
    assert again.settings_ == one.settings_.model_copy(update={"device": "auto"})
    mirrored = one.predict_proba(x[:, :, ::-1])
    assert np.allclose(mirrored, one.predict_proba(x), atol=1e-5) is views


def test_pretrained_weights_say_of_what_network_they_are(tmp_path: Path) -> None:
    save_file(timm.create_model("test_resnet", num_classes=1000).state_dict(), tmp_path / "weights.safetensors")
    weights = f"timm/test_resnet={tmp_path / 'weights.safetensors'}"
    # In float32: strided kernels of 3 on maps of one pixel get gradients of unset memory from oneDNN (bfloat16, AMX).
    chosen = {"pretrained": weights, "batch_size": 16, "device": "cpu", "precision": "float32"}
    x, y = photos(32)
    one = NetworkClassifier(epochs=1, settings=chosen).fit(x, y)
    assert one.settings_.model == "timm/test_resnet"
    again = NetworkClassifier.from_state(*one.to_state())
    np.testing.assert_array_equal(again.predict_proba(x), one.predict_proba(x))
    with pytest.raises(ModelError, match="weights are of timm/test_resnet, and model=mlp was given; leave the model"):
        NetworkClassifier("mlp", settings=chosen).fit(x, y)


@pytest.mark.parametrize("chosen", [{"patience": 2}, {"snapshots": 3}], ids=str)
def test_what_validation_images_judge_is_refused(chosen: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="There are no validation images here to judge patience and snapshots by"):
        fitted(**chosen)


def test_random_crops_are_refused() -> None:
    with pytest.raises(SettingError, match="random_crops cuts image files as they are read, and these are arrays"):
        fitted(random_crops=0.3)
