"""What a search draws from: layouts against their definitions, texts that are read or refused."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import qmc

from saccade.errors import SettingError
from saccade.recipe.ranges import default_space, parse_space
from saccade.settings import TrainSettings
from saccade.study.board import Row
from saccade.study.importance import importance
from saccade.study.space import Choice, Range, grid_levels, lay_out, refined

SPACE = {"learning_rate": Range(1e-4, 1e-1, log=True), "translate": Range(0.0, 0.5)}


def places(rows: list[dict[str, float]]) -> np.ndarray:
    return np.array([[SPACE[name].place(row[name]) for name in SPACE] for row in rows])


def test_random_is_even_in_the_logarithm_and_repeats() -> None:
    rows = lay_out("random", SPACE, 5000, seed=3)
    assert rows == lay_out("random", SPACE, 5000, seed=3) != lay_out("random", SPACE, 5000, seed=4)
    for column in places(rows).T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3


def test_a_grid_repeats_its_levels_and_random_does_not() -> None:
    for trials in (9, 16, 25):
        grid, drawn = lay_out("grid", SPACE, trials, 0), lay_out("random", SPACE, trials, 0)
        assert len({tuple(row.values()) for row in grid}) == trials
        assert len({row["learning_rate"] for row in grid}) == math.isqrt(trials)
        assert len({row["learning_rate"] for row in drawn}) == trials
    assert [row["learning_rate"] for row in lay_out("grid", {"learning_rate": SPACE["learning_rate"]}, 3, 0)] == (
        pytest.approx([10**-3.5, 10**-2.5, 10**-1.5], rel=5e-3)
    )
    assert grid_levels({"norm": Choice(("batch", "none")), **SPACE}, 100) == [2, 7, 7]


def test_sobol_leaves_fewer_gaps_than_chance() -> None:
    even, drawn = (places(lay_out(layout, SPACE, 24, 0)) for layout in ("sobol", "random"))
    assert len(even) == 24
    assert qmc.discrepancy(even) < 0.5 * qmc.discrepancy(drawn)


def test_a_refined_search_stays_around_the_best() -> None:
    best = {"learning_rate": 1e-2, "translate": 0.49, "norm": "none", "depth": 3}
    space = {**SPACE, "norm": Choice(("batch", "none")), "depth": Range(1, 9, whole=True)}
    for layout in ("random", "sobol", "grid"):
        first, *others = refined(layout, space, best, 30, 0)  # type: ignore[arg-type]
        assert first == best
        assert len(others) == 29
        for row in others:
            assert abs(math.log10(row["learning_rate"]) + 2) <= 0.51
            assert 0.4 < row["translate"] <= 0.5
            assert row["norm"] == "none"
            assert row["depth"] in (1, 2, 3, 4, 5)


def test_what_repeats_is_drawn_once_and_choices_stay_open_where_nothing_else_is_left() -> None:
    space = {"norm": Choice(("batch", "none")), "depth": Range(1, 3, whole=True)}
    for layout in ("random", "sobol", "grid"):
        rows = lay_out(layout, space, 6, 0)  # type: ignore[arg-type]
        assert len({tuple(row.values()) for row in rows}) == len(rows) == 6
        assert len(lay_out(layout, space, 50, 0)) == 6  # type: ignore[arg-type]
    choices = {"norm": Choice(("batch", "none")), "optimizer": Choice(("adam", "sgd"))}
    best = {"norm": "none", "optimizer": "sgd"}
    finer = refined("random", choices, best, 9, 0)
    assert finer[0] == best
    assert len({tuple(row.values()) for row in finer}) == len(finer) == 4


def test_the_default_space_holds_the_defaults_of_the_rule() -> None:
    for rule, rate in (("adam", 1e-3), ("nesterov", 0.1)):
        ranges = default_space(rule, TrainSettings())
        assert isinstance(ranges["learning_rate"], Range)
        assert ranges["learning_rate"].low < rate < ranges["learning_rate"].high
        assert ("weight_decay" in ranges) == (rule == "nesterov")
    assert "learning_rate" not in default_space("lbfgs", TrainSettings())


def test_what_was_given_is_searched_around_or_left_as_it_is() -> None:
    ranges = default_space("nesterov", TrainSettings(weight_decay=0.5, learning_rate=3.0, translate=0.2))
    assert list(ranges) == ["learning_rate", "weight_decay", "cutout"]
    for name, value in (("learning_rate", 3.0), ("weight_decay", 0.5)):
        each = ranges[name]
        assert isinstance(each, Range)
        assert each.low < value < each.high
    kept = TrainSettings(weight_decay=0.0, cutout=0.1)
    assert list(default_space("nesterov", kept)) == ["learning_rate", "translate"]
    assert list(default_space("adam", TrainSettings(), {"cutout", "model"})) == ["learning_rate", "translate"]


def test_a_choice_may_have_a_number_and_a_word_that_the_setting_knows() -> None:
    assert parse_space(["batch_size=32,all"]) == {"batch_size": Choice((32, "all"))}
    with pytest.raises(SettingError, match="batch_size=32,some is not understood"):
        parse_space(["batch_size=32,some"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate", '"learning_rate" is no range: expected name=low:high'),
        ("learning_rate=1e-1:1e-4:log", "The range learning_rate=1e-1:1e-4:log is empty"),
        ("cutout=0.3:0.3", "The range cutout=0.3:0.3 is empty"),
        ("cutout=nan:1", "The range cutout=nan:1 does not end in finite numbers: expected name=low:high, "),
        ("weight_decay=0:inf", "The range weight_decay=0:inf does not end in finite numbers"),
        ("cutout=0:1:log", "cannot be logarithmic"),
        ("cutout=a:b", "is not understood"),
        ("learning_rate=1..2", "is not understood: expected name=low:high"),
        ("cutout=0:1:lg", "is not understood"),
        ("cutout=0:2", "The setting cutout cannot be"),
        ("depth=1:2.5", "The setting depth is a whole number"),
        ("optimizer=1:2", "The setting optimizer is no number"),
        ("optimizer=adam,,sgd", "has an empty value"),
        ("optimizer=", "is empty"),
        ("optimizer=adam,{", "is not understood"),
        ("optimizer=adam,sdg", "The setting optimizer cannot be"),
        ("seed=1:5", "The search cannot be over seed: it holds for all trials alike; give --seed"),
        ("augment=trivialaugment,rotate", "The search cannot be over augment, which holds several values"),
        ("stages=layer1,layer2", "The search cannot be over stages, which holds several values"),
        ("zebra=1:2", 'There is no setting "zebra" to search over. Known are: model'),
    ],
)
def test_a_range_that_cannot_be_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(SettingError) as refusal:
        parse_space([text])
    assert said in str(refusal.value)
    assert str(refusal.value).count(". ") <= 1


def test_a_quantity_given_twice_is_refused() -> None:
    with pytest.raises(SettingError, match="The range of cutout is given twice"):
        parse_space(["cutout=0:1", "cutout=0:0.5"])


def test_what_decides_the_accuracy_is_what_matters() -> None:
    tried = lay_out("sobol", SPACE, 40, 0)
    rows = [
        Row(k, {"stage": "coarse", "settings": given}, "done", {"accuracy": place})
        for k, (given, place) in enumerate(zip(tried, places(tried)[:, 0].tolist(), strict=True))
    ]
    shares = importance(rows, SPACE)
    assert shares["learning_rate"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)
    assert importance(rows[:4], SPACE) == {}, "too few to tell"
