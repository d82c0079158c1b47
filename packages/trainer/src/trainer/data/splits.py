"""A split of a text: one token file or several, or arrays of ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from trainer.data.token_files import TokenDataset
from trainer.data.windows import TokenArray, check_length, id_range, read_window, read_windows

TokenPart: TypeAlias = TokenDataset | TokenArray
TokenSource: TypeAlias = TokenPart | Sequence[TokenPart]
_EXPECTED = "expected a TokenDataset, a one-dimensional numpy array of ids, or a list of those"


class TokenSplit:
    """The parts of a split, which no window crosses.

    Args:
        source: a token file, an array of ids, or a sequence of those.
        name: how errors call it, such as "the training split".

    Raises:
        TypeError: a part is something else.
        ValueError: there is no part, or an array that is not one-dimensional or not of integers.
    """

    def __init__(self, source: TokenSource, name: str) -> None:
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
            if _tokens(part).dtype.kind not in "iu":
                raise ValueError(f"{called} holds {_tokens(part).dtype}: expected integers; use ids.astype('uint16')")

    @property
    def lengths(self) -> list[int]:
        """Ids in each part."""
        return [len(_tokens(part)) for part in self.parts]

    @property
    def num_bytes(self) -> int | None:
        """UTF-8 bytes of the text of all parts; None if a part does not say."""
        counts = [getattr(part, "num_bytes", None) for part in self.parts]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @property
    def tokens(self) -> list[TokenArray]:
        """The ids of each part."""
        return [_tokens(part) for part in self.parts]

    def first(self, tokens: int, context_length: int) -> TokenSplit:
        """Return the split up to so many tokens; how many bytes their text has is not known.

        Args:
            tokens: more than `context_length`.
            context_length: tokens in a window; a last part that has not one and the token after it is left out.
        """
        parts: list[TokenPart] = []
        for part in self.tokens:
            if parts and tokens <= context_length:
                break
            parts.append(part[:tokens])
            tokens -= len(part)
        return TokenSplit(parts, f"the first part of {self.name}")

    def check_length(self, context_length: int) -> None:
        """Check that each part holds at least one window and the token after it.

        Raises:
            ValueError: one has another number of dimensions, or is too short.
        """
        for part, called in zip(self.parts, self._names(), strict=True):
            check_length(_tokens(part), context_length, called)

    def check_ids(self, vocab_size: int) -> None:
        """Check that a model with `vocab_size` embeddings can read every id; reads everything once.

        Raises:
            ValueError: an id is negative or too large.
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

    def read_windows(self, parts: TokenArray, starts: TokenArray, length: int) -> TokenArray:
        """Read windows of `length` ids.

        Args:
            parts: (windows,) the number of the part of each.
            starts: (windows,) where they begin in their part.
            length: ids in a window.

        Returns:
            (windows, length) int64.
        """
        if len(self.parts) == 1:
            return _read_windows(self.parts[0], starts, length)
        windows = np.empty((len(starts), length), np.int64)
        for number in np.unique(parts).tolist():
            rows = parts == number
            windows[rows] = _read_windows(self.parts[number], starts[rows], length)
        return windows

    def read(self, part: int, begin: int, length: int) -> torch.Tensor:
        """Read `length` consecutive ids of a part as int64."""
        return read_window(_tokens(self.parts[part]), begin, length)

    def _names(self) -> list[str]:
        if len(self.parts) == 1:
            return [self.name]
        paths = [f" ({part.path})" if isinstance(part, TokenDataset) else "" for part in self.parts]
        return [f"part {number} of {self.name}{path}" for number, path in enumerate(paths)]


def check_same_tokenizer(splits: Iterable[TokenSplit]) -> None:
    """Check that all token files are written by one tokenizer, as far as they say.

    Raises:
        ValueError: they are not.
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


def _tokens(part: TokenPart) -> TokenArray:
    return part.tokens if isinstance(part, TokenDataset) else part


def _read_windows(part: TokenPart, starts: np.ndarray[Any, Any], length: int) -> TokenArray:
    if isinstance(part, TokenDataset):
        return part.read_windows(starts, length)
    return read_windows(part, starts, length)
