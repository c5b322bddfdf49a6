"""Settings: what they read, what they refuse and in which words, and that they come back from YAML."""

from pathlib import Path
from typing import Any

import pytest

from saccade.cli.options import resolve, resolve_each
from saccade.cli.search import FIXED
from saccade.errors import SettingError
from saccade.settings import DataSettings, FitSettings, SearchSettings, Settings, TrainSettings
from saccade.values import parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("2m", 120), ("1h30m", 5400), ("1.5h", 5400), ("2m30", 150), (" 1H 5 s ", 3605), (7, 7)],
)
def test_times_are_read(text: Any, seconds: float) -> None:
    assert FitSettings(budget=text).budget == seconds
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "m", "2d", "1 0m", "-5s", "5m2h", "1.5.5", "inf", "1e3"])
def test_other_times_are_refused(text: Any) -> None:
    with pytest.raises(SettingError) as caught:
        FitSettings(budget=text)
    assert str(caught.value) == f'The setting budget cannot be "{text}": expected a time such as 90s, 2m or 1h30m.'


@pytest.mark.parametrize(
    ("kind", "values", "sentence"),
    [
        (TrainSettings, {"epoch": 3}, 'There is no setting "epoch". Did you mean "epochs"?'),
        (
            DataSettings,
            {"zzz": 3},
            (
                'There is no setting "zzz". Known are: seed, split_seed, test_fraction, validation_fraction, '
                "group_pattern, fit_to_square, memory, workers."
            ),
        ),
        (
            DataSettings,
            {"group_pattern": "patient(["},
            (
                'The setting group_pattern cannot be "patient([": it is no regular expression (unterminated character '
                "set at position 8)."
            ),
        ),
        (
            TrainSettings,
            {"augment": "rotat"},
            'The setting augment cannot be "rotat": there is no augmentation "rotat"; did you mean "rotate"?',
        ),
        (FitSettings, {"budget": 0}, 'The setting budget cannot be "0": input should be greater than 0.'),
        (FitSettings, {"budget": float("inf")}, 'The setting budget cannot be "inf": input should be a finite number.'),
        (TrainSettings, {"epochs": -1}, 'The setting epochs cannot be "-1": input should be greater than 0.'),
        (TrainSettings, {"size": 3}, 'The setting size cannot be "3": input should be greater than or equal to 4.'),
        (TrainSettings, {"cutout": 2}, 'The setting cutout cannot be "2": input should be less than or equal to 1.'),
        (TrainSettings, {"warmup": 1}, 'The setting warmup cannot be "1": input should be less than 1.'),
        (
            TrainSettings,
            {"schedule": "stairs"},
            (
                "The setting schedule cannot be \"stairs\": input should be 'linear', 'cosine', 'constant', 'step', "
                "'exponential', 'inverse' or 'one_cycle'."
            ),
        ),
        (
            TrainSettings,
            {"batch_size": "many"},
            'The setting batch_size cannot be "many": expected an integer.',
        ),
        (
            TrainSettings,
            {"batch_size": "all", "balance": "sampling"},
            (
                "With batch_size=all each image is taken once a step, and balance=sampling takes some more often: give "
                "balance=weights, or a number of images a step."
            ),
        ),
        (
            TrainSettings,
            {"epochs": 3, "budget": "2m"},
            "Epochs and budget exclude each other: give one of them.",
        ),
    ],
)
def test_what_settings_refuse(kind: type[Settings], values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError) as caught:
        kind(**values)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("epochs", '"epochs" is not a setting; expected key=value, such as epochs=5.'),
        ("learning_rate=", '"learning_rate=" gives no value; expected key=value, such as epochs=5.'),
        ("=3", '"=3" names no setting; expected key=value, such as epochs=5.'),
        ("epohcs=3", 'There is no setting "epohcs". Did you mean "epochs"?'),
        ("model=[", "The value of model is not valid YAML: while parsing a flow node."),
        ("budget=2024-99-99", "The value of budget is not valid YAML: month must be in 1..12."),
        ("epochs=many", 'The setting epochs cannot be "many": expected a number.'),
    ],
)
def test_what_override_refuses(assignment: str, sentence: str) -> None:
    with pytest.raises(SettingError) as caught:
        TrainSettings().override([assignment])
    assert str(caught.value).startswith(sentence)


def test_overriding_is_a_checked_copy() -> None:
    settings = TrainSettings(epochs=2)
    changed = settings.override(["learning_rate=1e-3", " flip =false", "model=mlp", "epochs=null", "budget=1m"])
    assert (changed.learning_rate, changed.flip, changed.model) == (1e-3, False, "mlp")
    assert (changed.epochs, changed.budget) == (None, 60.0)
    assert settings == TrainSettings(epochs=2)
    assert settings.override([]) == settings
    with pytest.raises(ValueError, match="frozen"):
        settings.epochs = 3


