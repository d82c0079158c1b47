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
from bpe.kernels.machine.compiling import COMPILED, structure
from bpe.kernels.scanning.boundaries import pretoken_end
from bpe.kernels.scanning.unicode_classes import class_table
from bpe.kernels.tables.pretokens import next_pretokens, pretoken_buffers
from bpe.text import patterns, scanner_of, split_pretokens

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

# All patterns that the kernels know.
KNOWN_PATTERNS = {
    "gpt2": patterns.GPT2_PATTERN,
    "digits, gpt2": patterns.DIGITS_THEN_GPT2,
    "cl100k": patterns.CL100K_PATTERN,
    "llama3": patterns.LLAMA3_PATTERN,
    "two digits": patterns.CL100K_PATTERN.replace("{1,3}", "{1,2}"),
    "qwen": patterns.QWEN_PATTERN,
    "qwen3.5": patterns.QWEN35_PATTERN,
    "o200k": patterns.O200K_PATTERN,
    "tekken": patterns.TEKKEN_PATTERN,
    "deepseek": patterns.DEEPSEEK_PATTERNS,
}

# Characters of one to four bytes that patterns treat differently: upper, lower and title case, letters without case,
# marks, digits, white space, symbols, and characters of no class.
FRAGMENTS = [
    *"aZsSlLrRvVtTmMdD'",
    *"é\u00c9\u017f\u212a\u01c5Ωω\u02b0ªअ中日カ・゛\U0001d400\U0001d41a\U00010000",
    *"\u0301\u0302ि\ufe0f\U000e0100",
    *"12345٣²½Ⅳ\U00011f50",
    *"  \n\r\t\xa0\x85\u2028\u3000",
    *"!.,/-€“😀\x00\x7f\xad\u200b\u200d",
    *["  ", "\r\n", "\n\n", "   ", "\n/", "//", "!!", " !", "\t!a", "'s", "'ll", "'RE", "'\u017f", "❤\ufe0f"],
    *["abc", "Foo", "HTTP", "中文", "123", "1234567"],
]


@st.composite
def stressing(draw):
    """Draw a text of few kinds of fragments, which often reaches over several blocks of 64 bytes."""
    fragments = draw(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=10, unique=True))
    return "".join(draw(st.lists(st.sampled_from(fragments), max_size=60)))


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
    # With other text behind it, the kernels read even a short text in blocks of 64 bytes.
    length, data = len(text.encode()), np.frombuffer(text.encode() + b"l's \n1!A" * 8, dtype=np.uint8)
    buffers, table = pretoken_buffers(), np.zeros(64, dtype=np.uint64)
    pretokens, position = [], 0
    while position < length:
        number = next_pretokens(
            data, position, length, scanner_of(pattern), class_table(), table, 4, structure(buffers)
        )
        for end in buffers.ends[:number].tolist():
            pretokens.append(data[position:end].tobytes().decode("utf-8", "backslashreplace"))
            position = end
    return pretokens


def scanned_by_character(text, pattern):
    """Split a text into pre-tokens by the readable kernels."""
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    pretokens, position = [], 0
    while position < len(data):
        end = pretoken_end(data, position, len(data), scanner_of(pattern), class_table())
        pretokens.append(data[position:end].tobytes().decode("utf-8", "backslashreplace"))
        position = end
    return pretokens


def split_by(pattern, text):
    """Split a text into pre-tokens by `regex`, with one pattern or by several, one after another."""
    pretokens = [text] if text else []
    for split in [pattern] if isinstance(pattern, str) else pattern:
        pretokens = [part for pretoken in pretokens for part in split_pretokens(split, pretoken)]
    return pretokens
