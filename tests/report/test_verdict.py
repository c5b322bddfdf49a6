"""The verdict in words: each sentence follows from the numbers, and says no more than they do."""

from typing import Any

import numpy as np
import pytest

from saccade.report import verdict
from tests.report import runs

CLASSES = ["cat", "dog"]


def summary(counts: list[list[int]], **changes: Any) -> dict[str, Any]:
    base = runs.summary_of("pets", CLASSES, np.array(counts), looks=1, size=32)
    for path, value in changes.items():
        *parents, name = path.split("__")
        place = base
        for parent in parents:
            place = place[parent]
        place[name] = value
    return base


def said(found: dict[str, Any]) -> str:
    return " ".join(verdict(found).sentences).replace("\xa0", " ")


GOOD = [[95, 5], [5, 95]]


def test_numbers_come_from_the_summary() -> None:
    found = verdict(summary(GOOD))
    assert (found.part, found.classifier, found.accuracy, found.right, found.images) == (
        "test",
        "convnet",
        0.95,
        190,
        200,
    )
    assert found.bounds == pytest.approx((0.9105, 0.9726), abs=1e-4)
    assert "Of 100 new images like these, expect 91 to 97 to be named correctly." in found.sentences


def test_images_of_groups_are_said_to_be_such() -> None:
    found = summary(GOOD, test__groups=40, test__design_effect=2.5, test__interval=[0.85, 0.99])
    assert "Of 100 new images like these, of groups it has not seen, expect 85 to 99 to be named" in said(found)
    assert (
        "Images of one group tend to be right or wrong together: these 200 images of 40 groups tell about as much as "
        "80 would that have nothing to do with each other." in said(found)
    )
    assert "With only 200 test images of 40 groups, the 95 % interval is wide" in " ".join(
        verdict(found).warnings
    ).replace("\xa0", " ")
    assert verdict(found).groups == 40
    assert "tend to be right" not in said(summary(GOOD, test__groups=40, test__design_effect=1.0))


def test_the_commonest_class_is_counted_on_the_same_part() -> None:
    found = summary([[60, 0], [0, 40]], class_counts__train=[100, 300])
    assert verdict(found).majority == pytest.approx(0.4)
    assert "Always answering “dog”, the commonest class, would be right for 40.0 %." in said(found)


def test_the_commonest_class_of_one_part_is_not_told_of_another() -> None:
    found = summary([[60, 0], [0, 40]])
    del found["class_counts"]["test"]
    assert verdict(found).majority is None
    assert "would be right for" not in said(found)
    del found["test"]
    assert verdict(found).majority == found["validation"]["majority"]  # of the images its accuracy is of, such as folds


def test_a_classifier_no_better_than_the_commonest_class_is_not_praised() -> None:
    found = summary([[75, 5], [15, 5]])
    assert not verdict(found).convincing
    assert "this classifier is not clearly better than that" in said(found)
    assert verdict(summary(GOOD)).convincing


def test_a_lead_that_may_be_chance_is_not_called_one() -> None:
    clear, unclear = summary(GOOD), summary(GOOD)
    unclear["baselines"][1].update(validation_accuracy=0.93)
    clear["beside_simple"] = {"p": 0.01, "difference": 0.2, "first_alone": 9, "second_alone": 1}
    unclear["beside_simple"] = {"p": 0.2, "difference": 0.1, "first_alone": 5, "second_alone": 1}
    assert "It stands beside the best simple baseline (linear softmax on pixels" in said(summary(GOOD))
    assert "it alone named 5 of the images correctly, the baseline 1, which may be chance" in said(unclear)
    assert "It is clearly ahead of the best simple baseline (linear softmax on pixels" in said(clear)
    assert "It is not clearly ahead of the best simple baseline (linear softmax on pixels, 93.0 %" in said(unclear)
    assert "pixels, 93.0 % on validation, where this one has 95.6 %): it alone named 5 of" in said(unclear)


