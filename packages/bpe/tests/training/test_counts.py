"""Counts of pre-tokens: sums, special tokens, and the file that stores them."""

import json
import zlib

import numpy as np
import pytest
from helpers import EOT
from hypothesis import given
from hypothesis import strategies as st

import bpe
from bpe import PretokenCounts


def test_counts_add_up_and_are_saved(tmp_path):
    one, two = PretokenCounts({b"a": 1, b" longer than eight": 2}), PretokenCounts({b"a": 3, b"c": 4})
    both = one + two
    assert both == {b"a": 4, b" longer than eight": 2, b"c": 4}
    assert one + {b"a": 3, b"c": 4} == both
    assert (both.total, both.total_bytes) == (10, 4 + 36 + 4)
    assert both.most_common(2) == [(b"c", 4), (b"a", 4)]
    both.save(tmp_path / "counts.npz")
    assert PretokenCounts.load(tmp_path / "counts.npz") == both
    first = (tmp_path / "counts.npz").read_bytes()
    (two + one).save(tmp_path / "counts.npz")
    assert (tmp_path / "counts.npz").read_bytes() == first
    assert bpe.train_from_counts(both, 260) == bpe.train_from_counts(dict(both), 260)


@given(counts=st.dictionaries(st.binary(min_size=1, max_size=12), st.integers(1, 2**40), max_size=20))
def test_counts_survive_saving(counts, tmp_path_factory):
    path = tmp_path_factory.mktemp("counts") / "counts.npz"
    PretokenCounts(counts).save(path)
    assert PretokenCounts.load(path) == counts


@pytest.mark.parametrize("python_bytes", [0, 1 << 20])
def test_counts_know_their_special_tokens(tmp_path, monkeypatch, python_bytes):
    monkeypatch.setattr("bpe.training.counting.COUNTING_BYTES", python_bytes)
    (tmp_path / "text.txt").write_text(f"a cat<a>a hat{EOT}a cat")
    one = bpe.count_pretokens(tmp_path / "text.txt", ["<a>", EOT])
    one.save(tmp_path / "counts")
    assert one.special_tokens == PretokenCounts.load(tmp_path / "counts").special_tokens == ("<a>", EOT)
    assert (one + PretokenCounts(dict(one), special_tokens=[EOT, "<a>"])).special_tokens == ("<a>", EOT)
    assert bpe.train_from_counts(one, 270, [EOT, "<a>"]).special_tokens == [EOT, "<a>"]
    with pytest.warns(UserWarning, match=r"special_tokens is \['<\|endoftext\|>'\], but the counts were made with"):
        bpe.train_from_counts(one, 270)
    other = bpe.count_pretokens(tmp_path / "text.txt", [])
    assert other.special_tokens == ()
    with pytest.raises(ValueError, match=r"counts without the special tokens \(\) cannot be added to counts without"):
        one + other
    # Counts without known special tokens, as in files of earlier versions, agree with all others.
    old = PretokenCounts.load(counts_file(tmp_path / "old", [1, 2], [3, 4], b"abc"))
    assert old.special_tokens is None
    same = PretokenCounts(dict(one), pattern=old.pattern, special_tokens=["<a>"])
    assert (old + same).special_tokens == (same + old).special_tokens == ("<a>",)
    bpe.train_from_counts(old, 270, ["<b>"])


def counts_file(path, lengths, counts, data, **changes):
    parts = [np.array(lengths, "<i8").tobytes(), np.array(counts, "<i8").tobytes(), data]
    packed = [zlib.compress(part) for part in parts]
    facts = {"pretokens": len(counts), "pattern": "x", "crc32": [zlib.crc32(part) for part in parts]}
    facts |= {"packed": [len(part) for part in packed]} | changes
    path.write_bytes(f"bpe-counts 1\n{json.dumps(facts)}\n".encode() + b"".join(packed))
    return path


def test_a_counts_file_made_by_hand_is_read(tmp_path):
    path = counts_file(tmp_path / "counts", [1, 2], [3, 4], b"abc")
    assert PretokenCounts.load(path) == {b"a": 3, b"bc": 4}
    assert PretokenCounts.load(counts_file(path, [], [], b"")) == {}


@pytest.mark.parametrize(
    ("lengths", "changes"),
    [
        ([2**62, 2**62, 2**62, 2**62, 4], {}),
        ([2**63 - 1, 2**63 - 1, 1, 1, 4], {}),
        ([1, 1, 1], {}),
        ([0, 1, 3], {}),
        ([5, -2, 1], {}),
        ([1, 1, 1, 1, 1], {}),
        ([1, 2], {"packed": []}),
        ([1, 2], {"packed": [9]}),
        ([1, 2], {"packed": [9, 9, 10**15]}),
        ([1, 2], {"packed": [10**30, 0, 0]}),
        ([1, 2], {"packed": [-1, 1, 1]}),
        ([1, 2], {"packed": {"a": 1}}),
        ([1, 2], {"packed": 3}),
        ([1, 2], {"pretokens": "2"}),
        ([1, 2], {"pattern": ["x"]}),
        ([1, 2], {"crc32": None}),
        ([1, 2], {"special_tokens": "<a>"}),
        ([1, 2], {"special_tokens": [1]}),
    ],
)
def test_a_hostile_counts_file_is_refused(tmp_path, lengths, changes):
    path = counts_file(tmp_path / "counts", lengths, [1] * len(lengths), b"abc" if changes else b"abcd", **changes)
    with pytest.raises(ValueError, match="has no pre-token counts, or is damaged"):
        PretokenCounts.load(path)


def test_a_counts_file_without_a_header_is_refused(tmp_path):
    for header in ("[]", "3", "[" * 100_000, "{}", ""):
        (tmp_path / "counts").write_text(f"bpe-counts 1\n{header}\n")
        with pytest.raises(ValueError, match="has no pre-token counts, or is damaged"):
            PretokenCounts.load(tmp_path / "counts")


@pytest.mark.parametrize("other", [{}, {b"abc": 1}, {b"a pre-token of more than sixteen bytes": 2}])
def test_adding_counts_leaves_the_arrays_of_the_caller_writable(other):
    arrays = np.frombuffer(b"abc", np.uint8).copy(), np.array([0, 1, 3]), np.array([5, 6])
    assert PretokenCounts.from_arrays(*arrays) + other == {b"a": 5, b"bc": 6, **other}
    assert all(array.flags.writeable for array in arrays)
