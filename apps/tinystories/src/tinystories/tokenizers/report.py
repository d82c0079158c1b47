"""`tokenizers.md` and `tokenizers.json`: all that was found."""

import json
from pathlib import Path

from tinystories.tokenizers import sentences, tables
from tinystories.tokenizers.findings import LONGEST, Findings, record


def markdown(findings: Findings) -> str:
    """The whole report."""
    corpora = "; ".join(
        f"{corpus.name}: {corpus.train.stat().st_size / 1e6:,.1f} MB to train on, {len(corpus.documents):,} documents "
        "to measure on"
        for corpus in findings.corpora
    )
    parts = [
        "# Tokenizers",
        f"{corpora}. {sentences.setting(findings)}",
        "## Compression",
        f"Bytes per token: the mean over {findings.documents} documents, drawn from the validation text with seed "
        f"{findings.seed} (the same for every tokenizer) ± their standard deviation, and of the whole validation text. "
        "No tokenizer was trained here on a validation text. *To own tokenizer* are the bytes per token of "
        "the whole text by those of the tokenizer of the same size that was trained on that corpus, ± half the 95% "
        "interval over documents. *Entries used* is the share of the vocabulary that occurs in the whole text.",
        tables.markdown(tables.compression_table(findings)),
        "In what follows, ± behind a percentage is half the 95% interval over documents, too.",
        *sentences.about_compression(findings),
        "## Training",
        "Wall time of counting pre-tokens and of learning merges, in a process of its own whose kernels were loaded "
        "before. Peak memory is the most that this process held beside pages of the text's file; *before training* is "
        "what Python, libraries and kernels held of it.",
        tables.markdown(tables.training_table(findings)),
        _list(sentences.about_training(findings)),
        "## Vocabularies",
        "Special tokens are left out; a space before a token does not count for its kind.",
        tables.markdown(tables.vocabulary_table(findings)),
        _list(sentences.about_vocabularies(findings)),
    ]
    for tokenizer in findings.tokenizers:
        parts += [
            f"### The {LONGEST} longest tokens of {tokenizer.name}",
            tables.markdown(tables.longest_table(tokenizer)),
        ]
    parts += [
        "## Why 16 bits",
        _list(sentences.about_ids(findings)),
        "## Throughput",
        f"Bytes of text per second: the median of {len(findings.speeds[0].decode)} calls (the slowest to the fastest), "
        "with the first documents of the training text, after a call that does not count: all pieces of the text were "
        "seen before. *First call* is that of a fresh tokenizer with all threads, which has seen none. Encoding makes "
        "an array of ids from a string; decoding, in one thread, makes the string. *The Pile* are its 825 GB at the "
        "median rate.",
        tables.markdown(tables.speed_table(findings)),
        _list(sentences.about_speed(findings)),
    ]
    return "\n\n".join(parts) + "\n"


def write_report(findings: Findings, directory: Path) -> Path:
    """Write `tokenizers.json` and `tokenizers.md` into `directory`, and return the path of the latter."""
    from trainer import write_atomically

    content = json.dumps(record(findings), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(directory / "tokenizers.json", content.encode("utf-8"))
    path = directory / "tokenizers.md"
    write_atomically(path, markdown(findings).encode("utf-8"))
    return path


def _list(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