def test_how_little_a_small_part_tells_is_said_once() -> None:
    texts = [f"the {part} part has 24 images: anything may be true" for part in ("validation", "test")]
    found = summary([[10, 6], [8, 8]], warnings=texts)
    rows = [{"kind": "small-part", "detail": text, "paths": [], "severity": "warning"} for text in texts]
    told = verdict(found, rows).warnings
    assert texts[0] in told
    assert texts[1] not in told
    assert any(each.startswith("With only 32 test images") for each in told)


def test_a_network_that_a_run_trained_before_is_called_one() -> None:
    weights = {"run": "runs/first", "commercial_use": True, "source": "run first", "licence": "your own run's"}
    tuned = summary(GOOD, network__settings={"pretrained": "run/runs/first"})
    assert verdict(tuned).described == "a network trained on other photos, then on yours (convnet)"
    tuned["weights"] = weights
    assert verdict(tuned).described == "a network trained in an earlier run, then on yours (convnet)"
    tuned["chosen"] = "linear on convnet + convnet (cycle 2)"
    assert verdict(tuned).described == (
        "the average of a simple classifier on what a network trained in an earlier run sees in yours (linear on "
        "convnet), and of a network trained in an earlier run, then on yours (convnet (cycle 2))"
    )
    assert verdict(summary(GOOD)).described == "a network trained on your images alone (convnet)"


def test_a_baseline_that_won_is_called_one() -> None:
    found = summary(GOOD, chosen="linear softmax on pixels")
    assert "The winner is a classical classifier, not a network: linear softmax on pixels" in said(found)
    assert "It did better on validation than the network, convnet." in said(found)
    assert "than the network" not in said({**found, "network": None})


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [(0.99, "99.0 %, more than the test can confirm"), (0.8, "80.0 %, less than the test"), (0.95, "in line with")],
)
def test_validation_is_held_against_the_test(accuracy: float, words: str) -> None:
    assert words in said(summary(GOOD, validation__accuracy=accuracy))


def test_looks_are_counted() -> None:
    assert "This was the first look at these test images" in said(summary(GOOD))
    assert "have been looked at 12 times, in all runs" in said(summary(GOOD, test__looks=12))


def test_a_sealed_test_part_is_said_to_be() -> None:
    found = summary(GOOD)
    del found["test"]
    assert verdict(found).part == "validation"
    assert "The test part is still sealed" in said(found)


def test_warnings_name_what_is_wrong() -> None:
    found = summary([[18, 2], [12, 0]], warnings=["a: half the files could not be read: left out", "stopped early"])
    found["checks"][0]["passed"] = False
    findings = [
        {
            "kind": "unreadable",
            "severity": "warning",
            "paths": ["a"],
            "detail": "half the files could not be read: left out",
        },
        {"kind": "converted", "severity": "note", "paths": ["b"], "detail": "CMYK"},
    ]
    assert verdict(found, findings).warnings == (
        "It is not clearly better than always giving the same answer, which would be right for 62.5\xa0%.",
        "Never recognised: “dog”.",
        "stopped early",
        "The data check found unreadable files: see “What the data check found”.",
        "1 check before training failed: “initial loss”.",
        "With only 32 test images, the 95 % interval is wide (39.3 to 71.8\xa0%).",
    )


def test_that_few_images_tell_little_is_said_once() -> None:
    few = "the test part has 32 images: where 80 % of them are named correctly, anything from 64 to 90 % may be true"
    found = summary([[18, 2], [12, 0]], warnings=[few])
    findings = [{"kind": "small-part", "severity": "warning", "paths": [], "detail": few}]
    for told in (verdict({**found, "findings": findings}).warnings, verdict(found, findings).warnings):
        assert few not in told
        assert "With only 32 test images, the 95 % interval is wide (39.3 to 71.8\xa0%)." in told
    clear = summary(GOOD, warnings=[few], findings=findings)
    assert clear["test"]["interval"][1] - clear["test"]["interval"][0] < 0.1
    assert verdict(clear).warnings == (few,)


def test_nothing_to_warn_of_is_no_warning() -> None:
    assert verdict(summary(GOOD)).warnings == ()
