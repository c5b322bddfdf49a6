"""Sums of gradients by orientation over the cells of images: the inner loop of HOG, as machine code."""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from saccade.native import Builder, Value, compiled, counting

REACH = 511  # gradients of bytes lie within -255 and 255
MIDDLE = REACH * REACH // 2  # the code of no gradient


def assembly(channels: int) -> str:
    """Return LLVM assembly of `edges(images, count, height, width, cell, bins, table, sums)`.

    To sums (count, height // cell, width // cell, bins) float64 it adds the length of every pixel's
    gradient, in the channel in which it is longest, at the bin that `table` has for its direction, coded
    MIDDLE + REACH * down + right. `images` are bytes (count, height, width, channels), read in place.
    """
    from llvmlite import ir  # type: ignore[import-untyped]

    byte, size, real = ir.IntType(8), ir.IntType(64), ir.DoubleType()
    kind = [byte.as_pointer(), *[size] * 5, ir.IntType(16).as_pointer(), real.as_pointer()]
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kind), "edges")
    images, count, height, width, cell, bins, table, sums = function.args
    root = module.declare_intrinsic("llvm.sqrt", [real])
    b = ir.IRBuilder(function.append_basic_block())
    line, pixel = b.mul(width, size(channels)), size(channels)
    rows, columns = b.sdiv(height, cell), b.sdiv(width, cell)
    with counting(b, count) as n, counting(b, rows) as row, counting(b, cell) as y_cell:
        y = b.add(b.mul(row, cell), y_cell)
        start = b.mul(b.add(b.mul(n, height), y), line)
        with counting(b, columns) as column, counting(b, cell) as x_cell:
            x = b.add(b.mul(column, cell), x_cell)
            at = b.gep(images, [b.add(start, b.mul(x, pixel))])
            length, code = _longest(b, at, _inside(b, y, height, line), _inside(b, x, width, pixel), channels)
            bin_ = b.zext(b.load(b.gep(table, [b.sext(code, size)])), size)
            cells = b.add(b.mul(b.add(b.mul(n, rows), row), columns), column)
            place = b.gep(sums, [b.add(b.mul(cells, bins), bin_)])
            b.store(b.fadd(b.load(place), b.call(root, [b.sitofp(length, real)])), place)
    b.ret_void()
    return str(module)


def _inside(b: Builder, index: Value, size: Value, step: Value) -> Value:
    """Return the step to the next pixel, or 0 at the border, where a gradient is 0."""
    least, most = index.type(1), b.sub(size, index.type(2))
    within = b.and_(b.icmp_signed(">=", index, least), b.icmp_signed("<=", index, most))
    return b.select(within, step, index.type(0))


def _longest(b: Builder, at: Value, down: Value, right: Value, channels: int) -> tuple[Value, Value]:
    """Return the squared length of the longest gradient of a pixel's channels, the first of equals, and its code."""
    from llvmlite import ir

    whole = ir.IntType(32)
    length = code = None
    for channel in range(channels):
        here = b.gep(at, [down.type(channel)])

        def difference(step: Value, here: Value = here) -> Value:
            ahead, behind = (b.zext(b.load(b.gep(here, [move])), whole) for move in (step, b.neg(step)))
            return b.sub(ahead, behind)

        dy, dx = difference(down), difference(right)
        squared = b.add(b.mul(dy, dy), b.mul(dx, dx))
        coded = b.add(b.add(b.mul(dy, whole(REACH)), dx), whole(MIDDLE))
        if length is None:
            length, code = squared, coded
        else:
            longer = b.icmp_signed(">", squared, length)
            length, code = b.select(longer, squared, length), b.select(longer, coded, code)
    return length, code


@cache
def kernel(channels: int) -> Callable[..., Any]:
    """Return the compiled function of `assembly`."""
    p, n = ctypes.c_void_p, ctypes.c_int64
    return compiled(assembly(channels), "edges", [p, n, n, n, n, n, p, p], optimise=True)
