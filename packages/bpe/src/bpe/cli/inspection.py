"""What people look at in a tokenizer: its longest tokens, how it compresses documents, how it splits a text."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from bpe.text.blocks import BlockCutter
from bpe.text.files import TextFile
from bpe.text.special_tokens import END_OF_TEXT, SpecialTokenFinder
from bpe.text.utf8 import StrPath

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer

KINDS = ("letters", "digits", "white space", "other signs", "mixed", "parts of characters")


@dataclass(frozen=True)
class VocabularySummary:
    """What the tokens of a vocabulary are like; special tokens are left out of all counts."""

    lengths: dict[int, int]
    """How many tokens have so many bytes."""
    kinds: dict[str, int]
    """How many tokens are of each of `KINDS`, a space before them not counted."""
    with_space: int
    """How many tokens begin with a space."""
    longest: list[tuple[int, bytes]]
    """The longest tokens with their ids, the longest first."""


@dataclass(frozen=True)
class Document:
    """How a document is compressed."""

    bytes: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text for each token; 0 for an empty document."""
        return self.bytes / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Compression:
    """How the documents of a text are compressed, and which tokens they use."""

    documents: list[Document]
    more: bool
    """Whether the text has more documents than these."""
    used: Counter[int]
    """How often each id occurs."""

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text for each token, over all documents."""
        tokens = sum(document.tokens for document in self.documents)
        return sum(document.bytes for document in self.documents) / tokens if tokens else 0.0

    @property
    def spread(self) -> tuple[float, float, float]:
        """The lowest, the median and the highest number of bytes for each token among documents that are not empty."""
        ratios = [document.bytes_per_token for document in self.documents if document.tokens]
        return (min(ratios), median(ratios), max(ratios)) if ratios else (0.0, 0.0, 0.0)


def summarize_vocabulary(tokenizer: Tokenizer, longest: int = 20) -> VocabularySummary:
    """Return what the tokens of a tokenizer are like, with so many of the longest."""
    special = {tokenizer.token_to_id(token) for token in tokenizer.special_tokens}
    tokens = {id_: token for id_, token in tokenizer.vocab.items() if id_ not in special}
    lengths = Counter(map(len, tokens.values()))
    kinds = Counter(map(kind_of, tokens.values()))
    return VocabularySummary(
        lengths=dict(sorted(lengths.items())),
        kinds={kind: kinds[kind] for kind in KINDS},
        with_space=sum(token.startswith(b" ") for token in tokens.values()),
        longest=sorted(tokens.items(), key=lambda item: (-len(item[1]), item[1]))[: max(longest, 0)],
    )


def kind_of(token: bytes) -> str:
    """Return which of `KINDS` a token is of."""
    try:
        text = token.decode("utf-8")
    except UnicodeDecodeError:
        return "parts of characters"
    found = {_class_of(character) for character in text.removeprefix(" ") or " "}
    return found.pop() if len(found) == 1 else "mixed"


def _class_of(character: str) -> str:
    """Return the kind of one character."""
    if character.isspace():
        return "white space"
    return {"L": "letters", "N": "digits"}.get(unicodedata.category(character)[0], "other signs")


def measure_compression(
    tokenizer: Tokenizer, path: StrPath, max_documents: int = 1000, separator: str = END_OF_TEXT
) -> Compression:
    """Encode the first documents of a text file, one by one.

    Args:
        tokenizer: The tokenizer.
        path: A text file: plain, .gz or .zst.
        max_documents: How many documents to read at most.
        separator: What stands between documents; it belongs to none.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is empty.
    """
    documents: list[Document] = []
    used: Counter[int] = Counter()
    for text in _documents(path, separator):
        if len(documents) == max_documents:
            return Compression(documents, True, used)
        ids = tokenizer.encode(text)
        documents.append(Document(len(text.encode("utf-8")), len(ids)))
        used.update(ids)
    return Compression(documents, False, used)


def _documents(path: StrPath, separator: str) -> Iterator[str]:
    """Yield the documents of a text file that have anything but white space in them."""
    finder = SpecialTokenFinder([separator])
    # A cutter without a pattern cuts after separators only, and so leaves documents whole.
    for block in TextFile(path).blocks(BlockCutter(finder, "")):
        yield from (text for text, _ in block.texts(finder)[0] if text.strip())
