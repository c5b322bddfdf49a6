"""The accuracy without leaks of a split that came with the data: counted by hand, and told in the report."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from saccade import data, recipe
from saccade.cli.summary import evaluation_text
from saccade.data import Part
from saccade.recipe.combining import combine
from saccade.recipe.evaluation import Look, without
from saccade.report.verdict import verdict
from saccade.settings import TrainSettings
from tests.photos import photo_folder


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


def test_a_later_look_tells_the_accuracy_without_leaks_too(tmp_path: Path, ledger_folder: Path) -> None:
    root = tmp_path / "photos"
    for part in ("train", "test"):
        photo_folder(root / part, 12, seed=int(part == "test"), suffix=".png")
    Image.open(root / "train" / "disc" / "0003.png").save(root / "test" / "disc" / "again.jpg", quality=92)
    run = recipe.train(root, TrainSettings(epochs=1, size=16, model="mlp"), out=tmp_path / "run").run
    figures = recipe.evaluate(run.path)
    assert figures["without_leaks"]["images"] == figures["images"] - 1
    assert "again.jpg" in (run.path / "predictions.csv").read_text()


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


def test_the_terminal_tells_both_accuracies() -> None:
    clean = {"accuracy": 0.85, "interval": [0.77, 0.91], "images": 97}
    test = {"accuracy": 0.9, "interval": [0.83, 0.94], "images": 100, "looks": 1, "macro_f1": 0.9}
    assert "Without" not in evaluation_text(test)
    told = evaluation_text({**test, "without_leaks": clean}).splitlines()[1]
    assert told == (
        "Without   near-duplicates of other parts: accuracy 85.0 % (95 % interval 77.0 to 91.0 %, 97 images)"
    )


def test_an_ensemble_tells_the_accuracy_without_leaks_as_its_members_do(tmp_path: Path, ledger_folder: Path) -> None:
    root = tmp_path / "photos"
    for part in ("train", "test"):
        photo_folder(root / part, 12, seed=int(part == "test"), suffix=".png")
    Image.open(root / "train" / "disc" / "0003.png").save(root / "test" / "disc" / "again.jpg", quality=92)
    settings = TrainSettings(epochs=1, size=16, model="mlp", split_seed=0)
    runs = [recipe.train(root, settings.model_copy(update={"seed": seed}), out=tmp_path / str(seed)).run.path
            for seed in (1, 2)]  # fmt: skip
    together = combine(runs, out=tmp_path / "both")
    figures = recipe.evaluate(together.run.path)
    assert figures["without_leaks"]["images"] == figures["images"] - 1
