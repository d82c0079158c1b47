"""Encoding of iterables and files: the ids of the whole text, however it is split; files complete or absent."""

import itertools
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import CORPUS, EOT, mixed, using_kernels
from hypothesis import given
from hypothesis import strategies as st

from bpe import EncodeReport, InvalidUTF8Warning, Tokenizer
from bpe.text import TextFile


def cut(text, positions):
    bounds = sorted({0, len(text), *(position % (len(text) + 1) for position in positions)})
    return [text[start:end] for start, end in itertools.pairwise(bounds)]


SPECIALS = [[], [EOT], [EOT, EOT + EOT], ["a b", "b c", " "], ["aba", "ab"], ["\n\n"]]


@pytest.mark.parametrize("special", SPECIALS)
@given(text=mixed, positions=st.lists(st.integers(0, 500), max_size=12))
def test_encode_iterable_does_not_depend_on_the_cuts(small, with_kernels, special, text, positions):
    tokenizer = Tokenizer(small.vocab, small.merges, special)
    expected = tokenizer.encode(text)
    assert list(tokenizer.encode_iterable(cut(text, positions))) == expected
    assert list(tokenizer.encode_iterable(text)) == expected
    assert list(tokenizer.encode_iterable(list(text))) == expected
    with_other_pattern = Tokenizer(small.vocab, small.merges, special, pattern=r"[a-z ]+|\s+(?=x)")
    assert list(with_other_pattern.encode_iterable(cut(text, positions))) == with_other_pattern.encode(text)


def test_encode_iterable_is_lazy(small):
    read = []

    def lines():
        for number in itertools.count():
            read.append(number)
            yield f"line {number} of many\n"

    ids = small.encode_iterable(lines())
    assert read == []
    assert next(ids) == small.encode("line 0")[0]
    assert len(read) < 5


