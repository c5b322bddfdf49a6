"""Views to predict from: one draw for all images, kept only where validation improves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from saccade import recipe
from saccade.augment import apply
from saccade.augment.views import view
from saccade.device import generator
from saccade.errors import SettingError
from saccade.nn import zoo
from saccade.run import Run
from saccade.settings import TrainSettings
from saccade.train import Forward
from tests.photos import photo_folder

X_NHWC = torch.randint(0, 256, (6, 12, 12, 3), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("strengths", [{"translate": 0.2}, {"rotate": 20.0}, {"crop": 0.5, "lens": 0.3}], ids=str)
def test_a_view_is_the_augmentation_of_an_image_alone(strengths: dict[str, float]) -> None:
    together = view(X_NHWC, strengths, torch.Generator().manual_seed(3))
    assert not torch.equal(together, X_NHWC)
    for place in range(len(X_NHWC)):
        alone = apply(X_NHWC[place : place + 1], strengths, torch.Generator().manual_seed(3))
        torch.testing.assert_close(together[place : place + 1], alone)


def test_predictions_are_the_mean_over_image_mirror_image_and_views() -> None:
    settings = TrainSettings(model="mlp", size=12, views=True, test_views=4, translate=0.1, augment={"rotate": 10})
    torch.manual_seed(0)
    network = zoo.from_settings(settings, 3)
    forward = Forward.of(network, settings)
    x_NCHW = X_NHWC.permute(0, 3, 1, 2)
    seen = [x_NCHW, x_NCHW.flip(3)]
    for number in range(3):
        moved = view(X_NHWC, {"translate": 0.1, "rotate": 10}, generator(0, "view", number)).permute(0, 3, 1, 2)
        seen.append(moved.flip(3) if number % 2 else moved)
    expected = torch.stack([forward.scores(each) for each in seen]).double().mean(0).log_softmax(1)
    got = forward.log_probabilities(X_NHWC.byte()).double()
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    alone = forward.log_probabilities(X_NHWC[3:4].byte()).double()
    torch.testing.assert_close(got[3:4], alone, rtol=1e-4, atol=1e-5)


def test_views_need_something_to_move_by() -> None:
    settings = TrainSettings(model="mlp", size=12, test_views=4, translate=0.0, augment={"contrast": 0.3})
    with pytest.raises(SettingError, match=r"training moves none: give translate or augment\.rotate"):
        Forward.of(nn.Linear(1, 1), settings)


def test_views_are_kept_only_where_validation_improves(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", 24)
    settings = TrainSettings(model="mlp", epochs=3, size=12, flip=False, test_views=5, translate=0.1)
    result = recipe.train(photos, settings, out=tmp_path / "run")
    [decision] = [each for each in Run(tmp_path / "run").read("plan")["decisions"] if each["what"] == "test_views"]
    classifier = result.model.members[0].classifier
    assert classifier.forward_.further == decision["value"] - 1  # type: ignore[attr-defined]
    assert "4 further views lower the validation log loss by" in decision["why"]
    again = type(result.model).load(tmp_path / "run" / "model")
    x_NHWC = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3), np.uint8)
    np.testing.assert_array_equal(again.probabilities(lambda *_: x_NHWC), result.model.probabilities(lambda *_: x_NHWC))
