"""Results of all kernels with a small text, to compare the ways to run them."""

from __future__ import annotations

import random
from hashlib import sha256

from bpe import Tokenizer, kernels, train_from_counts
from bpe.text import CL100K_PATTERN, GPT2_PATTERN, Block, BlockCutter, SpecialTokenFinder, scanner_of
from bpe.training.counting import KernelCounter, count_with

SPECIAL_TOKENS = ["<|endoftext|>", "<|endof", "<|x|>"]


def sample_text() -> str:
    """Return a text of 5 kB with everything that the kernels treat specially."""
    chance = random.Random(0)
    text = "the cat's  hat\n\n 123 4567 naïve café “x” 日本語 🙂 <|endoftext|> \t ab-c ..., 'll I'LL\r\n \u00a0x"
    words = text.split(" ")
    text = " ".join("".join(chance.choices(words, k=chance.choice([1, 1, 1, 2]))) for _ in range(600))
    return text + "ab" * 400 + "\n" * 70


def results() -> str:
    """Return the digest of what the kernels count, learn, cut and encode; they are used whatever the size."""
    kernels.LEARNING_BYTES = 0
    kernels.ENCODING_BYTES = 0
    text = sample_text()
    digest = sha256()
    finder = SpecialTokenFinder(SPECIAL_TOKENS)
    for pattern in (GPT2_PATTERN, CL100K_PATTERN):
        cutter, scanner = BlockCutter(finder, pattern), scanner_of(pattern)
        assert scanner is not None
        blocks = list(cutter.blocks_of(text.encode("utf-8"), 1000))
        counts = count_with(KernelCounter(finder, pattern, scanner), [*blocks, Block(b"\xff\xfe")], 1)
        tokenizer = train_from_counts(counts + counts, 350, SPECIAL_TOKENS)
        for ignore_merges in (False, True):
            same = Tokenizer(
                tokenizer.vocab,
                tokenizer.merges,
                tokenizer.special_tokens,
                pattern=pattern,
                ignore_merges=ignore_merges,
            )
            digest.update(same.encode_to_numpy(text + text[::-1], threads=1).tobytes())
        digest.update(repr((list(map(bytes, (block.data for block in blocks))), tokenizer.merges)).encode())
    return digest.hexdigest()
