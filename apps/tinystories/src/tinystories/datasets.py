"""Which text to train on: the embedded sample or the user's files, as one training and one validation file."""

from collections.abc import Callable
from pathlib import Path

SAMPLE_TRAIN_BYTES = 8_000_000
SAMPLE_VALID_BYTES = 100_000


def resolve(
    dataset: str, valid_dataset: Path | None, valid_bytes: int | None, data_dir: Path, notify: Callable[[str], None]
) -> tuple[Path, Path]:
    """Find or make the training text and the validation text.

    Args:
        dataset: "sample" for stories that are composed here and now, or the path of a text file, `.gz` or `.zst` too.
        valid_dataset: the validation text; None holds out the last documents of the training text.
        valid_bytes: take only the first documents of the validation text, up to this many bytes; None takes it whole.
        data_dir: where files that are made are kept, to be found again.
        notify: gets one line for each thing worth telling.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a validation text beside the sample, or a text that cannot be divided.
    """
    if dataset == "sample":
        if valid_dataset is not None:
            raise ValueError(f"--valid-dataset {valid_dataset}: the sample has its own; give --dataset PATH too")
        from tinystories.sample_stories import compose_story
        from trainer.sample_corpus import write_splits

        return write_splits(
            data_dir,
            "sample-stories",
            compose_story,
            train_bytes=SAMPLE_TRAIN_BYTES,
            valid_bytes=SAMPLE_VALID_BYTES,
            notify=notify,
        )
    from bpe import divide

    return divide(Path(dataset), valid_dataset, data_dir, valid_bytes=valid_bytes, notify=notify)
