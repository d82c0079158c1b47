"""Measurements of a tokenizer: compression of documents, throughput, and tokens shared with another."""

import math
import pickle
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.experiments.comparison import CONFIDENCE, student_quantile

if TYPE_CHECKING:
    from bpe import Tokenizer

PILE_BYTES = 825e9
"""Size of The Pile according to the handout."""
LEAST_DOCUMENTS = 30
"""With fewer documents, their mean may be too far from normal for an interval."""


@dataclass(frozen=True)
class Compression:
    """Compression of the documents of one validation text by one tokenizer, without separators."""

    tokenizer: str
    corpus: str
    bytes: list[int]
    """Size of each document."""
    tokens: list[int]
    """Tokens of each document."""
    sampled: list[int]
    """Indices of the documents that were drawn."""
    entries_used: int
    """Number of different tokens in the whole text."""

    def ratios(self, indices: Sequence[int]) -> list[float]:
        """Bytes per token of these documents."""
        return [self.bytes[index] / self.tokens[index] for index in indices]

    @property
    def sample_mean(self) -> float:
        """Bytes per token, averaged over the documents drawn."""
        return statistics.fmean(self.ratios(self.sampled))

    @property
    def sample_deviation(self) -> float:
        """Standard deviation (n - 1) of bytes per token over the documents drawn."""
        return statistics.stdev(self.ratios(self.sampled))

    @property
    def whole(self) -> float:
        """Bytes per token of the whole text: all bytes divided by all tokens."""
        return sum(self.bytes) / sum(self.tokens)

    @property
    def whole_deviation(self) -> float | None:
        """Standard deviation (n - 1) over all documents; None for a single one."""
        return statistics.stdev(self.ratios(range(len(self.bytes)))) if len(self.bytes) > 1 else None


@dataclass(frozen=True)
class Ratio:
    """A ratio of two sums over documents, with half the width of its 95 % interval; None with too few documents."""

    value: float
    half_width: float | None

    @property
    def differs_from_one(self) -> bool:
        """True if there is an interval and it excludes 1."""
        return self.half_width is not None and abs(self.value - 1) > self.half_width


@dataclass(frozen=True)
class Speed:
    """Seconds of single calls of one tokenizer on one text."""

    tokenizer: str
    corpus: str
    text_bytes: int
    tokens: int
    threads: int
    """Number of threads of `encode_all_threads`."""
    first_call: float
    """Encoding with all threads by a new tokenizer, whose tables are built and whose cache is empty."""
    encode_one_thread: list[float]
    encode_all_threads: list[float]
    decode: list[float]
    round_trip: bool
    """True if decoding returned the original text."""

    def rate(self, seconds: Sequence[float]) -> float:
        """Bytes of text per second, at the median of the calls."""
        return self.text_bytes / statistics.median(seconds)

    def rate_range(self, seconds: Sequence[float]) -> tuple[float, float]:
        """The slowest and the fastest call, in bytes of text per second."""
        return self.text_bytes / max(seconds), self.text_bytes / min(seconds)


def draw_documents(number: int, of: int, seed: int) -> list[int]:
    """Draw indices of documents without repetition; every tokenizer gets the same ones."""
    return sorted(random.Random(seed).sample(range(of), number))


def measure_compression(
    name: str, tokenizer: "Tokenizer", corpus: str, documents: Sequence[str], sampled: list[int]
) -> Compression:
    """Encode every document separately.

    Raises:
        ValueError: The vocabulary lacks a byte of the text.
    """
    import numpy as np

    used = np.zeros(tokenizer.vocab_size, dtype=bool)
    tokens = []
    for ids in tokenizer.encode_batch(documents):
        used[ids] = True
        tokens.append(len(ids))
    sizes = [len(document.encode("utf-8")) for document in documents]
    return Compression(name, corpus, sizes, tokens, sampled, int(used.sum()))


def ratio_over_documents(above: Sequence[int], below: Sequence[int]) -> Ratio:
    """Divide the sum of one quantity by the sum of another, with an interval over the documents.

    This is the ratio estimator of survey sampling. Documents count as drawn at random, and each brings both quantities,
    so that common effects (long or hard documents) cancel.
    """
    value = sum(above) / sum(below)
    number = len(above)
    if number < LEAST_DOCUMENTS:
        return Ratio(value, None)
    rests = sum((over - value * under) ** 2 for over, under in zip(above, below, strict=True))
    deviation = math.sqrt(rests * number / (number - 1)) / sum(below)
    return Ratio(value, student_quantile((1 + CONFIDENCE) / 2, number - 1) * deviation)


def measure_speed(name: str, tokenizer: "Tokenizer", corpus: str, text: str, repeats: int) -> Speed:
    """Time encoding to an array and decoding, each several times after a warm-up call."""
    from bpe.threads import check_threads

    _fresh(tokenizer).encode_to_numpy(text)  # loads parts shared by all tokenizers
    fresh = _fresh(tokenizer)
    (first,) = _seconds(lambda: fresh.encode_to_numpy(text), 1)
    one = _seconds(lambda: fresh.encode_to_numpy(text, threads=1), repeats)
    every = _seconds(lambda: fresh.encode_to_numpy(text), repeats)
    ids = fresh.encode_to_numpy(text)
    round_trip = fresh.decode(ids) == text
    decode = _seconds(lambda: fresh.decode(ids), repeats)
    size = len(text.encode("utf-8"))
    return Speed(name, corpus, size, len(ids), check_threads(None), first, one, every, decode, round_trip)


def tokens_in_common(one: "Tokenizer", other: "Tokenizer") -> int:
    """Count the tokens, by their bytes, that two vocabularies share."""
    return len(set(one.vocab.values()) & set(other.vocab.values()))


def _fresh(tokenizer: "Tokenizer") -> "Tokenizer":
    """Copy a tokenizer without its cache, which pickle leaves out."""
    copy: Tokenizer = pickle.loads(pickle.dumps(tokenizer))
    return copy


def _seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Time several calls, each separately."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds
