"""Vector instructions for the kernels, as LLVM vector types, which become AVX-512, AVX2, SSE or NEON.

Nothing here checks bounds: the caller ensures that the requested bytes lie inside the array. Masks and 64-bit words
hold the first byte in the lowest bits. `interpreted` has the same functions in plain Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bpe.kernels.machine.interpreted import BLOCK

_Function = Callable[..., Any]


def operation(declare: _Function) -> _Function:
    """Make a function that kernels can call; `declare` returns its signature and the function that emits its code."""
    callable_in_kernels: _Function = intrinsic(declare)
    return callable_in_kernels


_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_BLOCK_OF_BYTES = ir.VectorType(_BYTE, BLOCK)


def element_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, pointed: Any) -> Any:
    """Return the address of element `index` of an array, as a pointer to `pointed`."""
    base = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(base, [index]), pointed.as_pointer())


def _load_block(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Return the 64 bytes from an index as one vector."""
    pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], _BLOCK_OF_BYTES)
    return builder.load(pointer, align=1)


def _splat(byte: int) -> Any:
    """Return a vector of one byte, 64 times."""
    return ir.Constant(_BLOCK_OF_BYTES, [byte] * BLOCK)


def _splat_of(builder: Any, byte: Any) -> Any:
    """Return a vector of one byte that is known only when the kernel runs, or is a constant of the kernel."""
    first = builder.insert_element(ir.Constant(_BLOCK_OF_BYTES, ir.Undefined), byte, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
    return builder.shuffle_vector(first, ir.Constant(_BLOCK_OF_BYTES, ir.Undefined), lanes)


@operation
def byte_masks(typing_context: Any, data: Any, position: Any) -> Any:
    """Classify the 64 bytes from `position`; return six uint64 masks with one bit per byte.

    The masks mark ASCII letters, ASCII digits, ASCII white space, 0x20, apostrophes, and bytes of 0x80 and above.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _load_block(context, builder, signature, arguments)
        blank = builder.icmp_unsigned("==", block, _splat(0x20))
        letter = builder.sub(builder.or_(block, _splat(0x20)), _splat(ord("a")))  # in lower case, 0 for "a"
        # An unsigned difference below the size of a range checks both ends of the range at once.
        kinds = (
            builder.icmp_unsigned("<", letter, _splat(26)),
            builder.icmp_unsigned("<", builder.sub(block, _splat(ord("0"))), _splat(10)),
            builder.or_(blank, builder.icmp_unsigned("<", builder.sub(block, _splat(9)), _splat(5))),
            blank,
            builder.icmp_unsigned("==", block, _splat(ord("'"))),
            builder.icmp_signed("<", block, _splat(0)),
        )
        return context.make_tuple(builder, signature.return_type, [builder.bitcast(kind, _WORD) for kind in kinds])

    return types.UniTuple(types.uint64, 6)(data, types.intp), generate


@operation
def equal_mask(typing_context: Any, data: Any, position: Any, byte: Any) -> Any:
    """Return a uint64 mask over the 64 bytes from `position`, with ones for the bytes equal to `byte`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _load_block(context, builder, signature, arguments)
        return builder.bitcast(builder.icmp_unsigned("==", block, _splat_of(builder, arguments[2])), _WORD)

    return types.uint64(data, types.intp, types.uint8), generate


@operation
def range_mask(typing_context: Any, data: Any, position: Any, first: Any, number: Any) -> Any:
    """Return a uint64 mask over the 64 bytes from `position`, with ones for `number` byte values from `first` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _load_block(context, builder, signature, arguments)
        difference = builder.sub(block, _splat_of(builder, arguments[2]))
        return builder.bitcast(builder.icmp_unsigned("<", difference, _splat_of(builder, arguments[3])), _WORD)

    return types.uint64(data, types.intp, types.uint8, types.uint8), generate


@operation
def high_mask(typing_context: Any, data: Any, position: Any) -> Any:
    """Return a uint64 mask over the 64 bytes from `position`, with ones for the bytes of 0x80 and above."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _load_block(context, builder, signature, arguments)
        return builder.bitcast(builder.icmp_signed("<", block, _splat(0)), _WORD)

    return types.uint64(data, types.intp), generate


@operation
def load_word(typing_context: Any, data: Any, position: Any) -> Any:
    """Return the eight bytes from element `position` as one uint64, the first byte lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], _WORD)
        return builder.load(pointer, align=1)

    return types.uint64(data, types.intp), generate


@operation
def copy_ids(typing_context: Any, out: Any, index: Any, array: Any, first: Any) -> Any:
    """Copy four ids to `out` (uint32) from an array, of any dtype, from its element `first`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pair = ir.VectorType(_WORD, 2)
        source = element_pointer(context, builder, signature.args[2], arguments[2], arguments[3], pair)
        target = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], pair)
        builder.store(builder.load(source, align=4), target, align=4)
        return context.get_dummy_value()

    return types.none(out, types.intp, array, types.intp), generate


