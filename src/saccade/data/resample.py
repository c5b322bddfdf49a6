"""Pixels brought to another size, antialiased: Pillow's bilinear filter to the bit, as machine code on threads."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock, local
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from saccade.native import Builder, Value, compiled, counting

Bytes = NDArray[np.uint8]
FRACTION = 22
"""Bits of a weight behind its point, as in Pillow."""
ROWS = 4
"""Rows of an image that are gone along at once."""
LANES = 16
"""Bytes of a row that are added up at once."""
LEAST = -(-LANES // 3)
"""Pixels that a row must have, before and after: one of fewer bytes than LANES has no room for a vector."""


def resampled(x_HWC: Bytes, out_HWC: Bytes, *, mirrored: bool = False) -> None:
    """Fill `out_HWC`, contiguous uint8 RGB, with `x_HWC` brought to its size; both are at least LEAST pixels wide.

    Every pixel is the weighted mean of those under a tent as wide as two pixels of the smaller of both sizes,
    along rows, then along columns, rounded after each: Pillow's bilinear `resize` of the width, then of the height.
    `x_HWC` may be a window of a larger image; `mirrored` swaps left and right.

    >>> out_HWC = np.empty((6, 6, 3), np.uint8)
    >>> resampled(np.full((9, 7, 3), 5, np.uint8), out_HWC)
    >>> out_HWC.min(), out_HWC.max()
    (np.uint8(5), np.uint8(5))
    """
    if x_HWC.strides[1:] != (3, 1):
        x_HWC = np.ascontiguousarray(x_HWC)
    (height, width), (tall, wide) = x_HWC.shape[:2], out_HWC.shape[:2]
    tables = _entry(width, wide) * wide + _entry(height, tall) * tall
    room = 4 * tables + 3 * (width + _taps(width, wide) + 1) + 3 * (height + ROWS) * (wide + 1)
    kernel()(
        x_HWC.ctypes.data, x_HWC.strides[0], height, width, out_HWC.ctypes.data, tall, wide, mirrored, _room(room)
    )  # fmt: skip


_own = local()


def _room(size: int) -> int:
    """Return the address of this thread's room for so many bytes: what it held before is lost."""
    if getattr(_own, "size", 0) < size:
        _own.room = np.empty(size, np.uint8)
        _own.size, _own.address = size, _own.room.ctypes.data
    return int(_own.address)


def _taps(before: int, after: int) -> int:
    """Return how many pixels of a side of `before` one of `after` is the mean of, or one more."""
    return 2 * max(before, after) // after + 1


def _entry(before: int, after: int) -> int:
    """Return how many whole numbers tell of one pixel: the first that it is the mean of, and the weights from there."""
    return 1 + _taps(before, after)


_ONE_AT_A_TIME = Lock()


def kernel() -> Callable[..., Any]:
    """Return the compiled function of `assembly`."""
    with _ONE_AT_A_TIME:
        return _kernel()


@cache
def _kernel() -> Callable[..., Any]:
    p, n = ctypes.c_void_p, ctypes.c_int64
    return compiled(assembly(), "resample", [p, n, n, n, p, n, n, n, p], optimise=True)


def assembly() -> str:
    """Return LLVM assembly of `resample(source, line, height, width, target, tall, wide, mirrored, room)`.

    RGB pixels in rows that lie `line` bytes apart become `tall` rows of `wide` pixels without gaps. `room` is for the
    tables of weights along rows and columns, then for a copy of the last row, then for all rows once they are `wide`.
    """
    from llvmlite import ir  # type: ignore[import-untyped]

    size, pointer, whole = ir.IntType(64), ir.IntType(8).as_pointer(), ir.IntType(32)
    module = ir.Module()
    kinds = [pointer, size, size, size, pointer, size, size, size, pointer]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "resample")
    source, line, height, width, target, tall, wide, mirrored, room = function.args
    b = ir.IRBuilder(function.append_basic_block())
    table = b.bitcast(room, whole.as_pointer())
    across = _weigh(b, width, wide, table)
    down = _weigh(b, height, tall, across.end)
    last = b.bitcast(down.end, pointer)
    middle = b.gep(last, [b.mul(b.add(b.add(width, across.taps), size(1)), size(3))])
    stride = b.mul(b.add(wide, size(1)), size(3))
    _rows(b, across, source, line, height, width, middle, stride, wide, mirrored, last)
    _columns(b, down, middle, stride, height, b.mul(wide, size(3)), target, tall)
    b.ret_void()
    return str(module)


def _rows(b: Builder, weights: "_Weights", *arguments: Value) -> None:
    """Build the way along rows; up to ROWS - 1 more rows and one more byte a row are written than asked for."""
    from llvmlite import ir

    source, line, height, width, target, stride, wide, mirrored, last = arguments
    size, whole = wide.type, ir.IntType(32)
    pixels, values = ir.VectorType(whole, ROWS), ir.VectorType(ir.IntType(8), 4 * ROWS)
    end = b.sub(height, size(1))
    # A pixel is read with the byte behind it, which the last of all has not: the last row is read from a copy.
    with counting(b, b.mul(width, size(3))) as place:
        byte = b.load(b.gep(source, [b.add(b.mul(end, line), place)]))
        b.store(byte, b.gep(last, [place]))
    with counting(b, b.sdiv(b.add(height, size(ROWS - 1)), size(ROWS))) as group:
        sources, targets = [], []
        for number in range(ROWS):
            row = b.add(b.mul(group, size(ROWS)), size(number))
            here = b.gep(source, [b.mul(row, line)])
            sources.append(b.select(b.icmp_signed("<", row, end), here, last))
            targets.append(b.gep(target, [b.mul(row, stride)]))
        with counting(b, wide) as x:
            opposite = b.sub(b.sub(wide, size(1)), x)
            first, those = weights.of(b.select(b.icmp_signed("!=", mirrored, size(0)), opposite, x))
            with _mean(b, weights.taps, those, 4 * ROWS) as (tap, add):
                place = b.mul(b.add(first, tap), size(3))
                together = pixels(None)
                for number, row in enumerate(sources):
                    pixel = b.load(b.bitcast(b.gep(row, [place]), whole.as_pointer()), align=1)
                    together = b.insert_element(together, pixel, whole(number))
                mean = add(b.bitcast(together, values))
            means = b.bitcast(mean(), pixels)
            for number, row in enumerate(targets):
                at = b.bitcast(b.gep(row, [b.mul(x, size(3))]), whole.as_pointer())
                b.store(b.extract_element(means, whole(number)), at, align=1)


