"""Distances of bytes by the processor's own byte instructions, compiled for it when first used.

Sums of absolute differences (`psadbw`) and products of bytes (`vpdpbusd`) are one instruction for up
to 64 bytes, which compilers do not find in plain loops. The kernels are therefore written as LLVM
assembly, compiled for the processor at hand in about 20 ms; any other processor gets a portable form.
"""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from saccade.native import compiled

Metric = Literal["l1", "l2"]
Kernel = Callable[[int, int, int, int, int, int, int, int, int, int], None]

TILE = 4  # 4 queries by 4 rows: 16 sums stay in registers, 8 loads feed 16 instructions
REGISTER = 64  # rows are padded to whole registers of the widest kind


@dataclass(frozen=True)
class Form:
    """One way to add to a vector of `lanes` 32-bit sums from `width` bytes of a query and of a row.

    `step` is LLVM assembly in which `$q`, `$x`, `$sum` and `$new` are filled in and `$t` makes names unique.
    """

    width: int
    lanes: int
    step: str
    declare: str = ""

    @property
    def bytes(self) -> str:
        """LLVM's type of the loaded bytes."""
        return f"<{self.width} x i8>"

    @property
    def sums(self) -> str:
        """LLVM's type of the sums."""
        return f"<{self.lanes} x i32>"


def form(metric: Metric, features: Mapping[str, bool]) -> Form:
    """Return the best form for a processor with `features`, named as LLVM names them.

    "l1" adds |q - x|; "l2" adds q (x - 128), whose second factor is a signed byte as `vpdpbusd` needs it.
    """
    if metric == "l1":
        for feature, width, name in (("avx512bw", 64, "avx512.psad.bw.512"), ("avx2", 32, "avx2.psad.bw")):
            if features.get(feature):
                return _absolute(width, f"llvm.x86.{name}")
        return _absolute(16, "llvm.x86.sse2.psad.bw") if features.get("sse2") else _PORTABLE_L1
    for feature, width in (("avx512vnni", 64), ("avxvnni", 32)):
        if features.get(feature):
            return _product(width, f"llvm.x86.avx512.vpdpbusd.{8 * width}")
    return _PORTABLE_L2


