"""Every kind of classifier comes back from disk bit for bit, and damaged files are refused by name."""

import json
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from saccade import data
from saccade.classifiers import (
    FeatureClassifier,
    KNearestNeighbors,
    LinearClassifier,
    Model,
    NetworkClassifier,
    Optimum,
)
from saccade.classifiers.saved import KINDS, Member, Squares
from saccade.data import square
from saccade.device import computing_on
from saccade.errors import DeviceError, RunError, SaccadeError, SettingError
from saccade.features import handmade
from saccade.files import content_hash, is_temporary
from tests.photos import CLASSES, encoded, photo

SIZE = 16
X_NHWC = np.stack([photo(i % 3, (SIZE, SIZE), seed=i) for i in range(60)])
Y_N = np.arange(60) % 3
SETTINGS = {"width": 0.25, "batch_size": 16, "device": "cpu"}
UNFITTED: dict[str, list[Any]] = {
    "neighbors": [KNearestNeighbors(k=3, metric="l1"), KNearestNeighbors(k=5, metric="l2")],
    "linear": [LinearClassifier(strength=0.1, solver=Optimum(tolerance=0.1))],
    "features": [FeatureClassifier(handmade(SIZE, words=5), LinearClassifier(solver=Optimum(tolerance=0.1)))],
    "network": [
        NetworkClassifier("convnet", 2, {**SETTINGS, "views": True}),
        NetworkClassifier("mlp", 2, {**SETTINGS, "precision": "float32"}),
    ],
}
ALL = [
    pytest.param(kind, each, id=f"{kind}{i}") for kind, several in UNFITTED.items() for i, each in enumerate(several)
]


def model_of(classifier: Any, labels: NDArray[np.int64] = Y_N, classes: tuple[str, ...] = CLASSES) -> Model:
    classifier.fit(X_NHWC, labels)
    return Model((Member("Grüße, 3 nearest", classifier, SIZE),), classes, fit_to_square="crop")


def squares_of(x_NHWC: NDArray[np.uint8]) -> Squares:
    """Return what gives the images at any side."""
    return lambda side, how: np.stack([square(x_HWC, side, how=how) for x_HWC in x_NHWC])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model_of(LinearClassifier(solver=Optimum(tolerance=0.1))).save(tmp_path)
    return tmp_path


def test_the_table_is_whole() -> None:
    assert UNFITTED.keys() == KINDS.keys()


