"""Reading and writing a tokenizer in the files of other libraries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, cast

from bpe.text.patterns import GPT2_PATTERN
from bpe.text.special_tokens import check_special_tokens
from bpe.text.utf8 import StrPath

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer


class TokenizerFiles:
    """The part of `Tokenizer` that knows of files; the formats themselves are in `bpe.formats`."""

    @classmethod
    def from_files(
        cls, vocab_path: StrPath, merges_path: StrPath, special_tokens: Iterable[str] | None = None
    ) -> Tokenizer:
        """Read GPT-2's format: vocab.json and merges.txt (with or without its version line)."""
        from bpe.formats import gpt2
        from bpe.tokenizer import Tokenizer

        special = check_special_tokens(special_tokens)
        merges = gpt2.read_merges(merges_path)
        return Tokenizer(gpt2.read_vocab(vocab_path, special, merges), merges, special)

    @classmethod
    def from_pretrained(cls, directory: StrPath) -> Tokenizer:
        """Read the directory that `save_pretrained` wrote, or any with a tokenizer.json that is byte-level BPE."""
        from bpe.formats import directory as directories

        return directories.load(directory)

    def save_pretrained(self, directory: StrPath) -> None:
        """Write tokenizer.json and the settings `transformers` reads, vocab.json and merges.txt, tokenizer.tiktoken.

        A file is left out, and an old one deleted, where its readers would get other ids: GPT-2's two files know only
        GPT-2's pattern, and the last one needs merges in the order of their ids.
        """
        from bpe.formats import directory as directories

        directories.save(cast("Tokenizer", self), directory)

    @classmethod
    def from_tiktoken(
        cls,
        path: StrPath,
        pattern: str = GPT2_PATTERN,
        special_tokens: Mapping[str, int] | Iterable[str] | None = None,
    ) -> Tokenizer:
        """Read a .tiktoken file of ranks; it holds neither pattern nor special tokens, which may come with ids."""
        from bpe.formats import tiktoken

        return tiktoken.load(path, pattern, special_tokens)

    def save_tiktoken(self, path: StrPath) -> None:
        """Write a .tiktoken file of ranks, without pattern and special tokens.

        Raises:
            ValueError: If the ids do not follow the order of the merges, so that the format cannot hold them.
        """
        from bpe.formats import tiktoken

        tiktoken.save(cast("Tokenizer", self), path)

    @classmethod
    def from_huggingface(cls, tokenizer_json_path: StrPath) -> Tokenizer:
        """Read a tokenizer.json of the `tokenizers` library that is byte-level BPE."""
        from bpe.formats import huggingface

        return huggingface.load(tokenizer_json_path)

    def save_huggingface(self, path: StrPath) -> None:
        """Write a tokenizer.json for the `tokenizers` library, which then gives the same ids."""
        from bpe.formats import huggingface

        huggingface.save(cast("Tokenizer", self), path)
