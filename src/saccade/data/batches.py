"""Which images make up which batch, and getting them: a pure function of seed and step."""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from multiprocessing import active_children
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from saccade.data.crops import Crops
from saccade.data.parts import Part
from saccade.device import derived_seed, seeded
from saccade.errors import TrainingError
from saccade.events import Progress, emit
from saccade.settings import Interpolation

CHUNK = 1024
"""Images that are looked at together where all are."""


@dataclass(frozen=True)
class Batch:
    """`x_NHWC` uint8 RGB (or what a user's own data set gives), `y_N` int64, and where they come from."""

    x_NHWC: Tensor
    y_N: Tensor
    index_N: Tensor
    epoch_N: Tensor


@dataclass(frozen=True)
class Order:
    """Every epoch a new permutation, cut into full batches that run on across epochs' ends.

    >>> Order(images=3, batch_size=2, seed=0)(1)[1].tolist()  # the epoch of each image of step 1
    [0, 1]
    """

    images: int
    batch_size: int
    seed: int

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return `index_N` and `epoch_N` of the batch of one step."""
        position = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epoch_N, place_N = position // self.images, position % self.images
        first, last = int(epoch_N[0]), int(epoch_N[-1])
        shuffled = torch.stack([_permutation(self.images, self.seed, epoch) for epoch in range(first, last + 1)])
        return shuffled[epoch_N - first, place_N], epoch_N


@dataclass(frozen=True)
class InTurn(Order):
    """Every pass over the images in their own order, in parts of at most `batch_size`, as even as can be.

    None is of one image alone, which batch norm refuses: there a part has one more.

    >>> [InTurn(images=7, batch_size=3, seed=0)(step)[0].tolist() for step in range(4)]
    [[0, 1, 2], [3, 4], [5, 6], [0, 1, 2]]
    >>> [InTurn(images=5, batch_size=2, seed=0)(step)[0].tolist() for step in range(2)]
    [[0, 1, 2], [3, 4]]
    """

    @property
    def parts(self) -> int:
        """Batches a pass."""
        return max(1, min(-(-self.images // self.batch_size), self.images // 2))

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return `index_N` and `epoch_N` of the batch of one step."""
        epoch, part = divmod(step, self.parts)
        index_N = torch.arange(self.images).tensor_split(self.parts)[part]
        return index_N, torch.full_like(index_N, epoch)


@dataclass(frozen=True)
class Balanced(Order):
    """Every class as often as any other, whatever its number of images: rare ones are drawn again and again.

    An epoch has as many draws as there are images; of one class, each image is drawn as often as any other,
    give or take one. `labels_N` are the classes of the images.

    >>> order = Balanced(images=4, batch_size=4, seed=0, labels_N=torch.tensor([0, 0, 0, 1]))
    >>> sorted(order(0)[0].tolist())[-2:]  # the last image, alone in its class, is half of the epoch
    [3, 3]
    """

    labels_N: Tensor

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return `index_N` and `epoch_N` of the batch of one step."""
        place_N, epoch_N = super().__call__(step)
        first, last = int(epoch_N[0]), int(epoch_N[-1])
        drawn = torch.stack([_balanced_draws(self.labels_N, self.seed, epoch) for epoch in range(first, last + 1)])
        return drawn[epoch_N - first, place_N], epoch_N


@lru_cache(maxsize=4)
def _balanced_draws(labels: Tensor, seed: int, epoch: int) -> Tensor:
    """Kept by the tensor of labels itself, not by what is in it."""
    rng, labels_N = np.random.default_rng(derived_seed(seed, "balance", epoch)), labels.cpu().numpy()
    classes = np.unique(labels_N)
    share, rest = divmod(len(labels_N), len(classes))
    draws: list[int] = []
    for label, wanted in zip(classes, share + (rng.permutation(len(classes)) < rest), strict=True):
        own = np.flatnonzero(labels_N == label)
        rounds = [rng.permutation(own) for _ in range(-(-wanted // len(own)))]
        draws += np.concatenate([own[:0], *rounds])[:wanted].tolist()
    return torch.tensor(draws)


@lru_cache(maxsize=4)
def _permutation(images: int, seed: int, epoch: int) -> Tensor:
    rng = np.random.default_rng(derived_seed(seed, "order", epoch))
    return torch.from_numpy(rng.permutation(images))


class Images(Protocol):
    """Something batches can be drawn from."""

    def __len__(self) -> int: ...

    @property
    def y_N(self) -> Tensor | None:  # noqa: N802 (the suffix is its shape)
        """Every image's label, where they are known before the images are read."""
        ...

    def batches(self, order: Order, first: int = 0) -> Iterator[Batch]:
        """Yield the batch of step `first`, `first` + 1, … without end."""
        ...

    def chunks(self) -> Iterator[Tensor]:
        """Yield every image once, as x_NHWC, CHUNK at a time: what is fitted to all images holds few at once."""
        ...


class ArrayImages:
    """Images decoded once and held, on `device`, as one array: small data sets."""

    def __init__(self, x_NHWC: Tensor, y_N: Tensor) -> None:
        self.x_NHWC, self.y_N = x_NHWC, y_N

    def __len__(self) -> int:
        return len(self.y_N)

    def batches(self, order: Order, first: int = 0) -> Iterator[Batch]:
        """Yield batches by indexing the array."""
        for step in count(first):
            index_N, epoch_N = (part.to(self.y_N.device) for part in order(step))
            yield Batch(self.x_NHWC[index_N], self.y_N[index_N], index_N, epoch_N)

    def chunks(self) -> Iterator[Tensor]:
        """Yield views on the array."""
        yield from self.x_NHWC.split(CHUNK)


