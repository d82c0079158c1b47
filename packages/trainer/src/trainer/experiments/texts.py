"""Training and validation text of an experiment: composed here, downloaded, or files of the user.

A `Corpus` describes the texts that an experiment knows by name. `DataFlags` are the flags that choose one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from trainer.experiments.hub import HubDataset, download
from trainer.experiments.sample_corpus import Compose, write_splits

Notify = Callable[[str], None]
"""Receives progress messages of one line."""


class Texts(NamedTuple):
    """A training and a validation text, and the SHA-256 of files whose digest is known."""

    train: Path
    valid: Path
    digests: Mapping[Path, str]


@dataclass(frozen=True)
class TokenFiles:
    """A tokenizer's directory, and the two texts as token files."""

    tokenizer: Path
    train: Path
    valid: Path

    def recorded(self) -> dict[str, str]:
        """Return the absolute paths, for the records of a run."""
        names = {"tokenizer": self.tokenizer, "train_tokens": self.train, "valid_tokens": self.valid}
        return {name: str(path.resolve()) for name, path in names.items()}


class TokenizerPackage(Protocol):
    """Functions that split and encode texts; the module `bpe` has them and documents their parameters."""

    divide: Callable[..., tuple[Path, Path]]
    first_documents: Callable[..., Path]
    prepare: Callable[..., Any]


@dataclass(frozen=True)
class Corpus:
    """The texts of an experiment: a data set of the hub, and a sample that stands in for it without a network."""

    hub: HubDataset
    sample: str
    """Prefix of the folder of composed texts."""
    compose: Compose
    """Composes one document of the sample."""
    tokenizers: TokenizerPackage
    sample_train_bytes: int = 8_000_000
    sample_valid_bytes: int = 100_000

    def resolve(
        self, dataset: str, valid_dataset: Path | None, valid_bytes: int | None, data_dir: Path, notify: Notify
    ) -> Texts:
        """Find, download or compose the training and validation text.

        Args:
            dataset: "sample" for composed documents, the name of the hub's data set, or the path of a text file
                (`.txt`, `.gz`, `.zst`).
            valid_dataset: Validation text; None holds out the last documents of the training text.
            valid_bytes: Use only the first documents of the validation text, up to this many bytes; None uses all.
            data_dir: Directory of the files made here, for reuse.
            notify: Receives progress messages of one line.

        Raises:
            FileNotFoundError: If a file does not exist.
            trainer.experiments.hub.DownloadError: If a file cannot be downloaded, or its checksum differs.
            ValueError: If a validation text is given for the sample or the hub's data set, or a text cannot be split.
        """
        if dataset in ("sample", self.hub.name) and valid_dataset is not None:
            raise ValueError(f"--valid-dataset {valid_dataset}: {dataset} has its own; give --dataset PATH too")
        if dataset == "sample":
            sizes = {"train_bytes": self.sample_train_bytes, "valid_bytes": self.sample_valid_bytes}
            train, valid = write_splits(data_dir, self.sample, self.compose, **sizes, notify=notify)
            if valid_bytes is not None and valid_bytes < self.sample_valid_bytes:
                valid = self.tokenizers.first_documents(valid, data_dir, max_bytes=valid_bytes)
            return Texts(train, valid, {})
        train, digests = Path(dataset), {}
        if dataset == self.hub.name:
            files = download(self.hub, data_dir, notify)
            train, valid_dataset = (file.path for file in files)
            digests = {file.path: file.sha256 for file in files}
        train, valid = self.tokenizers.divide(
            train, valid_dataset, data_dir, valid_bytes=valid_bytes, notify=notify, digests=digests
        )
        return Texts(train, valid, digests)

    def prepare(self, texts: Texts, vocab_size: int, data_dir: Path, notify: Notify) -> TokenFiles:
        """Find or make a tokenizer with `vocab_size` entries and the token files; raises what `tokenizers` raises."""
        train, valid, digests = texts
        prepared = self.tokenizers.prepare(
            train, valid, vocab_size=vocab_size, directory=data_dir, notify=notify, digests=digests
        )
        return TokenFiles(prepared.tokenizer_directory, prepared.train_tokens, prepared.valid_tokens)


@dataclass(frozen=True)
class DataFlags:
    """Flags that choose a text; a subclass sets `corpus`, and explains `dataset` in its own docstring."""

    corpus: ClassVar[Corpus]

    dataset: str = "sample"
    valid_dataset: Path | None = None
    """Validation text; by default the last documents of --dataset are held out."""
    valid_bytes: int = 0
    """Use only the first documents of the validation text, up to this many bytes; 0 uses all of it."""
    data_dir: Path = Path("data")
    """Directory of tokenizers and token files, for reuse."""

    @property
    def name(self) -> str:
        """Short name of the data set, for directories and titles."""
        return Path(self.dataset).name.split(".")[0]

    def prepare(self, vocab_size: int) -> TokenFiles:
        """Find or make the texts, a tokenizer with `vocab_size` entries and the token files, printing progress."""
        valid_bytes = self.valid_bytes or None
        texts = self.corpus.resolve(self.dataset, self.valid_dataset, valid_bytes, self.data_dir, print)
        return self.corpus.prepare(texts, vocab_size, self.data_dir, print)