def test_encode_iterable_holds_little(small):
    line = "once upon a time there was a cat\n"
    number = 40_000
    # A tokenizer of its own: `small` may load its kernels at any text, depending on the tests that ran before.
    tokenizer = using_kernels(Tokenizer(small.vocab, small.merges, [EOT]))
    list(tokenizer.encode_iterable([line] * number))
    tracemalloc.start()
    try:
        count = sum(1 for _ in tokenizer.encode_iterable(line for _ in range(number)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == number * len(tokenizer.encode(line))
    assert peak < 4_000_000


def test_encode_iterable_of_single_letters_without_a_cut(small):
    assert small.decode(small.encode_iterable("a" for _ in range(200_000))) == "a" * 200_000


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block", [50, 1 << 22])
def test_encode_file(small, with_kernels, tmp_path, monkeypatch, threads, block):
    blocks = TextFile.blocks
    monkeypatch.setattr(TextFile, "blocks", lambda file, cutter: blocks(file, cutter, block))
    text = (CORPUS + EOT) * 4
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    for tokenizer in (small, with_kernels):
        report = tokenizer.encode_file(tmp_path / "text.txt", tmp_path / "tokens.npy", threads=threads)
        ids = np.load(tmp_path / "tokens.npy", mmap_mode="r")
        assert ids.dtype == np.uint16
        assert ids.tolist() == small.encode(text)
        size = len(text.encode())
        assert report == EncodeReport(len(ids), size, "uint16", 0, report.seconds, tmp_path / "tokens.npy")
        assert report.bytes_per_token == size / len(ids)
        assert report.megabytes_per_second == size / 1e6 / report.seconds
        assert json.loads((tmp_path / "tokens.json").read_text()) == {
            "format": "scratchlm-tokens",
            "version": 1,
            "tokens": len(ids),
            "bytes": size,
            "special_bytes": text.count(EOT) * len(EOT),
            "dtype": "uint16",
            "vocab_size": 400,
            "invalid_utf8": 0,
            "source": "text.txt",
            "tokenizer_sha256": small.sha256,
        }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt", "tokens.json", "tokens.npy"]


def test_a_file_that_cannot_be_encoded_leaves_nothing(small, tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "text.txt").write_text("text")
    for source, target, error, message in [
        ("empty.txt", "tokens.npy", ValueError, "is empty"),
        ("absent.txt", "tokens.npy", FileNotFoundError, "no file"),
        ("", "tokens.npy", IsADirectoryError, "is a folder"),
        ("text.txt", "tokens.txt", ValueError, "ends in .npy"),
        ("text.txt", "absent/tokens.npy", FileNotFoundError, "no folder"),
    ]:
        with pytest.raises(error, match=message):
            small.encode_file(tmp_path / source, tmp_path / target)
    few = Tokenizer({0: b"t"}, [])
    with pytest.raises(ValueError, match="byte b'e' is not in the vocabulary"):
        few.encode_file(tmp_path / "text.txt", tmp_path / "tokens.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.txt", "text.txt"]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("text.json", "text.npy", "'text.json' would overwrite the text itself"),
        ("text.npy", "text.npy", "'text.npy' would overwrite the text itself"),
        ("link.txt", "text.npy", "'text.json' would overwrite the text itself"),
        ("other.txt", "text.npy", "'text.json' exists and does not describe a token file"),
        ("other.txt", "tokenizer.npy", "'tokenizer.json' exists and does not describe a token file"),
    ],
)
def test_encoding_overwrites_only_token_files(small, tmp_path, monkeypatch, source, target, message):
    monkeypatch.chdir(tmp_path)
    for name in ("text.json", "text.npy", "other.txt"):
        (tmp_path / name).write_text("a text")
    (tmp_path / "link.txt").symlink_to("text.json")
    small.save_huggingface("tokenizer.json")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        small.encode_file(source, target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_device_is_not_a_token_file(small, tmp_path):
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "tokens.npy").symlink_to("/dev/null")
    with pytest.raises(ValueError, match="is a device or a pipe, expected a regular file"):
        small.encode_file(tmp_path / "text.txt", tmp_path / "tokens.npy")


@pytest.mark.parametrize("again", [False, True])
def test_tokens_are_on_the_disk_before_their_description_takes_its_name(small, tmp_path, monkeypatch, again):
    (tmp_path / "text.txt").write_text("a text")
    (tmp_path / "other.txt").write_text("another text")
    if again:
        small.encode_file(tmp_path / "text.txt", tmp_path / "tokens.npy")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    steps = []
    fsync, replace = os.fsync, Path.replace

    def record_sync(handle):
        steps.append(("sync", os.fstat(handle).st_ino))
        fsync(handle)

    def fail_on_tokens(path, target):
        steps.append((Path(target).name, path.stat().st_ino))
        if Path(target).suffix == ".npy":
            raise PermissionError("not now")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", fail_on_tokens)
    with pytest.raises(PermissionError, match="not now"):
        small.encode_file(tmp_path / "other.txt", tmp_path / "tokens.npy")
    names = [name for name, _ in steps if name != "sync"]
    assert names[:2] == ["tokens.json", "tokens.npy"]
    tokens = dict(steps)["tokens.npy"]
    assert steps.index(("sync", tokens)) < [name for name, _ in steps].index("tokens.json")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_malformed_utf8_is_counted(small, tmp_path):
    (tmp_path / "text.txt").write_bytes(b"caf\xe9 \xe2\x82 x\xff")
    with pytest.warns(InvalidUTF8Warning, match="3 malformed UTF-8 sequences"):
        report = small.encode_file(tmp_path / "text.txt", tmp_path / "tokens.npy")
    assert report.invalid_utf8 == 3
    assert small.decode(np.load(tmp_path / "tokens.npy")) == "caf\ufffd \ufffd x\ufffd"
    assert report.bytes == len("caf\ufffd \ufffd x\ufffd".encode())
