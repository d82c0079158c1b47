"""What is measured of a tokenizer: how far it compresses documents, how fast it is, what its tokens are."""

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
"""The Pile, as the handout has it."""
LEAST_DOCUMENTS = 30
"""An interval from fewer documents would lean on a distribution that their mean need not have."""


@dataclass(frozen=True)
class Compression:
    """How one tokenizer compresses the documents of one validation text; separators belong to no document."""

    tokenizer: str
    corpus: str
    bytes: list[int]
    """Size of each document."""
    tokens: list[int]
    """Tokens of each document."""
    sampled: list[int]
    """Indices of the documents that were drawn."""
    entries_used: int
    """How many different tokens the whole text uses."""

    def ratios(self, indices: Sequence[int]) -> list[float]:
        """Bytes per token of these documents."""
        return [self.bytes[index] / self.tokens[index] for index in indices]

    @property
    def sample_mean(self) -> float:
        """Bytes per token, averaged over the documents drawn."""
        return statistics.fmean(self.ratios(self.sampled))

    @property
    def sample_deviation(self) -> float:
        """Standard deviation (n - 1) of the same."""
        return statistics.stdev(self.ratios(self.sampled))

    @property
    def whole(self) -> float:
        """Bytes per token of the whole text: all bytes by all tokens."""
        return sum(self.bytes) / sum(self.tokens)

    @property
    def whole_deviation(self) -> float | None:
        """Standard deviation (n - 1) over all documents; None for a single one."""
        return statistics.stdev(self.ratios(range(len(self.bytes)))) if len(self.bytes) > 1 else None


@dataclass(frozen=True)
class Ratio:
    """A ratio of two sums over documents, and half the width of its 95% interval over documents; None: too few."""

    value: float
    half_width: float | None

    @property
    def differs_from_one(self) -> bool:
        """Whether 1 lies outside of the interval, as far as there is one."""
        return self.half_width is not None and abs(self.value - 1) > self.half_width


@dataclass(frozen=True)
class Speed:
    """Seconds that one tokenizer takes for one text, each call by itself."""

    tokenizer: str
    corpus: str
    text_bytes: int
    tokens: int
    threads: int
    """All threads; the other measurement is of one."""
    first_call: float
    """Encoding with all threads by a fresh tokenizer: its tables are made, and no piece of text is known to it."""
    encode_one_thread: list[float]
    encode_all_threads: list[float]
    decode: list[float]
    round_trip: bool
    """Whether decoding gave the very text back."""

    def rate(self, seconds: Sequence[float]) -> float:
        """Bytes of text per second, the median of calls."""
        return self.text_bytes / statistics.median(seconds)

    def rate_range(self, seconds: Sequence[float]) -> tuple[float, float]:
        """The slowest and the fastest call, in bytes of text per second."""
        return self.text_bytes / max(seconds), self.text_bytes / min(seconds)


def draw_documents(number: int, of: int, seed: int) -> list[int]:
    """Indices of so many documents of a text, drawn without repetition; every tokenizer gets the same ones."""
    return sorted(random.Random(seed).sample(range(of), number))


def measure_compression(
    name: str, tokenizer: "Tokenizer", corpus: str, documents: Sequence[str], sampled: list[int]
) -> Compression:
    """Encode every document by itself.

    Raises:
        ValueError: the vocabulary lacks a byte of the text.
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
    """The sum of one quantity by the sum of another, with the spread of this ratio over the documents.

    The spread is the ratio estimator's of survey sampling: documents are taken as drawn at random, and each brings both
    quantities, so that what is common to them (long documents, hard ones) cancels out.
    """
    value = sum(above) / sum(below)
    number = len(above)
    if number < LEAST_DOCUMENTS:
        return Ratio(value, None)
    rests = sum((over - value * under) ** 2 for over, under in zip(above, below, strict=True))
    deviation = math.sqrt(rests * number / (number - 1)) / sum(below)
    return Ratio(value, student_quantile((1 + CONFIDENCE) / 2, number - 1) * deviation)


def measure_speed(name: str, tokenizer: "Tokenizer", corpus: str, text: str, repeats: int) -> Speed:
    """Time encoding to an array and decoding, each several times after a first time that does not count."""
    from bpe.threads import check_threads

    _fresh(tokenizer).encode_to_numpy(text)  # loads what is shared by all tokenizers
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
    """How many tokens two vocabularies share, by their bytes."""
    return len(set(one.vocab.values()) & set(other.vocab.values()))


def _fresh(tokenizer: "Tokenizer") -> "Tokenizer":
    """The same tokenizer, without what it remembers of texts: a copy by pickle leaves that out."""
    copy: Tokenizer = pickle.loads(pickle.dumps(tokenizer))
    return copy


def _seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of several calls."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds
