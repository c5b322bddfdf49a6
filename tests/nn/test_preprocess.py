"""Preprocessing against scikit-learn and NumPy in float64: what it gives, what it is fitted on, that it is kept."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from saccade.data.batches import ArrayImages
from saccade.errors import ModelError
from saccade.nn import zoo
from saccade.nn.layers import Standardize
from saccade.nn.preprocess import PREPROCESSING, Decorrelate, MeanImage, Rotation
from saccade.settings import TrainSettings
from saccade.train.session import Session


def images(n: int, side: int = 6) -> Tensor:
    """Return images whose neighbouring values are correlated."""
    draw = np.random.default_rng(0)
    mixed = draw.normal(size=(n, 3 * side**2)) @ draw.normal(size=(3 * side**2, 3 * side**2)) / side
    return torch.from_numpy((mixed * 20 + 120).clip(0, 255).astype(np.uint8).reshape(n, side, side, 3))


def as_input(x_NHWC: Tensor) -> Tensor:
    return x_NHWC.permute(0, 3, 1, 2).double()


def flat(x_NHWC: Tensor) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    return np.asarray(as_input(x_NHWC).flatten(1).numpy())


def test_the_table_is_that_of_the_settings() -> None:
    names = TrainSettings.model_json_schema()["properties"]["preprocess"]["enum"]
    assert list(PREPROCESSING) != []
    assert set(PREPROCESSING) == set(names)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_the_mean_image_is_numpys(chunk: int) -> None:
    x_NHWC, layer = images(50), MeanImage(6).double()
    layer.fit(x_NHWC.split(chunk))
    np.testing.assert_allclose(layer(as_input(x_NHWC)).numpy().mean(0), 0, atol=1e-10)
    smaller = layer(torch.zeros(1, 3, 3, 3, dtype=torch.float64))
    expected = torch.nn.functional.interpolate(layer.mean_CHW[None], size=(3, 3), mode="bilinear", antialias=True)
    torch.testing.assert_close(-smaller, expected)


def test_whitening_is_scikit_learns() -> None:
    x_NHWC = images(900)
    layer = Decorrelate(6, "pca-whiten", damping=0.0).double()
    layer.fit(x_NHWC.split(100))
    ours = layer(as_input(x_NHWC)).flatten(1).float().numpy().astype(np.float64)
    theirs = PCA(whiten=True, svd_solver="full").fit_transform(flat(x_NHWC))
    signs = np.sign((ours * theirs).sum(0))
    np.testing.assert_allclose(ours * signs, theirs, atol=2e-4)
    np.testing.assert_allclose(np.cov(ours.T), np.eye(108), atol=2e-4)


def test_pca_rotates_and_keeps_lengths() -> None:
    x_NHWC = images(900)
    layer = Decorrelate(6, "pca").double()
    layer.fit([x_NHWC])
    ours = layer(as_input(x_NHWC)).flatten(1).numpy()
    reference = PCA(svd_solver="full").fit(flat(x_NHWC))
    np.testing.assert_allclose(np.cov(ours.T), np.diag(reference.explained_variance_), rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), np.linalg.norm(flat(x_NHWC) - reference.mean_, axis=1))


def test_zca_is_white_and_nearest_to_the_image() -> None:
    x_NHWC = images(900)
    layer = Decorrelate(6, "zca", damping=0.0).double()
    layer.fit(x_NHWC.split(333))
    ours = layer(as_input(x_NHWC)).flatten(1).numpy()
    np.testing.assert_allclose(np.cov(ours.T), np.eye(108), atol=2e-4)
    matrix = layer.matrix_DD.numpy()
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_damping_holds_back_weak_components() -> None:
    x_NHWC = images(60)  # fewer images than values: most variances are 0
    layer = Decorrelate(6, "pca-whiten")
    layer.fit([x_NHWC])
    variance_D = PCA(svd_solver="full").fit(flat(x_NHWC)).explained_variance_
    whitened = np.cov(layer(as_input(x_NHWC).float()).flatten(1).numpy().T)
    floor = 0.01 * variance_D.sum() / 108
    np.testing.assert_allclose(np.diag(whitened)[:50], (variance_D / (variance_D + floor))[:50], atol=1e-3)
    np.testing.assert_allclose(np.diag(whitened)[60:], 0, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "mean", "sd"), [("center", True, False), ("scale", False, True), ("none", False, False)]
)
def test_centring_and_scaling_each_alone(name: str, mean: bool, sd: bool) -> None:
    x_NHWC, network = images(80), zoo.build("linear", classes=2, side=6, preprocess=name)
    zoo.fit_to(network, x_NHWC)
    exact = x_NHWC.numpy().astype(np.float64)
    expected = (exact - mean * exact.mean((0, 1, 2))) / (exact.std((0, 1, 2)) if sd else 1)
    out = network[0](as_input(x_NHWC).float()).permute(0, 2, 3, 1)  # type: ignore[index]
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-5, atol=1e-4)


class Counted(ArrayImages):
    """Images that count how often all were asked for, and how many at once."""

    asked = 0
    most = 0

    def chunks(self) -> Iterator[Tensor]:
        self.asked += 1
        for chunk in super().chunks():
            self.most = max(self.most, len(chunk))
            yield chunk


def test_all_training_images_are_fitted_on_some_at_a_time() -> None:
    x_NHWC = images(3000)
    held = Counted(x_NHWC, torch.zeros(3000, dtype=torch.int64))
    settings = TrainSettings(model="linear", size=6, preprocess="zca", batch_size=32, flip=False, views=False)
    session = Session.start(settings, held, x_NHWC[:10], classes=2, names=[""] * 3000)
    assert (held.asked, held.most) == (1, 1024)
    np.testing.assert_allclose(session.network[0].mean_D, flat(x_NHWC).mean(0), rtol=1e-6)  # type: ignore[index]
    plain = Session.start(settings.override(["preprocess=standardize"]), held, x_NHWC, classes=2, names=[""] * 3000)
    assert plain.side_at(0.0) == 6


def test_it_is_kept_with_the_weights_and_decides_what_is_trained() -> None:
    network = zoo.build("convnet", classes=3, side=20, width=0.1, preprocess="zca")
    zoo.fit_to(network, images(100, 20))
    assert {"standardize.mean_D", "standardize.matrix_DD"} <= network.state_dict().keys()
    other = zoo.from_settings(TrainSettings(size=20, width=0.1, preprocess="zca"), 3)
    other.load_state_dict(network.state_dict())
    x = as_input(images(4, 20)).float()
    torch.testing.assert_close(other.eval()(x), network.eval()(x))
    assert zoo.side_at(network, 20, 0.0) == 20  # it takes one side alone, so training images do not grow
    growing = zoo.build("convnet", classes=3, side=28, width=0.1, preprocess="mean-image")
    assert zoo.side_at(growing, 28, 0.0) == 20
    assert growing(torch.zeros(2, 3, 20, 20)).shape == (2, 3)
    assert zoo.body(network) is network[1]  # type: ignore[index]


@pytest.mark.parametrize("kind", ["pca", "pca-whiten", "zca"])
def test_images_that_do_not_vary_are_centred_and_not_scaled_up(kind: Rotation) -> None:
    layer, x_NHWC = Decorrelate(6, kind), torch.full((9, 6, 6, 3), 77, dtype=torch.uint8)
    layer.fit([x_NHWC])
    assert layer.matrix_DD.isfinite().all()
    torch.testing.assert_close(layer.matrix_DD @ layer.matrix_DD.T, torch.eye(108), rtol=0, atol=1e-5)
    torch.testing.assert_close(layer(as_input(x_NHWC)), torch.zeros(9, 3, 6, 6))


def test_without_images_nothing_is_fitted() -> None:
    mean, standardize = MeanImage(6), Standardize()
    with pytest.raises(ModelError, match=r"^preprocess=mean-image needs a training image or more, and none was given"):
        mean.fit([])
    with pytest.raises(ModelError, match=r"^Mean and standard deviation need a training image or more, and none was"):
        standardize.fit(images(0))
    assert not mean.mean_CHW.any()
    assert (standardize.mean_C.tolist(), standardize.sd_C.tolist()) == ([0, 0, 0], [1, 1, 1])


def refusal(**choices: object) -> str:
    with pytest.raises(ModelError) as caught:
        zoo.from_settings(TrainSettings.model_validate(choices), 2)
    return str(caught.value)


def test_what_cannot_be_is_refused() -> None:
    assert refusal(model="convnet", size=64, preprocess="zca") == (
        "preprocess=zca of images of 64 x 64 pixels would need a matrix of 12,288 x 12,288; "
        "give a size of 40 or less, or preprocess=mean-image."
    )
    assert refusal(model="convnet", size=16, preprocess="pca") == (
        'preprocess=pca leaves no image to the convolutions of "convnet"; give zca, or a network that has none, '
        "such as mlp."
    )
    with pytest.raises(ModelError, match=r"^preprocess=pca needs two training images or more, and 1 given\.$"):
        Decorrelate(6, "pca").fit([images(1)])
    library, own = ("resnet18", "torchvision/resnet18"), ("run/first", "convnet")
    for (asked, model), choice in (
        (library, {"preprocess": "zca"}),
        (library, {"norm": "none"}),
        (own, {"preprocess": "zca"}),
    ):
        given = {"pretrained": asked, "model": model, **choice}
        settings = TrainSettings.model_validate(given)
        with pytest.raises(ModelError) as caught:
            zoo.check_choices(settings)
        assert str(caught.value) == (
            f"A pretrained network is as it was trained: leave {next(iter(choice))} out, or pretrained."
        )
