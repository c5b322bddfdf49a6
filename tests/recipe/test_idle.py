"""Settings without effect: which are refused, and which are not."""

from typing import Any

import pytest

from saccade.errors import SettingError
from saccade.recipe.idle import IDLE, refuse_idle
from saccade.settings import BaselineSettings, SearchSettings, Settings, TransferSettings


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


@pytest.mark.parametrize("given", [{"views": True}, {"test_views": 4}])
def test_a_search_predicts_from_each_image_as_it_is(given: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="leave views and test_views out"):
        SearchSettings(**given)
    SearchSettings(views=False)