def _absolute(width: int, name: str) -> Form:
    data, wide, sums = f"<{width} x i8>", f"<{width // 8} x i64>", f"<{width // 4} x i32>"
    step = f"""
  %a$t = call {wide} @{name}({data} $q, {data} $x)
  %b$t = bitcast {wide} %a$t to {sums}
  $new = add {sums} $sum, %b$t"""
    return Form(width, width // 4, step, f"declare {wide} @{name}({data}, {data})")


def _product(width: int, name: str) -> Form:
    data, sums = f"<{width} x i8>", f"<{width // 4} x i32>"
    step = f"""
  %a$t = bitcast {data} $q to {sums}
  %b$t = xor {data} $x, {_middle(width)}
  %c$t = bitcast {data} %b$t to {sums}
  $new = call {sums} @{name}({sums} $sum, {sums} %a$t, {sums} %c$t)"""
    return Form(width, width // 4, step, f"declare {sums} @{name}({sums}, {sums}, {sums})")


def _middle(width: int) -> str:
    return "<" + ", ".join(["i8 -128"] * width) + ">"


_PORTABLE_L1 = Form(
    16,
    16,
    """
  %a$t = call <16 x i8> @llvm.umax.v16i8(<16 x i8> $q, <16 x i8> $x)
  %b$t = call <16 x i8> @llvm.umin.v16i8(<16 x i8> $q, <16 x i8> $x)
  %c$t = sub <16 x i8> %a$t, %b$t
  %d$t = zext <16 x i8> %c$t to <16 x i32>
  $new = add <16 x i32> $sum, %d$t""",
    "declare <16 x i8> @llvm.umax.v16i8(<16 x i8>, <16 x i8>)\n"
    "declare <16 x i8> @llvm.umin.v16i8(<16 x i8>, <16 x i8>)",
)
_PORTABLE_L2 = Form(
    16,
    16,
    f"""
  %a$t = zext <16 x i8> $q to <16 x i32>
  %b$t = xor <16 x i8> $x, {_middle(16)}
  %c$t = sext <16 x i8> %b$t to <16 x i32>
  %d$t = mul <16 x i32> %a$t, %c$t
  $new = add <16 x i32> $sum, %d$t""",
)


def assembly(form: Form) -> str:
    """Return LLVM assembly of `keys(queries, nq, rows, nr, stride, width, add, scale, out, out_stride)`.

    out[i, j] = add[j] + scale * sum over the `width` bytes of queries[i] and rows[j], modulo 2^32. Queries
    lie `width` bytes apart, rows `stride` bytes, rows of `out` `out_stride` numbers; nq and nr are
    multiples of TILE, `width` of REGISTER.
    """
    tile = [(r, c) for r in range(TILE) for c in range(TILE)]
    rows = "".join(_row("q", "i", "d", n) + _row("x", "j", "ld", n) for n in range(TILE))
    start = "".join(f"\n  %s{r}{c} = phi {form.sums} [zeroinitializer, %cols], [%n{r}{c}, %bytes]" for r, c in tile)
    loads = "".join(_load(name, n, form.bytes) for name in "qx" for n in range(TILE))
    steps = "".join(_fill(form.step, r, c) for r, c in tile)
    ends = "".join(_store(r, c, form) for r, c in tile)
    outs = "".join(
        f"\n  %w{n} = mul i64 %iq{n}, %outs"
        f"\n  %u{n} = add i64 %w{n}, %j\n  %o{n} = getelementptr i32, ptr %out, i64 %u{n}"
        f"\n  %z{n} = getelementptr i32, ptr %add, i64 %jx{n}\n  %y{n} = load i32, ptr %z{n}"
        for n in range(TILE)
    )
    return f"""{form.declare}
declare i32 @llvm.vector.reduce.add.v{form.lanes}i32({form.sums})
define void @keys(ptr %q, i64 %nq, ptr %x, i64 %nx, i64 %ld, i64 %d, ptr %add, i32 %scale, ptr %out, i64 %outs) {{
entry:
  br label %rows
rows:
  %i = phi i64 [0, %entry], [%i.next, %rows.end]
  br label %cols
cols:
  %j = phi i64 [0, %rows], [%j.next, %store]{rows}
  br label %bytes
bytes:
  %t = phi i64 [0, %cols], [%t.next, %bytes]{start}{loads}{steps}
  %t.next = add i64 %t, {form.width}
  %t.more = icmp ult i64 %t.next, %d
  br i1 %t.more, label %bytes, label %store
store:{outs}{ends}
  %j.next = add i64 %j, {TILE}
  %j.more = icmp ult i64 %j.next, %nx
  br i1 %j.more, label %cols, label %rows.end
rows.end:
  %i.next = add i64 %i, {TILE}
  %i.more = icmp ult i64 %i.next, %nq
  br i1 %i.more, label %rows, label %done
done:
  ret void
}}
"""


def _row(name: str, index: str, stride: str, n: int) -> str:
    at = f"%{index}{name}{n}"
    return f"""
  {at} = add i64 %{index}, {n}
  %at.{name}{n} = mul i64 {at}, %{stride}
  %{name}{n} = getelementptr i8, ptr %{name}, i64 %at.{name}{n}"""


def _load(name: str, n: int, kind: str) -> str:
    return f"""
  %p.{name}{n} = getelementptr i8, ptr %{name}{n}, i64 %t
  %v.{name}{n} = load {kind}, ptr %p.{name}{n}, align 1"""


def _fill(step: str, r: int, c: int) -> str:
    names = {"$q": f"%v.q{r}", "$x": f"%v.x{c}", "$sum": f"%s{r}{c}", "$new": f"%n{r}{c}", "$t": f".{r}{c}"}
    for name, value in names.items():
        step = step.replace(name, value)
    return step


def _store(r: int, c: int, form: Form) -> str:
    return f"""
  %e{r}{c} = call i32 @llvm.vector.reduce.add.v{form.lanes}i32({form.sums} %n{r}{c})
  %f{r}{c} = mul i32 %e{r}{c}, %scale
  %g{r}{c} = add i32 %f{r}{c}, %y{c}
  %h{r}{c} = getelementptr i32, ptr %o{r}, i64 {c}
  store i32 %g{r}{c}, ptr %h{r}{c}"""


@cache
def native(metric: Metric) -> bool:
    """Return whether this processor has an instruction for the sums of `metric`."""
    import llvmlite.binding as llvm  # type: ignore[import-untyped]

    return form(metric, llvm.get_host_cpu_features()) not in (_PORTABLE_L1, _PORTABLE_L2)


@cache
def kernel(metric: Metric, only: frozenset[str] | None = None) -> Kernel:
    """Return the compiled kernel of `assembly`, in the best form for this processor.

    `only` narrows the instructions it may use, by LLVM's names of features; none of them: the portable form.
    """
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    usable = {name: there for name, there in features.items() if only is None or name in only}
    p, n = ctypes.c_void_p, ctypes.c_int64
    return compiled(assembly(form(metric, usable)), "keys", [p, n, p, n, n, n, p, ctypes.c_int32, p, n])
