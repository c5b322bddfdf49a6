"""The same products for rows of bytes, in the processor's byte instructions: no row is ever turned into floats.

Weights are written as whole numbers of 24 bits times a scale a class, the gradient of the scores as such of 16:
three signed bytes a number, and two. Their products with bytes are exact, and a few times as fast as those of floats.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.classifiers.distances import CACHED, SPAN, padded
from saccade.classifiers.kernels import REGISTER, TILE, kernel, native
from saccade.classifiers.standardised import CURVED, Standardised, Visit, on_all_cores, slices
from saccade.device import cores

Array = NDArray[Any]

FEWEST = 4096  # rows below which floats are as fast
CHUNK = 8192  # most rows whose scores are held at a time
STEP = 1024  # rows squared at a time
WEIGHT, GRADIENT = 3, 2  # bytes a number
FEATURES = 256  # of Z'Z at a time


def standardised(x_ND: Array, pool: ThreadPoolExecutor) -> Standardised:
    """Return the rows in the form that is fastest on this processor."""
    if x_ND.dtype == np.uint8 and len(x_ND) >= FEWEST and x_ND.shape[1] <= SPAN and native("l2"):
        return StandardisedBytes.of(x_ND, pool)
    return Standardised.of(x_ND, pool)


@contextmanager
def prepared(x_ND: Array) -> Iterator[Standardised]:
    """Yield the rows standardised, for any number of fits on all cores."""
    with on_all_cores() as pool:
        yield standardised(x_ND, pool)


@dataclass(frozen=True)
class Chunk:
    """Some rows, as they are and transposed (features first, padded to whole registers).

    `sums` are the sums of x - 128 over each row, `turned_sums` those over each feature.
    """

    rows: slice
    x_ND: Array
    turned_DN: Array
    sums_N: Array
    turned_sums_D: Array

    @classmethod
    def of(cls, x_ND: Array, rows: slice) -> "Chunk":
        """Return the chunk of so many rows of x."""
        x, middle = x_ND[rows], 128 * np.array(x_ND[rows].shape, np.int32)
        return cls(rows, x, turned(x), x.sum(1, dtype=np.int32) - middle[1], x.sum(0, dtype=np.int32) - middle[0])


@dataclass(frozen=True)
class StandardisedBytes(Standardised):
    """Standardised rows of uint8, whose products with W are those of W rounded to 24 bits a weight."""

    chunks: Sequence[Chunk]

    @classmethod
    def of(cls, x_ND: Array, pool: ThreadPoolExecutor) -> "StandardisedBytes":
        """Measure mean and standard deviation of each feature, in integers; a constant feature has scale 1."""

        def squares(rows: slice) -> Array:
            return np.asarray(np.square(x_ND[rows], dtype=np.uint16).sum(0, dtype=np.int64))

        count = len(x_ND)
        rounds = -(-count // (CHUNK * cores()))
        size = -(-count // (rounds * cores() * REGISTER)) * REGISTER
        chunks = list(pool.map(lambda rows: Chunk.of(x_ND, rows), slices(count, size)))
        sum_D = np.sum([chunk.turned_sums_D for chunk in chunks], axis=0, dtype=np.int64) + 128 * count
        squares_D = np.sum(list(pool.map(squares, slices(count, STEP))), axis=0)
        scale_D: Array = np.asarray(np.sqrt((count * squares_D - sum_D**2) / count**2))
        scale_D[scale_D == 0] = 1.0
        mean_D = np.asarray(sum_D / count, np.float32)
        return cls(x_ND, mean_D, scale_D.astype(np.float32), pool, chunks)

    def swept(self, point_KD1: Array, visit: Visit) -> tuple[float, Array]:
        """Hand the scores W z + b of all rows to `visit`; return the summed loss and its gradient (K, D + 1)."""
        middle_D = 128.0 - self.mean_D.astype(np.float64)
        weights = Digits.of(point_KD1[:, :-1] / self.scale_D, WEIGHT)
        offset_K = point_KD1[:, -1] + weights.numbers @ middle_D

        def part(chunk: Chunk) -> tuple[float, Array]:
            scores_NK = np.ascontiguousarray(weights.times(chunk.x_ND, chunk.sums_N) + offset_K, dtype=np.float32)
            loss = visit(chunk.rows, scores_NK)
            gradient = Digits.of(scores_NK.T, GRADIENT)
            slope = np.empty((len(offset_K), len(middle_D) + 1))
            slope[:, :-1] = gradient.times(chunk.turned_DN, chunk.turned_sums_D).T
            slope[:, :-1] += np.outer(gradient.numbers.sum(1), middle_D)
            slope[:, -1] = scores_NK.sum(0, dtype=np.float64)
            return loss, slope

        done = list(self.pool.map(part, self.chunks))
        slope = np.sum([slope for _, slope in done], axis=0)
        slope[:, :-1] /= self.scale_D
        return sum(loss for loss, _ in done), slope.astype(np.float32)

    @cached_property
    def gram_DD(self) -> Array | None:  # noqa: N802
        """Z'Z / N; None where there are too many features for it."""
        features = self.features
        if features > CURVED:
            return None
        mean_D, scale_D = self.mean_D.astype(np.float64), self.scale_D.astype(np.float64)
        gram_DD = np.empty((features, features))

        def part(some: slice) -> None:
            below = slice(some.start, features)
            total = sum(_products(chunk.turned_DN, below, some) for chunk in self.chunks)
            moments = total / len(self) + 128 * mean_D[below, None] - np.outer(mean_D[below], mean_D[some])
            gram_DD[below, some] = moments / np.outer(scale_D[below], scale_D[some])
            gram_DD[some, below] = gram_DD[below, some].T

        list(self.pool.map(part, slices(features, FEATURES)))
        return gram_DD


