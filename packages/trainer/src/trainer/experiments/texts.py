"""Training and validation text of an experiment: composed here, downloaded, or files of the user.

A `Corpus` describes the texts that an experiment knows by name. `DataFlags` are the flags that choose one of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from trainer.experiments.hub import HubDataset, download
from trainer.experiments.sample_corpus import Compose, write_splits
from trainer.support.files import creating, make_directory, move

TOKENIZER_FOLDER = "tokenizer"
"""The copy of the tokenizer in a run directory."""
MOVABLE = ("train_tokens", "valid_tokens", "texts")
"""Records of a run that may change: paths of the texts, whose content is compared by other means."""
_PREPARATION_TIMEOUT = 24 * 3600.0
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

    def recorded(self, run_dir: Path) -> dict[str, str | None]:
        """Return the digest of the tokenizer and the paths of the texts, for the records of a run.

        The paths, whose names are in `MOVABLE`, are seen from the run, so that a project with its runs and texts can be
        moved. `find_text` finds a text also if the run alone has been moved.
        """
        from trainer.data import TokenDataset

        paths = {"train_tokens": self.train, "valid_tokens": self.valid}
        seen = {name: _path_from(run_dir.resolve(), path.resolve()) for name, path in paths.items()}
        digest = TokenDataset(self.valid).tokenizer_sha256
        return {"tokenizer_sha256": digest, **seen, "texts": self.valid.resolve().parent.as_posix()}

    def copy_tokenizer(self, run_dir: Path) -> None:
        """Copy the tokenizer into a run that has not begun or has lost it; the copy appears whole or not at all.

        Of several processes, rank 0 does so.
        """
        from trainer.distributed import read_ranks

        if read_ranks().rank > 0 or (has_begun(run_dir) and not self._is_missing_in(run_dir)):
            return
        make_directory(run_dir)
        aside, final = run_dir / f".{TOKENIZER_FOLDER}.tmp-{os.getpid()}", run_dir / TOKENIZER_FOLDER
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(self.tokenizer, aside)
        shutil.rmtree(final, ignore_errors=True)
        move(aside, final)

    def _is_missing_in(self, run_dir: Path) -> bool:
        """Return whether a run that has begun with this tokenizer has lost its copy."""
        from trainer.data import TokenDataset
        from trainer.records import read_config

        if (run_dir / TOKENIZER_FOLDER).exists():
            return False
        recorded = read_config(run_dir).get("recorded") or {}
        return recorded.get("tokenizer_sha256") == TokenDataset(self.valid).tokenizer_sha256


def has_begun(run_dir: Path) -> bool:
    """Return whether a run has a checkpoint, or is finished."""
    return (run_dir / "summary.json").exists() or any((run_dir / "checkpoints").glob("step_*"))


def prepared_by_one(device: str, prepare: Callable[[], TokenFiles]) -> TokenFiles:
    """Prepare the texts of a run on rank 0, while its other processes wait.

    Args:
        device: The device of the run, such as "auto".
        prepare: Prepares them.
    """
    from trainer.distributed import joined_processes, read_ranks, resolve_process_device

    ranks = read_ranks()
    with joined_processes(ranks, resolve_process_device(device, ranks), _PREPARATION_TIMEOUT) as processes:
        return processes.on_rank_0(prepare)


def tokenizer_of(run_dir: Path) -> Path:
    """Return the directory of a run's own tokenizer.

    Raises:
        FileNotFoundError: If it is missing.
    """
    directory = run_dir / TOKENIZER_FOLDER
    if not directory.is_dir():
        raise FileNotFoundError(
            f"{run_dir} lacks its tokenizer: expected the folder {TOKENIZER_FOLDER!r} in it, as every run of this "
            "version has it; copy it from another run with the same tokenizer_sha256 in config.json"
        )
    return directory


def tokenizer_of_weights(source: Path) -> Path | None:
    """Return the directory of the tokenizer that belongs to a run, one of its checkpoints or an export, or None."""
    if (source / "tokenizer.json").is_file():
        return source
    places = [source / TOKENIZER_FOLDER, source.resolve().parent.parent / TOKENIZER_FOLDER]
    return next((path for path in places if path.is_dir()), None)


def find_text(run_dir: Path, recorded: Mapping[str, Any], name: str) -> Path:
    """Return the path of a token file of a run, moved together with it or where it was.

    Args:
        run_dir: The run.
        recorded: What `TokenFiles.recorded` returned.
        name: "train_tokens" or "valid_tokens".

    Raises:
        FileNotFoundError: If it is at neither place.
    """
    places = [run_dir / recorded[name], Path(recorded["texts"], Path(recorded[name]).name)]
    for path in places:
        if path.exists():
            return path
    shown = " nor ".join(map(str, places))
    raise FileNotFoundError(
        f"a text of {run_dir} is neither at {shown}: move run and data together, or prepare the data there again"
    )


def _path_from(directory: Path, path: Path) -> str:
    """Return a path seen from a directory; an absolute one where there is no way, as between drives of Windows."""
    try:
        return Path(os.path.relpath(path, directory)).as_posix()
    except ValueError:
        return path.as_posix()


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
        self,
        dataset: str,
        valid_dataset: Path | None,
        valid_bytes: int | None,
        data_dir: Path,
        notify: Notify,
        column: str | None = None,
    ) -> Texts:
        """Find, download or compose the training and validation text.

        Args:
            dataset: "sample" for composed documents, the name of the hub's data set, or the path of a text file
                (`.txt`, `.gz`, `.zst`), of a table (JSON lines or Parquet), or of a folder of such files.
            valid_dataset: Validation text, in one of the same forms; None holds out the last documents of the training
                text.
            valid_bytes: Use only the first documents of the validation text, up to this many bytes; None uses all.
            data_dir: Directory of the files made here, for reuse.
            notify: Receives progress messages of one line.
            column: Column of the texts in tables; None if the files are texts.

        Raises:
            FileNotFoundError: If a file does not exist.
            trainer.experiments.hub.DownloadError: If a file cannot be downloaded, or its checksum differs.
            ValueError: If a validation text or a column is given for the sample or the hub's data set, a text cannot be
                split, or a table cannot be read.
        """
        if dataset in ("sample", self.hub.name) and valid_dataset is not None:
            raise ValueError(f"--valid-dataset {valid_dataset}: {dataset} has its own; give --dataset PATH too")
        if dataset in ("sample", self.hub.name) and column is not None:
            raise ValueError(f"--column {column}: {dataset} has no columns; give --dataset PATH too")
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
            train, valid_dataset, data_dir, valid_bytes=valid_bytes, column=column, notify=notify, digests=digests
        )
        return Texts(train, valid, digests)

    def prepare(
        self, texts: Texts, vocab_size: int, data_dir: Path, notify: Notify, tokenizer: Path | None = None
    ) -> TokenFiles:
        """Find or make a tokenizer with `vocab_size` entries and the token files; raises what `tokenizers` raises.

        Args:
            texts: The texts.
            vocab_size: Entries of the vocabulary.
            data_dir: Directory of the files made here, for reuse.
            notify: Receives progress messages of one line.
            tokenizer: Directory of a tokenizer to encode with; None trains one on the training text.
        """
        train, valid, digests = texts
        given = {} if tokenizer is None else {"tokenizer": tokenizer}
        prepared = self.tokenizers.prepare(
            train, valid, vocab_size=vocab_size, directory=data_dir, notify=notify, digests=digests, **given
        )
        return TokenFiles(prepared.tokenizer_directory, prepared.train_tokens, prepared.valid_tokens)


@dataclass(frozen=True)
class DataFlags:
    """Flags that choose a text; a subclass sets `corpus`, and explains `dataset` in its own docstring.

    The `dataset` is None if the user did not name one, and the sample is meant.
    """

    corpus: ClassVar[Corpus]

    dataset: str | None = None
    valid_dataset: Path | None = None
    """Validation text; by default the last documents of --dataset are held out."""
    valid_bytes: int | None = None
    """Use only the first documents of the validation text, up to this many bytes; all of it by default, and with 0."""
    data_dir: Path = Path("data")
    """Directory of tokenizers and token files, for reuse."""
    column: str | None = None
    """Column of the texts if --dataset is a table, JSON lines (.jsonl, also .gz and .zst) or Parquet, or a folder of
    tables; each row is a document."""

    @property
    def text(self) -> str:
        """Data set, "sample" if none is given."""
        return "sample" if self.dataset is None else self.dataset

    @property
    def name(self) -> str:
        """Short name of the data set, for directories and titles."""
        return Path(self.text).name.split(".")[0]

    def prepare(self, vocab_size: int, tokenizer: Path | None = None) -> TokenFiles:
        """Find or make the texts, a tokenizer with `vocab_size` entries and the token files, printing progress.

        A tokenizer that is given is used instead.
        """
        valid_bytes = self.valid_bytes or None
        with creating(self.data_dir):
            texts = self.corpus.resolve(
                self.text, self.valid_dataset, valid_bytes, self.data_dir, print, column=self.column
            )
            return self.corpus.prepare(texts, vocab_size, self.data_dir, print, tokenizer)
