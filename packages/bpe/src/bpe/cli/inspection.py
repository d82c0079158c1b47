"""Reports about a tokenizer: its vocabulary, its compression of documents, its split of a text."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bpe.text import END_OF_TEXT, BlockCutter, SpecialTokenFinder, StrPath, TextFile
from bpe.tokenizer import Tokenizer

KINDS = ("letters", "digits", "white space", "other characters", "mixed", "parts of characters")

_BAR = 40
_LISTED_DOCUMENTS, _LISTED_TOKENS = 10, 10
_BACKGROUNDS = (153, 222, 157, 217, 183)  # pale blue, yellow, green, red and violet of the 256 colours of a terminal


@dataclass(frozen=True)
class VocabularySummary:
    """Statistics of the tokens of a vocabulary, without the special tokens."""

    lengths: dict[int, int]
    """The number of tokens of each length in bytes."""
    kinds: dict[str, int]
    """The number of tokens of each of `KINDS`; a space at the start is ignored."""
    with_space: int
    """The number of tokens that start with a space."""
    longest: list[tuple[int, bytes]]
    """The longest tokens with their ids, in descending order of length."""


@dataclass(frozen=True)
class Document:
    """Sizes of a document in bytes and in tokens."""

    bytes: int
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text per token; 0 for an empty document."""
        return self.bytes / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Compression:
    """Compression of the documents of a text, and the tokens they use."""

    documents: list[Document]
    more: bool
    """True if the text has further documents."""
    used: Counter[int]
    """The number of occurrences of each id."""

    @property
    def bytes_per_token(self) -> float:
        """Bytes of text per token over all documents."""
        tokens = sum(document.tokens for document in self.documents)
        return sum(document.bytes for document in self.documents) / tokens if tokens else 0.0

    @property
    def spread(self) -> tuple[float, float, float]:
        """The minimum, median and maximum of bytes per token among documents that are not empty."""
        ratios = [document.bytes_per_token for document in self.documents if document.tokens]
        return (min(ratios), median(ratios), max(ratios)) if ratios else (0.0, 0.0, 0.0)


def summarize_vocabulary(tokenizer: Tokenizer, longest: int = 20) -> VocabularySummary:
    """Return statistics of the vocabulary of a tokenizer, with its `longest` longest tokens."""
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
    """Return the one of `KINDS` to which a token belongs."""
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
    return {"L": "letters", "N": "digits"}.get(unicodedata.category(character)[0], "other characters")


def measure_compression(
    tokenizer: Tokenizer,
    path: StrPath,
    max_documents: int = 1000,
    separator: str = END_OF_TEXT,
    *,
    threads: int | None = None,
) -> Compression:
    """Encode the first documents of a text file one by one.

    Args:
        tokenizer: The tokenizer.
        path: A text file: plain, .gz or .zst.
        max_documents: The largest number of documents to read.
        separator: The string between documents; it belongs to none of them.
        threads: The number of threads; None uses all cores.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is empty.
    """
    documents: list[Document] = []
    used: Counter[int] = Counter()
    for text in _documents(path, separator):
        if len(documents) == max_documents:
            return Compression(documents, True, used)
        ids = tokenizer.encode_to_numpy(text, threads).tolist()
        documents.append(Document(len(text.encode("utf-8")), len(ids)))
        used.update(ids)
    return Compression(documents, False, used)


def _documents(path: StrPath, separator: str) -> Iterator[str]:
    """Yield the documents of a text file, without those that are only white space."""
    finder = SpecialTokenFinder([separator])
    # Without a pattern the cutter cuts only after separators, so documents stay whole.
    for block in TextFile(path).blocks(BlockCutter(finder, "")):
        yield from (text for text, _ in block.texts(finder)[0] if text.strip())


