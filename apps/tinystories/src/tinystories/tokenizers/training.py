"""Tokenizers trained on corpora, each in a process of its own, kept with what its training took, and found again."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tinystories.tokenizers.corpora import SEPARATOR, Corpus
from tinystories.tokenizers.training_process import KERNEL_BYTES

if TYPE_CHECKING:
    from bpe import Tokenizer

_PROCESS = [sys.executable, "-m", "tinystories.tokenizers.training_process"]


@dataclass(frozen=True)
class Training:
    """What training one tokenizer took, when it was measured; the kernels were loaded before."""

    vocab_size: int
    """Entries that were asked for."""
    text: str
    """Name of the text's file, and its size."""
    text_bytes: int
    seconds: float
    """Wall time: counting pre-tokens and learning merges; neither reading a digest nor writing the tokenizer."""
    seconds_pretokenising: float
    seconds_merging: float
    pretokens: int
    pretokens_distinct: int
    peak_memory_bytes: int | None
    """The most that the process held beside pages of files; None where the system does not tell."""
    memory_before_bytes: int | None
    """What it held before: Python, libraries and kernels."""
    threads: int
    processor: str
    cores: int
    load_average: float | None
    """Processes that wanted a core in the minute before, on average: with other work the seconds are too many."""
    bpe: str
    measured: str
    """Date and time, UTC."""


@dataclass(frozen=True)
class TrainedTokenizer:
    """A tokenizer to look at: trained here, or one that was there."""

    name: str
    tokenizer: "Tokenizer"
    directory: Path
    corpus: str | None = None
    """Which corpus it was trained on, if that was here."""
    training: Training | None = None

    @property
    def size(self) -> int:
        """Entries: those that were asked for, if it was trained here."""
        return self.training.vocab_size if self.training else self.tokenizer.vocab_size


def check_vocab_size(vocab_size: int) -> None:
    """Refuse a vocabulary that does not hold the bytes and the separator.

    Raises:
        ValueError: it is too small.
    """
    if vocab_size < 257:
        raise ValueError(f"--vocab-sizes {vocab_size}: expected at least 257 (256 bytes and {SEPARATOR})")


def open_tokenizer(text: str) -> TrainedTokenizer:
    """Open a tokenizer that exists: `DIRECTORY` or `NAME=DIRECTORY`, as `bpe.Tokenizer.from_pretrained` reads it.

    Raises:
        FileNotFoundError: there is no tokenizer.json in the directory.
        ValueError: it is of another kind than byte-level BPE.
    """
    from bpe import Tokenizer

    name, equals, rest = text.partition("=")
    if not equals or Path(text).is_dir():
        name, rest = "", text
    directory = Path(rest)
    return TrainedTokenizer(name or directory.resolve().name, Tokenizer.from_pretrained(directory), directory)


def find_or_train(
    corpus: Corpus, vocab_size: int, data_dir: Path, measure_again: bool, notify: Callable[[str], None]
) -> TrainedTokenizer:
    """Return the tokenizer of a corpus, trained now or before, with what its training took when it was trained.

    It lies in `data_dir/tokenizers/KEY`, where the key stands for the bytes of the training text, the size of the
    vocabulary and the version of bpe.

    Args:
        corpus: what to train on.
        vocab_size: entries to stop at; fewer if no pair is left.
        data_dir: where tokenizers are kept.
        measure_again: train in any case, and keep what it takes now.
        notify: gets a line for each training.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: the text is empty, or training it again gave another tokenizer.
        ChildProcessError: the process that trains was ended by something else, such as the system without memory.
    """
    from bpe import GPT2_PATTERN, Tokenizer, __version__

    measured = [field.name for field in fields(Training)]  # what was kept by another version of this app is left alone
    facts = [corpus.digest, corpus.train.suffix, vocab_size, SEPARATOR, GPT2_PATTERN, __version__, measured]
    key = hashlib.sha256(json.dumps(facts).encode("utf-8")).hexdigest()[:16]
    made = data_dir / "tokenizers" / key
    name = f"{corpus.name}-{vocab_size}"
    if measure_again or not made.exists():
        notify(f"training {name} on {corpus.train}")
        _train_into(made, corpus.train, vocab_size)
    tokenizer = Tokenizer.from_pretrained(made / "tokenizer")
    training = Training(**json.loads((made / "training.json").read_text("utf-8")))
    return TrainedTokenizer(name, tokenizer, made / "tokenizer", corpus.name, training)


def _train_into(made: Path, text: Path, vocab_size: int) -> None:
    """Train in a process of its own into a folder that appears whole; of one that is there renew the measurements."""
    from bpe import Tokenizer
    from trainer import write_atomically

    if text.stat().st_size >= KERNEL_BYTES:
        _compile_kernels()
    made.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{made.name}.", dir=made.parent))
    try:
        building.chmod(made.parent.stat().st_mode)
        training = _measure(text, vocab_size, building / "tokenizer")
        content = (json.dumps(asdict(training), indent=2) + "\n").encode("utf-8")
        write_atomically(building / "training.json", content)
        if not made.exists():
            building.rename(made)
            return
        before, now = (Tokenizer.from_pretrained(folder / "tokenizer") for folder in (made, building))
        if before != now:
            raise ValueError(f"training on {text} again gave another tokenizer than in {made}; delete that folder")
        write_atomically(made / "training.json", content)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _measure(text: Path, vocab_size: int, directory: Path) -> Training:
    import bpe
    from tinystories.tokenizers.machine import cores, load_average, processor

    begun, load = datetime.now(UTC).isoformat(timespec="seconds"), load_average()
    measured = json.loads(_run(str(text), str(vocab_size), str(directory)))
    return Training(
        vocab_size=vocab_size,
        text=text.name,
        text_bytes=text.stat().st_size,
        processor=processor(),
        cores=cores(),
        load_average=load,
        bpe=bpe.__version__,
        measured=begun,
        **measured,
    )


@cache
def _compile_kernels() -> None:
    """Have the kernels compiled to the disk by a process that ends: compiling must not count as memory of training."""
    _run()


def _run(*arguments: str) -> str:
    """Run the process that trains, pass its warnings on, and return what it prints."""
    done = subprocess.run([*_PROCESS, *arguments], capture_output=True, check=False)
    messages = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == 2:
        raise ValueError(messages)
    if done.returncode:
        raise ChildProcessError(
            f"the process that trains ended with {done.returncode}: {messages or 'it said nothing'}"
        )
    for message in messages.splitlines():
        warnings.warn(message, UserWarning, stacklevel=2)
    return done.stdout.decode("utf-8")