@pytest.mark.parametrize(("kind", "classifier"), ALL)
def test_probabilities_come_back_bit_for_bit(tmp_path: Path, kind: str, classifier: Any) -> None:
    model = model_of(classifier)
    model.save(tmp_path)
    again = Model.load(tmp_path)
    (member,) = again.members
    assert type(member.classifier) is KINDS[kind]
    assert (member.name, member.size, member.weight) == ("Grüße, 3 nearest", SIZE, 1.0)
    assert (again.classes, again.size, again.fit_to_square, again.name) == (CLASSES, SIZE, "crop", model.name)
    x_NHWC = np.stack([photo(i % 3, (SIZE, SIZE), seed=1000 + i) for i in range(30)])
    np.testing.assert_array_equal(again.probabilities(squares_of(x_NHWC)), model.probabilities(squares_of(x_NHWC)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    first = (tmp_path / "model.safetensors").read_bytes()
    again.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == first


@pytest.mark.parametrize(("kind", "classifier"), ALL)
def test_a_class_without_training_images_is_never_predicted(tmp_path: Path, kind: str, classifier: Any) -> None:
    model = model_of(classifier, labels=np.array([0, 2, 3])[Y_N], classes=("a", "b", "c", "d"))
    model.save(tmp_path)
    for each in (model, Model.load(tmp_path)):
        rows_NK = each.probabilities(squares_of(X_NHWC))
        assert rows_NK.shape == (60, 4)
        assert (rows_NK[:, 1] == 0).all()
        assert (rows_NK[:, [0, 2, 3]].sum(0) > 0).all()
        np.testing.assert_allclose(rows_NK.sum(1), 1, atol=1e-12)


def test_an_average_weighs_each_member_at_its_own_size(tmp_path: Path) -> None:
    small = np.stack([square(x_HWC, 8) for x_HWC in X_NHWC])
    near, straight = (
        KNearestNeighbors(k=5).fit(small, Y_N),
        LinearClassifier(solver=Optimum(tolerance=0.1)).fit(X_NHWC, Y_N),
    )
    model = Model((Member("near", near, 8, 1.0), Member("straight", straight, SIZE, 3.0)), CLASSES, "stretch")
    expected_NK = 0.25 * near.predict_proba(small) + 0.75 * straight.predict_proba(X_NHWC)
    model.save(tmp_path)
    again = Model.load(tmp_path)
    assert (again.name, again.size) == ("near + straight", SIZE)
    for each in (model, again):
        np.testing.assert_allclose(each.probabilities(squares_of(X_NHWC)), expected_NK, rtol=1e-12)
    predicted = [prediction.label for prediction in again.predict(X_NHWC)]
    assert predicted == [CLASSES[k] for k in expected_NK.argmax(1)]


def test_predictions_of_files_arrays_and_pictures(tmp_path: Path) -> None:
    model = model_of(KNearestNeighbors(k=1))
    picture = X_NHWC[4]
    (tmp_path / "x.png").write_bytes(encoded(picture, "PNG"))
    (tmp_path / "notes.jpg").write_text("no picture")
    grey = picture[:, :, 0]
    given = [
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        picture,
        Image.fromarray(picture),
        np.dstack([picture, np.full((SIZE, SIZE), 255, np.uint8)]),
        grey,
        grey[:, :, None],
        np.repeat(np.repeat(picture, 3, 0), 3, 1),
        tmp_path / "none.jpg",
        tmp_path / "notes.jpg",
        np.zeros((4, 5, 7), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5, 3)),
    ]
    predictions = model.predict(given)
    assert [prediction.path for prediction in predictions[:3]] == [str(tmp_path / "x.png")] * 2 + [None]
    assert {prediction.label for prediction in predictions[:5]} == {CLASSES[Y_N[4]]}
    assert predictions[5] == predictions[6]
    assert [prediction.error for prediction in predictions[:8]] == [None] * 8
    expected = "expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8"
    assert [prediction.error for prediction in predictions[8:]] == [
        "No such file or directory",
        "not an image: it holds text",
        f"pixels of shape (4, 5, 7) and type uint8 given; {expected}",
        f"pixels of shape (0, 5, 3) and type uint8 given; {expected}",
        f"pixels of shape (4, 5, 3) and type float64 given; {expected}",
    ]
    assert all(prediction.label is None and prediction.top == () for prediction in predictions[8:])
    assert model.predict([]) == []


@pytest.mark.parametrize(
    "x",
    [
        np.zeros(3, np.uint8),
        np.array(3, np.uint8),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((1, 4, 5, 3), np.uint8),
        np.full((4, 5), np.nan, np.float32),
        np.full((4, 5, 1), 0.5),
    ],
    ids=lambda x: f"{x.shape} {x.dtype}",
)
def test_what_is_no_image_has_an_error_and_no_label(x: Any) -> None:
    prediction, good = model_of(KNearestNeighbors(k=1)).predict([x, X_NHWC[4]])
    assert prediction.error == (
        f"pixels of shape {x.shape} and type {x.dtype} given; expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8"
    )
    assert (prediction.label, prediction.top, good.label) == (None, (), CLASSES[Y_N[4]])


@pytest.mark.parametrize("top", [0, -1])
def test_less_than_one_class_is_not_told(top: int) -> None:
    with pytest.raises(SettingError, match=f"top = {top} is no number of classes to tell; give at least 1"):
        model_of(KNearestNeighbors(k=1)).predict(X_NHWC[:2], top=top)


def test_the_likeliest_classes_come_first() -> None:
    model = model_of(KNearestNeighbors(k=15))
    rows_NK = model.probabilities(squares_of(X_NHWC))
    for row_K, one, two in zip(rows_NK, model.predict(X_NHWC), model.predict(X_NHWC, top=2), strict=True):
        ranked = sorted(zip(row_K.tolist(), CLASSES, strict=True), key=lambda pair: -pair[0])
        assert one.top == tuple((name, probability) for probability, name in ranked)
        assert (one.label, one.probability) == one.top[0]
        assert two.top == one.top[:2]


def test_more_images_than_a_block_are_predicted_in_order() -> None:
    model = model_of(KNearestNeighbors(k=1))
    many = [X_NHWC[i % 60] for i in range(1500)]
    assert [prediction.label for prediction in model.predict(many)] == [CLASSES[i % 3] for i in range(1500)]
    labels = np.arange(1500) % 3
    images = data.integrity(data.from_arrays(np.stack(many), labels, name="many", classes=CLASSES))
    rows_NK = model.probabilities_of(data.Part("validation", images))
    np.testing.assert_array_equal(rows_NK.argmax(1), images.labels_N)


def near(k: int, labels: NDArray[np.int64] = Y_N) -> Model:
    return model_of(KNearestNeighbors(k=k), labels)


KILLED = """
import os, sys
from pathlib import Path
from saccade.classifiers import Model

replace, left = Path.replace, int(sys.argv[3])

def counted(self, target):
    global left
    if left == 0:
        os.kill(os.getpid(), 9)
    left -= 1
    return replace(self, target)

model = Model.load(Path(sys.argv[1]))
Path.replace = counted
model.save(Path(sys.argv[2]))
"""
"""Save a model from one folder to another, killed before so many files are moved into place."""


def test_a_model_replaced_is_the_old_one_or_the_new_wherever_it_is_killed(tmp_path: Path) -> None:
    for place in ("new", "newer", "there"):
        (tmp_path / place).mkdir()
    old, new, newer = near(1), near(5, (Y_N + 1) % 3), near(3, (Y_N + 2) % 3)
    new.save(tmp_path / "new")
    newer.save(tmp_path / "newer")
    old.save(tmp_path / "there")
    names = {tuple(p.label for p in each.predict(X_NHWC)): name for name, each in
             {"old": old, "new": new, "newer": newer}.items()}  # fmt: skip

    def killed_before(moves: int, place: str) -> str:
        given = [sys.executable, "-c", KILLED, str(tmp_path / place), str(tmp_path / "there"), str(moves)]
        assert subprocess.run(given, check=False).returncode == (0 if moves > 2 else -signal.SIGKILL)
        return names[tuple(p.label for p in Model.load(tmp_path / "there").predict(X_NHWC))]

    found = [killed_before(moves, "new") for moves in (0, 1, 2)]
    found += [killed_before(moves, "newer") for moves in (0, 1)]  # on what a killed one left
    found += [killed_before(moves, "newer") for moves in (2, 3)]
    assert found == ["old", "old", "new", "new", "new", "newer", "newer"]
    files = {path.name for path in (tmp_path / "there").iterdir() if not is_temporary(path)}
    assert files == {"model.json", "model.safetensors"}
    assert "next" not in json.loads((tmp_path / "there" / "model.json").read_text())


def test_a_model_read_while_it_is_replaced_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near(1).save(tmp_path)
    new, read = near(5, (Y_N + 1) % 3), Path.read_bytes

    def replaced_meanwhile(path: Path) -> bytes:
        monkeypatch.setattr(Path, "read_bytes", read)
        new.save(tmp_path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", replaced_meanwhile)
    assert Model.load(tmp_path).predict(X_NHWC) == new.predict(X_NHWC)


def rewrite(folder: Path, **changed: Any) -> None:
    """Change model.json: its first member where that has what is changed, else itself."""
    description = json.loads((folder / "model.json").read_text())
    member = description["members"][0]
    member |= {name: value for name, value in changed.items() if name in member}
    description |= {name: value for name, value in changed.items() if name not in member}
    (folder / "model.json").write_text(json.dumps(description))


def test_changed_weights_are_damaged(saved: Path) -> None:
    weights = saved / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b"", whole + b"\0"):
        weights.write_bytes(content)
        with pytest.raises(RunError) as caught:
            Model.load(saved)
        assert str(caught.value) == f"{weights} is damaged: its checksum does not fit model.json."


HUGE = struct.pack("<Q", 2**60) + b"{}"


@pytest.mark.parametrize("content", [b"", b"\0" * 20, HUGE, struct.pack("<Q", 2) + b"[]", b"\x80\x04K\x01."])
def test_weights_that_were_never_safetensors(saved: Path, content: bytes) -> None:
    (saved / "model.safetensors").write_bytes(content)
    rewrite(saved, checksum=content_hash(content))
    with pytest.raises(RunError, match=r"The model in .* cannot be loaded \(SafetensorError: .*\)\.$"):
        Model.load(saved)


def test_a_missing_file_is_named(saved: Path) -> None:
    for name in ("model.safetensors", "model.json"):
        (saved / name).unlink()
        with pytest.raises(RunError, match=rf"The model in .* cannot be loaded \(FileNotFoundError: .*{name}'\)\."):
            Model.load(saved)


@pytest.mark.parametrize("content", ["", "{", '{"schema": 1}', "[]", "null", '"model"', "\udcff"])
def test_a_description_that_is_none(saved: Path, content: str) -> None:
    (saved / "model.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=r"The model in .* cannot be loaded \(\w+: .+\)\.$"):
        Model.load(saved)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"kind": "forest"}, "KeyError: 'forest'"),
        ({"kind": ["linear"]}, "TypeError: "),
        ({"kind": "network"}, "KeyError: 'settings'"),
        ({"config": {}}, "KeyError: 'params'"),
        ({"config": None}, "TypeError: "),
        ({"classes": None}, "ValueError: model.json names no members, or no classes)."),
    ],
)
def test_descriptions_that_do_not_fit(saved: Path, changed: dict[str, Any], reason: str) -> None:
    rewrite(saved, **changed)
    with pytest.raises(RunError) as caught:
        Model.load(saved)
    assert str(caught.value).startswith(f"The model in {saved} cannot be loaded ({reason}")


