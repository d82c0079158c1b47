"""Texts that tokenizers are compared on: named on the command line, found or made, and read as documents."""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SEPARATOR = "<|endoftext|>"
_NAMED = "sample", "tinystories"  # data sets with a validation text of their own, and without columns
_FORMS = "sample, tinystories, a path, TRAIN,VALID or NAME=TRAIN,VALID"


@dataclass(frozen=True)
class CorpusChoice:
    """A request: a data set as `texts.resolve` takes it, and a name for it."""

    name: str
    dataset: str
    valid: Path | None
    column: str | None
    """The column of the texts in a table or a folder of tables; None for texts."""


@dataclass(frozen=True)
class Corpus:
    """A text to train on and one to measure on."""

    name: str
    train: Path
    valid: Path
    known_digest: str | None = None
    """SHA-256 of the training text's file, if known."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the training text's file, in hexadecimal."""
        from bpe.files import file_digest

        return self.known_digest or file_digest(self.train)

    @cached_property
    def documents(self) -> list[str]:
        """The documents between the separators of the validation text, without blank ones, all in memory.

        Malformed UTF-8 becomes U+FFFD, with a warning.
        """
        documents = _decoded(_read(self.valid), self.valid).split(SEPARATOR)
        return [document for document in documents if document.strip()]

    def beginning(self, max_bytes: int) -> str:
        """The first documents of the training text that fit into `max_bytes`, with their separators.

        A first document longer than `max_bytes` is truncated.
        """
        data = _read(self.train, max_bytes + 1)
        if len(data) <= max_bytes:
            return _decoded(data, self.train)
        found = data.rfind(SEPARATOR.encode(), 0, max_bytes)
        end = found + len(SEPARATOR) if found >= 0 else max_bytes
        while data[end] & 0xC0 == 0x80:  # not inside a character
            end -= 1
        return _decoded(data[:end], self.train)


def parse_corpora(texts: Sequence[str], column: str | None = None) -> list[CorpusChoice]:
    """Read the values of `--corpora`; the path of an existing file or folder may contain any characters.

    Args:
        texts: The values.
        column: The column of the texts in tables; text files do without.

    Raises:
        ValueError: A value cannot be read, two have the same name, or there is a column and no table.
    """
    choices = [_choice(text, column) for text in texts]
    if not choices:
        raise ValueError(f"--corpora is empty: expected one or more of {_FORMS}")
    names = [choice.name for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--corpora has {names.count(name)} corpora called {name}: name them, as in other={name}")
    if column is not None and all(choice.column is None for choice in choices):
        raise ValueError(f"--column {column}: none of --corpora is a table or a folder of tables; leave it out")
    return choices


def resolve_corpus(choice: CorpusChoice, data_dir: Path, notify: Callable[[str], None]) -> Corpus:
    """Find or make the texts of one corpus, with the whole validation text; raises what `texts.resolve` raises."""
    from tinystories.texts import resolve

    texts = resolve(choice.dataset, choice.valid, None, data_dir, notify, choice.column)
    return Corpus(choice.name, texts.train, texts.valid, texts.digests.get(texts.train))


def default_vocab_size(corpus: Corpus) -> int:
    """Entries for a text of this size: those of the handout for TinyStories (10,000) and OpenWebText (32,000)."""
    size = corpus.train.stat().st_size
    if size < 100e6:
        return 2_048
    return 10_000 if size < 5e9 else 32_000


def _choice(text: str, column: str | None) -> CorpusChoice:
    name, equals, rest = text.partition("=")
    if not equals or Path(text).exists():
        name, rest = "", text
    train, *valid = [rest] if Path(rest).exists() else rest.split(",")
    if not train or len(valid) > 1 or "" in valid or (equals and not (name or Path(text).exists())):
        raise ValueError(f"--corpora {text}: expected {_FORMS}")
    if valid and train in _NAMED:
        raise ValueError(f"--corpora {text}: {train} has its own validation text; leave out ,{valid[0]}")
    name = name or Path(train).name.split(".")[0] or Path(train).name
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(
            f"--corpora {text}: expected letters, digits and _.- in the name {name!r}; choose one with NAME=PATH"
        )
    has_rows = train not in _NAMED and any(map(_has_rows, (train, *valid)))
    return CorpusChoice(name, train, Path(valid[0]) if valid else None, column if has_rows else None)


def _has_rows(name: str) -> bool:
    """Return whether a path is a table, or a folder with one."""
    from bpe.text import is_table

    path = Path(name)
    return any(map(is_table, path.rglob("*") if path.is_dir() else [path]))


def _read(path: Path, max_bytes: int | None = None) -> bytes:
    """The decompressed bytes of a text, at most `max_bytes` of them."""
    from bpe.text import open_text_file

    chunks: list[bytes] = []
    size = 0
    for chunk in open_text_file(path, 1 << 22):
        chunks.append(chunk)
        size += len(chunk)
        if max_bytes is not None and size >= max_bytes:
            break
    return b"".join(chunks)[:max_bytes]


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        from bpe import InvalidUTF8Warning

        warnings.warn(f"malformed UTF-8 in {path} is replaced by U+FFFD", InvalidUTF8Warning, stacklevel=2)
        return data.decode("utf-8", "replace")
