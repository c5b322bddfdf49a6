"""Checkpoints: a training goes on to the same bits from any step; damage is passed over; writing keeps to its share."""

import json
import math
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade import data
from saccade.data import Part
from saccade.data.batches import ArrayImages, DatasetImages, Images, StoredImages
from saccade.errors import TrainingError
from saccade.events import Event, Finding, listening
from saccade.settings import DataSettings, TrainSettings
from saccade.train import Checkpoint, Checkpoints, Clock, Forward, Pace, Session, Watch, checkpoint
from saccade.train.budget import Decision
from tests.photos import photo_folder
from tests.train.test_session import CLASSES, CPU, NAMES, X_NHWC, Y_N, OwnData, OwnNetwork, settings

STEPS = 9


def session(chosen: TrainSettings, images: Images | None = None) -> Session:
    images = images or ArrayImages(X_NHWC, Y_N)
    return Session.start(chosen, images, X_NHWC, classes=CLASSES, names=NAMES[: len(images)])


def paced(kept: Checkpoint | None) -> Pace:
    """Return a pace with revisions ahead of and behind every step, at a checkpoint where there is one."""
    pace = Pace([Decision(0, 12), Decision(3, 8), Decision(6, STEPS)])
    if kept is not None:
        pace.load_state_dict(kept.plain["pace"])
    return pace


def outcome(start: Session, kept: Checkpoint | None = None) -> tuple[dict[str, Tensor], float]:
    """Train to the end; return the weights and the mean loss of the steps since step 4."""
    course = start.course(paced(kept), kept)
    for done, _ in course:
        if done == 4:
            course.watch.mean()
    return start.network.state_dict(), course.watch.mean()


def interrupted(start: Session, step: int, place: Path) -> Checkpoint:
    """Train to a step, and bring the state through the disk."""
    course = start.course(paced(None))
    for done, _ in islice(course, step):
        if done == 4:
            course.watch.mean()
    checkpoint.write(place, course.checkpoint(note="…"))
    return checkpoint.read(place)


def check_same(one: tuple[dict[str, Tensor], float], other: tuple[dict[str, Tensor], float]) -> None:
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(value, other[0][name]) for name, value in one[0].items())
    assert one[1] == other[1]


@pytest.mark.parametrize(
    "chosen",
    [
        settings("convnet"),
        settings("convnet", precision="bfloat16", size=20),
        settings("mlp", optimizer="nesterov", schedule="cosine"),
        settings("mlp", optimizer="adamw"),
        settings("mlp", optimizer="adagrad", ema=0.9, accumulate=3, clip=0.5, balance="sampling"),
        settings("mlp", optimizer="rmsprop", schedule="one_cycle", balance="weights"),
        settings("mlp", optimizer="lbfgs"),
        settings("convnet", precision="bfloat16", ema=0.9, accumulate=2, clip=0.5),
        settings("torchvision/squeezenet1_1", size=32),  # dropout draws from PyTorch's global generator
    ],
    ids=lambda chosen: f"{chosen.model}-{chosen.optimizer}-{chosen.precision}",
)
def test_a_training_goes_on_to_the_same_bits_from_any_step(chosen: TrainSettings, tmp_path: Path) -> None:
    whole = outcome(session(chosen))
    for step in (1, 5, STEPS - 1, STEPS) if chosen.model != "convnet" else range(1, STEPS + 1):
        kept = interrupted(session(chosen), step, tmp_path / f"{step}")
        torch.rand(5)
        check_same(outcome(session(chosen), kept), whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_images_go_on_too(workers: int, tmp_path: Path) -> None:
    images = data.integrity(data.open(photo_folder(tmp_path / "photos", 5), DataSettings(memory=0.0)))
    stored = StoredImages(Part("train", images), 16, workers)
    whole = outcome(session(settings(), stored))
    check_same(outcome(session(settings(), stored), interrupted(session(settings(), stored), 5, tmp_path / "5")), whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_users_own_network_and_random_data_set_go_on(workers: int, tmp_path: Path) -> None:
    chosen = TrainSettings(size=9, batch_size=8, optimizer="adam", learning_rate=0.05)

    def own() -> Session:
        torch.manual_seed(0)
        forward = Forward(OwnNetwork(), 9, False, CPU)
        return Session(forward, DatasetImages(OwnData(), workers), [f"item {i}" for i in range(40)], chosen)

    check_same(outcome(own(), interrupted(own(), 5, tmp_path / "5")), outcome(own()))


def test_taking_the_state_changes_nothing(tmp_path: Path) -> None:
    whole = outcome(session(settings("convnet")))
    start = session(settings("convnet"))
    course = start.course(paced(None))
    for done, _ in course:
        if done == 4:
            course.watch.mean()
        course.checkpoint()
    check_same((start.network.state_dict(), course.watch.mean()), whole)


def test_a_state_with_a_loss_that_is_no_number_is_never_kept() -> None:
    course = session(settings("linear")).course(Pace.fixed(3))
    next(iter(course))
    course.watch(1, torch.tensor([math.nan]), torch.tensor([7]))
    with pytest.raises(TrainingError, match=r"not a number at step 2, on 1 of 1 images \(0007\.jpg\)"):
        course.checkpoint()


# a folder of them


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checkpoint, "FIRST", 0.0)
    return tmp_path / "checkpoints" / "net"


def some(number: int, size: int = 5) -> Checkpoint:
    draws = np.random.default_rng(number)
    tensors = {"a": torch.from_numpy(draws.random(size)), "b": torch.tensor(number), "c": torch.ones(2, 3).T}
    return Checkpoint({"seconds": number / 3, "nested": {"progress": draws.random(), "none": None}}, tensors)


def check_equal(one: Checkpoint | None, other: Checkpoint) -> None:
    assert one is not None
    assert one.plain == other.plain
    assert all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())
    assert one.tensors.keys() == other.tensors.keys()


