"""Which images make up which batch: a function of seed and step alone, whoever reads them and however many."""

import random
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from saccade import data
from saccade.data.batches import ArrayImages, Batch, DatasetImages, Images, Order, StoredImages
from saccade.data.parts import Part
from saccade.errors import DecodeError
from saccade.settings import DataSettings
from tests.photos import photo_folder

ORDER = Order(images=13, batch_size=5, seed=3)


def first(images: Images, order: Order, count: int) -> list[Batch]:
    stream = images.batches(order)
    try:
        return list(islice(stream, count))
    finally:
        assert isinstance(stream, Iterator)
        stream.close()  # type: ignore[attr-defined]


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(getattr(a, name), getattr(b, name)) for a, b in pairs for name in vars(a))


@pytest.mark.parametrize(("images", "batch_size"), [(13, 5), (12, 4), (3, 8), (1, 1), (7, 7)])
def test_every_epoch_is_a_new_permutation(images: int, batch_size: int) -> None:
    order = Order(images, batch_size, seed=0)
    steps = [order(step) for step in range(6 * images)]
    assert all(len(index_N) == len(epoch_N) == batch_size for index_N, epoch_N in steps)
    index, epoch = (torch.cat(parts) for parts in zip(*steps, strict=True))
    assert torch.equal(epoch, torch.arange(len(epoch)) // images)
    epochs = [index[epoch == e].tolist() for e in range(5)]
    assert all(sorted(each) == list(range(images)) for each in epochs)
    assert images == 1 or len(set(map(tuple, epochs))) > 1


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    later = ORDER(17)
    state = torch.get_rng_state()
    for step in (3, 17, 0, 17):
        again = Order(13, 5, 3)(step)
        assert all(map(torch.equal, again, later)) == (step == 17)
    assert not torch.equal(Order(13, 5, 4)(17)[0], later[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_positions_do_not_favour_images() -> None:
    places = torch.stack([Order(4, 4, seed)(0)[0] for seed in range(400)])
    counts = torch.stack([torch.bincount(column, minlength=4) for column in places.T])
    assert int(counts.min()) > 60
    assert int(counts.max()) < 140


def test_array_images_are_indexed() -> None:
    x_NHWC = torch.randint(0, 256, (13, 4, 4, 3), dtype=torch.uint8)
    y_N = torch.arange(13) % 3
    images = ArrayImages(x_NHWC, y_N)
    assert len(images) == 13
    for step, batch in enumerate(first(images, ORDER, 6)):
        index_N, epoch_N = ORDER(step)
        assert torch.equal(batch.x_NHWC, x_NHWC[index_N])
        assert torch.equal(batch.y_N, y_N[index_N])
        assert torch.equal(batch.index_N, index_N)
        assert torch.equal(batch.epoch_N, epoch_N)


@pytest.fixture
def part(tmp_path: Path) -> Part:
    photos = photo_folder(tmp_path / "photos", 5, size=(320, 300))
    return Part("train", data.integrity(data.open(photos, DataSettings(memory=0.0))))


def test_stored_images_are_those_of_an_array_with_any_number_of_threads(part: Part) -> None:
    held = ArrayImages(torch.from_numpy(part.squares(16)), torch.from_numpy(part.labels_N))
    order = Order(len(part), 4, seed=1)
    expected = first(held, order, 9)
    for workers in (0, 1, 2, 5):
        assert part.images.pixels.threads(part.images.keys, workers) == workers
        stored = StoredImages(part, 16, workers)
        assert len(stored) == 15
        assert same(first(stored, order, 9), expected)


@pytest.mark.parametrize("suffix", ["", ".zip", ".tar"])
def test_small_files_are_read_by_one_thread(tmp_path: Path, suffix: str) -> None:
    folder = photo_folder(tmp_path / "photos", 5)
    if suffix:
        shutil.make_archive(str(folder), suffix[1:], folder)
    images = data.open(f"{folder}{suffix}")
    assert [images.pixels.threads(images.keys, allowed) for allowed in (0, 1, 2, None)] == [0, 1, 1, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stored_image_that_went_away_is_named(part: Part, workers: int) -> None:
    for path in Path(part.images.source).rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DecodeError, match=r"^disc/0000\.jpg: there is no such file"):
        first(StoredImages(part.select([0]), 16, workers), Order(1, 1, 0), 1)


class Noisy(Dataset[Any]):
    """A user's data set, which draws from all three global generators, and may reseed them."""

    def __len__(self) -> int:
        return 13

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawn = [index, random.random(), np.random.rand(), float(torch.rand(())), random.random()]  # noqa: NPY002
        return torch.tensor(drawn, dtype=torch.float64).reshape(1, 1, 5), index % 3


def globals_state() -> tuple[Any, ...]:
    numpy: Any = np.random.get_state()  # noqa: NPY002
    return random.getstate(), numpy[1].tobytes(), numpy[2:], torch.get_rng_state().numpy().tobytes()


def test_a_users_random_items_are_the_same_with_and_without_workers() -> None:
    alone = first(DatasetImages(Noisy()), ORDER, 7)
    for workers in (0, 2):
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(5)
        assert same(first(DatasetImages(Noisy(), workers), ORDER, 7), alone)
    for step, batch in enumerate(alone):
        assert torch.equal(batch.index_N, ORDER(step)[0])
        assert torch.equal(batch.epoch_N, ORDER(step)[1])
        assert torch.equal(batch.x_NHWC[:, 0, 0, 0], batch.index_N.double())
        assert torch.equal(batch.y_N, batch.index_N % 3)


def test_a_users_random_items_differ_by_image_epoch_and_seed() -> None:
    drawn = [
        batch.x_NHWC[:, 0, 0, 1:] for seed in (0, 1) for batch in first(DatasetImages(Noisy()), Order(13, 13, seed), 3)
    ]
    values = torch.cat(drawn)
    for column in values.T:
        assert len(column.unique()) == len(values) == 2 * 3 * 13


@pytest.mark.parametrize("workers", [0, 2])
def test_global_generators_are_left_as_they_were(workers: int) -> None:
    random.seed(1)
    before = globals_state()
    first(DatasetImages(Noisy(), workers), ORDER, 4)
    assert globals_state() == before
