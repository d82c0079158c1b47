"""Tokenizers trained in processes of their own, which measure themselves, and kept with their measurements.

    python -m tinystories.tokenizers.training TEXT VOCAB_SIZE DIRECTORY

is such a process: it writes the tokenizer into the directory and prints the measurements as JSON. On another machine
it is the child of a process with a fourth argument, `keep`, which keeps both in the directory.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tinystories.tokenizers.corpora import SEPARATOR, Corpus
from trainer.experiments.running.processes import follow_parent, followed, run_side_by_side
from trainer.support.files import make_directory

if TYPE_CHECKING:
    from bpe import Tokenizer
    from trainer.experiments.running.ray_engine import RayRun

_PROCESS = [sys.executable, "-m", "tinystories.tokenizers.training"]
_KERNEL_BYTES = 250_000  # training on a smaller file may do without compiled kernels
_POLL_SECONDS = 0.005
_KEEP = "keep"


@dataclass(frozen=True)
class Training:
    """Measurements of one training; the kernels were loaded before."""

    vocab_size: int
    """Entries that were asked for."""
    text: str
    """Name of the text's file."""
    text_bytes: int
    seconds: float
    """Wall time of counting pre-tokens and learning merges, without reading a digest or writing the tokenizer."""
    seconds_pretokenising: float
    seconds_merging: float
    pretokens: int
    pretokens_distinct: int
    peak_memory_bytes: int
    """Peak memory of the process without pages of files."""
    memory_before_bytes: int
    """Memory before training: Python, libraries and kernels."""
    threads: int
    processor: str
    cores: int
    load_average: float
    """Average number of processes that wanted a core in the minute before; other work makes training slower."""
    bpe: str
    measured: str
    """Date and time, UTC."""


@dataclass(frozen=True)
class TrainedTokenizer:
    """A tokenizer to examine: trained here, or an existing one."""

    name: str
    tokenizer: "Tokenizer"
    directory: Path
    corpus: str | None = None
    """The corpus it was trained on, if it was trained here."""
    training: Training | None = None

    @property
    def size(self) -> int:
        """Entries: the number asked for, if it was trained here."""
        return self.training.vocab_size if self.training else self.tokenizer.vocab_size


