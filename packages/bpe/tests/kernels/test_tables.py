"""The table of counted pre-tokens: growth and limits."""

from itertools import pairwise

import numpy as np
import pytest

from bpe.kernels.machine.arrays import zeros
from bpe.kernels.tables.hashing import pretoken_key, pretoken_slot
from bpe.kernels.tables.pretokens import PretokenTable


def test_a_table_grows():
    table = PretokenTable(capacity=4, arena_bytes=1)
    pretokens = [b"a", b"bb", b"exactly8", b"longer than eight bytes", b"a", b"another quite long word"]
    text = np.frombuffer(b"".join(pretokens), dtype=np.uint8).copy()
    offsets = np.cumsum([0, *map(len, pretokens)])
    table.add(text, offsets, np.array([1, 2, 3, 2**40, 5, 6]))
    data, bounds, counts = table.arrays()
    found = {data[s:e].tobytes(): int(c) for s, e, c in zip(bounds, bounds[1:], counts, strict=False)}
    expected = {b"a": 6, b"bb": 2, b"exactly8": 3, b"longer than eight bytes": 2**40, b"another quite long word": 6}
    assert found == expected


def test_more_distinct_bytes_than_offsets_reach_are_refused(monkeypatch):
    monkeypatch.setattr("bpe.kernels.tables.pretokens.MAX_ARENA", 100)
    pretokens = [b"%02d is longer than sixteen bytes" % index for index in range(10)]
    table = PretokenTable(capacity=4, arena_bytes=1)
    for pretoken in pretokens[:3]:  # up to the last byte
        table.add(np.frombuffer(pretoken, np.uint8).copy(), np.array([0, len(pretoken)]), np.array([1]))
    data, bounds, _ = table.arrays()
    assert {data[s:e].tobytes() for s, e in pairwise(bounds)} == set(pretokens[:3])
    with pytest.raises(ValueError, match="the distinct pre-tokens have more than 100 bytes"):
        table.add(np.frombuffer(pretokens[3], np.uint8).copy(), np.array([0, len(pretokens[3])]), np.array([1]))
    assert len(table.arena) == 100


def test_counts_are_not_listed_in_the_order_of_their_slots():
    """In that order, adding the counts of one table to a new one took quadratic time: 8 s for 400,000."""
    pretokens = [b"%d" % number for number in range(2000)]
    offsets = np.cumsum([0, *map(len, pretokens)])
    table = PretokenTable()
    table.add(np.frombuffer(b"".join(pretokens), np.uint8), offsets, np.ones(2000, np.int64))
    data, bounds, _ = table.arrays()
    keys = [pretoken_key(data, start, end - start) for start, end in pairwise(bounds.tolist())]
    slots = np.array([int(pretoken_slot(*map(np.uint64, key), np.uint64(64 - 10))) for key in keys])
    for part in np.array_split(slots, 8):
        assert part.min() < 100 < 900 < part.max() < 1024


def test_adding_arrays_leaves_them_writable():
    pretokens, offsets, counts = np.frombuffer(b"abc", np.uint8).copy(), np.array([0, 1, 3]), np.array([5, 6])
    PretokenTable(capacity=4).add(pretokens, offsets, counts)
    assert all(array.flags.writeable for array in (pretokens, offsets, counts))


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("count", [1, 1000, 1 << 19, (1 << 19) + 1])  # from 4 MiB on, tables are in huge pages
def test_arrays_of_zeros_begin_with_a_page(count, at_once):
    array = zeros(count, "uint64", at_once=at_once)
    assert (array.dtype, array.shape, array.flags.writeable) == (np.uint64, (count,), True)
    assert array.__array_interface__["data"][0] % 4096 == 0
    assert not array.any()
    array[-1] = 1
