"""A split of the data: one token file or several, arrays of ids, or examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from trainer.data.examples import Examples
from trainer.data.token_files import TokenDataset
from trainer.data.windows import TokenArray, check_length, dtype_advice, id_range, take_windows

TokenPart: TypeAlias = TokenDataset | TokenArray
TokenSource: TypeAlias = TokenPart | Sequence[TokenPart] | Examples
_EXPECTED = "expected a TokenDataset, a one-dimensional numpy array of ids, a list of those, or Examples"


class TokenSplit:
    """The parts of a split; no window crosses the end of a part.

    Args:
        source: A token file, an array of ids, a sequence of those, or examples.
        name: The name in error messages, such as "the training split".

    Raises:
        TypeError: If a part is something else.
        ValueError: If there is no part, or an array does not hold integers.
    """

    def __init__(self, source: TokenSource, name: str) -> None:
        self.examples = source if isinstance(source, Examples) else None
        """Examples with a window for each, whose ids are then the only part; None for text."""
        source = source.ids if isinstance(source, Examples) else source
        parts = [source] if isinstance(source, TokenDataset | np.ndarray) else source
        if isinstance(parts, str | bytes) or not isinstance(parts, Sequence):
            raise TypeError(f"{name} is of type {type(source).__name__}: {_EXPECTED}; a path needs TokenDataset(path)")
        if not parts:
            raise ValueError(f"{name} is an empty list: {_EXPECTED}")
        self.name = name
        self.parts: tuple[TokenPart, ...] = tuple(parts)
        for part, called in zip(self.parts, self._names(), strict=True):
            if not isinstance(part, TokenDataset | np.ndarray):
                raise TypeError(
                    f"{called} is of type {type(part).__name__}: {_EXPECTED}; a path needs TokenDataset(path)"
                )
            if isinstance(part, np.ndarray) and part.dtype.kind not in "iu":
                raise ValueError(f"{called} holds {part.dtype}: expected integers; {dtype_advice(part)}")
        self.lengths = [len(part) for part in self.parts]
        """Ids in each part."""
        counts = [getattr(part, "num_bytes", None) for part in self.parts]
        known = [count for count in counts if count is not None]
        self.num_bytes = sum(known) if len(known) == len(counts) else None
        """UTF-8 bytes of the text of all parts; None if they are not known of every part."""

    def first(self, tokens: int, context_length: int) -> TokenSplit:
        """Return the beginning of the split; the bytes of its text are not known.

        Args:
            tokens: Ids to keep, more than `context_length`.
            context_length: Tokens in a window; a last part without a window and the token after it is left out.
        """
        name = f"the first part of {self.name}"
        if self.examples is not None:
            return TokenSplit(self.examples.first(tokens // context_length), name)
        beginning = TokenSplit(self.parts, name)
        beginning.num_bytes, beginning.lengths = None, []
        for length in self.lengths:
            if beginning.lengths and tokens <= context_length:
                break
            beginning.lengths.append(min(length, tokens))
            tokens -= beginning.lengths[-1]
        beginning.parts = self.parts[: len(beginning.lengths)]
        return beginning

    def tokens_to_read(self, context_length: int) -> int:
        """Return the tokens that an evaluation of the split reads, padding included."""
        return sum(self.lengths) if self.examples is None else len(self.examples) * context_length

    def check_length(self, context_length: int) -> None:
        """Check that each part holds at least one window and the token after it, or each example fits in a window.

        Raises:
            ValueError: If a part is not one-dimensional or too short, or an example too long.
        """
        if self.examples is not None:
            for number in np.flatnonzero(self.examples.lengths > context_length + 1).tolist():
                raise ValueError(
                    f"example {number} of {self.name} has {self.examples.lengths[number]} ids: expected at most "
                    f"{context_length + 1}, context_length {context_length} and the token after it; cut it, leave it "
                    "out, or use a larger context_length"
                )
            return
        for part, called in zip(self.parts, self._names(), strict=True):
            check_length(part.shape if isinstance(part, np.ndarray) else (len(part),), context_length, called)

    def check_can_be_evaluated(self, context_length: int) -> None:
        """Check that each part has two tokens, as windows of evaluations may be shorter, or each example fits in one.

        Raises:
            ValueError: If a part is not one-dimensional or too short, or an example too long.
        """
        self.check_length(1 if self.examples is None else context_length)

    def check_ids(self, vocab_size: int) -> None:
        """Check that a model with `vocab_size` embeddings can read every id; reads everything once.

        Raises:
            ValueError: If an id is negative or too large.
        """
        for part, called in zip(self.parts, self._names(), strict=True):
            if isinstance(part, TokenDataset):
                part.check_ids(vocab_size)
                continue
            for wrong in (number for number in id_range(part) if not 0 <= number < vocab_size):
                raise ValueError(
                    f"{called} holds the token id {wrong}: expected ids from 0 to below the vocabulary size "
                    f"{vocab_size}; encode the text with the model's own tokenizer"
                )

    def read_windows(self, parts: TokenArray, starts: TokenArray, context_length: int) -> tuple[TokenArray, TokenArray]:
        """Read windows anywhere in the split.

        Args:
            parts: (windows,) index of the part of each window.
            starts: (windows,) index of its first id in the part, or the number of the example.
            context_length: Tokens in a window.

        Returns:
            Inputs and targets, both (windows, context_length) int64; targets that do not count are `IGNORED`.
        """
        if self.examples is not None:
            return self.examples.read(starts, context_length)
        if len(self.parts) == 1:
            windows = self._take(0, starts, context_length + 1)
        else:
            windows = np.empty((len(starts), context_length + 1), np.int64)
            for number in np.unique(parts).tolist():
                rows = parts == number
                windows[rows] = self._take(number, starts[rows], context_length + 1)
        return windows[:, :-1], windows[:, 1:]

    def read_range(self, part: int, begin: int, length: int) -> TokenArray:
        """Read consecutive ids of one part, as (length,) int64."""
        return self._take(part, np.array([begin]), length)[0]

    def _take(self, number: int, starts: TokenArray, length: int) -> TokenArray:
        part = self.parts[number]
        if isinstance(part, TokenDataset):
            return part.read_windows(starts, length)
        return take_windows(part, starts, length)

    def _names(self) -> list[str]:
        if len(self.parts) == 1:
            return [self.name]
        paths = [f" ({part.path})" if isinstance(part, TokenDataset) else "" for part in self.parts]
        return [f"part {number} of {self.name}{path}" for number, path in enumerate(paths)]


def check_same_tokenizer(splits: Iterable[TokenSplit]) -> None:
    """Check that all token files were written by one tokenizer, as far as they name it.

    Raises:
        ValueError: If two files name different tokenizers.
    """
    files = [part for split in splits for part in split.parts if isinstance(part, TokenDataset)]
    known = [file for file in files if file.tokenizer_sha256 is not None]
    for file in known[1:]:
        ours, theirs = str(known[0].tokenizer_sha256), str(file.tokenizer_sha256)
        if ours != theirs:
            raise ValueError(
                f"{known[0].path} and {file.path} come from different tokenizers ({ours[:12]}, {theirs[:12]}): "
                "encode all with the same one"
            )
