"""The triangle assignment of descriptors to visual words, averaged over parts of an image, as machine code."""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.device import cores
from saccade.features.base import Features
from saccade.native import Builder, Value, compiled, counting

Spans = NDArray[np.int64]
"""The first part that each row (or column) of places lies in, and the one behind the last, (2, places)."""


def triangles(products_NRCK: Tensor, norms_NRC: Tensor, norms_K: Tensor, cells: int) -> Features:
    """Return the mean of max(0, mean distance - distance) over each of `cells` x `cells` parts, (N, parts, K) float32.

    Products, float32 or bfloat16, are those of descriptors with words, norms their squared lengths, float32:
    d^2 = |z|^2 - 2 z w + |w|^2. Parts are those of PyTorch's adaptive pooling: they share a row where rows
    do not divide evenly. Images are shared out among the cores.
    """
    count, rows, columns, words = products_NRCK.shape
    spans = _spans(rows, cells), _spans(columns, cells)
    sums = np.zeros((count, cells, cells, words), np.float32)
    run, share = kernel(products_NRCK.dtype == torch.bfloat16), -(-count // cores())

    def part(start: int) -> None:
        images = slice(start, start + share)
        given = products_NRCK[images], norms_NRC[images], norms_K
        own = *spans, np.empty(words, np.float32), sums[images]  # bound to a name, so that they outlive the call
        addresses = [*(each.data_ptr() for each in given), *(each.ctypes.data for each in own)]
        run(*addresses, len(own[-1]), rows, columns, words, cells)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(part, range(0, count, share)))
    areas = np.outer(*(np.bincount(np.concatenate([np.arange(*each) for each in span.T])) for span in spans))
    sums /= areas.astype(np.float32)[:, :, None]
    return sums.reshape(count, -1, words)


def _spans(places: int, cells: int) -> Spans:
    """Return which parts each place lies in: part i reaches from floor(i n / cells) to ceil((i + 1) n / cells)."""
    place = np.arange(places)
    return np.stack([place * cells // places, -(-(place + 1) * cells // places)])


def assembly(half: bool) -> str:
    """Return LLVM assembly of `triangles`: its arrays, room for a row of distances, sums; then the sizes.

    Where products come in `half` the bits, they are the upper half of a float32.
    """
    from llvmlite import ir  # type: ignore[import-untyped]

    real, size = ir.FloatType(), ir.IntType(64)
    arrays = [kind.as_pointer() for kind in (ir.IntType(16) if half else real, real, real, size, size, real, real)]
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*arrays, *[size] * 5]), "triangles")
    for argument in function.args[: len(arrays)]:
        argument.add_attribute("noalias")
    products, norms, own, down, right, distances, sums, count, rows, columns, words, cells = function.args
    b = ir.IRBuilder(function.append_basic_block())
    with counting(b, count) as n, counting(b, rows) as row, counting(b, columns) as column:
        place = b.add(b.mul(b.add(b.mul(n, rows), row), columns), column)
        norm, products_K = b.load(b.gep(norms, [place])), b.gep(products, [b.mul(place, words)])
        mean = b.fdiv(_measured(b, products_K, norm, own, distances, words), b.sitofp(words, real))
        (first_row, last_row), (first_column, last_column) = _ends(b, down, row, rows), _ends(b, right, column, columns)
        with counting(b, last_row, first_row) as i, counting(b, last_column, first_column) as j:
            part = b.add(b.mul(b.add(b.mul(n, cells), i), cells), j)
            sum_K = b.gep(sums, [b.mul(part, words)])
            with counting(b, words) as k:
                at = b.gep(sum_K, [k])
                near = _positive(b, b.fsub(mean, b.load(b.gep(distances, [k]))))
                b.store(b.fadd(b.load(at), near), at)
    b.ret_void()
    return str(module)


def _ends(b: Builder, spans: Value, place: Value, places: Value) -> tuple[Value, Value]:
    return b.load(b.gep(spans, [place])), b.load(b.gep(spans, [b.add(places, place)]))


def _measured(b: Builder, products: Value, norm: Value, own: Value, distances: Value, words: Value) -> Value:
    """Build what writes the distances of a descriptor from all words; return their sum."""
    root = b.module.declare_intrinsic("llvm.sqrt", [norm.type])
    with b.goto_entry_block():
        total = b.alloca(norm.type)
    b.store(norm.type(0), total)
    with counting(b, words) as k:
        product = _widened(b, b.load(b.gep(products, [k])), norm.type)
        squared = b.fadd(b.fadd(norm, b.load(b.gep(own, [k]))), b.fmul(product, norm.type(-2)))
        distance = b.call(root, [_positive(b, squared)])
        b.store(distance, b.gep(distances, [k]))
        # "reassoc": in any order, so that it can be summed in vectors
        b.store(b.fadd(b.load(total), distance, flags=["reassoc"]), total)
    return b.load(total)


def _widened(b: Builder, value: Value, real: Value) -> Value:
    if value.type == real:
        return value
    whole = value.type.__class__(32)
    return b.bitcast(b.shl(b.zext(value, whole), whole(16)), real)


def _positive(b: Builder, value: Value) -> Value:
    return b.select(b.fcmp_ordered(">", value, value.type(0)), value, value.type(0))


@cache
def kernel(half: bool) -> Callable[..., Any]:
    """Return the compiled function of `assembly`."""
    p, n = ctypes.c_void_p, ctypes.c_int64
    return compiled(assembly(half), "triangles", [*[p] * 7, *[n] * 5], optimise=True)
