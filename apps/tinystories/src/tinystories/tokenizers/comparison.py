"""The comparison of tokenizers from end to end: resolve corpora, train or open tokenizers, measure all pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinystories.tokenizers.corpora import SEPARATOR, Corpus, default_vocab_size, parse_corpora, resolve_corpus
from tinystories.tokenizers.findings import Findings
from tinystories.tokenizers.measurements import draw_documents, measure_compression, measure_speed
from tinystories.tokenizers.training import (
    TrainedTokenizer,
    cores,
    find_or_train,
    load_average,
    open_tokenizer,
    processor,
    train_on_ray,
)
from trainer.experiments.running.ray_engine import EngineName, check_engine


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison, which are flags of `tokenizer-report`."""

    corpora: tuple[str, ...] = ("sample",)
    """Texts: "sample", "tinystories" or paths as in --dataset; TRAIN,VALID for one with a validation text of its own
    (otherwise the last documents are held out); NAME=… gives a text a name."""
    column: str | None = None
    """Column of the texts in those --corpora that are tables, JSON lines (.jsonl, also .gz and .zst) or Parquet, or
    folders of tables; each row is a document."""
    vocab_sizes: tuple[int, ...] = ()
    """Entries of the tokenizers to train, each on every corpus; by default one size for each corpus, by the size of its
    text: 2048, from 100 MB on 10000, from 5 GB on 32000."""
    tokenizers: tuple[str, ...] = ()
    """Directories of existing tokenizers (with a tokenizer.json) to compare with; NAME=DIRECTORY gives one a name."""
    documents: int = 10
    """Documents to draw from each validation text."""
    seed: int = 0
    """Seed of the draw."""
    repeats: int = 5
    """Calls whose median is the throughput."""
    throughput_bytes: int = 10_000_000
    """Measure throughput on the first documents of the training text, up to this many bytes."""
    measure_again: bool = False
    """Train again even where a tokenizer exists, and keep the new times and memory."""
    data_dir: Path = Path("data")
    """Directory of tokenizers and their training measurements, for reuse."""
    engine: EngineName = "local"
    """Train the tokenizers on this machine, or as tasks on the Ray cluster of RAY_ADDRESS; without RAY_ADDRESS Ray is
    started here. --data-dir and the texts must be in a folder that all machines share. All measurements of encoding
    are made here."""

    def check(self) -> None:
        """Refuse numbers that are too small, sizes given twice, and Ray where it is missing."""
        check_engine(self.engine)
        for size in self.vocab_sizes:
            if size < 257:
                raise ValueError(f"--vocab-sizes {size}: expected at least 257 (256 bytes and {SEPARATOR})")
            if self.vocab_sizes.count(size) > 1:
                raise ValueError(f"--vocab-sizes has {size} more than once: give each once")
        if self.documents < 2:
            raise ValueError(f"--documents {self.documents}: expected at least 2, to measure the spread")
        if self.repeats < 2:
            raise ValueError(f"--repeats {self.repeats}: expected at least 2, to measure the range")
        if self.throughput_bytes < 1:
            raise ValueError(f"--throughput-bytes {self.throughput_bytes}: expected 1 or more")


def investigate(settings: Settings, notify: Callable[[str], None]) -> Findings:
    """Check all input, train the missing tokenizers, and measure every tokenizer on every corpus.

    Raises:
        FileNotFoundError: A text or a tokenizer does not exist.
        ValueError: A flag cannot be read, a corpus has too few documents, or two tokenizers have the same name.
        trainer.experiments.hub.DownloadError: A text cannot be downloaded.
    """
    machine = _describe_machine()
    choices = parse_corpora(settings.corpora, settings.column)
    existing = [open_tokenizer(text) for text in settings.tokenizers]
    corpora = [resolve_corpus(choice, settings.data_dir, notify) for choice in choices]
    for corpus in corpora:
        if corpus.valid.samefile(corpus.train):
            raise ValueError(
                f"--corpora: {corpus.valid} is both the training and the validation text of {corpus.name}; "
                "name another validation text, or none to hold out documents of the training text"
            )
        if len(corpus.documents) < settings.documents:
            raise ValueError(
                f"--documents {settings.documents}: the validation text {corpus.valid} of {corpus.name} has only "
                f"{len(corpus.documents):,}; ask for fewer, or give a longer one: --corpora TRAIN,VALID"
            )
    jobs = [(corpus, size) for corpus in corpora for size in settings.vocab_sizes or [default_vocab_size(corpus)]]
    _check_names([*(f"{corpus.name}-{size}" for corpus, size in jobs), *(tokenizer.name for tokenizer in existing)])
    measure_again = settings.measure_again
    if settings.engine == "ray":
        train_on_ray(jobs, settings.data_dir, measure_again, notify)
        measure_again = False
    trained = [find_or_train(corpus, size, settings.data_dir, measure_again, notify) for corpus, size in jobs]
    return _measured(settings, machine, corpora, trained + existing, notify)


def _describe_machine() -> dict[str, Any]:
    """Return the conditions of the measurements as plain values: time, command, commit, machine and versions."""
    import platform
    import sys
    from datetime import UTC, datetime
    from importlib.metadata import version

    import bpe
    from trainer.records.environment import describe_git

    git = describe_git()
    return {
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "commit": git and git["commit"],
        "uncommitted_changes": git and git["dirty"],
        "processor": processor(),
        "cores": cores(),
        "load_average": load_average(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "bpe": bpe.__version__,
        "numpy": version("numpy"),
        "numba": version("numba"),
    }


def _check_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"two tokenizers are called {name}: give one of them another name, as in --tokenizers other=DIRECTORY"
            )


def _measured(
    settings: Settings,
    machine: dict[str, Any],
    corpora: list[Corpus],
    tokenizers: list[TrainedTokenizer],
    notify: Callable[[str], None],
) -> Findings:
    """Measure every tokenizer on every corpus."""
    compressions, speeds = [], []
    for corpus in corpora:
        drawn = draw_documents(settings.documents, len(corpus.documents), settings.seed)
        text = corpus.beginning(settings.throughput_bytes)
        for tokenizer in tokenizers:
            notify(f"measuring {tokenizer.name} on {corpus.name}")
            subject = (tokenizer.name, tokenizer.tokenizer, corpus.name)
            compressions.append(measure_compression(*subject, corpus.documents, drawn))
            speeds.append(measure_speed(*subject, text, settings.repeats))
    return Findings(machine, settings.documents, settings.seed, corpora, tokenizers, compressions, speeds)