def test_several_values_give_a_copy_for_each_combination() -> None:
    variants = TrainSettings(epochs=2).variants(["activation=relu, tanh", "learning_rate=1e-3,0.01", "model=mlp"])
    assert list(variants) == [
        "activation=relu learning_rate=1e-3",
        "activation=relu learning_rate=0.01",
        "activation=tanh learning_rate=1e-3",
        "activation=tanh learning_rate=0.01",
    ]
    last = variants["activation=tanh learning_rate=0.01"]
    assert last == TrainSettings(epochs=2, activation="tanh", learning_rate=0.01, model="mlp")
    for one in (["model=mlp"], [], ["epochs=null"], ["replay='a,b.json'"]):
        assert list(TrainSettings(epochs=2).variants(one)) == [""]
    assert TrainSettings().variants(["replay='a,b.json'"])[""].replay == "a,b.json"
    with pytest.raises(SettingError, match=r'^"epochs" is not a setting; expected key=value'):
        TrainSettings().variants(["epochs"])
    with pytest.raises(SettingError, match=r'^"epochs=" gives no value; expected key=value'):
        TrainSettings().variants(["epochs="])
    with pytest.raises(SettingError, match=r'^"tanh, relu,tanh" gives tanh twice; give each value once\.$'):
        TrainSettings().variants(["activation=tanh, relu,tanh"])
    for refuses in (TrainSettings().variants, TrainSettings().override):
        with pytest.raises(SettingError, match=r"^The setting depth is given twice, as 2 and as 3; give it once\.$"):
            refuses(["depth=2", "model=mlp", "depth=3"])
    with pytest.raises(SettingError, match=r"^The setting activation cannot be \"\['relu'\]\": "):
        TrainSettings().variants(["activation=[relu]"])


def test_settings_come_back_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    changed = TrainSettings(model="Füße/x", flip=True, epochs=2)
    for settings in (TrainSettings(), FitSettings().override(["budget=1h30m"]), changed):
        path.write_text(settings.to_yaml(), encoding="utf-8")
        assert type(settings).load(path) == settings
    assert set(TrainSettings().to_yaml().split()) > {f"{name}:" for name in TrainSettings.model_fields}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "{path} holds no settings; expected YAML lines such as epochs: 5."),
        (b"- 5", "{path} holds no settings; expected YAML lines such as epochs: 5."),
        (b"epochs: [", "{path} is not valid YAML: while parsing a flow node."),
        (b"!!python/object/apply:os.system [ls]", "{path} is not valid YAML: could not determine a constructor"),
        (b"epochs: -5", 'The setting epochs cannot be "-5": input should be greater than 0.'),
        (b"5: 5", 'There is no setting "5". Known are: seed,'),
        (b"\xff\xfe\xff", "The settings file {path} cannot be read: 'utf-8' codec can't decode"),
    ],
)
def test_what_a_settings_file_is_refused_for(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(SettingError) as caught:
        TrainSettings.load(path)
    assert str(caught.value).startswith(sentence.format(path=path))


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    refusal = r"^The settings file .*no\.yaml does not exist; give one such as a run's settings\.yaml\.$"
    with pytest.raises(SettingError, match=refusal):
        TrainSettings.load(tmp_path / "no.yaml")
    with pytest.raises(SettingError, match=r"^The settings file .* cannot be read: Is a directory\.$"):
        TrainSettings.load(tmp_path)


def test_what_is_assigned_takes_the_place_of_what_the_file_excludes(tmp_path: Path) -> None:
    (tmp_path / "timed.yaml").write_text("budget: 30s\nmodel: mlp\n")
    several = resolve_each(TrainSettings(), tmp_path / "timed.yaml", ["epochs=3,6"])
    assert {name: (each.epochs, each.budget, each.model) for name, each in several.items()} == {
        "epochs=3": (3, None, "mlp"),
        "epochs=6": (6, None, "mlp"),
    }
    assert resolve(TrainSettings(), tmp_path / "timed.yaml", ["epochs=3"]).budget is None
    with pytest.raises(SettingError, match="exclude each other"):
        resolve(TrainSettings(budget=5.0), tmp_path / "timed.yaml", ["epochs=3"])


def test_a_search_takes_the_settings_of_a_training_by_the_clock(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(TrainSettings(budget=120.0, flip=True, views=True, test_views=4, patience=3, width=0.5).to_yaml())
    found = resolve(SearchSettings(trials=4), file, fixed=FIXED)
    assert (found.epochs, found.budget, found.views, found.patience) == (6, None, None, None)
    assert (found.trials, found.width, found.flip) == (4, 0.5, True)
    assert resolve(SearchSettings(epochs=2), file, fixed=FIXED).epochs == 2
    file.write_text(TrainSettings(epochs=20).to_yaml())
    assert resolve(SearchSettings(), file, fixed=FIXED).epochs == 20
    file.write_text("epoch: null\n")
    with pytest.raises(SettingError, match=r'There is no setting "epoch"\. Did you mean "epochs"'):
        resolve(SearchSettings(), file, fixed=FIXED)


def test_what_is_given_takes_the_place_of_what_it_does_not_go_with_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "lbfgs.yaml").write_text("optimizer: lbfgs\n")
    chosen = TrainSettings(clip=1.0)
    assert resolve(chosen, tmp_path / "lbfgs.yaml", ["optimizer=adam"]).optimizer == "adam"
    with pytest.raises(SettingError, match="leave out clip"):
        resolve(chosen, tmp_path / "lbfgs.yaml")