def printable(token: bytes) -> str:
    """Return a token in printable form on one line, with escapes for control characters and parts of characters."""
    text = token.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def vocabulary_report(tokenizer: Tokenizer, summary: VocabularySummary) -> str:
    """Return a description of a tokenizer, a histogram of the lengths of its tokens, and its longest tokens."""
    ordinary = sum(summary.lengths.values())
    lines = [
        f"vocabulary      {tokenizer.vocab_size:,}",
        f"merges          {len(tokenizer.merges):,}",
        f"special tokens  {' '.join(tokenizer.special_tokens) or 'none'}",
        f"pattern         {tokenizer.pattern}",
    ]
    if tokenizer.ignore_merges:
        lines.append("whole tokens    without merging")
    if tokenizer.normalization:
        lines.append(f"normalization   {tokenizer.normalization}")
    lines += [f"sha256          {tokenizer.sha256}", "", "tokens          without special tokens"]
    lines += [f"  {kind:<20} {number:>9,} {_share(number, ordinary)}" for kind, number in summary.kinds.items()]
    lines += [f"  {'with a leading space':<20} {summary.with_space:>9,} {_share(summary.with_space, ordinary)}", ""]
    lines.append("token lengths in bytes")
    most = max(summary.lengths.values(), default=1)
    for length, number in summary.lengths.items():
        lines.append(f"  {length:>4} {number:>9,}  {'#' * -(-number * _BAR // most)}")
    if summary.longest:
        lines += ["", "longest tokens"]
        lines += [f"  {id_:>8}  {len(token):>4} bytes  '{printable(token)}'" for id_, token in summary.longest]
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    """Return a share in percent."""
    return f"{part / whole if whole else 0:>6.1%}"


def compression_report(tokenizer: Tokenizer, compression: Compression) -> str:
    """Return a table of the compression of documents, and the part of the vocabulary they use."""
    documents = compression.documents
    lowest, middle, highest = compression.spread
    lines = [f"{'document':>8} {'bytes':>11} {'tokens':>11} {'bytes per token':>16}"]
    for number, document in enumerate(documents[:_LISTED_DOCUMENTS], start=1):
        ratio = f"{document.bytes_per_token:>16.3f}"
        lines.append(f"{number:>8} {document.bytes:>11,} {document.tokens:>11,} {ratio}")
    if len(documents) > _LISTED_DOCUMENTS:
        lines.append(f"{'...':>8}")
    total, tokens = sum(d.bytes for d in documents), sum(d.tokens for d in documents)
    lines.append(f"{'all':>8} {total:>11,} {tokens:>11,} {compression.bytes_per_token:>16.3f}")
    kept = "the first " if compression.more else ""
    spread = f"minimum {lowest:.3f}, median {middle:.3f}, maximum {highest:.3f}"
    share = _share(len(compression.used), tokenizer.vocab_size).strip()
    lines += [
        "",
        f"{kept}{len(documents):,} documents; bytes per token: {spread}",
        f"tokens used: {len(compression.used):,} of {tokenizer.vocab_size:,} ({share})",
        "most frequent tokens",
    ]
    for id_, number in compression.used.most_common(_LISTED_TOKENS):
        lines.append(f"  {id_:>8} {number:>11,} {_share(number, tokens)}  '{printable(tokenizer.decode_bytes([id_]))}'")
    return "\n".join(lines)


def split_report(tokens: Sequence[tuple[int, bytes]], *, color: bool) -> str:
    """Return a text with its tokens marked by background colours or by bars, and a list of the tokens and ids below."""
    parts = []
    for index, (_, token) in enumerate(tokens):
        shown = printable(token)
        if color:
            shown = f"\x1b[30;48;5;{_BACKGROUNDS[index % len(_BACKGROUNDS)]}m{shown}\x1b[0m"
        # Line breaks are kept, so that a long text stays readable.
        parts.append(shown + ("\n" if token.endswith(b"\n") else ""))
    text = "".join(parts) if color else "|".join(parts).replace("\n|", "|\n")
    size = sum(len(token) for _, token in tokens)
    lines = [text, "", f"{len(tokens):,} tokens of {size:,} bytes ({size / max(len(tokens), 1):.2f} bytes per token)"]
    lines += [f"{id_:>8}  '{printable(token)}'" for id_, token in tokens]
    return "\n".join(lines)