def test_a_network_whose_weights_do_not_fit_its_settings(tmp_path: Path) -> None:
    model_of(NetworkClassifier("mlp", 1, SETTINGS)).save(tmp_path)
    config = json.loads((tmp_path / "model.json").read_text())["members"][0]["config"]
    faults: list[tuple[dict[str, Any], str]] = [
        ({"width": 0.5}, "RuntimeError: Error(s) in loading state_dict for Sequential"),
        ({"model": "mpl"}, 'ModelError: There is no network "mpl". Did you mean "mlp"?'),
        ({"widht": 1}, 'SettingError: There is no setting "widht". Did you mean "width"?'),
        ({"size": None}, "AssertionError"),
    ]
    for changed, reason in faults:
        rewrite(tmp_path, config={**config, "settings": {**config["settings"], **changed}})
        with pytest.raises(RunError) as caught:
            Model.load(tmp_path)
        assert str(caught.value).startswith(f"The model in {tmp_path} cannot be loaded ({reason}")
        assert "\n" not in str(caught.value)


SEEING = [pytest.param(each, id=kind) for kind in ("features", "network") for each in UNFITTED[kind][:1]]


@pytest.mark.parametrize("classifier", SEEING)
def test_with_a_gpu_that_fails_a_model_loads_on_the_cpu_alone(
    tmp_path: Path, break_gpu: Callable[[], None], classifier: Any
) -> None:
    with computing_on("cpu"):
        model = model_of(classifier)
    model.save(tmp_path)
    break_gpu()
    with pytest.raises(DeviceError, match=r"^The device .* cannot be used .*; give --device cpu\.$"):
        Model.load(tmp_path)
    assert Model.load(tmp_path, "cpu").predict(X_NHWC) == model.predict(X_NHWC)


