"""Settings without effect: which are refused, and which are not."""

from pathlib import Path
from typing import Any

import pytest

from saccade import recipe
from saccade.errors import SettingError
from saccade.recipe.idle import IDLE, PREDICTING, TRAINING, refuse_idle, refuse_unmeasured
from saccade.settings import BaselineSettings, SearchSettings, Settings, TrainSettings, TransferSettings


@pytest.mark.parametrize("kind", IDLE)
def test_the_table_names_settings_and_defaults_are_never_refused(kind: type[Settings]) -> None:
    for name, (other, without) in IDLE[kind].items():
        assert {name, other} <= kind.model_fields.keys()
        for value in without:
            refuse_idle(kind(**{other: value}))
            refuse_idle(kind(**{**kind().model_dump(), other: value}))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (BaselineSettings(learning_rate=(5.0,)), "learning_rate has no effect with solver=optimum"),
        (BaselineSettings(batch_size=1), "batch_size has no effect with solver=optimum"),
        (BaselineSettings(epochs=1), "epochs has no effect with solver=optimum"),
        (BaselineSettings(margin=2), "margin has no effect with loss=softmax"),
        (BaselineSettings(beta=2, penalty=("l2", "l1")), "beta has no effect with penalty=l2,l1"),
        (BaselineSettings(strength=(0.1,), penalty=("none",)), "strength has no effect with penalty=none"),
        (BaselineSettings(stage="layer3", pretrained="none"), "stage has no effect with pretrained=none"),
        (TransferSettings(cell="top", epochs=30), "epochs has no effect with cell=top"),
        (TransferSettings(cell="stages", epochs=30), "epochs has no effect with cell=stages"),
    ],
)
def test_what_has_no_effect_is_refused(settings: Settings, sentence: str) -> None:
    with pytest.raises(SettingError, match=f"^The setting {sentence}; leave it out, or give another "):
        refuse_idle(settings)


@pytest.mark.parametrize("given", [{"stage": "layer3"}, {"deep_size": 64}])
def test_features_of_weights_that_are_not_here_are_refused(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("saccade.recipe.classical.pretrained.find", lambda _: None)
    said = "has no effect with pretrained=none, which auto comes to on this machine; leave it out, or give another pre"
    with pytest.raises(SettingError, match=f"^The setting {next(iter(given))} {said}trained"):
        recipe.baselines("digits", BaselineSettings(**given), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings",
    [
        BaselineSettings(learning_rate=(5.0,), batch_size=1, epochs=1, solver=("optimum", "descent")),
        BaselineSettings(margin=2, loss=("softmax", "hinge")),
        BaselineSettings(beta=2, penalty=("elastic_net",)),
        BaselineSettings(strength=(0.1,)),
        TransferSettings(epochs=30),
        TransferSettings(cell="few", epochs=30),
    ],
)
def test_what_has_an_effect_is_not(settings: Settings) -> None:
    refuse_idle(settings)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"views": True, "epochs": 2}, r"views has no effect on the curvature; leave it out\.$"),
        ({"test_views": 4}, r"test_views has no effect on the curvature; leave it out\.$"),
        (
            {"learning_rate": 0.1},
            "learning_rate has no effect on the curvature at new weights; leave it out, or give",
        ),
        ({"mixup": 0.2}, "mixup has no effect on the curvature at new weights"),
        ({"ema": 0.9}, "ema has no effect on the curvature at new weights"),
        ({"dropout": 0.5}, "dropout has no effect on the curvature at new weights"),
        ({"augment": {"rotate": 5}}, "augment has no effect on the curvature at new weights"),
    ],
)
def test_a_curvature_refuses_what_it_does_not_depend_on_where_it_was_given(
    values: dict[str, Any], sentence: str
) -> None:
    settings = TrainSettings(**values)
    with pytest.raises(SettingError, match=f"^The setting {sentence}"):
        refuse_unmeasured(settings, settings.model_fields_set)
    refuse_unmeasured(settings, ["epochs"])  # the rest stands in a file of settings, which a run resolved
    refuse_unmeasured(TrainSettings(), [*TrainSettings.model_fields])
    assert TrainSettings.model_fields.keys() >= TRAINING | PREDICTING
    trained = TrainSettings(learning_rate=0.1, mixup=0.2, epochs=1)
    refuse_unmeasured(trained, trained.model_fields_set)


@pytest.mark.parametrize("given", [{"views": True}, {"test_views": 4}])
def test_a_search_predicts_from_each_image_as_it_is(given: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="leave views and test_views out"):
        SearchSettings(**given)
    SearchSettings(views=False)
