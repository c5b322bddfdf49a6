"""The accuracy without leaks of a split that came with the data: counted by hand, and told in the report."""

import numpy as np
import pytest
from scipy.stats import binomtest

from saccade import data
from saccade.data import Part
from saccade.recipe.evaluation import Look, without
from saccade.report.verdict import verdict


def test_accuracy_without_leaks_is_that_of_the_other_images() -> None:
    images = data.from_arrays(np.arange(10 * 16).reshape(10, 4, 4).astype(np.uint8), [0, 1] * 5, name="x")
    probabilities_NK = np.eye(2)[[0, 1, 0, 1, 0, 1, 1, 0, 1, 0]]  # the first six are right
    look = Look(Part("test", images), probabilities_NK, {})
    found = without(look, frozenset(images.keys[:4]))["without_leaks"]
    assert found["accuracy"] == pytest.approx(2 / 6)
    assert found["images"] == 6
    expected = binomtest(2, 6).proportion_ci(method="wilson")
    assert found["interval"] == pytest.approx([expected.low, expected.high])
    assert without(look, frozenset({"another"})) == {}
    assert without(look, frozenset(images.keys)) == {}


def test_the_verdict_tells_both_accuracies() -> None:
    summary = {
        "classes": ["a", "b"], "chosen": "convnet", "split": {"train": 10, "validation": 5, "test": 100},
        "validation": {"accuracy": 0.8, "interval": [0.5, 0.9], "images": 5},
        "test": {"accuracy": 0.9, "interval": [0.83, 0.94], "images": 100, "looks": 1,
                 "without_leaks": {"accuracy": 0.85, "interval": [0.77, 0.91], "images": 97}},
    }  # fmt: skip
    told = " ".join(verdict(summary).sentences).replace("\u00a0", " ")
    assert (
        "3 test images are much like an image it was trained or chosen on; without them it names 85.0 % correctly "
        "(77.0 to 91.0 %)." in told
    )
