"""Training with the patterns that kernels know: the kernels against Python."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from helpers import CORPUS, EOT, KNOWN_PATTERNS, WORDS, split_by, stressing
from hypothesis import given

import bpe
from bpe import reference
from bpe.kernels.machine.arrays import read_only
from bpe.kernels.tables.pretokens import PretokenTable
from bpe.text import scanner_of


@pytest.mark.parametrize("pattern", KNOWN_PATTERNS.values(), ids=KNOWN_PATTERNS)
@given(text=stressing())
def test_kernels_count_the_pretokens_that_regex_splits(pattern, text):
    table = PretokenTable()
    table.count(read_only(text.encode()), np.empty((0, 3), dtype=np.int64), scanner_of(pattern))
    data, bounds, counts = table.arrays()
    found = {data[start:end].tobytes(): int(n) for (start, end), n in zip(pairwise(bounds), counts, strict=True)}
    assert found == Counter(pretoken.encode() for pretoken in split_by(pattern, text))


@pytest.mark.parametrize("name", KNOWN_PATTERNS)
def test_training_by_kernels_equals_training_in_python(name, monkeypatch):
    text = (CORPUS + EOT + WORDS + "HTTPServer isn't IT'S // 日本語 कि é\n\n \t\n") * 3
    in_python = bpe.train_from_iterator([text], 500, [EOT], pattern=KNOWN_PATTERNS[name])
    monkeypatch.setattr("bpe.training.counting.COUNTING_BYTES", 100)
    assert bpe.train_from_iterator([text], 500, [EOT], pattern=KNOWN_PATTERNS[name], threads=2) == in_python


SEVERAL = {"deepseek": KNOWN_PATTERNS["deepseek"], "unknown": (r"\p{N}", r"[^\r\n]+|\s", r"\w+")}


@pytest.mark.parametrize("pattern", SEVERAL.values(), ids=SEVERAL)
@pytest.mark.parametrize("python_bytes", [100, 1 << 30])
def test_training_with_several_patterns(pattern, python_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr("bpe.training.counting.COUNTING_BYTES", python_bytes)
    text = CORPUS + EOT + WORDS + "日本語 12345\n\nit's"
    (tmp_path / "text.txt").write_bytes(text.encode())
    expected = reference.count_words(text, [EOT], pattern)
    counts = bpe.count_pretokens(tmp_path / "text.txt", pattern=list(pattern))
    assert counts == expected
    counts.save(tmp_path / "counts")
    loaded = bpe.PretokenCounts.load(tmp_path / "counts")
    assert (loaded, loaded.pattern) == (counts, pattern)
    trained = bpe.train(tmp_path / "text.txt", 400, pattern=pattern)
    assert trained.merges == reference.learn_merges(expected, 400 - 257)
    assert trained.pattern == pattern
    assert bpe.train_from_counts(loaded + counts, 400, pattern=pattern) == trained
    assert bpe.train_from_counts(expected, 400, pattern=pattern) == trained
    with pytest.raises(ValueError, match="but the counts were made with"):
        bpe.train_from_counts(counts, 400, pattern=pattern[::-1])
    trained.save_pretrained(tmp_path / "tokenizer")
    assert bpe.Tokenizer.from_pretrained(tmp_path / "tokenizer") == trained
    extended = trained.extend(tmp_path / "text.txt", 430)
    assert extended == trained.extend_from_iterator([text], 430) == trained.extend_from_counts(counts, 430)
    assert extended.merges == reference.learn_merges(expected, 430 - 257)
    assert extended.pattern == pattern


def test_a_malformed_one_of_several_patterns_is_refused(tmp_path):
    for pattern in ((r"\w+", "("), (), (r"\w+", 3), 3):
        for train in (bpe.train_from_iterator, bpe.train_from_counts):
            with pytest.raises(ValueError, match="pattern"):
                train(["a"] if train is bpe.train_from_iterator else {b"a": 1}, 300, pattern=pattern)
        with pytest.raises(ValueError, match="pattern"):
            bpe.count_pretokens(tmp_path, pattern=pattern)
