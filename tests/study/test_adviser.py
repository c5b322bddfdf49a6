"""Advice on transfer: which cell of the lecture's table measured features lead to."""

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saccade.nn.stages import END
from saccade.study.adviser import Advice, advise

LABELS_N = np.repeat(np.arange(3), 60)
FOLD_N = np.tile(np.arange(5), 36)


def rows(signal: float, features: int, seed: int) -> NDArray[np.float32]:
    """Return features of noise in which the classes lie so far apart."""
    rng = np.random.default_rng(seed)
    return (signal * rng.normal(size=(3, features))[LABELS_N] + rng.normal(size=(180, features))).astype(np.float32)


def advice(early: float, late: float, a_class: int, drift: float | None = None) -> Advice:
    x_ND = np.concatenate([rows(early, 6, 0), rows(late, 4, 1)], 1)
    moved = {"first": None, END: drift}
    counts_K = np.full(3, a_class)
    return advise(x_ND, LABELS_N, {"first": 6, END: 4}, counts_K=counts_K, drift=moved, folds=(FOLD_N, np.arange(180)))


@pytest.mark.parametrize(
    ("early", "late", "a_class", "drift", "cell"),
    [
        (0.0, 3.0, 10, None, "top"),
        (0.3, 0.8, 10, None, "stages"),
        (1.0, 0.4, 10, None, "more"),
        (0.0, 3.0, 500, None, "few"),
        (1.0, 0.4, 500, None, "more"),
        (0.0, 3.0, 500, 0.9, "more"),
        (0.0, 3.0, 500, 0.1, "few"),
    ],
)
def test_the_table_is_the_lectures_but_for_few_images_that_are_very_different(
    early: float, late: float, a_class: int, drift: float | None, cell: str
) -> None:
    found = advice(early, late, a_class, drift)
    assert found.cell == cell
    assert f"{a_class} images in the median class" in found.why
    assert ("similar to" if found.similar else "different from") in found.why
    assert found.why.count(". ") == 1
    assert Advice.of(json.loads(json.dumps(found.plain()))) == found


def test_where_earlier_stages_avoid_a_third_of_the_mistakes_the_upper_layers_are_wrong() -> None:
    for early, late in ((0.3, 0.8), (0.4, 1.0), (0.5, 1.5), (1.0, 0.4)):
        found = advice(early, late, 10)
        avoided = found.gain / (1 - found.stages[-1].accuracy)
        assert found.gain > 2 * found.gain_error or avoided < 1 / 3
        assert (found.cell == "more") == (avoided > 1 / 3)
        assert ("very different from" in found.why) == ("wrong for them" in found.why) == (avoided > 1 / 3)
    assert "wrong for them" not in advice(1.0, 0.4, 500).why


def test_the_gain_is_told_beside_its_error_and_images_the_network_was_trained_on_are_named() -> None:
    found = advice(0.3, 0.8, 10)
    gain, error = 100 * found.gain, 100 * found.gain_error
    assert f"all stages, a gain of {gain:.1f} points beside a standard error of {error:.1f}" in found.why
    x_ND = np.concatenate([rows(0.3, 6, 0), rows(0.8, 4, 1)], 1)
    told = {"counts_K": np.full(3, 10), "drift": {}, "folds": (FOLD_N, np.arange(180))}
    known = advise(x_ND, LABELS_N, {"first": 6, END: 4}, **told, seen=21)  # type: ignore[arg-type]
    assert known.seen == 21
    assert known.why == (
        f"{found.why} The network was trained on 21 of these 30 training images, so its features look better on them "
        "than they are, those of the last stage most of all: on new images earlier stages may help more."
    )


def test_errors_count_groups() -> None:
    """Of images that are right or wrong together ten tell as much as one: the error is about three times as large."""
    x_ND, fold_N = np.repeat(rows(0.5, 6, 0), 10, axis=0), np.repeat(FOLD_N, 10)
    y_N, counts_K = np.repeat(LABELS_N, 10), np.full(3, 600)
    alone, together = (
        advise(x_ND, y_N, {END: 6}, counts_K=counts_K, drift={END: None}, folds=(fold_N, groups_N)).stages[0]
        for groups_N in (np.arange(1800), np.arange(1800) // 10)
    )
    assert alone.accuracy == together.accuracy
    assert together.error / alone.error == pytest.approx(10**0.5, rel=0.1)


def test_probes_are_as_good_as_scikit_learns() -> None:
    found = advice(1.0, 0.4, 10)
    x_ND = np.concatenate([rows(1.0, 6, 0), rows(0.4, 4, 1)], 1)
    theirs = cross_val_score(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1)), x_ND, LABELS_N, cv=PredefinedSplit(FOLD_N)
    ).mean()
    assert found.together == pytest.approx(theirs, abs=0.03)
    assert found.together_error == pytest.approx((found.together * (1 - found.together) / 180) ** 0.5)
    assert found.chance == pytest.approx(1 / 3)
    assert found.stages[0].accuracy == pytest.approx(found.together - found.gain + 0.0, abs=0.5)
