"""The statistics and reports of `inspect`."""

import gzip
from itertools import pairwise

import pytest
from helpers import CORPUS, EOT

from bpe import Tokenizer, train_from_iterator
from bpe.cli.inspection import (
    KINDS,
    compression_report,
    kind_of,
    measure_compression,
    printable,
    split_report,
    summarize_vocabulary,
    vocabulary_report,
)


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (b"the", "letters"),
        (b" the", "letters"),
        (" été".encode(), "letters"),
        ("٣4".encode(), "digits"),
        (b" ", "white space"),
        (b"\n\n", "white space"),
        (b"  ", "white space"),
        (b" ...", "other characters"),
        (b"'s", "mixed"),
        (b"\xe6\x97", "parts of characters"),
    ],
)
def test_kinds(token, kind):
    assert kind_of(token) == kind


def test_the_summary_counts_every_token_but_special_ones(small):
    summary = summarize_vocabulary(small, longest=3)
    assert sum(summary.lengths.values()) == sum(summary.kinds.values()) == small.vocab_size - 1
    assert tuple(summary.kinds) == KINDS
    assert list(summary.lengths) == sorted(summary.lengths)
    assert summary.lengths[1] == 256
    ordinary = [token for token in small.vocab.values() if token != EOT.encode()]
    assert summary.with_space == sum(token.startswith(b" ") for token in ordinary)
    assert [len(token) for _, token in summary.longest] == sorted(map(len, ordinary))[:-4:-1]
    assert all(small.vocab[id_] == token for id_, token in summary.longest)


def test_compression_by_document(small, tmp_path):
    documents = [CORPUS, "a", "  \n", "日本語" * 50, "the end"]
    (tmp_path / "text.txt.gz").write_bytes(gzip.compress(EOT.join(documents).encode()))
    kept = [document for document in documents if document.strip()]
    found = measure_compression(small, tmp_path / "text.txt.gz")
    assert [(d.bytes, d.tokens) for d in found.documents] == [(len(t.encode()), len(small.encode(t))) for t in kept]
    assert not found.more
    assert found.used.total() == sum(d.tokens for d in found.documents)
    ratios = sorted(d.bytes / d.tokens for d in found.documents)
    assert found.spread == (ratios[0], (ratios[1] + ratios[2]) / 2, ratios[3])
    first = measure_compression(small, tmp_path / "text.txt.gz", 2)
    assert first.documents == found.documents[:2]
    assert first.more
    assert "the first 2 documents" in compression_report(small, first)
    report = compression_report(small, found)
    assert f"{found.bytes_per_token:.3f}" in report
    assert f"tokens used: {len(found.used)} of 400" in report


def test_a_file_of_white_space_has_no_documents(small, tmp_path):
    (tmp_path / "text.txt").write_text(" \n")
    found = measure_compression(small, tmp_path / "text.txt")
    assert (found.documents, found.bytes_per_token, found.spread) == ([], 0.0, (0.0, 0.0, 0.0))
    assert "0 documents" in compression_report(small, found)


def test_a_vocabulary_without_anything_learned():
    tokenizer = train_from_iterator(["x"], 256, [])
    report = vocabulary_report(tokenizer, summarize_vocabulary(tokenizer, 0))
    assert "special tokens  none" in report
    assert "longest tokens" not in report


def test_options_that_change_ids_are_reported(small):
    tokenizer = Tokenizer(small.vocab, small.merges, [EOT], ignore_merges=True, normalization="NFC")
    report = vocabulary_report(tokenizer, summarize_vocabulary(tokenizer))
    assert "without merging" in report
    assert "NFC" in report


def test_printable():
    assert printable("é\n\t\u200b".encode()) == "é\\n\\t\\u200b"
    assert printable(b"\xe6\x97") == "\\xe6\\x97"
    assert printable(b"\x1b[31m") == "\\x1b[31m"  # no token can take over the terminal


def test_a_split_text_has_bars_or_colours():
    tokens = [(5, b"a"), (6, b" b"), (7, b".\n"), (8, b"c")]
    plain = split_report(tokens, color=False)
    assert plain.startswith("a| b|.\\n|\nc\n\n4 tokens of 6 bytes (1.50 bytes per token)\n       5  'a'\n")
    colored = split_report(tokens, color=True).split("\n\n")[0]
    backgrounds = [part.split("m")[0] for part in colored.split("\x1b[30;48;5;")[1:]]
    assert len(backgrounds) == 4
    assert all(one != other for one, other in pairwise(backgrounds))
    assert split_report([], color=False).startswith("\n\n0 tokens")
