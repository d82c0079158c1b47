"""Atomic operations on 64-bit arrays, for the cache that threads share; `interpreted` has them in plain Python."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from bpe.kernels.machine.vectors import element_pointer, operation

_WORD = ir.IntType(64)


@operation
def load_acquire(typing_context: Any, array: Any, index: Any) -> Any:
    """Return an element; later reads see everything its writer wrote before `store_release`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], _WORD)
        return builder.load_atomic(pointer, "acquire", 8)

    return types.uint64(array, types.intp), generate


@operation
def store_release(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write an element after all earlier writes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], _WORD)
        builder.store_atomic(arguments[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, types.uint64), generate


@operation
def swap_if_equal(typing_context: Any, array: Any, index: Any, expected: Any, value: Any) -> Any:
    """Write `value` if the element is `expected`, and return whether it was, in one step."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], _WORD)
        result = builder.cmpxchg(pointer, arguments[2], arguments[3], "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(array, types.intp, types.uint64, types.uint64), generate


@operation
def add_and_fetch_old(typing_context: Any, array: Any, index: Any, amount: Any) -> Any:
    """Add to an int64 element and return its old value, in one step."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], _WORD)
        return builder.atomic_rmw("add", pointer, arguments[2], "monotonic")

    return types.int64(array, types.intp, types.int64), generate