def open_tokenizer(text: str) -> TrainedTokenizer:
    """Open an existing tokenizer: `DIRECTORY` or `NAME=DIRECTORY`, as `bpe.Tokenizer.from_pretrained` reads it.

    Raises:
        FileNotFoundError: There is no tokenizer.json in the directory.
        ValueError: It is not a byte-level BPE tokenizer.
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
    """Return the tokenizer of a corpus, trained now or earlier, with the measurements of its training.

    It lives in `data_dir/tokenizers/KEY`. The key depends on the bytes of the training text, the size of the vocabulary
    and the version of bpe.

    Args:
        corpus: What to train on.
        vocab_size: Entries to stop at; fewer if no pair is left to merge.
        data_dir: Directory of tokenizers.
        measure_again: Train even if the tokenizer exists, and keep the new measurements.
        notify: Receives a line for each training.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: The text is empty, or training again gave another tokenizer.
        ChildProcessError: Something else ended the training process, such as a system without memory.
    """
    from bpe import Tokenizer

    made, name = _directory(corpus, vocab_size, data_dir), f"{corpus.name}-{vocab_size}"
    if measure_again or not made.exists():
        notify(f"training {name} on {corpus.train}")
        _train_into(made, corpus.train, vocab_size)
    tokenizer = Tokenizer.from_pretrained(made / "tokenizer")
    training = Training(**json.loads((made / "training.json").read_text("utf-8")))
    return TrainedTokenizer(name, tokenizer, made / "tokenizer", corpus.name, training)


def train_on_ray(
    jobs: Sequence[tuple[Corpus, int]], data_dir: Path, measure_again: bool, notify: Callable[[str], None]
) -> None:
    """Train missing tokenizers as tasks of a Ray cluster, so that `find_or_train` finds them.

    Each training has the share of its machine that `RayEngine` gives to one run: all CPUs, if the machines are equal.
    Arguments and errors are those of `find_or_train`, for a sequence of texts and sizes.
    """
    from trainer.experiments.running.ray_engine import RayEngine

    missing = [job for job in jobs if measure_again or not _directory(*job, data_dir).exists()]
    if not missing:
        return
    engine = RayEngine(data_dir, [corpus.train for corpus, _ in missing], device="cpu", jobs=1)

    def start(job: tuple[Corpus, int], slot: int) -> "RayRun":
        corpus, vocab_size = job
        name, made = f"{corpus.name}-{vocab_size}", _directory(corpus, vocab_size, data_dir)
        notify(f"training {name} on {corpus.train}")
        arguments = ["-m", "tinystories.tokenizers.training", str(corpus.train), str(vocab_size), str(made), _KEEP]
        return engine.start(name, arguments, made / "training.json")

    def ended(job: tuple[Corpus, int], run: "RayRun") -> None:
        if (failure := run.failure()) is not None:
            raise ChildProcessError(f"{run.name}: {failure}")
        _pass_on(run.stderr)

    run_side_by_side(missing, engine.share.at_once, start, ended)


def processor() -> str:
    """Model name of the processor."""
    import torch

    from trainer.devices.devices import device_name

    return device_name(torch.device("cpu"))


def cores() -> int:
    """Number of cores that this process may use, which is the number of threads that bpe starts."""
    from bpe.threads import check_threads

    return check_threads(None)


def load_average() -> float:
    """Average number of processes that wanted a core in the last minute."""
    return round(psutil.getloadavg()[0], 2)


def _directory(corpus: Corpus, vocab_size: int, data_dir: Path) -> Path:
    """The directory of a tokenizer and its measurements."""
    from bpe import GPT2_PATTERN, __version__

    measured = [field.name for field in fields(Training)]  # measurements of other versions of this app do not match
    facts = [corpus.digest, corpus.train.suffix, vocab_size, SEPARATOR, GPT2_PATTERN, __version__, measured]
    return data_dir / "tokenizers" / hashlib.sha256(json.dumps(facts).encode("utf-8")).hexdigest()[:16]


def _train_into(made: Path, text: Path, vocab_size: int) -> None:
    """Train in a new process, into a folder that appears complete; of an existing one renew the measurements."""
    from bpe import Tokenizer
    from trainer import write_atomically

    if text.stat().st_size >= _KERNEL_BYTES:
        _compile_kernels()
    make_directory(made.parent)
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
    """Compile the kernels to disk in another process: the memory of compiling must not count as that of training."""
    _run()


def _run(*arguments: str) -> str:
    """Run the training process, pass on its warnings, and return its output."""
    done = subprocess.run([*_PROCESS, *arguments], capture_output=True, check=False, env=followed(os.environ))
    messages = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == 2:
        raise ValueError(messages)
    if done.returncode:
        raise ChildProcessError(
            f"the training process ended with {done.returncode}: {messages or 'it printed no message'}"
        )
    _pass_on(messages)
    return done.stdout.decode("utf-8")


def _pass_on(messages: str) -> None:
    """Warn of what a process has printed."""
    for message in messages.splitlines():
        warnings.warn(message, UserWarning, stacklevel=3)


class MemoryWatch:
    """Peak memory of this process while it is watched, sampled every 5 ms.

    This is memory without pages of files where the system tells them apart (Linux), because a memory-mapped text is not
    held. The peak kept by the system (`ru_maxrss`) does not help: a process inherits it from its parent.
    """

    def __init__(self) -> None:
        self.before_bytes = self.peak_bytes = self._now()
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._finished.wait(_POLL_SECONDS):
            self._sample()

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._now())

    @staticmethod
    def _now() -> int:
        """Bytes in use."""
        memory = psutil.Process().memory_info()
        return int(memory.rss - getattr(memory, "shared", 0))


def _load_kernels() -> None:
    """Make bpe load or compile its kernels, by training on a text that resembles no real one."""
    import bpe

    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder, "other.txt")
        other.write_text("".join(f"{number * 7919 % 99991:x}{number:o} " for number in range(120_000)), "ascii")
        bpe.train(other, 500)


def _train_here(text: Path, vocab_size: int, directory: Path) -> dict[str, Any]:
    """Train, write the tokenizer into `directory`, and return seconds, bytes of memory and counts."""
    import bpe

    if text.stat().st_size >= _KERNEL_BYTES:
        _load_kernels()
    with MemoryWatch() as memory:
        begin = time.perf_counter()
        counts = bpe.count_pretokens(text)
        counted = time.perf_counter()
        tokenizer = bpe.train_from_counts(counts, vocab_size)
        merged = time.perf_counter()
    tokenizer.save_pretrained(directory)
    return {
        "seconds": merged - begin,
        "seconds_pretokenising": counted - begin,
        "seconds_merging": merged - counted,
        "pretokens": counts.total,
        "pretokens_distinct": len(counts),
        "peak_memory_bytes": memory.peak_bytes,
        "memory_before_bytes": memory.before_bytes,
        "threads": cores(),
    }


def _main() -> int:
    """Train as the arguments say; without arguments only load the kernels, so that they are compiled on disk."""
    follow_parent()
    warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
    try:
        if len(sys.argv) == 1:
            _load_kernels()
        else:
            text, vocab_size, directory, *keep = sys.argv[1:]
            if keep:
                _train_into(Path(directory), Path(text), int(vocab_size))
            else:
                print(json.dumps(_train_here(Path(text), int(vocab_size), Path(directory))))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
