"""Measure one library at one task, in this process, and print the result as JSON.

    python worker.py LIBRARY train|array|file|list FILE THREADS [--vocab-size N] [--vocabularies FOLDER] [--calls N]

The first ("cold") call uses a new tokenizer; another tokenizer has compiled the kernels and started the thread pools on
another text before. Later ("warm") calls use the same tokenizer on the same text.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

SLOW_SECONDS = 5.0
"""A library that takes longer is called twice, not three times."""
OTHER_BYTES = 2_000_000


def confine(threads: int) -> None:
    """Restrict this process and the thread pools of Rust to `threads` cores, before any library is imported."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def peak_megabytes() -> float:
    """Return the peak memory of this process in MB; 0 where the system does not report it."""
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def other_text() -> str:
    """Return a text unlike all measured texts, large enough for the kernels to be used."""
    words = [f"{number * 7919 % 99991:x}{number:o} " for number in range(60_000)]
    text = "".join(words)
    return (text * (OTHER_BYTES // len(text) + 1))[:OTHER_BYTES]


def measure_training(library: str, path: Path, vocab_size: int, threads: int, other: Path) -> dict[str, Any]:
    """Train once; the result includes the learned tokens."""
    from peers import TRAINERS

    TRAINERS[library](other, 1000, threads).run()
    job = TRAINERS[library](path, vocab_size, threads)
    before = peak_megabytes()
    begin = time.perf_counter()
    made = job.run()
    seconds = time.perf_counter() - begin
    peak = peak_megabytes()
    tokens = job.result(made)
    return {"seconds": [seconds], "peak_mb": peak, "peak_mb_before": before, "learned": [t.hex() for t in tokens]}


def measure_encoding(
    library: str, task: str, path: Path, threads: int, calls: int, vocabularies: Path, other: Path
) -> dict[str, Any]:
    """Encode the same text several times; the result includes a digest of the ids without separators."""
    import numpy as np
    from peers import ENCODERS, EOT

    ENCODERS[library](vocabularies, other, threads, task).run()
    job = ENCODERS[library](vocabularies, path, threads, task)
    seconds: list[float] = []
    while len(seconds) < (calls if not seconds or seconds[0] < SLOW_SECONDS else min(2, calls)):
        begin = time.perf_counter()
        made = job.run()
        seconds.append(time.perf_counter() - begin)
    separator = json.loads((vocabularies / "gpt2_vocab.json").read_bytes())[EOT]
    ids = np.asarray(job.result(made), dtype=np.uint32)
    ids = ids[ids != separator]
    return {"seconds": seconds, "tokens": len(ids), "digest": sha256(ids.tobytes()).hexdigest()}


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library")
    parser.add_argument("task", choices=["train", "array", "file", "list"])
    parser.add_argument("file", type=Path)
    parser.add_argument("threads", type=int)
    parser.add_argument("--vocab-size", type=int, default=32_000, help="size for training (default: %(default)s)")
    parser.add_argument("--vocabularies", type=Path, help="folder of gpt2_vocab.json and the others, for encoding")
    parser.add_argument("--calls", type=int, default=3, help="calls for encoding: one cold, the others warm")
    options = parser.parse_args()
    confine(options.threads)
    options.file.read_bytes()  # brings it into the page cache
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder, "other.txt")
        other.write_text(other_text(), encoding="utf-8")
        if options.task == "train":
            result = measure_training(options.library, options.file, options.vocab_size, options.threads, other)
        else:
            result = measure_encoding(
                options.library,
                options.task,
                options.file,
                options.threads,
                options.calls,
                options.vocabularies,
                other,
            )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
