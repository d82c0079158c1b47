"""`tokenizers.md` and `tokenizers.json`: tables of all measurements, with verdicts where intervals allow them."""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from tinystories.tokenizers.findings import LONGEST, Findings, record
from tinystories.tokenizers.measurements import LEAST_DOCUMENTS, PILE_BYTES, Ratio, Speed, tokens_in_common
from tinystories.tokenizers.training import TrainedTokenizer
from trainer.experiments.reporting import Rows, duration

_LONGEST_SHOWN = 80  # characters of a token, whose length in bytes stands beside it
_PYTHON_BYTES = 1 << 20  # bpe encodes smaller texts in plain Python


def write_report(findings: Findings, directory: Path) -> Path:
    """Write `tokenizers.json` and `tokenizers.md` into `directory`, and return the path of the latter."""
    from trainer import write_atomically

    content = json.dumps(record(findings), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(directory / "tokenizers.json", content.encode("utf-8"))
    path = directory / "tokenizers.md"
    write_atomically(path, markdown(findings).encode("utf-8"))
    return path


def brief_tables(findings: Findings) -> list[Rows]:
    """The tables for a terminal."""
    return [compression_table(findings), training_table(findings), speed_table(findings)]


def markdown(findings: Findings) -> str:
    """The whole report."""
    parts = [
        "# Tokenizers",
        _setting(findings),
        "## Compression",
        f"Bytes per token: the mean over {findings.documents} documents drawn from the validation text with seed "
        f"{findings.seed} (the same for every tokenizer) ± their standard deviation, and the whole validation text. "
        "No tokenizer was trained here on a validation text. The ratio divides bytes per token of the whole text by "
        "those of the tokenizer *compared with*: the smallest one trained on the corpus, or for tokenizers trained "
        "elsewhere the one of the nearest size. Its ± is half the 95 % interval over documents, which needs at least "
        f"{LEAST_DOCUMENTS} of them; *better* and *worse* mean that the interval excludes 1. *Entries used* is "
        "the share of the vocabulary that occurs in the text.",
        table(compression_table(findings)),
        "## Training",
        "Wall time of counting pre-tokens and of learning merges, measured once in a process of its own whose kernels "
        "were loaded before. Peak memory is that of the process without pages of the text's file; *before training* is "
        "the part taken by Python, libraries and kernels. Fewer entries than asked for mean that no pair was left to "
        "merge.",
        table(training_table(findings)),
        "## Vocabularies",
        "Special tokens are left out; a leading space does not count for a token's kind. An unsigned 16-bit integer "
        "(uint16) holds ids up to 65,535 in two bytes per token; larger ids need uint32, four bytes per token.",
        table(vocabulary_table(findings)),
    ]
    if len(common := common_table(findings)) > 1:
        parts += ["Tokens that two vocabularies of one size have in common:", table(common)]
    for tokenizer in findings.tokenizers:
        parts += [f"### The {LONGEST} longest tokens of {tokenizer.name}", table(longest_table(tokenizer))]
    parts += [
        "## Throughput",
        f"Bytes of text per second: the median of {len(findings.speeds[0].decode)} calls (slowest to fastest) on the "
        "first documents of the training text, after a warm-up call, so that the tokenizer has seen the text. *First "
        "call* is the first call of a new tokenizer, with all threads; text that always brings new words is closer to "
        "it. Encoding turns a string into an array of ids; decoding turns them back into a string in one thread, and "
        "*round trip* tells whether it equals the original. *The Pile* is the time for its 825 GB at these rates. bpe "
        f"encodes texts below {_PYTHON_BYTES / 1e6:.0f} MB in plain Python: their rates do not apply to large texts.",
        table(speed_table(findings)),
    ]
    return "\n\n".join(parts) + "\n"


def compression_table(findings: Findings) -> Rows:
    """Bytes per token of every tokenizer on every corpus."""
    columns = f"tokenizer|trained on|entries|corpus|bytes/token, {findings.documents} documents|whole text"
    rows = [f"{columns}|compared with|ratio|verdict|entries used".split("|")]
    for corpus in findings.corpora:
        for tokenizer in findings.tokenizers:
            found = findings.compression(tokenizer.name, corpus.name)
            cells = ["-", "-", "-"]
            if (reference := findings.reference(tokenizer, corpus.name)) is not tokenizer:
                ratio = findings.bytes_per_token_against(tokenizer.name, reference.name, corpus.name)
                cells = [reference.name, _ratio(ratio), verdict(ratio, len(found.bytes))]
            rows.append(
                [
                    tokenizer.name,
                    tokenizer.corpus or "elsewhere",
                    f"{tokenizer.tokenizer.vocab_size:,}",
                    corpus.name,
                    f"{found.sample_mean:.2f} ± {found.sample_deviation:.2f}",
                    f"{found.whole:.3f}",
                    *cells,
                    f"{found.entries_used / tokenizer.tokenizer.vocab_size:.0%}",
                ]
            )
    return rows


def training_table(findings: Findings) -> Rows:
    """Time and memory of training, one row for each tokenizer trained here."""
    columns = "tokenizer|entries|text|seconds|pre-tokenising|merging|peak memory|before training"
    rows = [f"{columns}|distinct pre-tokens|threads|load|measured (UTC)".split("|")]
    for tokenizer in findings.tokenizers:
        if (training := tokenizer.training) is not None:
            entries = tokenizer.tokenizer.vocab_size
            rows.append(
                [
                    tokenizer.name,
                    f"{entries:,}" + (f" of {training.vocab_size:,}" if entries < training.vocab_size else ""),
                    f"{training.text_bytes / 1e6:,.1f} MB",
                    f"{training.seconds:.2f}",
                    f"{training.seconds_pretokenising:.2f}",
                    f"{training.seconds_merging:.2f}",
                    megabytes(training.peak_memory_bytes),
                    megabytes(training.memory_before_bytes),
                    f"{training.pretokens_distinct:,}",
                    f"{training.threads}",
                    f"{training.load_average:g}",
                    training.measured[:16].replace("T", " "),
                ]
            )
    return rows


def vocabulary_table(findings: Findings) -> Rows:
    """Sizes and kinds of tokens."""
    from bpe.cli.inspection import KINDS, summarize_vocabulary

    rows = [["tokenizer", "entries", "largest id", "ids", *KINDS, "space before", "longest"]]
    for tokenizer in findings.tokenizers:
        summary = summarize_vocabulary(tokenizer.tokenizer)
        ordinary = sum(summary.lengths.values())
        rows.append(
            [
                tokenizer.name,
                f"{tokenizer.tokenizer.vocab_size:,}",
                f"{max(tokenizer.tokenizer.vocab):,}",
                tokenizer.tokenizer.id_dtype,
                *(f"{summary.kinds[kind] / ordinary:.1%}" for kind in KINDS),
                f"{summary.with_space / ordinary:.1%}",
                f"{max(summary.lengths)} bytes",
            ]
        )
    return rows


def common_table(findings: Findings) -> Rows:
    """Tokens in common of each pair of vocabularies of one size."""
    rows = [["tokenizer", "other", "tokens in common", "share"]]
    for one, other in combinations(findings.tokenizers, 2):
        if one.size == other.size:
            common = tokens_in_common(one.tokenizer, other.tokenizer)
            share = common / min(one.tokenizer.vocab_size, other.tokenizer.vocab_size)
            rows.append([one.name, other.name, f"{common:,}", f"{share:.0%}"])
    return rows


def longest_table(tokenizer: TrainedTokenizer) -> Rows:
    """The longest tokens of one tokenizer, without special ones."""
    from bpe.cli.inspection import summarize_vocabulary

    longest = summarize_vocabulary(tokenizer.tokenizer, LONGEST).longest
    return [["token", "bytes", "id"], *([quoted(token), f"{len(token)}", f"{id_}"] for id_, token in longest)]


def speed_table(findings: Findings) -> Rows:
    """Bytes of text per second, and the time for The Pile."""
    threads = findings.speeds[0].threads
    columns = f"tokenizer|corpus|text|encode, 1 thread|encode, {threads} thread{'s' * (threads > 1)}|first call|decode"
    rows = [f"{columns}|round trip|The Pile|The Pile, 1 thread|The Pile, first call".split("|")]
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
                "equal" if speed.round_trip else "differs",
                *(
                    duration(PILE_BYTES / speed.rate(seconds))
                    for seconds in (speed.encode_all_threads, speed.encode_one_thread, [speed.first_call])
                ),
            ]
        )
    return rows


