"""Settings and fixtures of all tests."""

import copy
import os
import signal

import pytest
from helpers import CORPUS, EOT, WORDS, data_file, using_kernels
from hypothesis import settings

from bpe import Tokenizer, kernels, train_from_iterator

# A shell that starts the tests in the background makes them, and every process they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# HYPOTHESIS_PROFILE=thorough tries ten times as many examples; `nox -s fuzz` compares a million strings.
settings.register_profile("ci", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# Tests of the kernels would otherwise encode their short texts in Python.
kernels.CALL_BYTES = 0


@pytest.fixture(scope="session")
def small():
    """A small tokenizer trained here."""
    return train_from_iterator([CORPUS, WORDS], 400, [EOT])


@pytest.fixture(scope="session")
def with_kernels(small):
    """The same tokenizer, encoding with the kernels whatever the size."""
    return using_kernels(copy.copy(small))


@pytest.fixture(scope="session")
def gpt2():
    """GPT-2's tokenizer, encoding with the kernels."""
    vocab, merges = data_file("vocabularies/gpt2_vocab.json"), data_file("vocabularies/gpt2_merges.txt")
    return using_kernels(Tokenizer.from_files(vocab, merges, [EOT]))