def _columns(b: Builder, weights: "_Weights", *arguments: Value) -> None:
    """Build the way along columns: `height` rows of `width` bytes become `tall` rows without gaps."""
    from llvmlite import ir

    source, line, height, width, target, tall = arguments
    size, vector = tall.type, ir.VectorType(ir.IntType(8), LANES).as_pointer()
    last, final = b.sub(height, size(1)), b.sub(width, size(LANES))
    with counting(b, tall) as row:
        first, those = weights.of(row)
        here = b.gep(target, [b.mul(row, width)])
        with counting(b, b.sdiv(b.add(width, size(LANES - 1)), size(LANES))) as block:
            start = b.mul(block, size(LANES))
            start = b.select(b.icmp_signed("<", start, final), start, final)  # the last vector ends where the row does
            with _mean(b, weights.taps, those, LANES) as (tap, add):
                other = b.add(first, tap)
                other = b.select(b.icmp_signed("<", other, last), other, last)
                at = b.gep(source, [b.add(b.mul(other, line), start)])
                mean = add(b.load(b.bitcast(at, vector), align=1))
            b.store(mean(), b.bitcast(b.gep(here, [start]), vector), align=1)


class _Weights(NamedTuple):
    """A table of weights: `of` gives a pixel's first and its weights, `taps` as many for each, `end` lies behind it."""

    taps: Value
    of: Callable[[Value], tuple[Value, Value]]
    end: Value


def _weigh(b: Builder, before: Value, after: Value, table: Value) -> _Weights:
    """Build the filling of a table for sides of `before` pixels that become `after`.

    An entry is the first pixel that one is the mean of, then the weights from there on; those beyond the end are 0.
    """
    from llvmlite import ir

    size, real, whole = before.type, ir.DoubleType(), ir.IntType(32)
    half, one, none, fixed = real(0.5), real(1.0), real(0.0), real(float(1 << FRACTION))
    scale = b.fdiv(b.sitofp(before, real), b.sitofp(after, real))
    support = b.select(b.fcmp_ordered(">", scale, one), scale, one)
    larger = b.select(b.icmp_signed(">", before, after), before, after)
    taps = b.add(b.sdiv(b.mul(larger, size(2)), after), size(1))
    length, inverse = b.add(taps, size(1)), b.fdiv(one, support)
    total = b.alloca(real)

    def read(pixel: Value) -> tuple[Value, Value]:
        entry = b.gep(table, [b.mul(pixel, length)])
        return b.sext(b.load(entry), size), b.gep(entry, [size(1)])

    with counting(b, after) as pixel:
        centre = b.fmul(b.fadd(b.sitofp(pixel, real), half), scale)
        first = b.fptosi(b.fadd(b.fsub(centre, support), half), size)
        first = b.select(b.icmp_signed("<", first, size(0)), size(0), first)
        b.store(b.trunc(first, whole), b.gep(table, [b.mul(pixel, length)]))
        b.store(none, total)
        stores: tuple[Callable[[Value, Value], Any], ...] = (
            lambda weight, at: b.store(b.fadd(b.load(total), weight), total),
            lambda weight, at: b.store(b.fptosi(b.fadd(half, b.fmul(b.fdiv(weight, b.load(total)), fixed)), whole), at),
        )
        for store in stores:
            with counting(b, taps) as tap:
                place = b.add(first, tap)
                distance = b.fmul(b.fadd(b.fsub(b.sitofp(place, real), centre), half), inverse)
                weight = b.fsub(one, b.call(b.module.declare_intrinsic("llvm.fabs", [real]), [distance]))
                inside = b.and_(b.fcmp_ordered(">", weight, none), b.icmp_signed("<", place, before))
                store(b.select(inside, weight, none), b.gep(read(pixel)[1], [tap]))
    return _Weights(taps, read, b.gep(table, [b.mul(after, length)]))


@contextmanager
def _mean(
    b: Builder, taps: Value, weights: Value, lanes: int
) -> Iterator[tuple[Value, Callable[[Value], Callable[[], Value]]]]:
    """Build a loop over weights in which `add` takes bytes; what it returns gives their mean after the loop."""
    from llvmlite import ir

    sums, values = ir.VectorType(ir.IntType(32), lanes), ir.VectorType(ir.IntType(8), lanes)
    with b.goto_entry_block():
        total = b.alloca(sums)
    b.store(sums([1 << (FRACTION - 1)] * lanes), total)

    def mean() -> Value:
        return b.trunc(b.lshr(b.load(total), sums([FRACTION] * lanes)), values)

    with counting(b, taps) as tap:

        def add(bytes_: Value) -> Callable[[], Value]:
            weight = b.insert_element(sums(None), b.load(b.gep(weights, [tap])), ir.IntType(32)(0))
            weight = b.shuffle_vector(weight, sums(None), sums([0] * lanes))
            b.store(b.add(b.load(total), b.mul(b.zext(bytes_, sums), weight)), total)
            return mean

        yield tap, add