def table(rows: Rows) -> str:
    """A table in Markdown: the first column to the left, the others to the right."""
    alignment = [":---"] + ["---:"] * (len(rows[0]) - 1)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], alignment, *cells[1:]])


def verdict(ratio: Ratio, documents: int) -> str:
    """Judge by a ratio of bytes per token: "better" if it exceeds 1, "worse" if it is below 1, or "inconclusive"."""
    if not ratio.differs_from_one:
        return f"inconclusive ({documents:,} documents)"
    return "better" if ratio.value > 1 else "worse"


def quoted(token: bytes) -> str:
    """A token in quotes as Markdown code; only the beginning of a very long one."""
    from bpe.cli.inspection import printable

    text = printable(token)
    text = f"'{text}'" if len(text) <= _LONGEST_SHOWN else f"'{text[:_LONGEST_SHOWN]}'…"
    fence = "`"
    while fence in text:
        fence += "`"
    return f"{fence}{text}{fence}"


def megabytes(size: int) -> str:
    """Bytes in MB."""
    return f"{size / 1e6:,.0f} MB"


def _setting(findings: Findings) -> str:
    machine = findings.machine
    facts = [
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
        ("versions", ", ".join(f"{name} {machine[name.lower()]}" for name in ("Python", "bpe", "numba", "numpy"))),
        ("started", f"{machine['begun'][:16].replace('T', ' ')} UTC"),
        ("load average at the start", f"{machine['load_average']:g}"),
        *(
            (
                corpus.name,
                f"{corpus.train.stat().st_size / 1e6:,.1f} MB to train on, {len(corpus.documents):,} documents to "
                "measure on",
            )
            for corpus in findings.corpora
        ),
    ]
    return "\n".join(f"- {name}: {value}" for name, value in facts)


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.3f}" + ("" if ratio.half_width is None else f" ± {ratio.half_width:.3f}")


def _rate(speed: Speed, seconds: Sequence[float]) -> str:
    slowest, fastest = speed.rate_range(seconds)
    return f"{_per_second(speed.rate(seconds))} ({slowest / 1e6:.1f} to {fastest / 1e6:.1f})"


def _per_second(rate: float) -> str:
    return f"{rate / 1e6:.1f} MB/s"
