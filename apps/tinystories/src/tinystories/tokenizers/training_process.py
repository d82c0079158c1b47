"""Trains one tokenizer in this process, which does nothing else, and measures it: so the memory is the training's own.

    python -m tinystories.tokenizers.training_process TEXT VOCAB_SIZE DIRECTORY

writes the tokenizer into the directory and prints what was measured as JSON.
"""

import json
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

KERNEL_BYTES = 250_000
"""Training on a smaller file may do without compiled kernels, so that they are not loaded beforehand."""
_LOOK_SECONDS = 0.005
_STATUS = Path("/proc/self/status")


class MemoryWatch(threading.Thread):
    """The most memory that this process holds while it is watched, looked at every 5 ms.

    On Linux that is memory beside pages of files, since a text that is mapped is not held. The peak that the system
    keeps (`ru_maxrss`) is no use there: a process inherits it from the one that started it. Elsewhere it is what there
    is, pages of files included.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before_bytes = self.peak_bytes = self._now()
        self._finished = threading.Event()

    def __enter__(self) -> "MemoryWatch":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finished.set()
        self.join()
        self._look()

    def run(self) -> None:
        """Look until the end."""
        while not self._finished.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        now = self._now()
        if now is not None:
            self.peak_bytes = max(self.peak_bytes or 0, now)

    @staticmethod
    def _now() -> int | None:
        """Bytes held, or None where the system does not tell."""
        try:
            lines = _STATUS.read_text("ascii").splitlines()
        except OSError:  # not Linux
            try:
                import resource
            except ImportError:  # Windows
                return None
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), None)


def load_kernels() -> None:
    """Have bpe load its kernels, or compile them, by training on a text that resembles no real one."""
    import bpe

    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder, "other.txt")
        other.write_text("".join(f"{number * 7919 % 99991:x}{number:o} " for number in range(120_000)), "ascii")
        bpe.train(other, 500)


def train(text: Path, vocab_size: int, directory: Path) -> dict[str, Any]:
    """Train, write the tokenizer into `directory`, and return seconds, bytes of memory and counts."""
    import bpe
    from bpe.threads import check_threads

    if text.stat().st_size >= KERNEL_BYTES:
        load_kernels()
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
        "threads": check_threads(None),
    }


def main() -> int:
    """Train as the arguments say; without any, load the kernels only, so that they lie on the disk compiled."""
    warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
    try:
        if len(sys.argv) == 1:
            load_kernels()
        else:
            text, vocab_size, directory = sys.argv[1:]
            print(json.dumps(train(Path(text), int(vocab_size), Path(directory))))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
