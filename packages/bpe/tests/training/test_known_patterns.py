"""Training with the patterns that kernels know: the kernels against Python."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from helpers import CORPUS, EOT, KNOWN_PATTERNS, WORDS, split_by, stressing
from hypothesis import given

import bpe
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


@pytest.mark.parametrize("name", [name for name, pattern in KNOWN_PATTERNS.items() if isinstance(pattern, str)])
def test_training_by_kernels_equals_training_in_python(name, monkeypatch):
    text = (CORPUS + EOT + WORDS + "HTTPServer isn't IT'S // 日本語 कि é\n\n \t\n") * 3
    in_python = bpe.train_from_iterator([text], 500, [EOT], pattern=KNOWN_PATTERNS[name])
    monkeypatch.setattr("bpe.training.counting.COUNTING_BYTES", 100)
    assert bpe.train_from_iterator([text], 500, [EOT], pattern=KNOWN_PATTERNS[name], threads=2) == in_python
