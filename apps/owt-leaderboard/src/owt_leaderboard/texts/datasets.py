"""Data sets: the embedded sample, OpenWebText from the hub or the user's files, as a tokenizer and token files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trainer.experiments.hub import HubDataset, download

SAMPLE_TRAIN_BYTES = 8_000_000
SAMPLE_VALID_BYTES = 100_000
OWT = HubDataset(
    name="owt",
    repository="stanford-cs336/owt-sample",
    train="owt_train.txt.gz",
    valid="owt_valid.txt.gz",
    advice="Files from elsewhere are given by --dataset PATH --valid-dataset PATH; --dataset sample needs none",
)


class Texts(NamedTuple):
    """Training and validation text, and the SHA-256 of those files for which it is known."""

    train: Path
    valid: Path
    digests: dict[Path, str]


@dataclass(frozen=True)
class TokenFiles:
    """Directory of a tokenizer, and the two texts as token files."""

    tokenizer: Path
    train: Path
    valid: Path

    def recorded(self) -> dict[str, str]:
        """Return the absolute paths, for the records of a run."""
        return {
            "tokenizer": str(self.tokenizer.resolve()),
            "train_tokens": str(self.train.resolve()),
            "valid_tokens": str(self.valid.resolve()),
        }


def resolve(
    dataset: str, valid_dataset: Path | None, valid_bytes: int | None, data_dir: Path, notify: Callable[[str], None]
) -> Texts:
    """Find, download or compose the training and validation text.

    Args:
        dataset: "sample" for articles composed on the spot, "owt" for the files on the Hugging Face hub, or the path of
            a text file (`.txt`, `.gz`, `.zst`).
        valid_dataset: Validation text; None holds out the last documents of the training text.
        valid_bytes: Use only the first documents of the validation text, up to this many bytes; None uses all of it.
        data_dir: Directory in which new files are kept and found again.
        notify: Receives lines to print.

    Raises:
        FileNotFoundError: If a file does not exist.
        trainer.experiments.hub.DownloadError: If a file cannot be downloaded, or fails its checksum.
        ValueError: If a validation text is given with "sample" or "owt", or a text cannot be split.
    """
    if dataset in ("sample", OWT.name) and valid_dataset is not None:
        raise ValueError(f"--valid-dataset {valid_dataset}: {dataset} has its own; give --dataset PATH too")
    from bpe import divide, first_documents

    if dataset == "sample":
        from owt_leaderboard.texts.articles import compose_article
        from trainer.experiments.sample_corpus import write_splits

        train, valid = write_splits(
            data_dir,
            "sample-articles",
            compose_article,
            train_bytes=SAMPLE_TRAIN_BYTES,
            valid_bytes=SAMPLE_VALID_BYTES,
            notify=notify,
        )
        if valid_bytes is not None and valid_bytes < SAMPLE_VALID_BYTES:
            valid = first_documents(valid, data_dir, max_bytes=valid_bytes)
        return Texts(train, valid, {})
    train, digests = Path(dataset), {}
    if dataset == OWT.name:
        files = download(OWT, data_dir, notify)
        train, valid_dataset = (file.path for file in files)
        digests = {file.path: file.sha256 for file in files}
    train, valid = divide(train, valid_dataset, data_dir, valid_bytes=valid_bytes, notify=notify, digests=digests)
    return Texts(train, valid, digests)


def prepare(texts: Texts, vocab_size: int, data_dir: Path, notify: Callable[[str], None]) -> TokenFiles:
    """Find or make a tokenizer with `vocab_size` entries, and the token files; raises what `bpe.prepare` raises."""
    import bpe

    prepared = bpe.prepare(
        texts.train, texts.valid, vocab_size=vocab_size, directory=data_dir, notify=notify, digests=texts.digests
    )
    return TokenFiles(prepared.tokenizer_directory, prepared.train_tokens, prepared.valid_tokens)
