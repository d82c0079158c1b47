"""Which text to train on: embedded, downloaded or the user's, as one training and one validation file."""

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
    advice="Files from elsewhere are given by --dataset PATH --valid-dataset PATH; --dataset sample needs none",
)


class Texts(NamedTuple):
    """A training and a validation text, and the SHA-256 of files for which it is known."""

    train: Path
    valid: Path
    digests: dict[Path, str]


def resolve(
    dataset: str, valid_dataset: Path | None, valid_bytes: int | None, data_dir: Path, notify: Callable[[str], None]
) -> Texts:
    """Find or make the training text and the validation text.

    Args:
        dataset: "sample" for stories that are composed here and now, "tinystories" for the files on the Hugging Face
            hub, or the path of a text file, `.gz` or `.zst` too.
        valid_dataset: the validation text; None holds out the last documents of the training text.
        valid_bytes: take only the first documents of the validation text, up to this many bytes; None takes it whole.
        data_dir: where files that are made are kept, to be found again.
        notify: gets one line for each thing worth telling.

    Raises:
        FileNotFoundError: there is no such file.
        trainer.experiments.hub.DownloadError: a file cannot be downloaded, or is not what it should be.
        ValueError: a validation text beside the sample or "tinystories", or a text that cannot be divided.
    """
    if dataset in ("sample", TINYSTORIES.name) and valid_dataset is not None:
        raise ValueError(f"--valid-dataset {valid_dataset}: the {dataset} has its own; give --dataset PATH too")
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