@dataclass(frozen=True)
class Digits:
    """Numbers (K, D), rounded to whole multiples of a scale a row, each written as several signed bytes.

    `bytes` are those plus 128, the lowest of all numbers first.
    """

    bytes: Array
    places: int
    scale_K: Array
    numbers: Array

    @classmethod
    def of(cls, values_KD: Array, count: int) -> "Digits":
        """Write values in `count` bytes each, in the scale that just fits the largest of each row."""
        largest_K = np.abs(values_KD).max(1).astype(np.float64)
        scale_K = np.where(largest_K > 0, largest_K, 1.0) / (127 * 256 ** (count - 1))
        whole_KD = rest_KD = np.rint(values_KD / scale_K[:, None]).astype(np.int32)
        places = []
        for _ in range(count):
            above_KD = (rest_KD + 128) >> 8
            places.append(rest_KD - (above_KD << 8) + 128)
            rest_KD = above_KD
        return cls(padded(np.concatenate(places).astype(np.uint8)), count, scale_K, whole_KD * scale_K[:, None])

    def times(self, x_ND: Array, sums_N: Array) -> Array:
        """Return (N, K) products of the numbers with x - 128, of whose rows `sums_N` are the sums.

        A digit plus 128 gives its product and 128 times the sum, which is taken off again in the same 32 bits.
        """
        run, count, width = kernel("l2"), len(x_ND), self.bytes.shape[1]
        out = np.empty((len(self.bytes), -(-count // TILE) * TILE), np.int32)
        add = np.zeros(out.shape[1], np.int32)
        add[:count] = -128 * sums_N
        group = max(TILE, CACHED // width // TILE * TILE)
        for first in range(0, count, group):
            rows = padded(x_ND[first : first + group])
            at = self.bytes.ctypes.data, len(self.bytes), rows.ctypes.data, len(rows), rows.strides[0], width
            run(*at, add[first:].ctypes.data, 1, out[:, first:].ctypes.data, out.shape[1])
        classes, whole_KN = len(self.scale_K), np.zeros((len(self.scale_K), count))
        for place in range(self.places):
            whole_KN += 256.0**place * out[place * classes : (place + 1) * classes, :count]
        return np.asarray((whole_KN * self.scale_K[:, None]).T)


def turned(x_ND: Array) -> Array:
    """Return x transposed, its rows padded with zeros to whole registers; in squares that fit the cache."""
    count, features = x_ND.shape
    out = np.zeros((features, -(-count // REGISTER) * REGISTER), np.uint8)
    for start in range(0, features, REGISTER):
        for first in range(0, count, 1024):
            square = x_ND[first : first + 1024, start : start + REGISTER]
            out[start : start + REGISTER, first : first + len(square)] = square.T
    return out


def _products(turned_DN: Array, queries: slice, rows: slice) -> Array:
    """Return the int64 sums of x (x' - 128) between two ranges of features."""
    few, many = padded(turned_DN[rows]), padded(turned_DN[queries])
    out, add = np.empty((len(many), len(few)), np.int32), np.zeros(len(few), np.int32)
    at = many.ctypes.data, len(many), few.ctypes.data, len(few), few.strides[0], many.shape[1]
    kernel("l2")(*at, add.ctypes.data, 1, out.ctypes.data, out.shape[1])
    return out[: queries.stop - queries.start, : rows.stop - rows.start].astype(np.int64)
