"""What to do next: each sentence follows from its figures, and promises nothing that was not measured."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from saccade import data
from saccade.data import Part
from saccade.events import Finding
from saccade.recipe.advice import Evidence, confused_pairs, next_steps
from saccade.recipe.pictures import draw_pairs
from saccade.run import Run
from saccade.settings import DataSettings
from saccade.study.curves import LearningCurve, learning_curve
from tests.photos import photo_folder

CLASSES = ("cat", "dog", "owl")
COUNTS = (600, 600, 40)
CONFUSION = [[90, 10, 0], [4, 94, 2], [3, 0, 7]]
NETWORK = {"name": "convnet", "epochs": 20.0, "size": 32, "validation_accuracy": 0.86, "interval": [0.855, 0.865]}


def curve(recall: Any, *, name: str = "convnet", validation: int = 600, rare: int = 3) -> LearningCurve:
    """Return the curve of a classifier that finds `recall(k, n)` of class k after n of its images.

    One validation image in `rare` is of the last class.
    """
    rng = np.random.default_rng(0)
    y_train_N, y_validation_N = np.repeat(np.arange(3), COUNTS), np.arange(validation) % 2
    y_validation_N[::rare] = 2

    def predict(indices: NDArray[np.int64]) -> NDArray[np.int64]:
        recall_K = np.array([recall(k, n) for k, n in enumerate(np.bincount(y_train_N[indices], minlength=3))])
        return np.where(rng.random(validation) < recall_K[y_validation_N], y_validation_N, (y_validation_N + 1) % 3)

    found = learning_curve(predict, y_train_N, y_validation_N, name=name, seconds=lambda: math.inf, seed=0)
    assert found is not None
    return found


def rising(_: int, images: float) -> float:
    return 0.95 - 4 * float(images) ** -0.5 if images > 64 else 0.4


def starved(label: int, images: float) -> float:
    return 0.9 if label != 2 else 1 - 1.8 * float(images) ** -0.5


def known(**changed: Any) -> Evidence:
    right = {
        "classes": CLASSES,
        "counts": COUNTS,
        "chosen": "convnet",
        "network": NETWORK,
        "native": 32,
        "budget": 60.0,
    }
    per_class = [
        {"class": name, "images": sum(row), "recall": row[k] / sum(row)}
        for k, (name, row) in enumerate(zip(CLASSES, CONFUSION, strict=True))
    ]
    return Evidence(**{**right, "figures": {"confusion": CONFUSION, "per_class": per_class, "mistakes": []}, **changed})


def told(found: dict[str, Any], kind: str) -> str:
    return " ".join(step["text"] for step in found["advice"] if step["kind"] == kind)


def test_what_went_wrong_in_training_comes_first_the_most_serious_before_the_rest() -> None:
    found = [
        Finding(kind=kind, severity=severity, detail=f"{kind} {number}")
        for number, (kind, severity) in enumerate(
            [("overfitting", "warning"), ("went back", "warning"), ("noise", "note"), ("went back", "warning"),
             ("dead", "warning"), ("duplicates", "warning")]
        )
    ]  # fmt: skip
    steps = next_steps(known(curve=curve(rising), findings=found))["advice"]
    assert [step["text"] for step in steps if step["kind"] == "training"] == ["dead 4", "overfitting 0"]
    assert [step["kind"] for step in steps[:3]] == ["training", "training", "photos"]
    [back] = next_steps(known(findings=found[1:4]))["advice"][:1]
    assert back == {"kind": "training", "text": "went back 3"}
    perfect = {"confusion": [[100, 0, 0], [0, 100, 0], [0, 0, 10]], "per_class": [], "mistakes": []}
    assert not told(next_steps(known(findings=found, figures=perfect)), "training")


def test_everything_is_plain_and_in_its_place() -> None:
    found = next_steps(known(curve=curve(rising)))
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"advice", "learning_curve", "pairs", "classes"}
    assert all(set(step) == {"kind", "text"} for step in found["advice"])
    assert "\u00a0" not in json.dumps(found, ensure_ascii=False)


def test_a_rising_curve_asks_for_photos_first_and_says_how_sure_that_is() -> None:
    grown = curve(rising, validation=6000)
    found = next_steps(known(curve=grown))
    assert found["advice"][0]["kind"] == "photos"
    doubled = grown.forecasts[0]
    low, high = (100 * bound for bound in doubled.gain_interval)
    assert told(found, "photos") == (
        f"More photos would help: twice the 1,240 training images would bring convnet {100 * doubled.gain:.1f} points "
        f"(95 % interval {low:.1f} to {high:.1f})."
    )


def test_what_was_measured_on_another_classifier_is_a_hint() -> None:
    found = next_steps(known(curve=curve(rising, name="linear softmax", validation=6000)))
    assert "bring linear softmax" in told(found, "photos")
    assert told(found, "photos").endswith("convnet was not measured so: take it as a hint.")


def test_a_flat_curve_asks_for_no_photos() -> None:
    found = next_steps(known(curve=curve(lambda label, images: 0.8, validation=6000)))
    assert told(found, "photos").startswith("More photos of the same kind would buy little: convnet would gain 0.")
    assert found["advice"][0]["kind"] != "photos"
    other = next_steps(known(curve=curve(lambda label, images: 0.8, name="linear softmax", validation=6000)))
    assert told(other, "photos").endswith("convnet, which was not measured so, may still learn from them.")


def test_what_cannot_be_told_is_not() -> None:
    unsure = curve(lambda label, images: 0.8, validation=60)
    assert unsure.forecasts[0].gain_interval[1] > 0.01
    words = told(next_steps(known(curve=unsure)), "photos")
    assert words.startswith("It cannot be told whether more photos would help: twice the 1,240 training images")
    assert "between 0.0 and" in words


def test_a_classifier_that_always_says_the_same_says_nothing_of_more_photos() -> None:
    found = curve(lambda label, _: float(label == 0), rare=30, name="3-NN")
    held = (290, 290, 20)
    assert told(next_steps(known(curve=found, held=held, counts=held)), "photos") == (
        "Whether more photos would help cannot be told: 3-NN is hardly more often right than always saying “cat”."
    )


def test_where_hardly_an_image_is_named_wrongly_no_more_time_is_asked_for() -> None:
    short = {**NETWORK, "epochs": 3.0}
    figures = {"confusion": [[299, 1, 0], [0, 6, 0], [0, 0, 0]]}
    assert "More time" in told(next_steps(known(network=short)), "budget")
    assert told(next_steps(known(network=short, figures=figures)), "budget") == (
        "Little is left for more time to mend: 1 of 306 images was named wrongly."
    )


def test_without_a_curve_nothing_is_said_to_be_measured() -> None:
    found = next_steps(known())
    assert found["learning_curve"] is None
    assert told(found, "photos").startswith("Whether more photos would help was not measured")
    owl = {"class": "owl", "images": 40, "recall": 0.7, "seen": 10, "part": "", "gain": None}
    assert found["classes"] == [owl]
    assert told(found, "classes") == (
        "If you can add photos, begin with “owl”: 7 of 10 images of “owl” were found, with 40 training images. "
        "How far more would help was not measured."
    )


def test_the_class_that_is_short_of_photos_is_named() -> None:
    grown = curve(starved, validation=900)
    found = next_steps(known(curve=grown))
    row = found["classes"][0]
    assert row["class"] == "owl"
    assert (row["images"], row["recall"]) == (40, 0.7)
    assert row["gain"] == pytest.approx(1.8 * (20**-0.5 - 40**-0.5), abs=0.06)
    assert "begin with “owl”" in told(found, "classes")


def test_validation_recall_goes_before_the_tests() -> None:
    found = next_steps(known(recalls=(0.3, None, 0.9)))
    assert [row["recall"] for row in found["classes"]] == [0.3]
    assert next_steps(known(recalls=(0.99, 0.97, 0.96)))["classes"] == []


def test_shares_of_few_validation_images_are_told_as_counts_and_are_never_the_first_advice() -> None:
    few = curve(lambda label, images: 0.9 if label != 2 else images >= 40, validation=900, rare=300)
    for grown in (few, None):
        found = next_steps(known(curve=grown, recalls=(0.97, 0.97, 1 / 3), held=(448, 449, 3)))
        assert [(row["class"], row["seen"], row["part"]) for row in found["classes"]] == [("owl", 3, "validation")]
        sentence = "1 of 3 validation images of “owl” was found, too few to be sure of it, "
        assert sentence in told(found, "classes")
        assert found["advice"][0]["kind"] != "classes"
    many = next_steps(known(curve=curve(starved, validation=900), recalls=(0.97, 0.97, 1 / 3), held=(300, 300, 300)))
    assert "100 of 300 validation images of “owl” were found, and the last" in told(many, "classes")


def test_equal_rises_are_not_told_apart_by_chance() -> None:
    """Of classes that are all alike, the luckiest is not said to gain more than the others by much."""
    found = next_steps(known(counts=(413, 413, 414), curve=curve(lambda label, n: 0.9 - 2.5 * float(n) ** -0.3)))
    measured = [row["rise"] for row in found["learning_curve"]["classes"]]
    gains = [row["gain"] for row in found["classes"]]
    assert np.ptp(gains) <= np.ptp(measured)
    assert max(gains) <= max(measured)


def test_unbalanced_classes_are_said_to_be_chosen_by_macro_f1() -> None:
    sentence = (
        "The classes are of very different sizes (40 to 600 training images), so choices were made by macro F1, "
        "in which every class counts the same."
    )
    assert sentence in told(next_steps(known(unbalanced=True)), "classes")
    alone = told(next_steps(known(unbalanced=True, recalls=(1.0, 1.0, 1.0))), "classes")
    assert alone == f"Photos of “owl” would tell most: there are 40 to learn from. {sentence}"
    assert "macro F1" not in json.dumps(next_steps(known()))


def test_certainty_that_is_always_there_is_no_sign_of_a_wrong_label() -> None:
    sure = mistakes(0.99, 0.98)
    assert told(next_steps(known(figures=sure)), "labels")
    images = int(np.sum(sure["confusion"]))
    boasting = {**sure, "calibration": [{"images": images, "confidence": 1.0, "accuracy": 0.6}]}
    assert told(next_steps(known(figures=boasting)), "labels") == ""


def mistakes(*probabilities: float) -> dict[str, Any]:
    return {**known().figures, "mistakes": [{"probability": p} for p in probabilities]}


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [
        (
            (0.99, 0.9, 0.89),
            "2 of the 19 mistakes were made with more than 90 % certainty: look at their labels first.",
        ),
        ((0.95, 0.2), "1 of the 19 mistakes was made with more than 90 % certainty: look at its label first."),
        ((0.99, 0.98, 0.97), "At least 3 of the 19 mistakes were made"),
        ((0.99,) * 19, "19 of the 19 mistakes were made"),
    ],
)
def test_sure_mistakes_ask_for_a_look_at_labels(probabilities: tuple[float, ...], words: str) -> None:
    assert told(next_steps(known(figures=mistakes(*probabilities))), "labels").startswith(words)


def test_mistakes_without_certainty_say_nothing_of_labels() -> None:
    assert told(next_steps(known(figures=mistakes(0.8))), "labels") == ""


def test_pairs_are_the_largest_counts_beside_the_diagonal() -> None:
    pairs = confused_pairs(CONFUSION, CLASSES)
    assert [(pair["true"], pair["predicted"], pair["count"], pair["images"]) for pair in pairs] == [
        ("cat", "dog", 10, 100),
        ("dog", "cat", 4, 100),
        ("owl", "cat", 3, 10),
        ("dog", "owl", 2, 100),
    ]
    assert confused_pairs([[3, 0], [0, 4]], ["a", "b"]) == []
    assert told(next_steps(known()), "confusion").startswith(
        "10 of 100 “cat” were taken for “dog”, and 4 the other way round: 74 % of all mistakes."
    )


def trials(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"share": share, "accuracy": accuracy} for share, accuracy in points]


def test_time_is_extrapolated_by_doublings_that_shrink() -> None:
    # A doubling brought 4 points, the next 2, which is half as much: so the one after it 1.
    found = next_steps(
        known(trials=trials((0.25, 0.80), (0.5, 0.84)), network={**NETWORK, "validation_accuracy": 0.86})
    )
    assert told(found, "budget") == (
        "Twice the time (2 min) would bring convnet at most about 1.0 points: "
        "the last doubling of the training brought 2.0 points."
    )
    single = told(next_steps(known(trials=trials((0.25, 0.82)))), "budget")
    assert "at most about 2.0 points" in single


def test_time_that_bought_nothing_is_said_to() -> None:
    for reached in (0.86, 0.9):
        words = told(next_steps(known(trials=trials((0.5, reached)))), "budget")
        assert words == "More time buys little: the last doubling of the training brought convnet 0.0 points."


def test_a_gain_within_the_interval_may_be_chance() -> None:
    network = {**NETWORK, "interval": [0.82, 0.90]}
    words = told(next_steps(known(trials=trials((0.5, 0.84)), network=network)), "budget")
    assert words.endswith("brought 2.0 points, which may be chance.")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"epochs": 6.2},
            "The training was cut short: convnet saw each image 6 times. More time (2 min) would probably",
        ),
        ({"epochs": 1.2}, "The training was cut short: convnet saw each image about once."),
        ({"epochs": 1.9}, "The training was cut short: convnet saw each image 2 times."),
        ({"epochs": 0.7}, "The training was cut short: convnet saw 70 % of the images once."),
        ({"size": 24}, "The training was cut short: convnet saw each image 20 times, and at 24 of 32 pixels."),
        ({"epochs": 55.0}, "More time would buy little: convnet already saw each image 55 times, at full size."),
        ({}, "More time may help a little: convnet saw each image 20 times, at full size; not measured."),
    ],
)
def test_without_trials_time_is_judged_in_words(changes: dict[str, Any], words: str) -> None:
    assert told(next_steps(known(network={**NETWORK, **changes})), "budget").startswith(words)


def test_large_photos_seen_at_the_largest_side_there_is_are_not_cut_short() -> None:
    assert "at full size" in told(next_steps(known(native=4000, network={**NETWORK, "size": 128})), "budget")


def test_a_run_without_a_network_asks_for_time_first() -> None:
    found = next_steps(known(network=None, chosen="linear softmax"))
    assert found["advice"][0]["kind"] == "budget"
    assert told(found, "budget").startswith("No network was trained to its end: a longer budget (2 min) would show")


def test_a_budget_that_was_overrun_is_not_doubled_but_the_time_it_took() -> None:
    found = next_steps(known(network=None, budget=1.0, seconds=4.8))
    assert "a longer budget (10 s) would show" in told(found, "budget")


def test_a_perfect_run_with_nothing_known_still_ends_in_words() -> None:
    found = next_steps(Evidence(chosen="mlp", classes=("a",), counts=(0,), figures={"accuracy": 1.0, "images": 4}))
    assert (found["pairs"], found["classes"]) == ([], [])
    assert [step["kind"] for step in found["advice"]] == ["photos"]


def test_pairs_get_the_pictures_of_their_surest_mistakes(tmp_path: Path) -> None:
    images = data.open(photo_folder(tmp_path / "photos", 6), DataSettings())
    part, run = Part("test", images), Run(tmp_path / "run")
    run.pictures.mkdir(parents=True)
    first, second = images.classes[:2]
    probabilities_NK = np.tile([0.1, 0.1, 0.8], (len(images), 1))
    taken = np.flatnonzero(images.labels_N == 0)
    for place, n in enumerate(taken[:5]):
        probabilities_NK[n] = [0.05, 0.6 + 0.05 * place, 0.35 - 0.05 * place]
    pairs = [{"true": first, "predicted": second, "count": 5, "images": 6, "pictures": []},
             {"true": second, "predicted": first, "count": 0, "images": 6, "pictures": []}]  # fmt: skip
    drawn = draw_pairs(run, part, probabilities_NK, pairs)
    assert drawn[0]["pictures"] == [f"pictures/pair-01-{n:02}.png" for n in (1, 2, 3, 4)]
    assert drawn[1] == pairs[1]
    for name, n in zip(drawn[0]["pictures"], taken[[4, 3, 2, 1]], strict=True):
        with Image.open(run.path / name) as picture:
            shown = np.asarray(picture)
        factor = shown.shape[0] // images.pixels.thumbnail(images.keys[n], 160).shape[0]
        assert np.array_equal(shown[::factor, ::factor], images.pixels.thumbnail(images.keys[n], 160))


def test_no_advice_is_worth_more_than_the_mistakes_there_are() -> None:
    perfect = {"confusion": [[9, 0, 0], [0, 9, 0], [0, 0, 9]], "mistakes": []}
    found = next_steps(known(network=None, figures=perfect, curve=curve(rising, validation=6000)))
    assert found["advice"][0]["kind"] == "photos"


def test_a_rare_class_counts_for_more_where_macro_f1_chooses() -> None:
    found = curve(starved, rare=30)
    assert not found.forecasts[0].clear or found.forecasts[0].gain < 0.005
    kinds = [
        [step["kind"] for step in next_steps(known(curve=found, unbalanced=unbalanced))["advice"]]
        for unbalanced in (False, True)
    ]
    assert kinds[0].index("classes") > kinds[0].index("confusion")
    assert kinds[1].index("classes") < kinds[1].index("confusion")
