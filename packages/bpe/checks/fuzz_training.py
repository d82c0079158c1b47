"""Compare merges with those of the slow reference on random corpora full of ties, runs and special tokens.

    python fuzz_training.py [--corpora N] [--seed N]

The counts and merges of both engines must equal those of `bpe.reference`: for whole texts, blocks and random parts, on
one and on two threads. The program stops at the first difference, reduced to a short text, with exit status 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial

from generate import corpus, cut, word_counts
from shrink import shortest

import bpe
from bpe import PretokenCounts, reference
from bpe.text import BlockCutter, SpecialTokenFinder, scanner_of
from bpe.training import Limits
from bpe.training.counting import BlockCounter, KernelCounter, PythonCounter, count_with
from bpe.training.learning import learn_merges_with_kernels
from bpe.training.merging_in_python import learn_merges_in_python

ENGINES: dict[str, Callable[..., object]] = {
    "python": learn_merges_in_python,
    "kernels": learn_merges_with_kernels,
}
MERGES = 60


@lru_cache(maxsize=1000)
def expected_counts(text: str, special_tokens: tuple[str, ...]) -> dict[bytes, int]:
    """Return the counts of the reference."""
    return dict(reference.count_words(text, special_tokens))


def counting_differences(
    text: str, special_tokens: Sequence[str], parts: Sequence[str], block_bytes: int
) -> Iterator[str]:
    """Yield the ways of counting that differ from the reference."""
    expected = expected_counts(text, tuple(special_tokens))
    finder = SpecialTokenFinder(special_tokens)
    cutter = BlockCutter(finder, bpe.GPT2_PATTERN)
    ways = {
        "whole": list(cutter.blocks_of(text.encode())),
        f"in blocks of {block_bytes} bytes": list(cutter.blocks_of(text.encode(), block_bytes)),
        "in parts": list(cutter.blocks(part.encode() for part in parts)),
    }
    for name, blocks in ways.items():
        for engine in ENGINES:
            for threads in (1, 2):
                if dict(count_with(counter(engine, finder), blocks, threads)) != expected:
                    yield f"counts of a text {name}, {engine}, {threads} threads"


def counter(engine: str, finder: SpecialTokenFinder) -> BlockCounter:
    """Return a new counter of an engine."""
    if engine == "python":
        return PythonCounter(finder, bpe.GPT2_PATTERN)
    scanner = scanner_of(bpe.GPT2_PATTERN)
    assert scanner is not None
    return KernelCounter(finder, bpe.GPT2_PATTERN, scanner)


def training_differences(text: str, special_tokens: Sequence[str], documents: Sequence[str]) -> Iterator[str]:
    """Yield the ways of training that differ from the reference."""
    counts = expected_counts(text, tuple(special_tokens))
    yield from merging_differences(counts)
    together: dict[bytes, int] = {}
    for document in documents:  # each is a separate text
        for pretoken, count in expected_counts(document, tuple(special_tokens)).items():
            together[pretoken] = together.get(pretoken, 0) + count
    expected = reference.learn_merges(together, MERGES)
    for threads in (1, 2) if together else ():
        vocab_size = 256 + MERGES + len(special_tokens)
        trained = bpe.train_from_iterator(iter(documents), vocab_size, special_tokens, threads=threads)
        if trained.merges != expected:
            yield f"train_from_iterator, {threads} threads"


def merging_differences(counts: dict[bytes, int]) -> Iterator[str]:
    """Yield the engines whose merges differ from the reference: with and without limits, and on top of others."""
    for limits in (Limits(), Limits(2, None), Limits(1, 4), Limits(3, 5)):
        rules = {"min_frequency": limits.min_frequency, "max_token_length": limits.max_token_length}
        expected = reference.learn_merges(counts, MERGES, **rules)
        present = reference.learn_merges(counts, MERGES // 4, max_token_length=3)
        on_top = reference.learn_merges(counts, MERGES, present=present, **rules)
        for engine, learn in ENGINES.items():
            if learn(PretokenCounts(counts), MERGES, limits) != expected:
                yield f"merges, {engine}, {limits}"
            split = partial(reference.encode_word, merges=present)
            if learn(PretokenCounts(counts), MERGES, limits, split=split) != on_top:
                yield f"merges on top of {len(present)}, {engine}, {limits}"


def check_corpus(seed: int) -> str | None:
    """Compare everything on one corpus; return a description of a difference with a short text that shows it."""
    generator = random.Random(seed)
    text, special = corpus(generator)

    def differences(part: str) -> list[str]:
        again = random.Random(seed)  # the same cuts while the text is reduced
        found = list(counting_differences(part, special, cut(part, again), again.randint(1, 40)))
        return found + list(training_differences(part, special, cut(part, again)))

    found = differences(text)
    if found:
        smallest = shortest(text, lambda part: bool(differences(part)), 2000)
        return f"{', '.join(differences(smallest))}: text {smallest!r}, special tokens {special!r}"
    counts = word_counts(generator)
    if list(merging_differences(counts)):
        pretokens = shortest(
            list(counts), lambda part: bool(list(merging_differences({w: counts[w] for w in part}))), 2000
        )
        smaller = {pretoken: counts[pretoken] for pretoken in pretokens}
        return f"{', '.join(merging_differences(smaller))}: counts {smaller!r}"
    return None


def main() -> None:
    """Check a number of corpora."""
    warnings.simplefilter("ignore", bpe.VocabularySizeWarning)  # the texts are small
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first corpus; the others follow")
    options = parser.parse_args()
    begin = time.perf_counter()
    for seed in range(options.seed, options.seed + options.corpora):
        difference = check_corpus(seed)
        if difference:
            print(f"\nseed {seed}: {difference}")
            sys.exit(1)
        if seed % 100 == 0:
            print(f"\r{seed - options.seed + 1:,} corpora", end="", file=sys.stderr, flush=True)
    ways = f"{len(ENGINES)} engines, 1 and 2 threads, whole, in blocks and in parts"
    print(f"\n{options.corpora:,} corpora have the merges of the reference: {ways}; seeds from {options.seed}")
    print(f"{time.perf_counter() - begin:.0f} s in total")


if __name__ == "__main__":
    main()
