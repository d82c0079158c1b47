"""Validation of UTF-8 by a kernel, against Python's decoder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpe.kernels.machine.arrays import read_only
from bpe.kernels.scanning.utf8 import is_well_formed

WELL_FORMED = [
    "a", "é", "日", "🙂", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff", "a" * 61
]  # fmt: skip
MALFORMED = [
    b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xe4\xb8",
    b"\xe4", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x99", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff",
]  # fmt: skip


def decodes(data):
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


pieces = st.one_of(st.sampled_from(WELL_FORMED).map(str.encode), st.sampled_from(MALFORMED), st.binary(max_size=3))


@given(data=st.lists(pieces, max_size=30).map(b"".join))
def test_any_bytes(data):
    assert is_well_formed(read_only(data)) == decodes(data)


@given(
    text=st.lists(st.sampled_from(WELL_FORMED), max_size=60).map("".join),
    place=st.floats(0, 1),
    byte=st.binary(max_size=1),
)
def test_text_and_text_with_one_byte_changed(text, place, byte):
    data = text.encode()
    assert is_well_formed(read_only(data))
    cut = int(place * len(data))
    changed = data[:cut] + byte + data[cut + 1 :]
    assert is_well_formed(read_only(changed)) == decodes(changed)


@pytest.mark.parametrize("piece", [*(character.encode() for character in WELL_FORMED), *MALFORMED])
def test_every_position_in_a_block(piece):
    for before in range(70):
        for after in (b"", b"a", b"\xc3\xa9" * 40):
            data = b"x" * before + piece + after
            assert is_well_formed(read_only(data)) == decodes(data)
