"""The tokenizer: text to token ids and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import filterfalse
from operator import index
from reprlib import repr as short_repr
from typing import TYPE_CHECKING, Any, Literal, Self

from bpe.encoding import EncodeReport, FileFormat, TextEncoder, encode_file, encode_iterable
from bpe.errors import UnknownTokenError
from bpe.text import END_OF_TEXT, GPT2_PATTERN, AddedToken, Pattern, StrPath, check_special_tokens
from bpe.threads import check_threads
from bpe.vocabulary import TokenizerSpec

if TYPE_CHECKING:
    import numpy as np


class Tokenizer:
    """Byte-level BPE with a vocabulary, merges in order of priority, and special tokens.

    Special and other added tokens in a text are encoded as such, the longest first, unless a call says otherwise. Lone
    surrogates in a string, which UTF-8 cannot represent, are encoded as U+FFFD.
    """

    def __init__(
        self,
        vocab: Mapping[int, bytes],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Iterable[str] | Mapping[str, int] | None = None,
        *,
        pattern: Pattern = GPT2_PATTERN,
        ignore_merges: bool = False,
        normalization: str | None = None,
        added_tokens: Iterable[AddedToken] = (),
        add_prefix_space: bool = False,
        byte_pattern: str | Iterable[str] = (),
    ) -> None:
        """Create a tokenizer.

        Args:
            vocab: The bytes of each id, in any layout.
            merges: Pairs of tokens in order of priority.
            special_tokens: Special tokens, or a mapping of special tokens to ids. Without ids, those that the
                vocabulary lacks get the next ids.
            pattern: The regular expression of a pre-token, or several in a tuple, each of which splits further what
                the one before has left. GPT-2's and cl100k's patterns run in kernels, any other in `regex`.
            ignore_merges: Whether a pre-token that is in the vocabulary becomes that token without merging, as in
                tiktoken and Llama 3. It matters only where merging would lead to other tokens.
            normalization: "NFC" to convert text between special tokens to that normal form first, as Qwen does; or
                None.
            added_tokens: Further tokens that are found before the text is split, special or not, and special tokens
                that are found in a way of their own, as in RoBERTa and GPT-NeoX.
            add_prefix_space: Whether each text between added tokens gets a space before it unless it begins with one.
            byte_pattern: Regular expressions that split pre-tokens further, even within a character, as in Falcon.
                They see a pre-token as `tokenizer.json` writes it, with one character for every byte.

        Raises:
            TypeError: If `vocab` is not a mapping, `special_tokens` is a single string or a set, or one of
                `added_tokens` is not an `AddedToken`.
            ValueError: If an id, token, merge, special or added token is malformed, a merge needs a token that the
                vocabulary lacks, a special token has the id of another token, or a pattern or the normalization is
                wrong.
        """
        self._spec = TokenizerSpec.checked(
            vocab,
            merges,
            special_tokens,
            pattern=pattern,
            ignore_merges=ignore_merges,
            normalization=normalization,
            added_tokens=added_tokens,
            add_prefix_space=add_prefix_space,
            byte_pattern=byte_pattern,
        )

    @classmethod
    def from_spec(cls, spec: TokenizerSpec) -> Self:
        """Create a tokenizer from a definition that has been checked; subclasses get their own constructor called."""
        if cls.__init__ is not Tokenizer.__init__:
            # A subclass need not know what few tokenizers have.
            rare = {name: getattr(spec, name) for name in ("added_tokens", "add_prefix_space", "byte_pattern")}
            made = cls(
                spec.vocab,
                spec.merges,
                spec.special_tokens,
                pattern=spec.pattern,
                ignore_merges=spec.ignore_merges,
                normalization=spec.normalization,
                **{name: value for name, value in rare.items() if value},
            )
            if spec.extras:
                made._spec = replace(made._spec, extras=spec.extras)
            return made
        made = cls.__new__(cls)
        made._spec = spec
        if spec.packed is not None:  # by kernels, so that the rest of them may as well be ready for the first text
            made._encoder.load_kernels_if_ready()
        return made

    @cached_property
    def _encoder(self) -> TextEncoder:
        """The encoder with its cache, created at its first use."""
        return TextEncoder(self._spec)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the encoder and its cache when pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_encoder"}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self._spec == other._spec

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __len__(self) -> int:
        return self.vocab_size

    def __repr__(self) -> str:
        spec = self._spec
        special = short_repr(spec.special_tokens)
        return f"Tokenizer({len(spec.vocab):,} tokens, {len(spec.merges):,} merges, special {special})"

    # --- definition ---------------------------------------------------------------------------------------------------

    @property
    def vocab(self) -> dict[int, bytes]:
        """The bytes of each token id, special tokens included (a copy)."""
        return dict(self._spec.vocab)

    @property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges in order of priority (a copy)."""
        return list(self._spec.merges)

    @property
    def special_tokens(self) -> list[str]:
        """The special tokens (a copy)."""
        return list(self._spec.special_tokens)

    @property
    def added_tokens(self) -> list[AddedToken]:
        """The tokens found before the text is split that are not special, or are found in a way of their own."""
        return list(self._spec.added_tokens)

    @property
    def pattern(self) -> Pattern:
        """The regular expression that splits text into pre-tokens, or several that do so one after the other."""
        return self._spec.pattern

    @property
    def byte_pattern(self) -> tuple[str, ...]:
        """Regular expressions that split pre-tokens further, in the written form of their bytes."""
        return self._spec.byte_pattern

    @property
    def add_prefix_space(self) -> bool:
        """True if each text between added tokens gets a space before it unless it begins with one."""
        return self._spec.add_prefix_space

    @property
    def ignore_merges(self) -> bool:
        """True if a pre-token that is in the vocabulary becomes that token without merging."""
        return self._spec.ignore_merges

    @property
    def normalization(self) -> str | None:
        """The normal form to which text is converted before it is split: "NFC" or None."""
        return self._spec.normalization

    @property
    def vocab_size(self) -> int:
        """The number of ids that a model must provide for: the largest id plus one.

        A model may have more, often a multiple of 64; `decode` can skip or replace ids without a token.
        """
        return self._spec.vocab_size

    @property
    def id_dtype(self) -> str:
        """The dtype of ids in arrays and token files: "uint16" if every id fits, else "uint32"."""
        return self._spec.id_dtype

    @property
    def eot_id(self) -> int | None:
        """The id of `<|endoftext|>`, or None if it is not a special token here."""
        return self._spec.special_ids.get(END_OF_TEXT)

    @property
    def sha256(self) -> str:
        """The SHA-256, in hexadecimal, of everything that decides how this tokenizer encodes and decodes."""
        return self._spec.sha256

    def id_to_token(self, id_: int) -> bytes:
        """Return the bytes of a token id; `decode` gives the text of several.

        Raises:
            TypeError: If `id_` is not an integer of any type.
            UnknownTokenError: If the vocabulary has no such id (a ValueError and a KeyError).
        """
        number = _checked_id(id_)
        if number not in self._spec.vocab:
            raise self._unknown_id(number)
        return self._spec.vocab[number]

    def token_to_id(self, token: bytes | str) -> int:
        """Return the id of a token, given as bytes or as a string; special tokens take precedence over ordinary ones.

        Raises:
            UnknownTokenError: If the vocabulary has no such token (a ValueError and a KeyError).
        """
        return self._spec.id_of(token)

    def add_tokens(self, tokens: Iterable[str] | Mapping[str, int]) -> Self:
        """Return a tokenizer with more special tokens; this one does not change.

        New tokens get the next ids, unless a mapping gives them ids. Tokens of the vocabulary keep their ids and become
        special; special tokens stay as they are.

        Raises:
            TypeError: If `tokens` is a single string or a set.
            ValueError: If a token is malformed, or its id is that of another token or not the one it has.
        """
        return self.from_spec(self._spec.with_special_tokens(tokens))

    # --- text to ids --------------------------------------------------------------------------------------------------

    def encode(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | Collection[str] = "all",
        disallowed_special: Literal["all"] | Collection[str] = (),
        threads: int | None = None,
    ) -> list[int]:
        """Return the token ids of a text.

        Args:
            text: The text.
            allowed_special: The special tokens that are encoded as such: "all" or a collection of them. Any other
                special token in the text is ordinary text, as in `encode_ordinary`.
            disallowed_special: Strings that the text must not have: a collection, or "all" for all special tokens that
                are not allowed.
            threads: The largest number of threads. None means the environment variable BPE_THREADS or, without it, all
                cores that the affinity and the cgroups of the process allow.

        Raises:
            TypeError: If `text` is not a string, or one of the two collections is a string or no collection.
            ValueError: If the text has a disallowed string or a byte that the vocabulary has no token for,
                `allowed_special` names a token that is not special, or `threads` is wrong.
        """
        return self._encoder.with_rules(allowed_special, disallowed_special).to_list(_checked_text(text), threads)

    def encode_ordinary(self, text: str, *, threads: int | None = None) -> list[int]:
        """Return the token ids of a text whose special tokens are ordinary text, such as input of strangers."""
        return self._encoder.with_rules((), ()).to_list(_checked_text(text), threads)

    def encode_to_numpy(
        self,
        text: str | bytes,
        threads: int | None = None,
        *,
        allowed_special: Literal["all"] | Collection[str] = "all",
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> np.ndarray:
        """Return the token ids of a text: shape (tokens,), uint16 if every id fits, else uint32.

        The text may be UTF-8 (bytes), such as the content of a file, which takes less time than to decode it first;
        malformed sequences are replaced by U+FFFD, with an InvalidUTF8Warning. A long text is split among the threads;
        the ids do not depend on it. `encode` describes the other arguments. The modules of torch accept neither of the
        two dtypes as indices: use `torch.from_numpy(ids.astype("int64"))`.
        """
        text = text if isinstance(text, bytes) else _checked_text(text)
        return self._encoder.with_rules(allowed_special, disallowed_special).to_numpy(text, threads)

    def encode_batch(
        self,
        texts: Iterable[str],
        threads: int | None = None,
        *,
        allowed_special: Literal["all"] | Collection[str] = "all",
        disallowed_special: Literal["all"] | Collection[str] = (),
    ) -> list[np.ndarray]:
        """Return the token ids of each text, as `encode_to_numpy` does; `encode` describes the arguments."""
        if isinstance(texts, str | bytes):
            raise TypeError(f"texts is one {type(texts).__name__}, expected an iterable of str; write [text]")
        encoder = self._encoder.with_rules(allowed_special, disallowed_special)
        return encoder.batch([_checked_text(text) for text in texts], threads)

    def encode_iterable(
        self,
        iterable: Iterable[str],
        *,
        allowed_special: Literal["all"] | Collection[str] = "all",
        disallowed_special: Literal["all"] | Collection[str] = (),
        threads: int | None = None,
    ) -> Iterator[int]:
        """Yield the token ids of the texts joined together, lazily and in bounded memory.

        The ids equal those of `encode` of the whole text, however it is split. Text is held back from the last point
        that later text cannot change. With a pattern that the kernels do not know, or with a normalization, that point
        is the last special or other added token. `encode` describes the arguments. A disallowed string raises
        ValueError when it is reached. Whatever `threads` allows, the thread of the caller does the work: others would
        have to read ahead.
        """
        if threads is not None:
            check_threads(threads)
        encoder = self._encoder.with_rules(allowed_special, disallowed_special)
        return encode_iterable(encoder, encoder.checked(iterable))

    def encode_with_offsets(
        self,
        text: str,
        *,
        allowed_special: Literal["all"] | Collection[str] = "all",
        disallowed_special: Literal["all"] | Collection[str] = (),
        threads: int | None = None,
    ) -> tuple[list[int], np.ndarray]:
        """Return the token ids of a text, and the characters of the text from which each token comes.

        `text[start:end]` is the text of a token with the offsets (start, end). A token that holds a part of a character
        has the offsets of the whole character. If normalization changes a grapheme cluster, such as a letter and its
        accents, each of its tokens has the offsets of the whole cluster. `encode` describes the arguments.

        Returns:
            The ids as `encode` returns them, and their offsets: int64, shape (tokens, 2).
        """
        return self._encoder.with_rules(allowed_special, disallowed_special).with_offsets(_checked_text(text), threads)

    def encode_file(
        self,
        path: StrPath,
        out: StrPath,
        threads: int | None = None,
        *,
        format: FileFormat | None = None,
        documents: bool | None = None,
        column: str | None = None,
        progress: bool = False,
    ) -> EncodeReport:
        """Encode a text file of any size to a token file, with a .json file beside it that describes it.

        The suffix of `out` gives the format: .npy for NumPy, .bin for llm.c, .idx for Megatron (with a .bin beside it).
        The file takes its name when it is complete, so an interrupted call leaves nothing and starts again from the
        beginning.

        Args:
            path: The text file: plain, .gz or .zst; or a table, of JSON lines or in .parquet.
            out: The token file.
            threads: The number of threads, as in `encode`.
            format: "npy", "llm.c" or "megatron"; None takes it from `out`.
            documents: Whether to write `<stem>.documents.npy`, the first token and the first byte in the text of each
                document; a document ends at `<|endoftext|>`. None writes it for llm.c and Megatron.
            column: The column of the texts of a table. Each row is a document: it gets `<|endoftext|>` at its end, and
                the index has its row.
            progress: Whether to report on stderr.

        Raises:
            OSError: If a file cannot be read or written.
            ValueError: If the text is empty or too large for the format, `out` does not suit the format, a file would
                replace the text itself or something that does not belong to a token file, or a row has no text.
        """
        return encode_file(
            self._encoder,
            path,
            out,
            threads,
            file_format=format,
            documents=documents,
            column=column,
            progress=progress,
        )

    # --- ids to text --------------------------------------------------------------------------------------------------

    def decode(
        self,
        ids: Iterable[int],
        *,
        skip_special_tokens: bool = False,
        errors: str = "replace",
        unknown: Literal["error", "replace", "skip"] = "error",
    ) -> str:
        """Return the text of token ids.

        Args:
            ids: The ids: a list, an array or tensor of one dimension, or any other iterable of integers.
            skip_special_tokens: Whether to leave out special tokens.
            errors: The treatment of malformed UTF-8, as in `bytes.decode`; by default it becomes U+FFFD.
            unknown: The treatment of ids without a token, which a model with a padded vocabulary may produce: "error",
                "replace" by U+FFFD, or "skip".

        Raises:
            TypeError: If an id is not an integer of any type, such as Python's, NumPy's or a tensor of one.
            UnknownTokenError: If an id is not in the vocabulary (a ValueError and a KeyError).
            UnicodeDecodeError: If `errors` is "strict" and the bytes are malformed UTF-8.
        """
        data = self.decode_bytes(ids, skip_special_tokens=skip_special_tokens, unknown=unknown)
        return data.decode("utf-8", errors)

    def decode_bytes(
        self,
        ids: Iterable[int],
        *,
        skip_special_tokens: bool = False,
        unknown: Literal["error", "replace", "skip"] = "error",
    ) -> bytes:
        """Return the bytes of token ids; `decode` describes the arguments."""
        ids = _checked_ids(ids)
        numbers: Iterable[int] = map(index, ids)
        if skip_special_tokens:
            numbers = filterfalse(self._spec.special_id_set.__contains__, numbers)
        try:
            return b"".join(map(self._lookup(unknown), numbers))
        except KeyError as error:
            raise self._unknown_id(error.args[0]) from None
        except TypeError:
            for id_ in ids:
                _checked_id(id_)
            raise

    def decode_batch(
        self,
        batch: Iterable[Iterable[int]],
        *,
        skip_special_tokens: bool = False,
        errors: str = "replace",
        unknown: Literal["error", "replace", "skip"] = "error",
    ) -> list[str]:
        """Return the text of each list of token ids; `decode` describes the arguments.

        `batch` is a list of lists, an array or tensor of two dimensions, or any other iterable of what `decode` takes.
        """
        texts = []
        for ids in batch.tolist() if hasattr(batch, "tolist") else batch:
            ids = ids.tolist() if hasattr(ids, "tolist") else ids
            if not isinstance(ids, Iterable):
                raise TypeError(f"batch has {ids!r}, expected lists of ids; decode decodes a single list")
            texts.append(self.decode(ids, skip_special_tokens=skip_special_tokens, errors=errors, unknown=unknown))
        return texts

    def decode_stream(
        self,
        iterable_of_ids: Iterable[int],
        *,
        skip_special_tokens: bool = False,
        errors: str = "replace",
        unknown: Literal["error", "replace", "skip"] = "error",
    ) -> Iterator[str]:
        """Yield the text of token ids as they arrive, never part of a character; joined, it equals `decode`."""
        from codecs import getincrementaldecoder

        decoder = getincrementaldecoder("utf-8")(errors)
        skipped = self._spec.special_id_set if skip_special_tokens else frozenset()
        lookup = self._lookup(unknown)
        for id_ in iterable_of_ids:
            number = _checked_id(id_)
            if number in skipped:
                continue
            try:
                token = lookup(number)
            except KeyError:
                raise self._unknown_id(number) from None
            if text := decoder.decode(token):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def _lookup(self, unknown: str) -> Callable[[int], bytes]:
        """Return the function from an id to its bytes; it raises KeyError if an id is unknown and that is an error."""
        vocab = self._spec.vocab
        if unknown == "error":
            return vocab.__getitem__
        if unknown not in ("replace", "skip"):
            raise ValueError(f"unknown is {unknown!r}, expected 'error', 'replace' or 'skip'")
        substitute = "\ufffd".encode() if unknown == "replace" else b""
        return lambda id_: vocab.get(id_, substitute)

    def _unknown_id(self, id_: int) -> UnknownTokenError:
        """Return the error for an id that the vocabulary does not have."""
        expected = f"expected 0 to {self.vocab_size - 1}"
        if 0 <= id_ < self.vocab_size:
            expected = f"which has no token for some ids below {self.vocab_size}"
        return UnknownTokenError(
            f"token id {id_} is not in the vocabulary, {expected}; check the ids, or decode with unknown='skip'"
        )

    # --- training on more text ----------------------------------------------------------------------------------------

    def extend(
        self,
        paths: StrPath | Iterable[StrPath],
        vocab_size: int,
        *,
        min_frequency: int = 1,
        max_token_length: int | None = None,
        column: str | None = None,
        threads: int | None = None,
        progress: bool = False,
    ) -> Self:
        """Return a tokenizer with more merges, learned from text files on top of the present ones.

        All ids and merges stay. Pre-tokens are first encoded as this tokenizer encodes them; then the most frequent
        pairs of tokens are merged, as in training. New tokens get the ids after the largest one. A merge that makes a
        token of the vocabulary adds no id.

        Args:
            paths: One path or several: files (plain, .gz, .zst) or folders of them; each file is a separate text.
            vocab_size: The size to reach, at least the present one.
            min_frequency: Pairs of tokens that occur less often are not merged.
            max_token_length: Pairs that have more bytes together are not merged; None sets no limit.
            column: The column of the texts if the files are tables, as for `bpe.train`.
            threads: The number of threads that count; None uses all cores.
            progress: Whether to report on stderr.

        Raises:
            OSError: If a file is missing or cannot be read.
            ValueError: If there is no text, an argument is wrong, or the vocabulary lacks a byte of the text.

        Warns:
            VocabularySizeWarning: If no pair is left to merge before `vocab_size` is reached.
        """
        from bpe.training import Extension

        extension = Extension(self._spec, vocab_size, min_frequency, max_token_length, progress=progress)
        return self.from_spec(extension.by_files(paths, column, threads))

    def extend_from_iterator(
        self,
        texts: Iterable[Any],
        vocab_size: int,
        *,
        min_frequency: int = 1,
        max_token_length: int | None = None,
        column: str | None = None,
        threads: int | None = None,
        progress: bool = False,
    ) -> Self:
        """Extend like `extend`, by the documents in `texts`, which `bpe.train_from_iterator` describes."""
        from bpe.training import Extension

        extension = Extension(self._spec, vocab_size, min_frequency, max_token_length, progress=progress)
        return self.from_spec(extension.by_texts(texts, column, threads))

    def extend_from_counts(
        self,
        counts: Mapping[bytes, int],
        vocab_size: int,
        *,
        min_frequency: int = 1,
        max_token_length: int | None = None,
        progress: bool = False,
    ) -> Self:
        """Extend like `extend`, by pre-tokens counted with the pattern and the special tokens of this tokenizer.

        Raises:
            ValueError: If an argument is wrong, there are no counts, or they were made with another pattern.

        Warns:
            UserWarning: If the counts were made with other special tokens.
            VocabularySizeWarning: If no pair is left to merge before `vocab_size` is reached.
        """
        from bpe.training import Extension

        extension = Extension(self._spec, vocab_size, min_frequency, max_token_length, progress=progress)
        return self.from_spec(extension.by_counts(counts))

    # --- files of other libraries -------------------------------------------------------------------------------------

    @classmethod
    def from_files(cls, vocab_path: StrPath, merges_path: StrPath, special_tokens: Iterable[str] | None = None) -> Self:
        """Read GPT-2's format: vocab.json and merges.txt (with or without its version line).

        The files do not say which tokens are special. If `special_tokens` is None, `<|endoftext|>` is one if vocab.json
        has it and no merge makes it, as in GPT-2's own files; other tokens that no merge makes are named in a warning.
        """
        from bpe.formats import gpt2

        special = None if special_tokens is None else check_special_tokens(special_tokens)
        return cls.from_spec(gpt2.load(vocab_path, merges_path, special))

    @classmethod
    def from_pretrained(cls, directory: StrPath) -> Self:
        """Read a folder that `save_pretrained` wrote, or any with a tokenizer.json of byte-level BPE.

        Settings of `transformers`, such as a chat template, are kept for `save_pretrained`; see `from_huggingface`.
        """
        from bpe.formats import directory as directory_format

        return cls.from_spec(directory_format.load(directory))

    def save_pretrained(self, directory: StrPath) -> None:
        """Write tokenizer.json and the settings of `transformers`, vocab.json and merges.txt, tokenizer.tiktoken.

        A file is omitted, and an old one deleted, where its readers would get other ids: GPT-2's two files imply
        GPT-2's pattern, and tokenizer.tiktoken needs merges in the order of their ids. What `from_pretrained` read is
        written as it was: tokenizer_config.json, special_tokens_map.json, chat templates, and all of tokenizer.json.
        """
        from bpe.formats import directory as directory_format

        directory_format.save(self._spec, directory)

    @classmethod
    def from_tiktoken(
        cls,
        path: StrPath,
        pattern: str = GPT2_PATTERN,
        special_tokens: Mapping[str, int] | Iterable[str] | None = None,
    ) -> Self:
        """Read a .tiktoken file of ranks; it has neither a pattern nor special tokens, which may come with ids."""
        from bpe.formats import tiktoken

        return cls.from_spec(tiktoken.load(path, pattern, special_tokens))

    def save_tiktoken(self, path: StrPath) -> None:
        """Write a .tiktoken file of ranks, without pattern and special tokens.

        Raises:
            ValueError: If the ids do not follow the order of the merges, which the format requires.
        """
        from bpe.formats import tiktoken

        tiktoken.save(self._spec, path)

    @classmethod
    def from_huggingface(cls, tokenizer_json_path: StrPath) -> Self:
        """Read a tokenizer.json of the `tokenizers` library that is byte-level BPE.

        The ids equal those of the library with `add_special_tokens=False`. Its post-processor, truncation and padding
        are kept for saving, but never applied.

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If it is not byte-level BPE, or has a setting that would change ids and is not supported; the
                error names the setting.
        """
        from bpe.formats import huggingface

        return cls.from_spec(huggingface.load(tokenizer_json_path))

    def save_huggingface(self, path: StrPath) -> None:
        """Write a tokenizer.json with which the `tokenizers` library gives the same ids."""
        from bpe.formats import huggingface

        huggingface.save(self._spec, path)


def _checked_text(text: str) -> str:
    """Return a text, or refuse any other type."""
    if not isinstance(text, str):
        raise TypeError(
            f"text is a {type(text).__name__}, expected a str; decode bytes first, or use encode_to_numpy, which takes "
            "UTF-8"
        )
    return text


def _checked_ids(ids: Iterable[int]) -> Sequence[int]:
    """Return ids as a sequence of anything, or refuse what holds no ids."""
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise TypeError(f"ids is a {type(ids).__name__}, expected a list of integers; a single id needs brackets, too")
    return ids if isinstance(ids, list | tuple) else list(ids)


def _checked_id(id_: int) -> int:
    """Return an integer of any type as an int, or refuse anything else."""
    try:
        return index(id_)
    except TypeError:
        advice = "; decode_batch decodes several lists of ids" if isinstance(id_, Iterable) else ""
        raise TypeError(f"token id {short_repr(id_)} cannot be interpreted as an integer{advice}") from None
