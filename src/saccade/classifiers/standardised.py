"""Rows standardised block by block, never as a whole, and the products that linear classifiers need of them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from saccade.device import cores

Array = NDArray[Any]
T = TypeVar("T")
Visit = Callable[[slice, Array], float]  # (rows, their scores) -> their summed loss; the scores become its gradient

BLOCK = 1024  # rows centred at a time
CURVED = 8192  # most features for which X'X, D^2 numbers, is worth its time
SAMPLED = 4  # rows a feature that X'X is estimated from


@dataclass(frozen=True)
class Standardised:
    """z = (x - mean) / scale of every row; work is done in the type of `mean_D`.

    Rows are shared out among the pool's threads; sums are taken in a fixed order, so that results repeat.
    """

    x_ND: Array
    mean_D: Array
    scale_D: Array
    pool: ThreadPoolExecutor

    @classmethod
    def of(cls, x_ND: Array, pool: ThreadPoolExecutor) -> "Standardised":
        """Measure mean and standard deviation of each feature; a constant feature has scale 1."""

        def moments(share: slice) -> tuple[Array, Array, int]:
            return _moments(x_ND[share])

        mean, squares, count = np.zeros(x_ND.shape[1]), np.zeros(x_ND.shape[1]), 0
        for other, others, n in pool.map(moments, _shares(len(x_ND))):
            squares += others + (other - mean) ** 2 * (count * n / (count + n))
            mean += (other - mean) * (n / (count + n))
            count += n
        scale = np.sqrt(squares / count)
        scale[scale <= 1e-9 * np.abs(mean)] = 1.0
        dtype = np.float32 if x_ND.dtype in (np.uint8, np.float32) else np.float64
        return cls(x_ND, mean.astype(dtype), scale.astype(dtype), pool)

    def __len__(self) -> int:
        return len(self.x_ND)

    @property
    def features(self) -> int:
        """The number of features, D."""
        return int(self.x_ND.shape[1])

    def swept(self, point_KD1: Array, visit: Visit) -> tuple[float, Array]:
        """Hand the scores W z + b of all rows to `visit`; return the summed loss and its gradient (K, D + 1).

        Points are W and b side by side.
        """
        weights_KD, bias_K = point_KD1[:, :-1], point_KD1[:, -1]
        scaled_DK = (weights_KD / self.scale_D).T

        def part(share: slice) -> tuple[float, Array]:
            slope, loss = np.zeros_like(point_KD1), 0.0
            for rows, block in self._blocks(share):
                scores_NK = block @ scaled_DK + bias_K
                loss += visit(rows, scores_NK)
                slope[:, :-1] += scores_NK.T @ block
                slope[:, -1] += scores_NK.sum(0)
            return loss, slope

        parts = self._shared(part)
        slope = sum((s for _, s in parts), np.zeros_like(point_KD1))
        slope[:, :-1] /= self.scale_D
        return sum(loss for loss, _ in parts), slope

    def rows(self, chosen: Array | slice) -> Array:
        """Return z of some rows."""
        return np.asarray(np.subtract(self.x_ND[chosen], self.mean_D, dtype=self.mean_D.dtype) / self.scale_D)

    @cached_property
    def gram_DD(self) -> Array | None:  # noqa: N802
        """An estimate of Z'Z / N; None where there are too many features for it."""
        count, features = self.x_ND.shape
        if features > CURVED:
            return None
        step = max(1, count // (SAMPLED * features))

        def part(share: slice) -> tuple[Array, int]:
            gram, used = np.zeros((features, features), self.mean_D.dtype), 0
            for _, block in self._blocks(slice(share.start, share.stop, step)):
                scaled = block / self.scale_D
                gram += scaled.T @ scaled
                used += len(block)
            return gram, used

        parts = self._shared(part)
        gram_DD: Array = sum((gram for gram, _ in parts), np.zeros((features, features)))
        return gram_DD / sum(used for _, used in parts)

    def _blocks(self, share: slice) -> Iterator[tuple[slice, Array]]:
        step = share.step or 1
        for start in range(share.start, share.stop, BLOCK * step):
            rows = slice(start, min(start + BLOCK * step, share.stop), step)
            yield rows, np.subtract(self.x_ND[rows], self.mean_D, dtype=self.mean_D.dtype)

    def _shared(self, function: Callable[[slice], T]) -> list[T]:
        return list(self.pool.map(function, _shares(len(self.x_ND))))


@contextmanager
def on_all_cores() -> Iterator[ThreadPoolExecutor]:
    """Yield a pool with a thread a processor, each with a BLAS of one thread: products here are too thin to share."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:
        yield pool


def _shares(count: int) -> list[slice]:
    """Cut rows into one share a processor, in whole blocks."""
    return slices(count, max(BLOCK, -(-count // (BLOCK * cores())) * BLOCK))


def slices(count: int, size: int) -> list[slice]:
    """Cut `count` rows into slices of `size`, the last of what is left.

    >>> slices(5, 3)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _moments(x_ND: Array) -> tuple[Array, Array, int]:
    """Return mean, sum of squared deviations and number of rows, in two passes: nothing cancels."""
    blocks = [x_ND[start : start + BLOCK] for start in range(0, len(x_ND), BLOCK)]
    mean = sum((block.sum(0, dtype=np.float64) for block in blocks), np.zeros(x_ND.shape[1])) / len(x_ND)
    squares = np.zeros_like(mean)
    for block in blocks:
        centred = np.subtract(block, mean, dtype=np.float64)
        squares += np.einsum("nd,nd->d", centred, centred)
    return mean, squares, len(x_ND)
