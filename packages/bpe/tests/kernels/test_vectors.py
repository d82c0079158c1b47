"""Vector instructions and their plain-Python forms, byte by byte and bit by bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from bpe.kernels.machine import interpreted, vectors
from bpe.kernels.machine.arrays import read_only


def made_with(module, compiled):
    """Return functions that call the operations of a module."""
    byte_masks, high_mask = module.byte_masks, module.high_mask
    equal_mask, range_mask = module.equal_mask, module.range_mask
    count_ones, leading_zeros, trailing_zeros = module.count_ones, module.leading_zeros, module.trailing_zeros

    def masks(data, position, byte):
        return byte_masks(data, position) + (  # noqa: RUF005 (Numba cannot unpack)
            high_mask(data, position),
            equal_mask(data, position, byte),
            range_mask(data, position, byte, 0x20),
            range_mask(data, position, 0x80, 0x40),
            range_mask(data, position, 0xF0, 0x10),
        )

    def counts(mask):
        return count_ones(mask), leading_zeros(mask), trailing_zeros(mask)

    return (njit(masks), njit(counts)) if compiled else (masks, counts)


both = pytest.mark.parametrize(
    "operations", [made_with(vectors, True), made_with(interpreted, False)], ids=["vectors", "interpreted"]
)


@both
@given(data=st.binary(min_size=64, max_size=70), byte=st.integers(0, 0xE0))
def test_masks(operations, data, byte):
    position = len(data) - 64
    kinds = [
        lambda b: chr(b | 0x20) in "abcdefghijklmnopqrstuvwxyz",
        lambda b: b in b"0123456789",
        lambda b: b in b"\t\n\v\f\r ",
        lambda b: b == 0x20,
        lambda b: b == 0x27,
        lambda b: b >= 0x80,
        lambda b: b >= 0x80,
        lambda b: b == byte,
        lambda b: byte <= b < byte + 0x20,
        lambda b: 0x80 <= b < 0xC0,
        lambda b: b >= 0xF0,
    ]
    expected = [sum(kind(b) << index for index, b in enumerate(data[position:])) for kind in kinds]
    assert list(map(int, operations[0](read_only(data), position, np.uint8(byte)))) == expected


@both
@given(mask=st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 63).map(lambda bit: 1 << bit)))
def test_bits(operations, mask):
    bits = f"{mask:064b}"
    expected = (bits.count("1"), len(bits) - len(bits.lstrip("0")), len(bits) - len(bits.rstrip("0")))
    assert operations[1](np.uint64(mask)) == expected