def test_what_needs_no_device_loads_whatever_the_gpu(saved: Path, break_gpu: Callable[[], None]) -> None:
    break_gpu()
    assert Model.load(saved).predict(X_NHWC)[0].label in CLASSES
    with pytest.raises(DeviceError, match="tpu9"):
        Model.load(saved, "tpu9")
    rewrite(saved, config={})
    with pytest.raises(RunError, match=r"cannot be loaded \(KeyError: 'params'\)\.$"):
        Model.load(saved)


def test_a_model_is_loaded_to_the_device_asked_for_and_a_device_that_fails_is_no_damage(tmp_path: Path) -> None:
    """PyTorch's meta device takes everything and gives nothing back."""
    for kind, place in (("features", tmp_path / "features"), ("network", tmp_path / "network")):
        place.mkdir()
        model_of(UNFITTED[kind][0]).save(place)
    network = Model.load(tmp_path / "network", "meta").members[0].classifier
    assert isinstance(network, NetworkClassifier)
    assert network.forward_.device.type == "meta"
    told = r'is whole, but fails on the device "meta" \(NotImplementedError: .*\); give --device cpu\.$'
    with pytest.raises(DeviceError, match=told):
        Model.load(tmp_path / "features", "meta")
    rewrite(tmp_path / "features", config={})
    with pytest.raises(RunError, match=r"cannot be loaded \(KeyError: 'features'\)\.$"):
        Model.load(tmp_path / "features", "meta")


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_of(NetworkClassifier("mlp", 1, SETTINGS)).save(tmp_path)

    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", full)
    with pytest.raises(RuntimeError, match="can't allocate memory") as caught:
        Model.load(tmp_path)
    assert not isinstance(caught.value, SaccadeError)
