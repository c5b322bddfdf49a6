"""Candidates come back from disk as they were, and are chosen by what the classes call for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from saccade import data
from saccade.classifiers import KNearestNeighbors, Member, Model, NetworkClassifier
from saccade.errors import DeviceError
from saccade.events import Finding, listening
from saccade.recipe.candidates import Candidate, Candidates, Judge
from saccade.run import Run

X_NHWC = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), np.uint8)


def candidate(validation_NK: NDArray[np.float64], name: str = "near") -> Candidate:
    classifier = KNearestNeighbors(k=1).fit(X_NHWC, np.arange(24) % 3)
    return Candidate(Model((Member(name, classifier, 8),), ("a", "b", "c"), "stretch"), validation_NK)


def certain(labels: list[int]) -> NDArray[np.float64]:
    return np.eye(3)[labels] * 0.9 + 0.1 / 3


def part_of(name: str, labels: list[int]) -> data.Part:
    x_NHWC = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 8, 8, 3), np.uint8)
    return data.Part(name, data.from_arrays(x_NHWC, np.array(labels), name=name, classes=("a", "b", "c")))


def test_a_candidate_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    kept = Candidates(Run(tmp_path))
    first = Candidate(
        candidate(certain([0, 1, 2])).model,
        certain([0, 1, 2]),
        {"steps": 3},
        [{"name": "loss", "passed": True}],
        0.25,
        ["by heart"],
    )
    assert kept.get("a/b") is None
    kept.keep("a/b", first, 0.5)
    again = Candidates(Run(tmp_path)).get("a/b")
    assert again is not None
    np.testing.assert_array_equal(again.validation_NK, first.validation_NK)
    assert (again.name, again.facts, again.checks, again.image_seconds) == ("near", {"steps": 3}, [*first.checks], 0.25)
    assert again.left_out == ["by heart"]
    part = part_of("validation", [0, 1, 2])
    np.testing.assert_array_equal(again.model.probabilities_of(part), first.model.probabilities_of(part))


def test_the_best_so_far_is_the_runs_model_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name, score in (("poor", 0.3), ("best", 0.8), ("fair", 0.5)):
        Candidates(Run(tmp_path)).keep(name, candidate(certain([0]), name), score)
    assert Model.load(tmp_path / "model").name == "best"


@pytest.mark.parametrize("file", ["candidate.json", "validation.safetensors", "model.json", "model.safetensors"])
def test_a_damaged_candidate_is_made_again(tmp_path: Path, file: str) -> None:
    (tmp_path / "model").mkdir()
    kept = Candidates(Run(tmp_path))
    kept.keep("net", candidate(certain([0])), 0.5)
    whole = (tmp_path / "candidates" / "net" / file).read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        (tmp_path / "candidates" / "net" / file).write_bytes(content)
        assert kept.get("net") is None
    (tmp_path / "candidates" / "net" / file).unlink()
    assert kept.get("net") is None


def test_a_device_that_fails_is_no_damage_of_a_candidate(tmp_path: Path, break_gpu: Callable[[], None]) -> None:
    (tmp_path / "model").mkdir()
    classifier = NetworkClassifier("mlp", 1, {"width": 0.25, "device": "cpu"}).fit(X_NHWC, np.arange(24) % 3)
    network = Model((Member.of("net", classifier),), ("a", "b", "c"), "stretch")
    Candidates(Run(tmp_path), "cpu").keep("net", Candidate(network, certain([0])), 0.5)
    break_gpu()
    with pytest.raises(DeviceError, match="give --device cpu"):
        Candidates(Run(tmp_path)).get("net")
    again = Candidates(Run(tmp_path), "cpu").get("net")
    assert again is not None
    assert again.model.predict(X_NHWC) == network.predict(X_NHWC)


def test_notes_and_arrays_come_back_until_they_are_discarded(tmp_path: Path) -> None:
    kept = Candidates(Run(tmp_path))
    assert kept.noted("trials") is None
    assert kept.noted_arrays("features") is None
    kept.note("trials", {"trials": [1]})
    kept.note_arrays("features", {"x": X_NHWC[:, ::2]})
    assert kept.noted("trials") == {"trials": [1]}
    arrays = kept.noted_arrays("features")
    assert arrays is not None
    np.testing.assert_array_equal(arrays["x"], X_NHWC[:, ::2])
    kept.discard()
    assert kept.noted("trials") is None
    kept.discard()


def test_balanced_classes_are_judged_by_accuracy() -> None:
    found: list[object] = []
    with listening(found.append):
        judge = Judge.of(part_of("train", [0, 1, 2] * 4), part_of("validation", [0, 0, 0, 1]))
    assert not found
    assert judge(candidate(certain([0, 0, 0, 2]))) == 0.75


def test_unbalanced_classes_are_judged_by_macro_f1_and_that_is_said() -> None:
    found: list[object] = []
    labels = [0] * 8 + [1, 2]
    with listening(found.append):
        judge = Judge.of(part_of("train", [0] * 12 + [1] * 3 + [2] * 3), part_of("validation", labels))
    assert [finding.kind for finding in found if isinstance(finding, Finding)] == ["unbalanced"]
    assert "12 training images and the smallest 3" in str(found[0])
    lazy, fair = candidate(certain([0] * 10)), candidate(certain([0] * 5 + [1, 2, 1] + [1, 2]))
    assert judge.accuracy(lazy) > judge.accuracy(fair)
    assert judge.best([lazy, fair]) is fair
    for each in (lazy, fair):
        expected = f1_score(labels, each.validation_NK.argmax(1), average="macro", zero_division=0)
        assert judge(each) == pytest.approx(expected)


def test_of_equal_candidates_the_less_wrongly_sure_one_is_best() -> None:
    judge = Judge(np.array([0, 1, 2]), unbalanced=False)
    sure, unsure = candidate(certain([0, 1, 1])), candidate(0.5 * certain([0, 1, 1]) + 0.5 / 3)
    assert judge.best([sure, unsure]) is unsure
