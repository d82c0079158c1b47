"""Texts, strategies and small tools that several tests share."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

import bpe
from bpe import kernels
from bpe.kernels.machine.compiling import COMPILED
from bpe.kernels.scanning.gpt2 import ENDS, next_ends
from bpe.kernels.scanning.unicode_classes import class_table
from bpe.text import scanner_of

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

EOT = "<|endoftext|>"

SLOWER = 1 if COMPILED else 20
"""Divisor of the size of large inputs where the interpreter runs the kernels."""

CORPUS = (
    "The cat's hat isn't where they've left it, we'll see. They're 12 or 1234 cats!! (I'd say 3.5)\n\n"
    "aaaaaaa aaaa aaa bbbbb ababab abababab banana bandana   \t x\r\n\r\n naïve café — “quoted” ½ x² 日本語 🙂🙃\n"
) * 3

WORDS = " ".join(f"word{number} {number**3}" for number in range(60))

# Few letters make runs and ties; the other characters are those the pattern treats specially.
dense = st.text(alphabet="aabbc '\n \t's1!\u00a0é日\u2019", max_size=60)
anything = st.text(max_size=80)  # without surrogates
mixed = st.lists(
    st.one_of(
        dense, anything, st.sampled_from([EOT, 2 * EOT, "<|endof", "text|>", "'ll", "'re", "'LL", " 's", "\n\n  "])
    ),
    max_size=6,
).map("".join)


def data_file(name):
    """Return the path of a shared file, or skip the test where it is missing."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no {name}: it is read from shared/data beside the repository")
    return path


def run_python(*arguments, environment=None):
    """Run Python in a separate process, which imports the package from the same place as this one."""
    environment = {**os.environ, "PYTHONPATH": str(Path(bpe.__file__).parents[1]), **(environment or {})}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)


def using_kernels(tokenizer, text="a"):
    """Make a tokenizer encode with the kernels from now on, whatever the size of a text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "ENCODING_BYTES", 0)
        tokenizer.encode(text)
    return tokenizer


def scanned(text, pattern=bpe.GPT2_PATTERN):
    """Split a text into pre-tokens by the kernels."""
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    ends, tail = np.empty(ENDS, dtype=np.int64), np.zeros(128, dtype=np.uint8)
    pretokens, position = [], 0
    while position < len(data):
        number = next_ends(data, position, len(data), scanner_of(pattern), class_table(), ends, tail)
        for end in ends[:number].tolist():
            pretokens.append(data[position:end].tobytes().decode())
            position = end
    return pretokens
