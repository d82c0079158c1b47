"""What an inspection found, as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bpe.cli.inspection import Compression, VocabularySummary

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer

_BAR = 40
_LISTED_DOCUMENTS, _LISTED_TOKENS = 10, 10
_BACKGROUNDS = (153, 222, 157, 217, 183)  # pale blue, yellow, green, red and violet of the 256 colours of a terminal


def printable(token: bytes) -> str:
    """Return a token as it can be printed on one line: escapes for control characters and for parts of characters."""
    text = token.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def vocabulary_report(tokenizer: Tokenizer, summary: VocabularySummary) -> str:
    """Return the facts of a tokenizer, the lengths of its tokens as a histogram, and the longest of them."""
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
        lines.append(f"normalisation   {tokenizer.normalization}")
    lines += [f"sha256          {tokenizer.sha256}", "", "tokens          special ones left out"]
    lines += [f"  {kind:<20} {number:>9,} {_share(number, ordinary)}" for kind, number in summary.kinds.items()]
    lines += [f"  {'with a space before':<20} {summary.with_space:>9,} {_share(summary.with_space, ordinary)}", ""]
    lines.append("bytes of a token")
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
    """Return how documents are compressed, and what of the vocabulary they use."""
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
    spread = f"lowest {lowest:.3f}, median {middle:.3f}, highest {highest:.3f}"
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
    """Return a text with its tokens told apart, by background or by borders, and below it each token with its id."""
    parts = []
    for place, (_, token) in enumerate(tokens):
        shown = printable(token)
        if color:
            shown = f"\x1b[30;48;5;{_BACKGROUNDS[place % len(_BACKGROUNDS)]}m{shown}\x1b[0m"
        # Lines stay lines, so that a long text can be read.
        parts.append(shown + ("\n" if token.endswith(b"\n") else ""))
    text = "".join(parts) if color else "|".join(parts).replace("\n|", "|\n")
    size = sum(len(token) for _, token in tokens)
    lines = [text, "", f"{len(tokens):,} tokens of {size:,} bytes ({size / max(len(tokens), 1):.2f} bytes per token)"]
    lines += [f"{id_:>8}  '{printable(token)}'" for id_, token in tokens]
    return "\n".join(lines)
