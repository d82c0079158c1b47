"""Training and validation text: embedded, downloaded, or files of the user."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainer.experiments.hub import HubDataset, download

SAMPLE_TRAIN_BYTES = 8_000_000
SAMPLE_VALID_BYTES = 100_000
TINYSTORIES = HubDataset(
    name="tinystories",
    repository="roneneldan/TinyStories",
    train="TinyStoriesV2-GPT4-train.txt",
    valid="TinyStoriesV2-GPT4-valid.txt",
    advice="For files from elsewhere use --dataset PATH --valid-dataset PATH; --dataset sample needs no download",
)


class Texts(NamedTuple):
    """A training and a validation text, and the SHA-256 of files whose digest is known."""

    train: Path
    valid: Path
    digests: dict[Path, str]


def resolve(
    dataset: str, valid_dataset: Path | None, valid_bytes: int | None, data_dir: Path, notify: Callable[[str], None]
) -> Texts:
    """Find or make the training text and the validation text.

    Args:
        dataset: "sample" for stories composed on this machine, "tinystories" for the files on the Hugging Face hub, or
            the path of a text file, also `.gz` or `.zst`.
        valid_dataset: Validation text; None holds out the last documents of the training text.
        valid_bytes: Take only the first documents of the validation text, up to this many bytes; None takes all.
        data_dir: Directory of the files made here, for reuse.
        notify: Receives progress messages of one line.

    Raises:
        FileNotFoundError: The file does not exist.
        trainer.experiments.hub.DownloadError: A file cannot be downloaded, or its checksum differs.
        ValueError: A validation text was given for the sample or "tinystories", or a text cannot be split.
    """
    if dataset in ("sample", TINYSTORIES.name) and valid_dataset is not None:
        raise ValueError(f"--valid-dataset {valid_dataset}: {dataset} has its own; give --dataset PATH too")
    from bpe import divide, first_documents

    if dataset == "sample":
        from tinystories.texts.stories import compose_story
        from trainer.experiments.sample_corpus import write_splits

        train, valid = write_splits(
            data_dir,
            "sample-stories",
            compose_story,
            train_bytes=SAMPLE_TRAIN_BYTES,
            valid_bytes=SAMPLE_VALID_BYTES,
            notify=notify,
        )
        if valid_bytes is not None and valid_bytes < SAMPLE_VALID_BYTES:
            valid = first_documents(valid, data_dir, max_bytes=valid_bytes)
        return Texts(train, valid, {})
    train, digests = Path(dataset), {}
    if dataset == TINYSTORIES.name:
        files = download(TINYSTORIES, data_dir, notify)
        train, valid_dataset = (file.path for file in files)
        digests = {file.path: file.sha256 for file in files}
    train, valid = divide(train, valid_dataset, data_dir, valid_bytes=valid_bytes, notify=notify, digests=digests)
    return Texts(train, valid, digests)