def test_the_newest_two_are_kept_and_nothing_else(folder: Path) -> None:
    checkpoints = Checkpoints(folder)
    assert checkpoints.newest() is None
    checkpoints.save(9, some(9))
    (folder / ".saccade-000000010.json.0123abcd").write_text("half")
    (folder / f"{10:032}.safetensors").write_text("killed before its .json")
    for step in (10, 100):
        checkpoints.save(step, some(step))
    assert len(list(folder.iterdir())) == 4
    assert {file.name for file in folder.iterdir()} == {
        name for step in (10, 100) for name in (f"{step:09}.json", *files(folder / f"{step:09}.json").values())
    }
    check_equal(Checkpoints(folder).newest(), some(100))
    assert checkpoint.seconds_spent(folder.parent.parent) == 100 / 3
    assert checkpoint.seconds_spent(folder / "none") == 0


def files(place: Path) -> dict[str, str]:
    """Return the names of the files with a checkpoint's tensors, by part."""
    return dict(json.loads(place.read_text())["files"])


def with_best(number: int, best: int, back: int) -> Checkpoint:
    """Return a checkpoint whose best epoch's weights, and state to go back to, are those of others."""
    tensors = dict(some(number).tensors)
    for part, source in (("best/", best), ("back/", back), ("back/best/", best)):
        tensors.update({part + name: value for name, value in some(source).tensors.items()})
    return Checkpoint(some(number).plain, tensors)


def inodes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_ino for file in folder.glob("*.safetensors")}


def test_what_lies_there_already_is_not_written_again(folder: Path) -> None:
    for step, best, back, new in ((1, 0, 1, 2), (2, 0, 1, 1), (3, 0, 3, 1), (4, 4, 3, 1)):
        checkpoints = Checkpoints(folder)
        checkpoints.newest()
        before = inodes(folder)
        checkpoints.save(step, with_best(step, best, back))
        after = inodes(folder)
        assert len(after.keys() - before.keys()) == new, step
        assert all(after[name] == before[name] for name in after.keys() & before.keys())
        check_equal(Checkpoints(folder).newest(), with_best(step, best, back))
    assert after.keys() == {name for step in (3, 4) for name in files(folder / f"{step:09}.json").values()}


def test_what_is_damaged_is_written_anew(folder: Path) -> None:
    Checkpoints(folder).save(1, with_best(1, 0, 1))
    _flip(folder / files(folder / "000000001.json")["best/"])
    checkpoints = Checkpoints(folder)
    with listening(lambda event: None):
        assert checkpoints.newest() is None
    checkpoints.save(2, with_best(2, 0, 2))
    check_equal(Checkpoints(folder).newest(), with_best(2, 0, 2))


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _other(file: Path) -> None:
    file.write_text("[]")


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", [_cut, _flip, _empty, _other, Path.unlink])
def test_a_damaged_one_is_passed_over(folder: Path, damage: Any, suffix: str) -> None:
    for step in (1, 2):
        Checkpoints(folder).save(step, some(step))
    heard: list[Event] = []

    def file_of(step: int) -> Path:
        place = folder / f"{step:09}.json"
        return place if suffix == ".json" else folder / files(place)[""]

    damage(file_of(2))
    with listening(heard.append):
        check_equal(Checkpoints(folder).newest(), some(1))
    if suffix == ".json" and damage is Path.unlink:
        assert heard == [], "it was never a checkpoint"
        return
    [finding] = heard
    assert isinstance(finding, Finding)
    assert finding.severity == "warning"
    assert finding.detail.startswith(f"The checkpoint {folder / '000000002'} is damaged (")
    damage(file_of(1))
    assert Checkpoints(folder).newest() is None


def test_a_number_changed_in_the_plain_values_is_damage(folder: Path) -> None:
    Checkpoints(folder).save(1, some(1))
    written = json.loads((folder / "000000001.json").read_text())
    written["plain"]["nested"]["progress"] += 2**-50
    (folder / "000000001.json").write_text(json.dumps(written))
    assert Checkpoints(folder).newest() is None


