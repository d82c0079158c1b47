"""Compare ids with those of tiktoken and tokenizers on random strings and on all shared texts.

    python fuzz_encoding.py [--strings N] [--seed N] [--skip-texts]

All ways of encoding are compared: small texts in Python, `encode_batch`, and large texts by the kernels on one and on
two threads; with the vocabularies of GPT-2, cl100k_base and o200k_base. Every string is split by each pattern that the
kernels know, by them and by `regex`. Characters that another library classifies differently because of its Unicode
version are listed. That library gets no strings with such characters, and they are removed from whole texts. The
program stops at the first difference, reduced to a short text, with exit status 1.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from engines import (
    CLASSES_OF_O200K,
    DATA,
    Engine,
    classes_of_tiktoken,
    classes_of_tokenizers,
    differing,
    own_gpt2,
    own_with_ranks,
    ranges,
    tiktoken_gpt2,
    tiktoken_with_ranks,
    tokenizers_gpt2,
)
from generate import EOT, SEPARATOR, SPECIAL_TOKENS, strings
from shrink import shortest

import bpe
from bpe.kernels.machine.arrays import read_only
from bpe.kernels.machine.compiling import structure
from bpe.kernels.scanning.unicode_classes import class_table
from bpe.kernels.tables.pretokens import next_pretokens, pretoken_buffers
from bpe.text import patterns, scanner_of, split_pretokens, utf8

KNOWN_PATTERNS: dict[str, str | tuple[str, ...]] = {
    "GPT-2": patterns.GPT2_PATTERN,
    "digits, then GPT-2": patterns.DIGITS_THEN_GPT2,
    "cl100k": patterns.CL100K_PATTERN,
    "Llama 3": patterns.LLAMA3_PATTERN,
    "Qwen": patterns.QWEN_PATTERN,
    "Qwen 3.5": patterns.QWEN35_PATTERN,
    "o200k": patterns.O200K_PATTERN,
    "Tekken": patterns.TEKKEN_PATTERN,
    "DeepSeek": patterns.DEEPSEEK_PATTERNS,
}
"""Patterns that the kernels know."""

Ids = list[int]
Encode = Callable[[Sequence[str]], list[Ids]]
BATCH = 25_000
PYTHON_BYTES = 4 << 20
"""After so much text a tokenizer is replaced by a new one, so that small texts are encoded in Python."""
TEXT_BYTES = 4 << 20
ENOUGH_FOR_KERNELS = 3 << 20


class Ways:
    """The ways of encoding with this package; each takes texts and returns their ids."""

    def __init__(self, tokenizer: bpe.Tokenizer, kernels: bool) -> None:
        self._pristine = tokenizer
        self._python = copy.copy(tokenizer)
        self._encoded = 0
        self._batches = copy.copy(tokenizer)
        self._whole = copy.copy(tokenizer)
        self._separator = tokenizer.token_to_id(SEPARATOR)
        self.all: dict[str, Encode] = {"encode in Python": self.in_python}
        if kernels:
            # From now on these tokenizers use kernels, whatever the size of a text.
            bpe.kernels.CALL_BYTES = 0
            self._batches.encode_to_numpy("a text " * (ENOUGH_FOR_KERNELS // 7))
            self._whole.encode_to_numpy("a text " * (ENOUGH_FOR_KERNELS // 7))
            self.all |= {
                "encode_to_numpy": self.by_kernels,
                "encode_batch": self.in_batches,
                "encode_to_numpy of all joined, 1 thread": self.joined,
                "encode_to_numpy of all joined, 2 threads": partial(self.joined, threads=2),
            }

    def by_kernels(self, texts: Sequence[str]) -> list[Ids]:
        """Encode each text separately, with a tokenizer that uses kernels."""
        return [self._whole.encode_to_numpy(text, threads=1).tolist() for text in texts]

    def in_batches(self, texts: Sequence[str]) -> list[Ids]:
        """Encode all texts in a batch."""
        return [ids.tolist() for ids in self._batches.encode_batch(texts, threads=2)]

    def in_python(self, texts: Sequence[str]) -> list[Ids]:
        """Encode each text separately, with a tokenizer that has not seen enough text to use kernels."""
        found = []
        for text in texts:
            self._encoded += 4 * len(text)
            if self._encoded > PYTHON_BYTES:
                self._python = copy.copy(self._pristine)
                self._encoded = 4 * len(text)
            found.append(self._python.encode(text))
        return found

    def joined(self, texts: Sequence[str], threads: int = 1) -> list[Ids]:
        """Encode all texts joined by a special token."""
        if not texts:
            return []
        ids = self._whole.encode_to_numpy(SEPARATOR.join(texts), threads=threads)
        return [
            part[part != self._separator].tolist() for part in np.split(ids, np.flatnonzero(ids == self._separator))
        ]


def sizes_by_regex(pattern: str | tuple[str, ...], texts: Sequence[str]) -> list[Ids]:
    """Return the number of characters of each pre-token, found by `regex`."""
    found = []
    for text in texts:
        pretokens = [text]
        for split in [pattern] if isinstance(pattern, str) else pattern:
            pretokens = [part for pretoken in pretokens for part in split_pretokens(split, pretoken)]
        found.append([len(pretoken) for pretoken in pretokens])
    return found


def sizes_by_kernels(pattern: str | tuple[str, ...], texts: Sequence[str]) -> list[Ids]:
    """Return the number of characters of each pre-token, found by the kernels in all texts joined."""
    scanner, classes = scanner_of(pattern), class_table()
    buffers, table = pretoken_buffers(), np.zeros(64, dtype=np.uint64)
    argument = structure(buffers)
    data = read_only("".join(texts).encode("utf-8"))
    characters = np.cumsum(data & 0xC0 != 0x80)  # up to and including each byte
    found: list[Ids] = []
    position = 0
    for text in texts:
        starts, end = [position], position + len(text.encode("utf-8"))
        while position < end:
            number = next_pretokens(data, position, end, scanner, classes, table, 4, argument)
            starts += buffers.ends[:number].tolist()
            position = starts[-1]
        before = [int(characters[start - 1]) if start else 0 for start in starts]
        found.append(np.diff(before).tolist())
    return found


def check_splits(texts: Sequence[str], seed: int) -> None:
    """Compare the pre-tokens of the kernels with those of `regex`, for every pattern that the kernels know."""
    texts = [utf8(text).decode("utf-8") for text in texts]  # without lone surrogates
    for name, pattern in KNOWN_PATTERNS.items():
        by_regex, by_kernels = partial(sizes_by_regex, pattern), partial(sizes_by_kernels, pattern)
        index = first_difference(texts, by_regex(texts), by_kernels(texts))
        if index is not None:
            fail(texts, index, f"regex and kernels ({name})", partial(differ, by_regex, by_kernels), seed)


def first_difference(texts: Sequence[str], expected: Sequence[Ids], found: Sequence[Ids]) -> int | None:
    """Return the index of the first text whose ids differ."""
    if list(expected) == list(found):
        return None
    pairs = zip(expected, found, strict=False)
    return next((index for index, (ids, others) in enumerate(pairs) if ids != others), min(len(expected), len(found)))


def differ(one: Encode, other: Encode, texts: Sequence[str]) -> bool:
    """Return whether two ways of encoding give different ids."""
    return one(texts) != other(texts)


def fail(texts: Sequence[str], index: int, names: str, different: Callable[[Sequence[str]], bool], seed: int) -> None:
    """Print a reduced text, or several, for which two ways of encoding differ, and exit."""
    if index < len(texts) and different([texts[index]]):
        text = shortest(texts[index], lambda part: different([part]))
        print(f"seed {seed}: {names} differ on {text!r}")
        print(f"found in {texts[index][:300]!r}")
    else:
        several = shortest(list(texts), different, 300)
        print(f"seed {seed}: {names} differ on {len(several)} texts encoded together, from {several[:3]!r}")
    sys.exit(1)


def check(texts: Sequence[str], ways: Ways, engines: Sequence[Engine], skipped: Counter[str], seed: int) -> None:
    """Compare all ways of encoding `texts` with the first way, and the first way with the other libraries."""
    (first, encode), *others = ways.all.items()
    expected = encode(texts)
    for name, way in others:
        index = first_difference(texts, expected, way(texts))
        if index is not None:
            fail(texts, index, f"{name} and {first}", partial(differ, way, encode), seed)
    for engine in engines:
        given = [index for index, text in enumerate(texts) if engine.excluded.isdisjoint(text)]
        skipped[engine.name] += len(texts) - len(given)
        chosen = [texts[index] for index in given]
        index = first_difference(chosen, engine.encode(chosen), [expected[index] for index in given])
        if index is not None:
            fail(chosen, index, f"{engine.name} and {first}", partial(differ, engine.encode, encode), seed)


def read(path: Path) -> str:
    """Return a shared text."""
    return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode("utf-8")


def parts(text: str, size: int) -> Iterator[list[str]]:
    """Yield the documents of a text in groups of about `size` characters."""
    group: list[str] = []
    length = 0
    for document in text.split(EOT):
        group.append(document)
        length += len(document)
        if length >= size:
            yield group
            group, length = [], 0
    yield group


def check_text(path: Path, gpt2: Ways, engines: Sequence[Engine], whole: bpe.Tokenizer, seed: int) -> str:
    """Compare the ids of a whole text, and of its documents in all ways; return a summary."""
    text = read(path)
    excluded = frozenset().union(*(engine.excluded for engine in engines)) & set(text)
    removed = sum(map(text.count, excluded))
    text = text.translate(dict.fromkeys(map(ord, excluded)))
    for group in parts(text, TEXT_BYTES):
        check(group, gpt2, engines, Counter(), seed)
    for threads in (1, 2):
        ids = whole.encode_to_numpy(text, threads=threads)
        if ids.tolist() != engines[0].encode([text])[0]:
            sys.exit(
                f"seed {seed}: ids of {path.name} as a whole differ from those of {engines[0].name}, {threads} threads"
            )
    return f"{path.name}: {len(ids):,} ids equal; {removed} characters removed"


def main() -> None:
    """Run all comparisons and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip-texts", action="store_true", help="skip the complete shared texts")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"no folder {DATA}: vocabularies and texts are read from there")
    begin = time.perf_counter()
    differences = {"tiktoken": differing(classes_of_tiktoken()), "tokenizers": differing(classes_of_tokenizers())}
    for name, found in differences.items():
        same = name != "tiktoken" and found == differences["tiktoken"]
        lines = ["the same as in tiktoken"] if same else ranges(found)
        print(f"{len(found)} code points have another class in {name}", *lines, sep="\n  ")
    excluded = {name: frozenset(found) for name, found in differences.items()}
    excluded["tiktoken, o200k_base"] = frozenset(differing(classes_of_tiktoken(CLASSES_OF_O200K), CLASSES_OF_O200K))
    gpt2 = own_gpt2()
    ids = {token: gpt2.token_to_id(token) for token in SPECIAL_TOKENS}
    engines = [tiktoken_gpt2(ids, excluded["tiktoken"]), tokenizers_gpt2(ids, excluded["tokenizers"])]
    compared = [(Ways(gpt2, kernels=True), engines)]
    for name, pattern in (("cl100k_base", bpe.CL100K_PATTERN), ("o200k_base", bpe.O200K_PATTERN)):
        own = own_with_ranks(name, pattern)
        ids = {token: own.token_to_id(token) for token in SPECIAL_TOKENS}
        theirs = tiktoken_with_ranks(name, pattern, ids, excluded.get(f"tiktoken, {name}", excluded["tiktoken"]))
        compared.append((Ways(own, kernels=True), [theirs]))
    paths = sorted(path for path in DATA.iterdir() if path.suffix in (".txt", ".gz"))
    excerpts = [read(path)[:2_000_000] for path in paths]
    skipped: Counter[str] = Counter()
    source = strings(options.seed, options.strings, excerpts, frozenset().union(*excluded.values()))
    done = 0
    while batch := [text for _, text in zip(range(BATCH), source, strict=False)]:
        for ways, others in compared:
            check(batch, ways, others, skipped, options.seed)
        check_splits(batch, options.seed)
        done += len(batch)
        print(f"\r{done:,} strings, {time.perf_counter() - begin:.0f} s", end="", file=sys.stderr, flush=True)
    print(f"\n{done:,} strings have the same ids everywhere (seed {options.seed})")
    for name, number in skipped.items():
        print(f"  {number:,} of them were skipped for {name}: they have characters of another class or surrogates")
    for path in [] if options.skip_texts else paths:
        print(check_text(path, compared[0][0], engines, gpt2, options.seed), flush=True)
    print(f"{time.perf_counter() - begin:.0f} s in total")


if __name__ == "__main__":
    main()
