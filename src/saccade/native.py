"""Machine code for the hottest loops: LLVM assembly, compiled for the processor at hand when first used."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

Builder = Any
"""llvmlite's IRBuilder: it has no types, and is imported where something is compiled."""
Value = Any
_ONE_AT_A_TIME = Lock()  # LLVM's set-up is no work for two threads


def compiled(
    assembly: str, name: str, arguments: Sequence[type[Any]], *, optimise: bool = False
) -> Callable[..., None]:
    """Return the function `name` of LLVM assembly, in this processor's own instructions, as ctypes calls it.

    It runs without Python's global lock. `optimise` runs LLVM's passes, which turn plain loops into
    vectors and take some 20 ms; assembly written in vectors already does without.

    >>> text = "define void @twice(ptr %p) { %x = load i32, ptr %p "
    >>> text += "%y = add i32 %x, %x store i32 %y, ptr %p ret void }"
    >>> number = ctypes.c_int32(21)
    >>> compiled(text, "twice", [ctypes.c_void_p])(ctypes.addressof(number))
    >>> number.value
    42
    """
    import llvmlite.binding as llvm  # type: ignore[import-untyped]

    with _ONE_AT_A_TIME:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
        )
        module = llvm.parse_assembly(assembly)
        if optimise:
            tuning = llvm.create_pipeline_tuning_options(speed_level=3)
            tuning.loop_vectorization = tuning.slp_vectorization = True
            passes = llvm.create_pass_builder(target, tuning)
            passes.getModulePassManager().run(module, passes)
        engine = llvm.create_mcjit_compiler(module, target)
        engine.finalize_object()
    function: Any = ctypes.CFUNCTYPE(None, *arguments)(engine.get_function_address(name))
    function.engine = engine  # the machine code lives as long as the engine does
    return function  # type: ignore[no-any-return]


@contextmanager
def counting(builder: Builder, stop: Value, start: Value | None = None) -> Iterator[Value]:
    """Build a loop: what is built inside runs for every index from `start`, or 0, up to `stop`."""
    before, head = builder.block, builder.append_basic_block()
    body, after = builder.append_basic_block(), builder.append_basic_block()
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(stop.type)
    index.add_incoming(stop.type(0) if start is None else start, before)
    builder.cbranch(builder.icmp_signed("<", index, stop), body, after)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, stop.type(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)