@operation
def store_ids(typing_context: Any, out: Any, index: Any, low: Any, high: Any) -> Any:
    """Write four ids to `out` (uint32) from `index`: two from each uint64, the lower half first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pair = ir.VectorType(_WORD, 2)
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], pair)
        ids = builder.insert_element(ir.Constant(pair, ir.Undefined), arguments[2], ir.IntType(32)(0))
        ids = builder.insert_element(ids, arguments[3], ir.IntType(32)(1))
        builder.store(ids, pointer, align=4)
        return context.get_dummy_value()

    return types.none(out, types.intp, types.uint64, types.uint64), generate


@operation
def equal_words(typing_context: Any, table: Any, index: Any, value: Any, ignored: Any) -> Any:
    """Return a mask of eight uint64 from `index`: ones where they equal `value`, apart from the bits in `ignored`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        eight = ir.VectorType(_WORD, 8)
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], eight)
        words = builder.load(pointer, align=8)
        compared = builder.and_(words, _words_of(builder, builder.not_(arguments[3])))
        equal = builder.icmp_unsigned("==", compared, _words_of(builder, arguments[2]))
        return builder.zext(builder.bitcast(equal, _BYTE), _WORD)

    return types.uint64(table, types.intp, types.uint64, types.uint64), generate


def _words_of(builder: Any, word: Any) -> Any:
    """Return a vector of one word, eight times."""
    eight = ir.VectorType(_WORD, 8)
    first = builder.insert_element(ir.Constant(eight, ir.Undefined), word, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
    return builder.shuffle_vector(first, ir.Constant(eight, ir.Undefined), lanes)


@operation
def lowest_of_32(typing_context: Any, numbers: Any, index: Any) -> Any:
    """Return the lowest of 32 uint32 from `index`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        group = ir.VectorType(ir.IntType(32), 32)
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], group)
        kind = ir.FunctionType(ir.IntType(32), [group])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.umin.v32i32")
        return builder.call(function, [builder.load(pointer, align=4)])

    return types.uint32(numbers, types.intp), generate


@operation
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Prefetch element `index` of an array into the processor cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(32)
        pointer = element_pointer(context, builder, signature.args[0], arguments[0], arguments[1], _BYTE)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, all_cache_levels, data = number(0), number(3), number(1)
        builder.call(function, [pointer, read, all_cache_levels, data])
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


@operation
def count_ones(typing_context: Any, mask: Any) -> Any:
    """Return the number of ones in `mask` as an intp."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.intp(types.uint64), generate


@operation
def leading_zeros(typing_context: Any, mask: Any) -> Any:
    """Return the number of zeros above the highest one bit of `mask`, or 64 if `mask` is zero, as an intp."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.IntType(1)(0))

    return types.intp(types.uint64), generate


@operation
def trailing_zeros(typing_context: Any, mask: Any) -> Any:
    """Return the number of zeros below the lowest one bit of `mask`, or 64 if `mask` is zero, as an intp."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(0))

    return types.intp(types.uint64), generate
