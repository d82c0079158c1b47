"""Examples such as prompts with answers: each has a window of its own, and only some of its targets may count."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from trainer.data.windows import IGNORED, TokenArray, dtype_advice


class Examples:
    """Short sequences of ids, each padded to a window, instead of one long text.

    In batches, padding and targets that do not count are -100, the default `ignore_index` of torch. A loss function
    must leave them out, and return the sum of the losses with the number of targets that count.

    Args:
        ids: The ids of each example, one-dimensional; at least two.
        counted: For each id whether it counts as a target, such as the ids of an answer and not those of its prompt.
            The first id of an example is never a target. None counts all.

    Raises:
        ValueError: If there is no example, an example is too short or holds no ids, or `counted` has other lengths.
    """

    def __init__(self, ids: Sequence[ArrayLike], counted: Sequence[ArrayLike] | None = None) -> None:
        rows = [np.asarray(row) for row in ids]
        marks = [np.ones(row.shape, bool) for row in rows] if counted is None else [np.asarray(row) for row in counted]
        if not rows:
            raise ValueError("ids is empty: expected at least one example")
        if len(marks) != len(rows):
            raise ValueError(f"counted has {len(marks):,} rows: expected one for each of the {len(rows):,} examples")
        for number, (row, mark) in enumerate(zip(rows, marks, strict=True)):
            if row.ndim != 1 or row.size < 2:
                raise ValueError(f"example {number} has the shape {row.shape}: expected one row of at least 2 ids")
            if row.dtype.kind not in "iu":
                raise ValueError(f"example {number} holds {row.dtype}: expected integers; {dtype_advice(row)}")
            if mark.shape != row.shape or not np.isin(mark, (0, 1)).all():
                raise ValueError(
                    f"counted[{number}] is not {row.size} times True or False: expected one for each id of the example"
                )
        self.ids: TokenArray = np.concatenate(rows)
        """The ids of all examples, one after the other."""
        self._counted: TokenArray = np.concatenate(marks).astype(bool)
        self._ends = np.cumsum([row.size for row in rows])

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def lengths(self) -> TokenArray:
        """(examples,) number of ids in each."""
        return np.diff(self._ends, prepend=0)

    @property
    def sha256(self) -> str:
        """Checksum of the lengths and of what counts."""
        digest = hashlib.sha256(self._ends.astype("<i8").tobytes())
        digest.update(self._counted.tobytes())
        return digest.hexdigest()

    def first(self, count: int) -> Examples:
        """Return the first examples."""
        ends = self._ends[: count - 1]
        total = self._ends[count - 1]
        return Examples(np.split(self.ids[:total], ends), np.split(self._counted[:total], ends))

    def read(self, numbers: TokenArray, context_length: int) -> tuple[TokenArray, TokenArray]:
        """Return the inputs and targets of examples, both (len(numbers), context_length) int64."""
        inputs = np.zeros((len(numbers), context_length), np.int64)
        targets = np.full_like(inputs, IGNORED)
        for row, number in enumerate(numbers.tolist()):
            end = self._ends[number]
            begin = self._ends[number - 1] if number else 0
            size = end - begin - 1
            inputs[row, :size] = self.ids[begin : end - 1]
            targets[row, :size] = np.where(self._counted[begin + 1 : end], self.ids[begin + 1 : end], IGNORED)
        return inputs, targets
