"""Documents of a split, found by the token that separates them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.data.splits import TokenSplit
from trainer.data.windows import TokenArray

_SCANNED_TOGETHER = 1 << 20  # ids: bounds the memory


@dataclass(frozen=True)
class Documents:
    """Places of documents in a split; each ends with the separator."""

    separator_id: int
    parts: TokenArray
    """(documents,) index of the part of the split."""
    starts: TokenArray
    """(documents,) index of the first id in the part."""
    lengths: TokenArray
    """(documents,) number of ids, the separator included."""

    def read(self, split: TokenSplit, number: int, begin: int, length: int) -> TokenArray:
        """Read consecutive ids of one document, as (length,) int64."""
        part, start = int(self.parts[number]), int(self.starts[number]) + begin
        available = min(length, split.lengths[part] - start)
        ids = split.read_range(part, start, available) if available else np.empty(0, np.int64)
        # The last document of a part may lack its separator.
        return ids if available == length else np.append(ids, self.separator_id)


def find_documents(split: TokenSplit, separator_id: int) -> Documents:
    """Find the documents of a split by reading all of it once.

    Raises:
        ValueError: If the separator does not occur.
    """
    starts: list[TokenArray] = []
    ends: list[TokenArray] = []
    for part, length in enumerate(split.lengths):
        found = [
            begin
            + np.flatnonzero(split.read_range(part, begin, min(_SCANNED_TOGETHER, length - begin)) == separator_id)
            for begin in range(0, length, _SCANNED_TOGETHER)
        ]
        last = np.concatenate(found) + 1
        if not len(last) or last[-1] != length:
            last = np.append(last, length + 1)  # and the separator that this document lacks
        ends.append(last)
        starts.append(np.concatenate(([0], last[:-1])))
    if all(len(part) == 1 and part[0] > length for part, length in zip(ends, split.lengths, strict=True)):
        raise ValueError(
            f"the separator_id {separator_id} does not occur in {split.name}: expected the id of the token between "
            'documents, such as tokenizer.eot_id; use sampling="shuffled" for a text without documents'
        )
    counts = [len(part) for part in ends]
    return Documents(
        separator_id,
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate(starts),
        np.concatenate([end - start for start, end in zip(starts, ends, strict=True)]),
    )
