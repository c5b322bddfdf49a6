"""Exact nearest rows by L1 or L2 distance: bytes in integer arithmetic, anything else in float64."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.classifiers.kernels import REGISTER, TILE, Kernel, Metric, kernel
from saccade.device import cores

Array = NDArray[Any]
Keys = Callable[[int, int], Array]  # rows start:stop -> keys_QB, what orders a query's rows

QUERIES, ROWS = (64, 256), 2048  # queries a thread takes at a time (least, most), rows it holds distances of
CACHED = 384 * 1024  # bytes of rows that stay in a core's own cache while the queries pass over them
SPAN = 1 << 15  # features a 32-bit key has room for: 65,280 at most each


def nearest(queries_QD: Array, rows_ND: Array, k: int, metric: Metric) -> tuple[Array, Array]:
    """Return distances_Qk and indices_Qk of the k nearest rows, nearest first, equal ones by lowest index.

    Two uint8 matrices give the int64 distances of integer arithmetic, any others float64. L2 distances
    are squared. Memory beyond the inputs is one block a thread, whatever N is. Needs 1 <= k <= N.

    >>> x = np.array([[0, 0], [3, 4], [0, 1]], np.uint8)
    >>> nearest(x[:1], x, 2, "l2")
    (array([[0, 1]]), array([[0, 2]]))
    """
    as_bytes = queries_QD.dtype == rows_ND.dtype == np.uint8
    norms_NS = _norms(rows_ND) if as_bytes and metric == "l2" else None
    run = kernel(metric) if as_bytes else None
    size = int(np.clip(-(-len(queries_QD) // cores()), *QUERIES))

    def search(start: int) -> tuple[Array, Array]:
        queries = queries_QD[start : start + size]
        if run is None:
            return _search(_float_keys(queries, rows_ND, metric), len(rows_ND), k)
        keys, indices = _search(_byte_keys(run, queries, rows_ND, norms_NS), len(rows_ND), k)
        return keys + _offset(queries, metric)[:, None], indices

    with ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(search, range(0, len(queries_QD), size)))
    return np.concatenate([d for d, _ in found]), np.concatenate([i for _, i in found])


def _search(keys: Keys, rows: int, k: int) -> tuple[Array, Array]:
    """Return the k smallest keys of each query and their rows, block by block."""
    size = max(ROWS, k)
    block = keys(0, min(size, rows))
    best_Qk = _merge(None, block, block <= np.partition(block, k - 1, axis=1)[:, k - 1 : k], 0, k)
    for start in range(size, rows, size):
        block = keys(start, min(start + size, rows))
        best_Qk = _merge(best_Qk, block, block < best_Qk[0][:, -1:], start, k)
    return best_Qk


def _merge(
    best: tuple[Array, Array] | None, block_QB: Array, mask_QB: Array, start: int, k: int
) -> tuple[Array, Array]:
    """Merge the masked entries of a block into the best; a stable sort keeps equal keys in order of index."""
    width = block_QB.shape[1]
    at = np.flatnonzero(mask_QB)
    row, column = np.divmod(at, width)
    count_Q = np.bincount(row, minlength=len(block_QB))
    slot = np.arange(len(at)) - np.repeat(np.cumsum(count_Q) - count_Q, count_Q)
    hit = np.flatnonzero(count_Q)
    row = np.searchsorted(hit, row)
    keys = np.full((len(hit), count_Q.max(initial=0)), _largest(block_QB.dtype))
    indices = np.zeros(keys.shape, np.int64)
    keys[row, slot], indices[row, slot] = block_QB.ravel()[at], column + start
    if best is not None:
        keys = np.concatenate([best[0][hit], keys], axis=1)
        indices = np.concatenate([best[1][hit], indices], axis=1)
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    keys, indices = np.take_along_axis(keys, order, 1), np.take_along_axis(indices, order, 1)
    if best is None:
        return keys, indices
    best[0][hit], best[1][hit] = keys, indices
    return best


def _largest(dtype: np.dtype[Any]) -> Any:
    return np.array(np.inf if dtype.kind == "f" else np.iinfo(dtype).max, dtype)


def _byte_keys(run: Kernel, queries_QD: Array, rows_ND: Array, norms_NS: Array | None) -> Keys:
    """Return keys by the byte kernel, a span of features at a time: distances less `_offset`.

    |q - x|^2 = (|x|^2 - 2 q.(x - 128)) + (|q|^2 - 256 sum q); the first bracket lies within 0 and 65,280 D.
    """
    spans = _spans(queries_QD.shape[1])
    queries = [padded(queries_QD[:, span]) for span in spans]

    def keys(start: int, stop: int) -> Array:
        parts = [part(n, start, stop)[: len(queries_QD), : stop - start] for n in range(len(spans))]
        return parts[0] if len(parts) == 1 else np.asarray(np.sum(parts, axis=0, dtype=np.int64))

    def part(n: int, start: int, stop: int) -> Array:
        count, width = queries[n].shape
        group = max(TILE, CACHED // width // TILE * TILE)
        out = np.empty((count, -(-(stop - start) // TILE) * TILE), np.int32)
        add = np.zeros(out.shape[1], np.int32)
        if norms_NS is not None:
            add[: stop - start] = norms_NS[start:stop, n]
        for first in range(0, stop - start, group):
            rows = padded(rows_ND[start + first : min(start + first + group, stop), spans[n]])
            at = queries[n].ctypes.data, count, rows.ctypes.data, len(rows), rows.strides[0], width
            scale = 1 if norms_NS is None else -2
            run(*at, add[first:].ctypes.data, scale, out[:, first:].ctypes.data, out.shape[1])
        return out

    return keys


def _offset(queries_QD: Array, metric: Metric) -> Array:
    """Return what the keys of a query lack to be its distances."""
    if metric == "l1":
        return np.zeros(len(queries_QD), np.int64)
    squares_Q = np.einsum("qd,qd->q", queries_QD, queries_QD, dtype=np.int64)
    return np.asarray(squares_Q - 256 * queries_QD.sum(1, dtype=np.int64))


def _norms(rows_ND: Array) -> Array:
    """Return |x|^2 of every row and span of features."""
    spans = _spans(rows_ND.shape[1])
    norms_NS = np.empty((len(rows_ND), len(spans)), np.int32)
    for n, span in enumerate(spans):
        for start in range(0, len(rows_ND), ROWS):
            block = rows_ND[start : start + ROWS, span]
            norms_NS[start : start + ROWS, n] = np.einsum("nd,nd->n", block, block, dtype=np.int32)
    return norms_NS


def _spans(features: int) -> list[slice]:
    return [slice(start, min(start + SPAN, features)) for start in range(0, features, SPAN)]


def padded(x_ND: Array) -> Array:
    """Return `x_ND` where the kernel can read it in place, else a copy with zeros up to whole tiles."""
    count, features = -(-len(x_ND) // TILE) * TILE, -(-x_ND.shape[1] // REGISTER) * REGISTER
    if x_ND.shape == (count, features) and x_ND.strides[1] == 1 and x_ND.strides[0] > 0:
        return x_ND
    padded = np.zeros((count, features), np.uint8)
    padded[: len(x_ND), : x_ND.shape[1]] = x_ND
    return padded


def _float_keys(queries_QD: Array, rows_ND: Array, metric: Metric) -> Keys:
    """Return distances in float64, each summed from the differences themselves: nothing cancels."""
    from scipy.spatial.distance import cdist

    name = "cityblock" if metric == "l1" else "sqeuclidean"
    queries = queries_QD.astype(np.float64)
    return lambda start, stop: np.asarray(cdist(queries, rows_ND[start:stop].astype(np.float64), name))
