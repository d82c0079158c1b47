"""How often each distinct pre-token occurs, in arrays where there are many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from operator import mul
from typing import TYPE_CHECKING

from bpe.text.patterns import GPT2_PATTERN
from bpe.text.special_tokens import check_special_tokens
from bpe.text.utf8 import StrPath

if TYPE_CHECKING:
    import numpy as np

    WordArrays = tuple[np.ndarray, np.ndarray, np.ndarray]

_MOST = 2**63 - 1
"""The largest count: in arrays, counts are int64."""


class PretokenCounts(Mapping[bytes, int]):
    """How often each distinct pre-token (bytes) occurs; `a + b` adds them up, `save` and `load` keep them.

    The counts of parts of a corpus, added together, are the counts of the whole: parts may be counted on several
    machines. `pattern` is what the text was split by, `special_tokens` what was taken out of it before, as a tuple;
    None if that is not known.
    """

    def __init__(
        self,
        counts: Mapping[bytes, int] | None = None,
        *,
        pattern: str = GPT2_PATTERN,
        special_tokens: Iterable[str] | None = None,
    ) -> None:
        """Take the counts of a mapping.

        Raises:
            TypeError: If the special tokens are one string.
            ValueError: If a key is not non-empty bytes, a count not a whole number from 1 to 2**63 - 1, or a special
                token not a non-empty string.
        """
        for piece, count in (counts or {}).items():
            if not isinstance(piece, bytes) or not piece:
                raise ValueError(f"pre-token {piece!r} is not non-empty bytes; encode strings as UTF-8")
            if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count < 2**63:
                raise ValueError(
                    f"count of pre-token {piece!r} is {count!r}, expected a whole number from 1 to 2**63 - 1"
                )
        self.pattern = pattern
        self.special_tokens = None if special_tokens is None else tuple(check_special_tokens(special_tokens))
        self._made: dict[bytes, int] | WordArrays = dict(counts or {})

    @classmethod
    def from_arrays(
        cls,
        words: np.ndarray,
        offsets: np.ndarray,
        counts: np.ndarray,
        *,
        pattern: str = GPT2_PATTERN,
        special_tokens: Iterable[str] | None = None,
    ) -> PretokenCounts:
        """Make counts of the arrays that `arrays` returns, which are not copied; no pre-token may come twice."""
        made = cls(pattern=pattern, special_tokens=special_tokens)
        made._made = (words, offsets, counts)
        return made

    @classmethod
    def _trusted(
        cls, counts: dict[bytes, int], pattern: str, special_tokens: Iterable[str] | None = None
    ) -> PretokenCounts:
        """Wrap counts made by this package without looking at each."""
        made = cls(pattern=pattern, special_tokens=special_tokens)
        made._made = counts
        return made

    @cached_property
    def _counts(self) -> dict[bytes, int]:
        """The counts as a dictionary, which is made when the first of them is asked for."""
        if isinstance(self._made, dict):
            return self._made
        words, offsets, counts = self._made
        data = words.tobytes()
        pieces = (data[start:end] for start, end in pairwise(offsets.tolist()))
        return dict(zip(pieces, counts.tolist(), strict=True))

    def __getitem__(self, piece: bytes) -> int:
        return self._counts[piece]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._made) if isinstance(self._made, dict) else len(self._made[2])

    def __add__(self, other: Mapping[bytes, int]) -> PretokenCounts:
        if not isinstance(other, Mapping):
            return NotImplemented
        if not isinstance(other, PretokenCounts):
            other = PretokenCounts(other, pattern=self.pattern)
        if other.pattern != self.pattern:
            raise ValueError(
                f"counts by the pattern {other.pattern!r} cannot be added to counts by {self.pattern!r}; count again"
            )
        if not self.agrees(other.special_tokens):
            raise ValueError(
                f"counts without the special tokens {other.special_tokens} cannot be added to counts without "
                f"{self.special_tokens}; count again"
            )
        special = other.special_tokens if self.special_tokens is None else self.special_tokens
        if self.total + other.total > _MOST:
            raise ValueError(
                f"counts of {self.total:,} and {other.total:,} pre-tokens cannot be added up, expected at most 2**63 - "
                "1 together; count less text"
            )
        if isinstance(self._made, dict) and isinstance(other._made, dict):
            total = dict(self._made)
            for piece, count in other.items():
                total[piece] = total.get(piece, 0) + count
            return PretokenCounts._trusted(total, self.pattern, special)
        from bpe.training.word_table import WordTable

        table = WordTable()
        table.add(*self.arrays())
        table.add(*other.arrays())
        return PretokenCounts.from_arrays(*table.words(), pattern=self.pattern, special_tokens=special)

    def __radd__(self, other: object) -> PretokenCounts:
        # sum() starts with 0.
        return self if other == 0 else NotImplemented

    def __repr__(self) -> str:
        return f"PretokenCounts({len(self):,} distinct, {self.total:,} in all)"

    def agrees(self, special_tokens: Iterable[str] | None) -> bool:
        """Say whether these special tokens, in any order, may be those taken out; None agrees with all."""
        return special_tokens is None or self.special_tokens is None or {*special_tokens} == {*self.special_tokens}

    @property
    def total(self) -> int:
        """The number of pre-tokens counted, repetitions included."""
        return sum(self._made.values()) if isinstance(self._made, dict) else _exact_sum(self._made[2])

    @property
    def distinct_bytes(self) -> int:
        """The number of bytes of the distinct pre-tokens."""
        return sum(map(len, self._made)) if isinstance(self._made, dict) else len(self._made[0])

    @property
    def total_bytes(self) -> int:
        """The number of bytes of the pre-tokens counted, repetitions included."""
        if isinstance(self._made, dict):
            return sum(len(piece) * count for piece, count in self._made.items())
        _, offsets, counts = self._made
        return _exact_sum(counts, offsets[1:] - offsets[:-1])

    def most_common(self, number: int) -> list[tuple[bytes, int]]:
        """Return the most frequent pre-tokens with their counts, the greater bytes first among equals."""
        items: Iterable[tuple[bytes, int]] = self._counts.items() if isinstance(self._made, dict) else ()
        if not isinstance(self._made, dict) and 0 < number < len(self):
            words, offsets, counts = self._made
            least = -_partitioned(-counts, number - 1)
            chosen = (counts >= least).nonzero()[0].tolist()
            items = [(words[offsets[i] : offsets[i + 1]].tobytes(), int(counts[i])) for i in chosen]
        elif not isinstance(self._made, dict):
            items = self._counts.items()
        return sorted(items, key=lambda item: (item[1], item[0]), reverse=True)[: max(number, 0)]

    def arrays(self) -> WordArrays:
        """Return bytes uint8 (total,), offsets int64 (n + 1,) and counts int64 (n,), in any order. Do not write."""
        if not isinstance(self._made, dict):
            return self._made
        import numpy as np

        offsets = np.zeros(len(self._made) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, self._made), dtype=np.int64, count=len(self._made)), out=offsets[1:])
        counts = np.fromiter(self._made.values(), dtype=np.int64, count=len(self._made))
        return np.frombuffer(b"".join(self._made), dtype=np.uint8), offsets, counts

    def save(self, path: StrPath) -> None:
        """Write the counts to a compact file; the same counts make the same file.

        Raises:
            OSError: If it cannot be written.
        """
        from bpe.training import counts_file

        counts_file.save(self, path)

    @classmethod
    def load(cls, path: StrPath) -> PretokenCounts:
        """Read counts that `save` wrote.

        Raises:
            OSError: If there is no such file, or it cannot be read.
            ValueError: If it is not such a file, damaged, or of a newer version.
        """
        from bpe.training import counts_file

        return counts_file.load(path)


def _exact_sum(counts: np.ndarray, times: np.ndarray | None = None) -> int:
    """Return the sum of the counts, each `times` a number if given; where 64 bits may not do, in Python."""
    import numpy as np

    weighted = counts.astype(np.float64) if times is None else counts.astype(np.float64) * times
    if weighted.sum() < _MOST / 2:
        return int((counts if times is None else counts * times).sum())
    return sum(counts.tolist() if times is None else map(mul, counts.tolist(), times.tolist()))


def _partitioned(values: np.ndarray, place: int) -> int:
    """Return the value that would stand at `place` if the values were sorted."""
    import numpy as np

    return int(np.partition(values, place)[place])
