"""The tokenizer: text to token ids and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from operator import index
from typing import TYPE_CHECKING, Any

from bpe.encoding.encoder import TextEncoder
from bpe.encoding.merge_rules import MergeTable
from bpe.errors import UnknownTokenError
from bpe.text.patterns import GPT2_PATTERN, compile_pattern, is_gpt2_pattern
from bpe.text.special_tokens import END_OF_TEXT, check_special_tokens
from bpe.text.utf8 import StrPath, utf8
from bpe.tokenizer_files import TokenizerFiles
from bpe.vocabulary import checked_merge, checked_normalization, checked_vocab, merge_ids

if TYPE_CHECKING:
    import numpy as np

    from bpe.encoding.token_files import EncodeReport


class Tokenizer(TokenizerFiles):
    """Byte-level BPE over a vocabulary, merges in order of priority, and special tokens.

    Special tokens in a text are always encoded as such, the longest first. Lone surrogates in a string, which UTF-8
    cannot hold, are encoded as U+FFFD.
    """

    def __init__(
        self,
        vocab: Mapping[int, bytes],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Iterable[str] | None = None,
        *,
        pattern: str = GPT2_PATTERN,
        ignore_merges: bool = False,
        normalization: str | None = None,
    ) -> None:
        """Make a tokenizer.

        Args:
            vocab: The bytes of each id, in any layout.
            merges: Pairs of tokens in order of priority.
            special_tokens: Those that the vocabulary lacks are appended to it.
            pattern: The regular expression of a pre-token; GPT-2's runs in kernels, any other in `regex`.
            ignore_merges: Whether a pre-token that is in the vocabulary is that token without merging, as in tiktoken
                and in Llama 3. It makes a difference only where merging would not lead to that token.
            normalization: "NFC" to put text between special tokens into that normal form first, as Qwen does; or None.

        Raises:
            ValueError: If an id or a token is not one, a merge needs a token that is not there, or a special token,
                the pattern or the normalisation is wrong.
        """
        self._take(checked_vocab(vocab), [checked_merge(merge) for merge in merges], special_tokens, pattern)
        self._ignore_merges = bool(ignore_merges)
        self._normalization: str | None = checked_normalization(normalization)
        self._merge_ids = merge_ids(self._merges, self._ids)

    @classmethod
    def _of_training(
        cls,
        tokens: list[bytes],
        merges: list[tuple[bytes, bytes]],
        special_tokens: list[str],
        pattern: str,
    ) -> Tokenizer:
        """Make a tokenizer of what this package has learned, without looking at each token again."""
        made = cls.__new__(cls)
        made._take(dict(enumerate(tokens)), merges, special_tokens, pattern)
        made._merge_ids = merge_ids(merges, made._ids)
        return made

    def _take(
        self,
        vocab: dict[int, bytes],
        merges: list[tuple[bytes, bytes]],
        special_tokens: Iterable[str] | None,
        pattern: str,
    ) -> None:
        """Keep what a tokenizer is made of, give ids to special tokens that have none, and look up all ids."""
        self._vocab = vocab
        self._merges = merges
        self._special_tokens = check_special_tokens(special_tokens)
        self._pattern = pattern
        self._ignore_merges = False
        self._normalization = None
        if not is_gpt2_pattern(pattern):
            compile_pattern(pattern)
        # Where several ids have the same bytes, ordinary text gets the first and a special token the last.
        last_ids = {token: id_ for id_, token in sorted(self._vocab.items())}
        next_id = max(self._vocab, default=-1) + 1
        for special in self._special_tokens:
            token = special.encode("utf-8")
            if token not in last_ids:
                last_ids[token] = next_id
                self._vocab[next_id] = token
                next_id += 1
        self._ids = {token: id_ for id_, token in sorted(self._vocab.items(), reverse=True)}
        self._special_ids = [last_ids[special.encode("utf-8")] for special in self._special_tokens]
        self._vocab_size = next_id

    @cached_property
    def _encoder(self) -> TextEncoder:
        """What encodes, made when it is first needed, and what it remembers of the pieces it has seen."""
        return TextEncoder(
            MergeTable(self._ids, self._merge_ids, self._vocab_size, ignore_merges=self._ignore_merges),
            self._special_tokens,
            self._special_ids,
            pattern=self._pattern,
            normalization=self._normalization,
            id_dtype=self.id_dtype,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the encoder and what it remembers when pickled."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_encoder", "sha256")}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self.sha256)

    def _identity(self) -> tuple[object, ...]:
        """Return all that makes this tokenizer encode and decode as it does."""
        special = self._special_tokens, self._special_ids
        return self._vocab, self._merges, special, self._pattern, self._ignore_merges, self._normalization

    def __len__(self) -> int:
        return self._vocab_size

    def __repr__(self) -> str:
        return f"Tokenizer({len(self._vocab):,} tokens, {len(self._merges):,} merges, special {self._special_tokens})"

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def vocab(self) -> dict[int, bytes]:
        """The bytes of each token id, special tokens included (a copy)."""
        return dict(self._vocab)

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges in order of priority (a copy)."""
        return list(self._merges)

    @property
    def special_tokens(self) -> list[str]:
        """The special tokens (a copy)."""
        return list(self._special_tokens)

    @property
    def pattern(self) -> str:
        """The regular expression that splits text into pre-tokens."""
        return self._pattern

    @property
    def ignore_merges(self) -> bool:
        """Whether a pre-token that is in the vocabulary is that token without merging."""
        return self._ignore_merges

    @property
    def normalization(self) -> str | None:
        """The normal form that text is put into before it is split: "NFC" or None."""
        return self._normalization

    @property
    def vocab_size(self) -> int:
        """The number of ids a model must provide for: the largest id and one; without gaps, the number of tokens."""
        return self._vocab_size

    @property
    def eot_id(self) -> int | None:
        """The id of `<|endoftext|>`, or None if it is not a special token here."""
        if END_OF_TEXT not in self._special_tokens:
            return None
        return self._special_ids[self._special_tokens.index(END_OF_TEXT)]

    @cached_property
    def sha256(self) -> str:
        """The SHA-256, in hexadecimal, of all that makes this tokenizer encode and decode as it does."""
        ids = sorted(self._vocab)
        tokens = [self._vocab[id_] for id_ in ids]
        parts = [part for merge in self._merges for part in merge]
        facts = [self._special_tokens, self._special_ids, self._pattern, self._ignore_merges, self._normalization]
        digest = sha256(json.dumps([len(tokens), len(parts), *facts]).encode("utf-8"))
        for numbers in (ids, map(len, tokens), map(len, parts)):
            digest.update(" ".join(map(str, numbers)).encode("ascii"))
        digest.update(b"".join(tokens))
        digest.update(b"".join(parts))
        return digest.hexdigest()

    def token_to_id(self, token: bytes | str) -> int:
        """Return the id of a token, given as bytes or as a string; a special token comes before an ordinary one.

        Raises:
            UnknownTokenError: If the vocabulary has no such token (a ValueError and a KeyError).
        """
        if isinstance(token, str) and token in self._special_tokens:
            return self._special_ids[self._special_tokens.index(token)]
        data = utf8(token) if isinstance(token, str) else bytes(token)
        if data not in self._ids:
            raise UnknownTokenError(f"token {token!r} is not in the vocabulary of {len(self._vocab)} tokens; encode it")
        return self._ids[data]

    # --- text to ids --------------------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text.

        Raises:
            TypeError: If it is not a string.
            ValueError: If it has a byte that the vocabulary has no token for.
        """
        return self._encoder.to_list(_checked_text(text))

    def encode_to_numpy(self, text: str, threads: int | None = None) -> np.ndarray:
        """Return the token ids of a text: shape (tokens,), uint16 if every id fits, else uint32.

        A long text is divided among `threads`, None being all cores; the ids do not depend on it.
        """
        return self._encoder.to_numpy(_checked_text(text), threads)

    def encode_batch(self, texts: Iterable[str], threads: int | None = None) -> list[np.ndarray]:
        """Return the token ids of each text, as `encode_to_numpy` does; `threads` is None for all cores."""
        if isinstance(texts, str | bytes):
            raise TypeError(f"texts is one {type(texts).__name__}, expected an iterable of str; write [text]")
        return self._encoder.batch([_checked_text(text) for text in texts], threads)

    def encode_iterable(self, iterable: Iterable[str]) -> Iterator[int]:
        """Yield the token ids of the texts joined together, reading lazily and holding little of them.

        The ids are those of `encode` of the whole, wherever it is cut. What is held back reaches to the last place
        that later text cannot change; with another pattern than GPT-2's, to the last special token.
        """
        from bpe.encoding.token_files import encode_iterable

        return encode_iterable(self._encoder, iterable)

    def encode_file(
        self, path: StrPath, out_npy: StrPath, threads: int | None = None, *, progress: bool = False
    ) -> EncodeReport:
        """Encode a text file of any size to a NumPy file, with facts about it in a .json file beside it.

        `threads` is None for all cores; `progress` says whether to report on stderr. The file takes its name when it
        is complete: one that was interrupted is made again from the start.

        Raises:
            OSError: If a file cannot be read or written.
            ValueError: If the text is empty, or `out_npy` does not end in .npy, or it or the .json beside it is the
                text itself or no token file.
        """
        from bpe.encoding.token_files import encode_file

        return encode_file(self, self._encoder, path, out_npy, threads, progress=progress)

    @property
    def id_dtype(self) -> str:
        """The type of ids in arrays and token files: "uint16" if every id fits, else "uint32"."""
        return "uint16" if self._vocab_size <= 1 << 16 else "uint32"

    # --- ids to text --------------------------------------------------------------------------------------------------

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of token ids.

        Raises:
            UnknownTokenError: If an id is not in the vocabulary (a ValueError and a KeyError).
        """
        vocab = self._vocab
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        try:
            return b"".join([vocab[id_] for id_ in ids])
        except KeyError as error:
            raise self._unknown_id(error.args[0]) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; malformed UTF-8 becomes U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_stream(self, iterable_of_ids: Iterable[int]) -> Iterator[str]:
        """Yield the text of token ids as they come, never a part of a character; joined, it is `decode` of all."""
        from codecs import getincrementaldecoder

        decoder = getincrementaldecoder("utf-8")("replace")
        for id_ in iterable_of_ids:
            try:
                token = self._vocab[index(id_)]
            except KeyError:
                raise self._unknown_id(id_) from None
            if text := decoder.decode(token):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def _unknown_id(self, id_: object) -> UnknownTokenError:
        """Return the error for an id that the vocabulary does not have."""
        return UnknownTokenError(
            f"token id {id_!r} is not in the vocabulary, expected 0 to {self._vocab_size - 1}; check the ids"
        )


def _checked_text(text: str) -> str:
    """Return a text, or refuse what is none."""
    if not isinstance(text, str):
        raise TypeError(f"text is a {type(text).__name__}, expected a str; decode bytes first")
    return text
