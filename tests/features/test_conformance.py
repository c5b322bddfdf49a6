"""One suite over every kind of image features: what scikit-learn and its users may rely on."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline

from saccade.errors import InputError
from saccade.features import HOG, ColourHistogram, DeepFeatures, ImageFeatures, Stacked, VisualWords
from saccade.nn import trunks

Make = Callable[[], ImageFeatures]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of SqueezeNet's tensors: real in all but what they were trained on."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "squeezenet1_0.safetensors"
    state = trunks._whole("torchvision/squeezenet1_0").state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    return file


def made(name: str, weights: Path) -> ImageFeatures:
    deep = DeepFeatures(f"squeezenet1_0={weights}", size=33, precision="float32")
    kinds: dict[str, Make] = {
        "hue": lambda: ColourHistogram(bins=6),
        "rgb": lambda: ColourHistogram("rgb", bins=3, cells=1),
        "hog": lambda: HOG(cell=4),
        "hard words": lambda: VisualWords(words=7, patch=4, stride=2, assignment="hard", descriptor="patches"),
        "soft words": lambda: VisualWords(words=7, patch=4, stride=3, assignment="soft"),
        "triangle words": lambda: VisualWords(words=7, patch=4, stride=2),
        "gradient words": lambda: VisualWords(words=5, patch=8, descriptor="gradients", cells=1),
        "deep": lambda: deep,
        "deep stage": lambda: clone(deep).set_params(stage="features.4"),
        "stacked": lambda: Stacked([ColourHistogram(), HOG(cell=4, block=1), VisualWords(words=5, patch=4, stride=4)]),
        "mirrored": lambda: Stacked([ColourHistogram(), VisualWords(words=5, patch=4, stride=4)], mirrored=True),
    }
    return kinds[name]()


NAMES = ("hue", "rgb", "hog", "hard words", "soft words", "triangle words", "gradient words", "deep", "deep stage",
         "stacked", "mirrored")  # fmt: skip


@pytest.fixture(params=NAMES)
def features(request: pytest.FixtureRequest, weights: Path) -> ImageFeatures:
    return made(request.param, weights)


@pytest.fixture(scope="session")
def x() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (30, 16, 16, 3), np.uint8)


def test_rows_are_finite_float32_one_an_image(features: ImageFeatures, x: NDArray[np.uint8]) -> None:
    rows = features.fit(x).transform(x)
    assert rows.dtype == np.float32
    assert rows.shape == (30, features.n_features_) == (30, len(features.get_feature_names_out()))
    assert np.isfinite(rows).all()
    assert rows.std(0).max() > 0


def test_fit_transform_is_fit_then_transform(features: ImageFeatures, x: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(clone(features).fit_transform(x), features.fit(x).transform(x))


def test_a_row_depends_on_its_image_alone(features: ImageFeatures, x: NDArray[np.uint8]) -> None:
    whole = features.fit(x).transform(x)
    for rows in (slice(0, 1), slice(3, 10), [9, 2, 29]):
        np.testing.assert_allclose(features.transform(x[rows]), whole[rows], rtol=1e-4, atol=1e-5)


def test_fitting_again_forgets(features: ImageFeatures, x: NDArray[np.uint8]) -> None:
    other = np.flip(x[:20, :12, :12] // 2)
    again = clone(features).fit(other).fit(x)
    np.testing.assert_array_equal(again.transform(x), features.fit(x).transform(x))


def test_clone_has_settings_and_nothing_learnt(features: ImageFeatures, x: NDArray[np.uint8]) -> None:
    copy = clone(features.fit(x))
    assert str(copy.get_params()) == str(features.get_params())
    with pytest.raises(NotFittedError):
        copy.transform(x)


def test_pickle_and_state_give_the_same_rows(features: ImageFeatures, x: NDArray[np.uint8]) -> None:
    rows = features.fit(x).transform(x)
    tensors, config = features.to_state()
    assert all(isinstance(value, np.ndarray) for value in tensors.values())
    for copy in (pickle.loads(pickle.dumps(features)), type(features).from_state(tensors, config)):
        np.testing.assert_array_equal(copy.transform(x), rows)


def test_in_a_pipeline_and_a_union(features: ImageFeatures, x: NDArray[np.uint8]) -> None:
    y = np.arange(30) % 2
    pipeline = make_pipeline(features, LogisticRegression(max_iter=2000)).fit(x, y)
    assert set(pipeline.predict(x)) <= {0, 1}
    union = FeatureUnion([("a", features), ("b", HOG(cell=8, block=1))]).fit(x)
    assert union.transform(x).shape == (30, features.n_features_ + 4 * 9)


def test_grey_images_of_both_shapes(features: ImageFeatures, x: NDArray[np.uint8]) -> None:
    grey = x[..., 0]
    np.testing.assert_array_equal(clone(features).fit_transform(grey), features.fit_transform(grey[..., None]))


def test_black_images(features: ImageFeatures) -> None:
    if isinstance(features, VisualWords | Stacked):  # words need different images to be learnt from
        features.fit(np.random.default_rng(1).integers(0, 256, (9, 16, 16, 3), np.uint8))
    else:
        features.fit(np.zeros((2, 16, 16, 3), np.uint8))
    assert np.isfinite(features.transform(np.zeros((2, 16, 16, 3), np.uint8))).all()


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (np.zeros((0, 16, 16, 3), np.uint8), "There are no images in an array of shape (0, 16, 16, 3)"),
        (np.zeros((2, 16, 16, 3)), "type float64 given; expected (N, H, W)"),
        (np.zeros((2, 16, 16, 4), np.uint8), "Images of shape (2, 16, 16, 4)"),
        (np.zeros((2, 7), np.uint8), "Images of shape (2, 7)"),
        (np.full((2, 16, 16, 3), np.nan), "type float64 given"),
    ],
)
def test_refusals(features: ImageFeatures, x: NDArray[np.uint8], bad: Any, told: str) -> None:
    with pytest.raises(InputError) as refused:
        features.fit(bad)
    assert told in str(refused.value)
    with pytest.raises(ValueError, match=r"given|There are no images"):
        features.fit(x).transform(bad)


def test_images_unlike_those_fitted_to(features: ImageFeatures, x: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match=r"Images of shape \(12, 12, 3\) given; \w+ was fitted to \(16, 16, 3\)"):
        features.fit(x).transform(x[:, :12, :12])


def test_settings_can_be_searched(x: NDArray[np.uint8]) -> None:
    y = np.arange(30) % 3
    search = GridSearchCV(make_pipeline(HOG(), LogisticRegression(max_iter=2000)), {"hog__cell": [4, 8]}, cv=2)
    assert search.fit(x, y).best_params_["hog__cell"] in (4, 8)
