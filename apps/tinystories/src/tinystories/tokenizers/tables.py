"""The tables of the report on tokenizers: rows of text, the header first, of which Markdown or columns are made."""

from collections.abc import Sequence

from tinystories.tokenizers.findings import Findings, longest_tokens
from tinystories.tokenizers.measurements import PILE_BYTES, Ratio, Speed
from tinystories.tokenizers.training import TrainedTokenizer

Rows = list[list[str]]
_LONGEST_SHOWN = 80
"""Characters; the byte length beside it says what is missing."""


def compression_table(findings: Findings) -> Rows:
    """Bytes per token of every tokenizer on every corpus."""
    rows = [
        [
            "tokenizer",
            "trained on",
            "entries",
            "corpus",
            f"bytes/token, {findings.documents} documents",
            "whole text",
            "to own tokenizer",
            "entries used",
        ]
    ]
    for corpus in findings.corpora:
        for tokenizer in findings.tokenizers:
            found = findings.compression(tokenizer.name, corpus.name)
            rows.append(
                [
                    tokenizer.name,
                    tokenizer.corpus or "elsewhere",
                    f"{tokenizer.tokenizer.vocab_size:,}",
                    corpus.name,
                    f"{found.sample_mean:.2f} ± {found.sample_deviation:.2f}",
                    f"{found.whole:.3f}",
                    _against_own(findings, tokenizer, corpus.name),
                    f"{found.entries_used / tokenizer.tokenizer.vocab_size:.0%}",
                ]
            )
    return rows


def training_table(findings: Findings) -> Rows:
    """What training took, one row for each tokenizer that was trained here."""
    rows = [
        [
            "tokenizer",
            "text",
            "seconds",
            "pre-tokenising",
            "merging",
            "peak memory",
            "before training",
            "distinct pieces",
        ]
    ]
    for tokenizer in findings.tokenizers:
        if (training := tokenizer.training) is not None:
            rows.append(
                [
                    tokenizer.name,
                    f"{training.text_bytes / 1e6:,.1f} MB",
                    f"{training.seconds:.2f}",
                    f"{training.seconds_pretokenising:.2f}",
                    f"{training.seconds_merging:.2f}",
                    _megabytes(training.peak_memory_bytes),
                    _megabytes(training.memory_before_bytes),
                    f"{training.pretokens_distinct:,}",
                ]
            )
    return rows


def vocabulary_table(findings: Findings) -> Rows:
    """Sizes and kinds of tokens."""
    from bpe.cli.inspection import KINDS, summarize_vocabulary

    rows = [["tokenizer", "entries", "ids", *KINDS, "space before", "longest"]]
    for tokenizer in findings.tokenizers:
        summary = summarize_vocabulary(tokenizer.tokenizer)
        ordinary = sum(summary.lengths.values())
        rows.append(
            [
                tokenizer.name,
                f"{tokenizer.tokenizer.vocab_size:,}",
                tokenizer.tokenizer.id_dtype,
                *(f"{summary.kinds[kind] / ordinary:.1%}" for kind in KINDS),
                f"{summary.with_space / ordinary:.1%}",
                f"{max(summary.lengths)} bytes",
            ]
        )
    return rows


def longest_table(tokenizer: TrainedTokenizer) -> Rows:
    """The longest tokens of one tokenizer."""
    rows = [["token", "bytes", "id"]]
    for id_, token in longest_tokens(tokenizer):
        rows.append([shown(token), f"{len(token)}", f"{id_}"])
    return rows


def speed_table(findings: Findings) -> Rows:
    """Bytes of text per second, and the time that The Pile would take."""
    threads = findings.speeds[0].threads
    rows = [
        [
            "tokenizer",
            "corpus",
            "text",
            "encode, 1 thread",
            f"encode, {threads} thread{'s' * (threads > 1)}",
            "first call",
            "decode",
            "The Pile",
            "The Pile, 1 thread",
        ]
    ]
    for speed in findings.speeds:
        rows.append(
            [
                speed.tokenizer,
                speed.corpus,
                f"{speed.text_bytes / 1e6:,.2f} MB",
                _rate(speed, speed.encode_one_thread),
                _rate(speed, speed.encode_all_threads),
                _per_second(speed.rate([speed.first_call])),
                _rate(speed, speed.decode),
                duration(PILE_BYTES / speed.rate(speed.encode_all_threads)),
                duration(PILE_BYTES / speed.rate(speed.encode_one_thread)),
            ]
        )
    return rows


def markdown(rows: Rows) -> str:
    """A table in Markdown: the first column to the left, the others to the right."""
    alignment = [":---"] + ["---:"] * (len(rows[0]) - 1)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], alignment, *cells[1:]])


def shown(token: bytes) -> str:
    """A token in quotes as code for Markdown, its first characters if it is very long."""
    from bpe.cli.inspection_report import printable

    text = printable(token)
    text = f"'{text}'" if len(text) <= _LONGEST_SHOWN else f"'{text[:_LONGEST_SHOWN]}'…"
    fence = "`"
    while fence in text:
        fence += "`"
    return f"{fence}{text}{fence}"


def duration(seconds: float) -> str:
    """A long time in the unit that fits it."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def _against_own(findings: Findings, tokenizer: TrainedTokenizer, corpus: str) -> str:
    own = findings.own(tokenizer, corpus)
    if own is tokenizer:
        return "own"
    name = "" if own.size == tokenizer.size else f" of {own.name}"
    return _ratio(findings.bytes_per_token_against(tokenizer.name, own.name, corpus)) + name


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.3f}" + ("" if ratio.half_width is None else f" ± {ratio.half_width:.3f}")


def _rate(speed: Speed, seconds: Sequence[float]) -> str:
    slowest, fastest = speed.rate_range(seconds)
    return f"{_per_second(speed.rate(seconds))} ({slowest / 1e6:.1f} to {fastest / 1e6:.1f})"


def _per_second(rate: float) -> str:
    return f"{rate / 1e6:.1f} MB/s"


def _megabytes(size: int | None) -> str:
    return "n/a" if size is None else f"{size / 1e6:,.0f} MB"
