"""An order of any number of things, any place of which is computed without the others."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

Unsigned: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]
ROUNDS = 8
_LARGEST_TABLE = 4096


class Permutation:
    """A keyed, pseudorandom one-to-one map of range(size) onto itself, in constant memory.

    A Feistel network over pairs (left, right) with left < a, right < b and a * b barely above `size`; what falls
    outside of range(size) is put through again until it is inside ("cycle walking"). A network over few pairs prefers
    some orders, so few things are sorted by their hash instead ("prefix cipher"). All three from J. Black and
    P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002. The round function is the finalizer of SplitMix64
    (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014). It is for shuffling,
    not for secrets.

    Args:
        size: how many things there are, from 1 to 2**62.
        keys: (ROUNDS,) uint64; other keys, another order.

    Raises:
        ValueError: `size` or the number of keys is another.
    """

    def __init__(self, size: int, keys: Unsigned) -> None:
        if not 1 <= size <= 1 << 62 or len(keys) != ROUNDS:
            raise ValueError(f"size is {size!r} with {len(keys)} keys: expected 1 to 2**62 and {ROUNDS} keys")
        self._size = np.uint64(size)
        left = math.isqrt(size - 1) + 1
        self._left, self._right = np.uint64(left), np.uint64(-(-size // left))
        self._keys = keys
        self._table: Unsigned | None = None
        if size <= _LARGEST_TABLE:
            hashes = _mix(_mix(np.arange(size, dtype=np.uint64) ^ keys[0]) ^ keys[1])
            self._table = np.argsort(hashes, kind="stable").astype(np.uint64)

    def __call__(self, places: Unsigned) -> Unsigned:
        """Return what stands at these places, both (n,) uint64 below `size`."""
        if self._table is not None:
            return self._table[places]
        found = self._encrypt(places)
        while (outside := np.flatnonzero(found >= self._size)).size:
            found[outside] = self._encrypt(found[outside])
        return found

    def _encrypt(self, values: Unsigned) -> Unsigned:
        right, left = np.divmod(values, self._left)
        for first, second in zip(self._keys[::2], self._keys[1::2], strict=True):
            left = (left + _mix(right ^ first)) % self._left
            right = (right + _mix(left ^ second)) % self._right
        return right * self._left + left


def _mix(values: Unsigned) -> Unsigned:
    """Return 63 well mixed bits: one less than 64, so that a sum with a small number does not wrap around."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (values ^ (values >> np.uint64(31))) >> np.uint64(1)
