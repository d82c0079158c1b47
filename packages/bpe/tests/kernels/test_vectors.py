"""Vector instructions and their plain-Python forms, byte by byte and bit by bit."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config, njit

from bpe.kernels.machine import interpreted, vectors
from bpe.kernels.machine.arrays import read_only


@cache
def made_with(module):
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

    return (njit(masks), njit(counts)) if module is vectors else (masks, counts)


compiled = pytest.mark.skipif(config.DISABLE_JIT, reason="Numba compiles nothing")
both = pytest.mark.parametrize("module", [pytest.param(vectors, marks=compiled), interpreted])


@both
@given(data=st.binary(min_size=64, max_size=70), byte=st.integers(0, 0xE0))
def test_masks(module, data, byte):
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
    assert list(map(int, made_with(module)[0](read_only(data), position, np.uint8(byte)))) == expected


@both
@given(mask=st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 63).map(lambda bit: 1 << bit)))
def test_bits(module, mask):
    bits = f"{mask:064b}"
    expected = (bits.count("1"), len(bits) - len(bits.lstrip("0")), len(bits) - len(bits.rstrip("0")))
    assert made_with(module)[1](np.uint64(mask)) == expected


def words_and_ids(module):
    """Return the operations of a module on words and ids, as functions."""
    equal_words, lowest_of_32, copy_ids = module.equal_words, module.lowest_of_32, module.copy_ids

    def equal(table, index, value, ignored):
        return equal_words(table, index, value, ignored)

    def lowest(numbers, index):
        return lowest_of_32(numbers, index)

    def copy(out, index, array, first):
        copy_ids(out, index, array, first)

    return tuple(map(njit, (equal, lowest, copy))) if module is vectors else (equal, lowest, copy)


@both
def test_operations_on_words_and_ids(module):
    equal, lowest, copy = words_and_ids(module)
    chance = np.random.default_rng(3)
    table = chance.integers(0, 4, 24, dtype=np.uint64) << np.uint64(40) | chance.integers(0, 9, 24, dtype=np.uint64)
    ignored, value = np.uint64(0xFF), np.uint64(2) << np.uint64(40)
    for index in range(17):
        expected = sum(int(word & ~ignored == value) << lane for lane, word in enumerate(table[index : index + 8]))
        assert int(equal(table, index, value, ignored)) == expected
    numbers = chance.integers(0, 2**32, 40, dtype=np.uint32)
    numbers[[0, 39]] = 2**32 - 1
    assert [int(lowest(numbers, index)) for index in range(9)] == [min(numbers[i : i + 32]) for i in range(9)]
    out = np.zeros(8, dtype=np.uint32)
    copy(out, 1, numbers, 3)
    assert out.tolist() == [0, *numbers[3:7].tolist(), 0, 0, 0]
    copy(out, 2, out, 1)  # which overlap
    assert out.tolist() == [0, numbers[3], *numbers[3:7].tolist(), 0, 0]
    copy(out, 0, table, 5)
    assert out[:4].tolist() == table[5:7].view(np.uint32).tolist()
