"""All measurements of a comparison of tokenizers, ratios between them, and their record for a JSON file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinystories.tokenizers.corpora import Corpus
from tinystories.tokenizers.measurements import PILE_BYTES, Compression, Ratio, Speed, ratio_over_documents
from tinystories.tokenizers.training import TrainedTokenizer

LONGEST = 10  # number of longest tokens in the record


@dataclass(frozen=True)
class Findings:
    """All measurements: a compression and a speed for every tokenizer on every corpus."""

    machine: dict[str, Any]
    documents: int
    """Documents drawn from each validation text."""
    seed: int
    corpora: list[Corpus]
    tokenizers: list[TrainedTokenizer]
    compressions: list[Compression]
    speeds: list[Speed]

    def compression(self, tokenizer: str, corpus: str) -> Compression:
        """Return the compression of a corpus by a tokenizer."""
        return next(found for found in self.compressions if (found.tokenizer, found.corpus) == (tokenizer, corpus))

    def of_corpus(self, corpus: str) -> list[TrainedTokenizer]:
        """Return the tokenizers that were trained on a corpus."""
        return [tokenizer for tokenizer in self.tokenizers if tokenizer.corpus == corpus]

    def nearest_in_size(self, tokenizer: TrainedTokenizer, corpus: str) -> TrainedTokenizer:
        """Return, of the tokenizers trained on a corpus, the tokenizer with the nearest size to `tokenizer`."""
        return min(self.of_corpus(corpus), key=lambda one: abs(one.size - tokenizer.size))

    def reference(self, tokenizer: TrainedTokenizer, corpus: str) -> TrainedTokenizer:
        """Return the tokenizer with which to compare `tokenizer` on a corpus.

        A tokenizer trained on the corpus is compared with the smallest of those trained on it, any other tokenizer
        with the one of the nearest size.
        """
        if tokenizer.corpus == corpus:
            return min(self.of_corpus(corpus), key=lambda one: one.size)
        return self.nearest_in_size(tokenizer, corpus)

    def bytes_per_token_against(self, tokenizer: str, reference: str, corpus: str) -> Ratio:
        """Return the bytes per token of a tokenizer on a corpus, divided by the bytes per token of a reference."""
        # The bytes are equal, so the ratio is the inverse ratio of the numbers of tokens.
        reference_tokens, tokens = (self.compression(name, corpus).tokens for name in (reference, tokenizer))
        return ratio_over_documents(reference_tokens, tokens)


def record(findings: Findings) -> dict[str, Any]:
    """Return all numbers as plain values, for a JSON file."""
    return {
        "machine": findings.machine,
        "documents_drawn": findings.documents,
        "seed": findings.seed,
        "pile_bytes": PILE_BYTES,
        "corpora": [_corpus(corpus) for corpus in findings.corpora],
        "tokenizers": [_tokenizer(tokenizer) for tokenizer in findings.tokenizers],
        "compression": [_compression(findings, found) for found in findings.compressions],
        "throughput": [_speed(speed) for speed in findings.speeds],
    }


def _corpus(corpus: Corpus) -> dict[str, Any]:
    return {
        "name": corpus.name,
        "train": str(corpus.train),
        "train_file_bytes": corpus.train.stat().st_size,
        "train_file_sha256": corpus.digest,
        "valid": str(corpus.valid),
        "valid_documents": len(corpus.documents),
    }


def _tokenizer(tokenizer: TrainedTokenizer) -> dict[str, Any]:
    from bpe.cli.inspection import printable, summarize_vocabulary

    summary = summarize_vocabulary(tokenizer.tokenizer, LONGEST)
    return {
        "name": tokenizer.name,
        "directory": str(tokenizer.directory),
        "trained_on": tokenizer.corpus,
        "vocab_size": tokenizer.tokenizer.vocab_size,
        "id_dtype": tokenizer.tokenizer.id_dtype,
        "sha256": tokenizer.tokenizer.sha256,
        "kinds": summary.kinds,
        "longest_tokens": [
            {"id": id_, "bytes": len(token), "text": printable(token), "hex": token.hex()}
            for id_, token in summary.longest
        ],
        "training": tokenizer.training and asdict(tokenizer.training),
    }


def _compression(findings: Findings, found: Compression) -> dict[str, Any]:
    tokenizer = next(tokenizer for tokenizer in findings.tokenizers if tokenizer.name == found.tokenizer)
    own = findings.nearest_in_size(tokenizer, found.corpus).name
    ratio = findings.bytes_per_token_against(found.tokenizer, own, found.corpus)
    return {
        "tokenizer": found.tokenizer,
        "corpus": found.corpus,
        "bytes_per_token": {
            "documents_drawn": {"mean": found.sample_mean, "standard_deviation": found.sample_deviation},
            "whole_validation_text": found.whole,
            "standard_deviation_over_all_documents": found.whole_deviation,
        },
        "to_own_tokenizer": {"own": own, "ratio": ratio.value, "half_width_95": ratio.half_width},
        "whole_bytes": sum(found.bytes),
        "whole_tokens": sum(found.tokens),
        "entries_used": found.entries_used,
        "documents_drawn": [
            {"index": index, "bytes": found.bytes[index], "tokens": found.tokens[index]} for index in found.sampled
        ],
    }


def _speed(speed: Speed) -> dict[str, Any]:
    return asdict(speed) | {
        "encode_one_thread_bytes_per_second": _median_and_range(speed, speed.encode_one_thread),
        "encode_all_threads_bytes_per_second": _median_and_range(speed, speed.encode_all_threads),
        "decode_bytes_per_second": _median_and_range(speed, speed.decode),
        "pile_seconds": PILE_BYTES / speed.rate(speed.encode_all_threads),
        "pile_seconds_one_thread": PILE_BYTES / speed.rate(speed.encode_one_thread),
    }


def _median_and_range(speed: Speed, seconds: Sequence[float]) -> dict[str, float]:
    slowest, fastest = speed.rate_range(seconds)
    return {"median": speed.rate(seconds), "slowest": slowest, "fastest": fastest}
