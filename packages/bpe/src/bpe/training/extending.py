"""Further merges on top of a vocabulary, learned from new text; present ids and merges stay."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from bpe.arguments import whole_number
from bpe.encoding.in_python import PretokenEncoder
from bpe.encoding.merges import Merges
from bpe.text import StrPath
from bpe.training.counting import count_files, count_texts
from bpe.training.counts import PretokenCounts
from bpe.training.learning import check_not_empty, learn_merges
from bpe.training.limits import Limits, warn_of_size
from bpe.training.merging_in_python import Split
from bpe.vocabulary import Merge, TokenizerSpec


class Extension:
    """More merges for a vocabulary; the methods return it with as many as it lacks to reach `vocab_size`."""

    def __init__(
        self, spec: TokenizerSpec, vocab_size: int, min_frequency: int, max_token_length: int | None, *, progress: bool
    ) -> None:
        """Check the arguments, which `Tokenizer.extend` describes.

        Raises:
            ValueError: If one of them is wrong.
        """
        number = whole_number(vocab_size)
        if number is None or number < spec.vocab_size:
            raise ValueError(
                f"vocab_size is {vocab_size!r}, expected a whole number of at least {spec.vocab_size}, the present "
                "size; make it larger"
            )
        looks_around = any(token.looks_around or token.normalized for token in spec.found_tokens)
        if spec.byte_pattern or spec.add_prefix_space or looks_around:
            raise ValueError(
                "the tokenizer splits text within characters, adds a space before it, or has added tokens that look at "
                "the text around them, and such a tokenizer cannot be extended; train a new one"
            )
        self._separators = list(spec.found_ids)
        self._spec = spec
        self._vocab_size = number
        self._limits = Limits.checked(min_frequency, max_token_length)
        self._progress = progress

    def by_files(self, paths: StrPath | Iterable[StrPath], column: str | None, threads: int | None) -> TokenizerSpec:
        """Learn from text files."""
        nfc = self._spec.normalization is not None
        counts = count_files(
            paths,
            self._separators,
            self._spec.pattern,
            nfc=nfc,
            column=column,
            threads=threads,
            progress=self._progress,
        )
        return self._extended(counts)

    def by_texts(self, texts: Iterable[Any], column: str | None, threads: int | None) -> TokenizerSpec:
        """Learn from strings, each a separate document."""
        nfc = self._spec.normalization is not None
        counts = count_texts(
            texts,
            self._separators,
            self._spec.pattern,
            nfc=nfc,
            column=column,
            threads=threads,
            progress=self._progress,
        )
        return self._extended(counts)

    def by_counts(self, counts: Mapping[bytes, int]) -> TokenizerSpec:
        """Learn from counted pre-tokens."""
        spec = self._spec
        if not isinstance(counts, PretokenCounts):
            counts = PretokenCounts(counts, pattern=spec.pattern)
        if counts.pattern != spec.pattern:
            raise ValueError(
                f"the counts were made with the pattern {counts.pattern!r}, but that of the tokenizer is "
                f"{spec.pattern!r}; count again with it"
            )
        if not counts.agrees(self._separators):
            warnings.warn(
                f"the tokenizer has the special tokens {self._separators}, but the counts were made with "
                f"{list(counts.special_tokens or ())}; if the text has any of the tokens that differ, count again",
                UserWarning,
                stacklevel=3,
            )
        for pretoken in counts if spec.normalization is not None else ():
            if not unicodedata.is_normalized("NFC", pretoken.decode("utf-8", "replace")):
                raise ValueError(
                    f"the counts have {pretoken!r}, but the tokenizer normalizes text to NFC; count normalized text"
                )
        return self._extended(counts)

    def _extended(self, counts: PretokenCounts) -> TokenizerSpec:
        """Learn from counts.

        Warns:
            VocabularySizeWarning: If no pair is left to merge before `vocab_size` is reached.
        """
        check_not_empty(counts)
        spec = self._spec
        split = _split_by(spec)
        wanted = max_merges = self._vocab_size - spec.vocab_size
        while True:
            merges = learn_merges(counts, max_merges, self._limits, split=split, progress=self._progress)
            made = _new_tokens(spec, merges)
            if len(made) == wanted or len(merges) < max_merges:
                break
            max_merges += wanted - len(made)  # merges that make tokens of the vocabulary add no id
        warn_of_size(self._vocab_size, spec.vocab_size + len(made), self._limits, stacklevel=4)
        vocab = spec.vocab | dict(enumerate(made, start=spec.vocab_size))
        return replace(spec, vocab=vocab, merges=spec.merges + merges)


def _split_by(spec: TokenizerSpec) -> Split:
    """Return a function that encodes a pre-token with the present merges."""
    encoder, vocab = PretokenEncoder(Merges(spec), spec.pattern), spec.vocab
    return lambda pretoken: [vocab[id_] for id_ in encoder.encode_pretoken(pretoken)]


def _new_tokens(spec: TokenizerSpec, merges: list[Merge]) -> list[bytes]:
    """Return the tokens that merges make and the vocabulary lacks.

    Raises:
        ValueError: If one of the merges makes a special token, because the counts contain it.
    """
    special = {token.encode("utf-8") for token in spec.special_tokens}
    made = [left + right for left, right in merges]
    for token in made:
        if token in special:
            raise ValueError(f"the counts contain the special token {token.decode()!r}; count again without it")
    return [token for token in made if token not in spec.ids]
