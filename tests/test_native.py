"""Machine code made here against the same loops in Python."""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from saccade.native import compiled, counting


def triangle_numbers() -> str:
    """Return assembly that adds, for every n below `count`, the whole numbers from `start` up to n to out[n]."""
    from llvmlite import ir  # type: ignore[import-untyped]

    size = ir.IntType(64)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [size.as_pointer(), size, size]), "numbers")
    out, count, start = function.args
    b = ir.IRBuilder(function.append_basic_block())
    with counting(b, count) as n:
        at = b.gep(out, [n])
        with counting(b, n, start) as m:
            b.store(b.add(b.load(at), m), at)
    b.ret_void()
    return str(module)


@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize(("count", "start"), [(0, 0), (1, 0), (50, 0), (50, 7), (3, 9)])
def test_loops_count_as_ranges_do(count: int, start: int, optimise: bool) -> None:
    out = np.zeros(60, np.int64)
    numbers = compiled(triangle_numbers(), "numbers", [ctypes.c_void_p, *[ctypes.c_int64] * 2], optimise=optimise)
    numbers(out.ctypes.data, count, start)
    assert out.tolist() == [sum(range(start, n)) for n in range(count)] + [0] * (60 - count)


def test_threads_may_compile_at_once() -> None:
    def run(count: int) -> int:
        out = np.zeros(60, np.int64)
        compiled(triangle_numbers(), "numbers", [ctypes.c_void_p, *[ctypes.c_int64] * 2])(out.ctypes.data, count, 0)
        return int(out[count - 1])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(2, 18))) == [sum(range(n - 1)) for n in range(2, 18)]
