"""A kernel runs on all cores: it is called for all of its parts at once, and calls itself for each of them.

    @jit
    def _double(i, a):
        if i < 0:
            in_parallel(i)
            return
        a[i] *= 2

    _double(all_of(len(a)), a)

This is what Numba's `prange` does, on the same threads. But of a loop with `prange` Numba makes a function of its own,
around it two more, and each of the four holds the machine code of everything that is called: most of the time that
compiling took.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.ufunc.parallel import _launch_threads

_BYTES, _I64 = ir.IntType(8).as_pointer(), ir.IntType(64)
_TASK = ir.FunctionType(ir.VoidType(), [_BYTES.as_pointer(), _I64.as_pointer(), _I64.as_pointer(), _BYTES])
_PARALLEL_FOR = ir.FunctionType(ir.VoidType(), [*[_BYTES] * 5, *[_I64] * 3])


def all_of(parts):  # type: ignore[no-untyped-def]
    """The first argument of a kernel that is to be called for parts 0 to before `parts`."""
    return ~parts


@intrinsic
def in_parallel(_context, parts):  # type: ignore[no-untyped-def]
    """Call the kernel in whose body this stands for each part; parts next to each other go to one thread."""

    def emit(context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        _launch_threads()
        context.active_code_library._reload_init.add(_launch_threads)  # where the kernel is taken from the cache, too
        kernel = builder.function
        kernel.attributes.add("noinline")  # or its code would be there twice
        result, error, part, *others = kernel.args
        # what the threads are told: where an error is put, its status, and the arguments
        told = cgutils.alloca_once(
            builder, ir.LiteralStructType([error.type, _status(kernel), *(a.type for a in others)])
        )
        for k, value in enumerate([error, ir.Constant(_status(kernel), 0), *others]):
            builder.store(value, cgutils.gep_inbounds(builder, told, 0, k))
        count = builder.xor(arguments[0], ir.Constant(arguments[0].type, -1))

        def box(value):  # type: ignore[no-untyped-def]
            place = cgutils.alloca_once_value(builder, value)
            return builder.bitcast(place, _BYTES)

        threads = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, []), "get_num_threads")
        run = cgutils.get_or_insert_function(builder.module, _PARALLEL_FOR, "numba_parallel_for")
        task = _task(builder.module, kernel, told.type, result.type.pointee, part.type)
        # an "array" at address 0 with a step of one byte, so that the address of an element is the number of a part
        first, step = box(ir.Constant(_BYTES, None)), box(_I64(1))
        call = [builder.bitcast(task, _BYTES), first, box(count), step, builder.bitcast(told, _BYTES)]
        builder.call(run, [*call, _I64(0), _I64(1), builder.call(threads, [])])
        status = builder.load(cgutils.gep_inbounds(builder, told, 0, 1))
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, status)):
            builder.ret(status)
        return context.get_dummy_value()

    return types.none(types.int64), emit


def _status(kernel: Any) -> Any:
    return kernel.function_type.return_type


def _task(module: Any, kernel: Any, told: Any, result: Any, part: Any) -> Any:
    """What a thread runs: the kernel for some of the parts. Its arguments are those that the threading layer gives."""
    task = ir.Function(module, _TASK, name=module.get_unique_name(f"{kernel.name}.parts"))
    task.linkage = "internal"
    builder = ir.IRBuilder(task.append_basic_block())
    first = builder.ptrtoint(builder.load(task.args[0]), part)
    told = builder.bitcast(task.args[3], told)
    error, _, *others = (
        builder.load(cgutils.gep_inbounds(builder, told, 0, k)) for k in range(len(told.type.pointee.elements))
    )
    nothing = cgutils.alloca_once(builder, result)
    with cgutils.for_range(builder, builder.load(task.args[1])) as loop:
        status = builder.call(kernel, [nothing, error, builder.add(first, loop.index), *others])
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, status)):
            builder.store(status, cgutils.gep_inbounds(builder, told, 0, 1))
    builder.ret_void()
    return task