class StoredImages:
    """Images read and decoded when they are needed, some batches ahead, by up to `workers` threads (`Pixels.threads`).

    With `crops`, batches are random parts of them, cut before they are resized: a function of seed and step, too.
    """

    def __init__(
        self, part: Part, side: int, workers: int, how: Interpolation = "bilinear", crops: Crops | None = None
    ) -> None:
        self.part, self.side, self.workers, self.how, self.crops = part, side, workers, how, crops
        self.y_N = torch.from_numpy(part.labels_N)

    def __len__(self) -> int:
        return len(self.part)

    def batches(self, order: Order, first: int = 0, end: int | None = None) -> Iterator[Batch]:
        """Yield batches in order, however many threads decode them; none from step `end` on, where it is given."""
        pixels = self.part.images.pixels.only(self.part.images.keys, alone=True)

        def load(step: int) -> Batch:
            index_N, epoch_N = order(step)
            keys = [self.part.images.keys[place] for place in index_N.tolist()]
            seed = derived_seed(order.seed, "crops", step)
            drawn = None if self.crops is None else self.crops.draw(len(keys), seed)
            x_NHWC = pixels.squares(keys, self.side, self.how, drawn)
            return Batch(torch.from_numpy(x_NHWC), self.y_N[index_N], index_N, epoch_N)

        workers = pixels.threads(self.part.images.keys, self.workers)
        yield from _ahead(load, workers, count(first) if end is None else range(first, end))

    @property
    def whole(self) -> "StoredImages":
        """The same images, uncropped."""
        return StoredImages(self.part, self.side, self.workers, self.how)

    def chunks(self) -> Iterator[Tensor]:
        """Yield images decoded for the purpose; emits Progress."""
        for place_N in torch.arange(len(self)).split(CHUNK):
            yield torch.from_numpy(self.part.select(place_N.numpy()).squares(self.side, self.how))
            emit(Progress(task="preprocess", done=int(place_N[-1]) + 1, total=len(self), unit="images"))


class DatasetImages:
    """A user's own map-style torch `Dataset` of `(image, label)`, read by `workers` processes.

    Python's, NumPy's and torch's global generators are seeded anew for each item, from the run's
    seed, the epoch and the index, so that a data set which augments at random gives the same items
    for any number of workers.
    """

    def __init__(self, dataset: Dataset[Any], workers: int = 0) -> None:
        self.dataset, self.workers, self.y_N = dataset, workers, None

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def batches(self, order: Order, first: int = 0) -> Iterator[Batch]:
        """Yield batches in order; images are stacked as the data set gives them.

        Raises TrainingError where one of the processes dies.
        """

        def requests() -> Iterator[list[tuple[int, int]]]:
            for step in count(first):
                index_N, epoch_N = order(step)
                yield list(zip(index_N.tolist(), epoch_N.tolist(), strict=True))

        loader = DataLoader(
            _SeededItems(self.dataset, order.seed),
            batch_sampler=_Requests(requests),
            num_workers=self.workers,
            multiprocessing_context="fork" if self.workers else None,
            generator=torch.Generator(),  # else one number is drawn from the global one
            worker_init_fn=_deaf,
        )
        batches, workers = _started(loader)
        with _death_named(workers):
            for x, y_N, index_N, epoch_N in batches:
                yield Batch(x, y_N, index_N, epoch_N)

    def chunks(self) -> Iterator[Tensor]:
        """Yield images as the data set gives them in its first epoch."""
        for first in range(0, len(self), CHUNK):
            items = _SeededItems(self.dataset, seed=0)
            requests = [(index, 0) for index in range(first, min(first + CHUNK, len(self)))]
            yield torch.stack([torch.as_tensor(items[request][0]) for request in requests])


def _deaf(worker: int) -> None:
    """Let a worker process not hear Ctrl-C, which the whole group of processes gets: the training ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _death_named(workers: Sequence[BaseProcess]) -> Iterator[None]:
    """Raise TrainingError where one of the processes that batches come from has died, whichever way PyTorch notices."""
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if not (workers and wait([each.sentinel for each in workers], timeout=1.0)):
            raise
        raise TrainingError(
            "A process that reads images has died, as they do where memory runs out: give fewer workers. What was "
            "saved before is whole."
        ) from error


def _started(loader: DataLoader[Any]) -> tuple[Iterator[Any], list[BaseProcess]]:
    """Return a loader's batches, and the processes they come from.

    PyTorch would raise an error in whatever goes on when one of them dies, such as writing a file; without its
    handler of that signal it tells when the next batch is asked for.
    """
    if not loader.num_workers:
        return iter(loader), []
    others, handler = active_children(), signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    with suppress(ValueError):  # outside of the main thread there is none
        signal.signal(signal.SIGCHLD, handler)
    return batches, [each for each in active_children() if each not in others]


class _Requests:
    """An endless batch sampler, fresh each time it is iterated."""

    def __init__(self, requests: Callable[[], Iterator[list[tuple[int, int]]]]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.requests()


class _SeededItems(Dataset[Any]):
    """A data set asked for `(index, epoch)`, which seeds the global generators before each item."""

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, request: tuple[int, int]) -> tuple[Any, int, int, int]:
        index, epoch = request
        with seeded(derived_seed(self.seed, "item", epoch, index)):
            image, label = self.dataset[index]
        return image, int(label), index, epoch


def _ahead(load: Callable[[int], Batch], workers: int, steps: Iterable[int]) -> Iterator[Batch]:
    """Yield the batch of each step, computed by `workers` threads up to two batches each ahead."""
    if workers == 0:
        yield from map(load, steps)
        return
    with ThreadPoolExecutor(workers, "batches") as pool:
        pending: list[Future[Batch]] = []
        try:
            for step in steps:
                pending.append(pool.submit(load, step))
                if len(pending) > 2 * workers:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()
