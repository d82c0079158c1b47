"""What the tests share: real text where it is there, texts that go wrong easily, and both engines."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st

import bpe
from bpe import GPT2_PATTERN, Tokenizer, train_from_iterator
from bpe.kernels.machine.compiling import COMPILED

# Who starts the tests in the background has them ignore Ctrl-C, and every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("bpe", deadline=None, max_examples=150)
settings.load_profile("bpe")

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

EOT = "<|endoftext|>"

SLOWER = 1 if COMPILED else 20
"""By how much large inputs are made smaller where the interpreter runs the kernels."""

CORPUS = (
    "The cat's hat isn't where they've left it, we'll see. They're 12 or 1234 cats!! (I'd say 3.5)\n\n"
    "aaaaaaa aaaa aaa bbbbb ababab abababab banana bandana   \t x\r\n\r\n naïve café — “quoted” ½ x² 日本語 🙂🙃\n"
) * 3

WORDS = " ".join(f"word{number} {number**3}" for number in range(60))


def data_file(name):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not there: it is read from shared/data beside the repository")
    return path


# Few letters make runs and ties; the rest is what the pattern treats specially.
dense = st.text(alphabet="aabbc '\n \t's1!\u00a0é日\u2019", max_size=60)
anything = st.text(max_size=80)  # without surrogates
mixed = st.lists(
    st.one_of(
        dense, anything, st.sampled_from([EOT, 2 * EOT, "<|endof", "text|>", "'ll", "'re", "'LL", " 's", "\n\n  "])
    ),
    max_size=6,
).map("".join)


def run_python(*arguments, environment=None):
    """Run Python in a process of its own, which imports the package from where this one did."""
    environment = {**os.environ, "PYTHONPATH": str(Path(bpe.__file__).parents[1]), **(environment or {})}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="session")
def small():
    """A small tokenizer trained here."""
    return train_from_iterator([CORPUS, WORDS], 400, [EOT])


@pytest.fixture(scope="session")
def with_kernels(small):
    """The same tokenizer, encoding with the kernels whatever the size."""
    tokenizer = Tokenizer(small.vocab, small.merges, small.special_tokens, pattern=GPT2_PATTERN)
    tokenizer._encoder.load_kernels()
    return tokenizer


@pytest.fixture(scope="session")
def gpt2():
    """GPT-2's tokenizer, encoding with the kernels."""
    tokenizer = Tokenizer.from_files(
        data_file("vocabularies/gpt2_vocab.json"), data_file("vocabularies/gpt2_merges.txt"), [EOT]
    )
    tokenizer._encoder.load_kernels()
    return tokenizer