def test_writing_keeps_to_its_share_of_the_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 0.1)
    checkpoints = Checkpoints(folder)
    begun, writing, step = time.perf_counter(), 0.0, 0
    while (now := time.perf_counter()) < begun + 2:
        step += 1
        if checkpoints.due():
            checkpoints.save(step, some(1, 500_000))
            writing += time.perf_counter() - now
    written = [time.perf_counter() - begun, writing]
    assert 0 < writing < 0.1 * written[0] + 0.2
    assert checkpoints.newest() is not None


def test_they_are_as_far_apart_as_asked_for_save_the_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHARE", math.inf)
    checkpoints = Checkpoints(folder)
    assert checkpoints.due()
    checkpoints.save(1, some(1))
    assert not checkpoints.due()
    assert checkpoints.due(last=True)
    monkeypatch.setattr(checkpoint, "FIRST", 100.0)
    assert not Checkpoints(folder).due(last=True)


def test_all_but_the_first_wait_for_a_sound_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(checkpoint, "FIRST", 5.0)
    checkpoints = Checkpoints(folder)
    told = []
    for now[0] in (4.0, 5.0, 5.9, 6.0, 6.9, 7.0, 200.0, 209.0, 210.0, 219.0, 220.0):
        told.append((checkpoints.due(), checkpoints.due(sound=False)))
        if now[0] in (5.0, 200.0):
            checkpoints.save(1, some(1))
    soon, late = told[1:6], told[6:]
    assert told[0] == (False, False)
    assert soon == late == [(True, True), (False, False), (True, False), (True, False), (True, True)]


def test_of_a_short_training_little_is_lost_for_little_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = [0.0], [0.0]
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(checkpoint, "FIRST", 5.0)

    def slowly(*given: Any) -> None:
        now[0] += 0.02  # what the ConvNet's takes

    monkeypatch.setattr(checkpoint, "write", slowly)
    checkpoints = Checkpoints(folder)
    while now[0] < 40.0:
        now[0] += 0.1  # a step
        if checkpoints.due(sound=False):
            checkpoints.save(1, some(1))
            written.append(now[0])
    gaps = np.diff([*written, now[0]])
    assert gaps[0] < 5.2
    assert all(gap <= max(2.2, 0.25 * begun) for gap, begun in zip(gaps[1:], written[1:], strict=True))
    assert 0.02 * (len(written) - 1) < 0.01 * 40.0


# pace and watch


def test_a_timed_pace_goes_on_with_the_time_that_is_left_and_replays() -> None:
    recorded: list[Decision] = []
    clock = Clock(0.5)
    pace = Pace.timed(clock.remaining, lambda progress: 0.004, recorded.append, most_steps=10**6)
    first, states = [], []
    for step, progress in pace:
        first.append((step, progress))
        states.append(pace.state_dict())
        time.sleep(0.005)
        if clock.elapsed() > 0.25:
            break
    state = json.loads(json.dumps(states[-10]))
    clock = Clock(0.5, spent=0.3)
    assert clock.elapsed() == pytest.approx(0.3, abs=0.1)
    recorded = [Decision(**decision) for decision in state["decisions"]]
    again = Pace.timed(clock.remaining, lambda progress: 0.004, recorded.append, most_steps=10**6, state=state)
    assert recorded[-1].step == state["step"] + 1, "what is affordable is decided at once"
    second = []
    for step, progress in again:
        second.append((step, progress))
        time.sleep(0.005)
    assert 0.4 < clock.elapsed() < 0.7
    assert second[0][0] == state["step"] + 1
    assert second[-1][1] > 0.8
    assert recorded == again.decisions
    assert list(Pace(recorded)) == first[: state["step"] + 1] + second


def test_a_timed_pace_without_time_left_ends() -> None:
    pace = Pace.timed(lambda: 1.0, lambda progress: 0.01, lambda decision: None, most_steps=10**6)
    next(iter(pace))
    recorded: list[Decision] = []
    again = Pace.timed(lambda: -1.0, lambda progress: 0.01, recorded.append, most_steps=10**6, state=pace.state_dict())
    assert list(again) == []
    assert recorded == [Decision(1, 1)]
    assert again.step == 1


def test_a_watch_goes_on_whenever_it_is_read() -> None:
    draws = torch.Generator().manual_seed(3)
    losses = [torch.rand(7, generator=draws) for _ in range(20)]
    whole, parted = Watch(), Watch()
    for step, loss_N in enumerate(losses):
        whole(step, loss_N, torch.arange(7))
        parted(step, loss_N, torch.arange(7))
        state = json.loads(json.dumps(parted.state_dict()))
        parted = Watch()
        parted.load_state_dict(state)
    assert parted.mean() == whole.mean()
