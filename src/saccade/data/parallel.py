"""Work on many items in threads, in chunks, with results in order and progress told."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

from saccade.device import cores
from saccade.events import Progress, emit

T = TypeVar("T")
R = TypeVar("R")

_CHUNKS_A_WORKER = 16
_LARGEST_CHUNK = 256


def in_chunks(
    work: Callable[[Sequence[T]], R], items: Sequence[T], *, workers: int | None, task: str = ""
) -> Iterator[R]:
    """Yield `work(chunk)` for consecutive chunks of `items`, in their order, computed by `workers` threads.

    None is one thread a core; 0 or 1, or a single chunk, is done in the calling thread. Chunks keep
    the cost of a task low beside tiny images. With `task` named, Progress is emitted, from the
    calling thread, after each chunk. Leaving early cancels what has not begun.
    """
    workers = cores() if workers is None else workers
    size = max(1, min(_LARGEST_CHUNK, len(items) // (max(workers, 1) * _CHUNKS_A_WORKER)))
    bounds = [*range(0, len(items), size), len(items)] if items else []
    chunks = [items[start:stop] for start, stop in pairwise(bounds)]
    if workers <= 1 or len(chunks) == 1:
        yield from _told(map(work, chunks), chunks, task)
        return
    pool = ThreadPoolExecutor(workers, "saccade-images")
    try:
        yield from _told(pool.map(work, chunks), chunks, task)
    finally:
        pool.shutdown(cancel_futures=True)


def _told(results: Iterator[R], chunks: list[Sequence[T]], task: str) -> Iterator[R]:
    done, total = 0, sum(map(len, chunks))
    for result, chunk in zip(results, chunks, strict=True):
        yield result
        done += len(chunk)
        if task:
            emit(Progress(task=task, done=done, total=total, unit="images"))
