"""Counts of distinct pre-tokens, in arrays where there are many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from operator import mul
from typing import TYPE_CHECKING

from bpe.arguments import whole_number
from bpe.text import GPT2_PATTERN, Pattern, StrPath, check_special_tokens, in_one_form
from bpe.threads import call_aside

if TYPE_CHECKING:
    import numpy as np

    CountArrays = tuple[np.ndarray, np.ndarray, np.ndarray]

_MOST = 2**63 - 1
"""The largest count: counts in arrays are int64."""


class PretokenCounts(Mapping[bytes, int]):
    """Number of occurrences of each distinct pre-token (bytes); `a + b` adds counts, `save` and `load` store them.

    The counts of the parts of a corpus add up to the counts of the whole, so parts may be counted on several machines.
    `pattern` is the pattern that split the text, or a tuple of several; `special_tokens` is a tuple of the special
    tokens that were taken out before, or None if they are unknown.
    """

    def __init__(
        self,
        counts: Mapping[bytes, int] | None = None,
        *,
        pattern: Pattern = GPT2_PATTERN,
        special_tokens: Iterable[str] | None = None,
    ) -> None:
        """Copy the counts of a mapping.

        Raises:
            TypeError: If `special_tokens` is a single string.
            ValueError: If a key is not non-empty bytes, a count is not an integer from 1 to 2**63 - 1, a special
                token is not a non-empty string, or a pattern is not a string.
        """
        checked: dict[bytes, int] = {}
        for pretoken, count in (counts or {}).items():
            if not isinstance(pretoken, bytes) or not pretoken:
                raise ValueError(f"pre-token {pretoken!r} is not non-empty bytes; encode strings as UTF-8")
            number = whole_number(count)
            if number is None or not 1 <= number < 2**63:
                raise ValueError(
                    f"count of pre-token {pretoken!r} is {count!r}, expected a whole number from 1 to 2**63 - 1"
                )
            checked[pretoken] = number
        self.pattern = in_one_form(pattern)
        self.special_tokens = None if special_tokens is None else tuple(check_special_tokens(special_tokens))
        self._made: dict[bytes, int] | CountArrays = checked

    @classmethod
    def from_arrays(
        cls,
        words: np.ndarray,
        offsets: np.ndarray,
        counts: np.ndarray,
        *,
        pattern: Pattern = GPT2_PATTERN,
        special_tokens: Iterable[str] | None = None,
    ) -> PretokenCounts:
        """Create counts from arrays in the form of `arrays`, without copying them; each pre-token must occur once."""
        made = cls(pattern=pattern, special_tokens=special_tokens)
        made._made = (words, offsets, counts)
        return made

    @classmethod
    def from_trusted(
        cls, counts: dict[bytes, int], *, pattern: Pattern, special_tokens: Iterable[str] | None = None
    ) -> PretokenCounts:
        """Wrap a dictionary of counts without a copy and without checking each."""
        made = cls(pattern=pattern, special_tokens=special_tokens)
        made._made = counts
        return made

    @cached_property
    def _counts(self) -> dict[bytes, int]:
        """The counts as a dictionary, created at the first access to a single count."""
        if isinstance(self._made, dict):
            return self._made
        pretokens, offsets, counts = self._made
        data = pretokens.tobytes()
        keys = (data[start:end] for start, end in pairwise(offsets.tolist()))
        return dict(zip(keys, counts.tolist(), strict=True))

    def __getitem__(self, pretoken: bytes) -> int:
        return self._counts[pretoken]

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
            for pretoken, count in other.items():
                total[pretoken] = total.get(pretoken, 0) + count
            return PretokenCounts.from_trusted(total, pattern=self.pattern, special_tokens=special)
        from bpe.kernels.tables.pretokens import PretokenTable

        def add() -> CountArrays:
            table = PretokenTable()
            table.add(*self.arrays())
            table.add(*other.arrays())
            return table.arrays()

        return PretokenCounts.from_arrays(*call_aside(add), pattern=self.pattern, special_tokens=special)

    def __radd__(self, other: object) -> PretokenCounts:
        # sum() starts with 0.
        return self if other == 0 else NotImplemented

    def __repr__(self) -> str:
        return f"PretokenCounts({len(self):,} distinct, {self.total:,} in all)"

    def agrees(self, special_tokens: Iterable[str] | None) -> bool:
        """Return whether these special tokens, in any order, may be those of the counts; None agrees with all."""
        return special_tokens is None or self.special_tokens is None or {*special_tokens} == {*self.special_tokens}

    @property
    def total(self) -> int:
        """The number of pre-tokens counted, with repetitions."""
        return _exact_sum(self.arrays()[2])

    @property
    def distinct_bytes(self) -> int:
        """The total number of bytes of the distinct pre-tokens."""
        return sum(map(len, self._made)) if isinstance(self._made, dict) else len(self._made[0])

    @property
    def total_bytes(self) -> int:
        """The number of bytes of the pre-tokens counted, with repetitions."""
        if isinstance(self._made, dict):
            return sum(len(pretoken) * count for pretoken, count in self._made.items())
        _, offsets, counts = self._made
        return _exact_sum(counts, offsets[1:] - offsets[:-1])

    def most_common(self, number: int) -> list[tuple[bytes, int]]:
        """Return the most frequent pre-tokens with their counts; among equals, the greater bytes come first."""
        import numpy as np

        pretokens, offsets, counts = self.arrays()
        number = min(number, len(counts))
        if number < 1:
            return []
        least = np.partition(counts, len(counts) - number)[len(counts) - number]
        chosen = (counts >= least).nonzero()[0].tolist()
        items = [(pretokens[offsets[i] : offsets[i + 1]].tobytes(), int(counts[i])) for i in chosen]
        return sorted(items, key=lambda item: (item[1], item[0]), reverse=True)[:number]

    def arrays(self) -> CountArrays:
        """Return bytes uint8 (total,), offsets int64 (n + 1,), counts int64 (n,) in any order; do not change them."""
        if not isinstance(self._made, dict):
            return self._made
        import numpy as np

        offsets = np.zeros(len(self._made) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, self._made), dtype=np.int64, count=len(self._made)), out=offsets[1:])
        counts = np.fromiter(self._made.values(), dtype=np.int64, count=len(self._made))
        return np.frombuffer(b"".join(self._made), dtype=np.uint8), offsets, counts

    def save(self, path: StrPath) -> None:
        """Write the counts to a compact file; equal counts give identical files.

        Raises:
            OSError: If it cannot be written.
        """
        from bpe.training import counts_file

        counts_file.save(path, *self.arrays(), pattern=self.pattern, special_tokens=self.special_tokens)

    @classmethod
    def load(cls, path: StrPath) -> PretokenCounts:
        """Read counts that `save` wrote.

        Raises:
            OSError: If the file does not exist or cannot be read.
            ValueError: If it is not a file of counts, is damaged, or has a newer version.
        """
        from bpe.training import counts_file

        content = counts_file.load(path)
        return cls.from_arrays(*content[:3], pattern=content.pattern, special_tokens=content.special_tokens)


def _exact_sum(counts: np.ndarray, times: np.ndarray | None = None) -> int:
    """Return the sum of the counts, each multiplied by `times` if given; in Python where 64 bits may not suffice."""
    import numpy as np

    weighted = counts.astype(np.float64) if times is None else counts.astype(np.float64) * times
    if weighted.sum() < _MOST / 2:
        return int((counts if times is None else counts * times).sum())
    return sum(counts.tolist() if times is None else map(mul, counts.tolist(), times.tolist()))
