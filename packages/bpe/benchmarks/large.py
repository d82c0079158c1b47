"""Train on one large file and report the time of counting and merging, and the memory.

    python large.py FILE VOCAB_SIZE [--threads N]

Training runs in a separate process, with kernels compiled before. Memory is the peak of RssAnon in /proc/PID/status,
read every 50 ms, which excludes files mapped into memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from make_corpus import other_text
from tables import machine

EOT = "<|endoftext|>"


class MemoryWatch(threading.Thread):
    """Reads the anonymous resident memory of a process until it ends; `peak_mb` is the maximum."""

    def __init__(self, process_id: int) -> None:
        super().__init__(daemon=True)
        self._status = Path(f"/proc/{process_id}/status")
        self.peak_mb = 0.0

    def run(self) -> None:
        """Read it every 50 ms."""
        while True:
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            kilobytes = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
            if not kilobytes:  # the process has ended and waits to be collected
                return
            self.peak_mb = max(self.peak_mb, kilobytes[0] * 1024 / 1e6)
            time.sleep(0.05)


def train(path: Path, vocab_size: int, threads: int | None) -> None:
    """Train in this process and print the times as JSON."""
    import bpe

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder, "small.txt")
        small.write_text(other_text(), encoding="utf-8")
        bpe.train(small, 1000, [EOT], threads=threads)
    begin = time.perf_counter()
    counts = bpe.count_pretokens(path, [EOT], threads=threads)
    counted = time.perf_counter()
    tokenizer = bpe.train_from_counts(counts, vocab_size, [EOT])
    merged = time.perf_counter()
    longest = max((token for token in tokenizer.vocab.values() if token != EOT.encode()), key=len)
    found = {"counting": counted - begin, "merging": merged - counted, "distinct": len(counts)}
    print(json.dumps(found | {"vocab_size": tokenizer.vocab_size, "longest": repr(longest)}))


def main() -> None:
    """Train in a separate process, and print its times and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("vocab_size", type=int)
    parser.add_argument("--threads", type=int, help="default: all cores")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        train(options.file, options.vocab_size, options.threads)
        return
    if not options.file.is_file():
        sys.exit(f"no file {str(options.file)!r}; make one with make_corpus.py")
    if not Path("/proc/self/status").exists():
        sys.exit("memory is read from /proc, which this system does not have; run it on Linux")
    command = [sys.executable, __file__, "--here", str(options.file), str(options.vocab_size)]
    command += [f"--threads={options.threads}"] if options.threads else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    watch = MemoryWatch(child.pid)
    watch.start()
    output, _ = child.communicate()
    if child.returncode:
        sys.exit(f"training failed with status {child.returncode}; its output is above")
    found = json.loads(output.splitlines()[-1])
    size = options.file.stat().st_size
    facts = machine()
    print(f"{options.file.name}: {size:,} bytes, {found['distinct']:,} distinct pre-tokens")
    print(f"to {found['vocab_size']:,} tokens, the longest {found['longest']}")
    print(f"counting {found['counting']:8.2f} s   {size / 1e6 / found['counting']:,.0f} MB/s")
    print(f"merging  {found['merging']:8.2f} s")
    print(f"total    {found['counting'] + found['merging']:8.2f} s")
    print(f"memory   {watch.peak_mb:8,.0f} MB at most, without pages of files")
    print(f"threads  {options.threads or facts['cores']} of {facts['cores']} cores, {facts['processor']}")


if __name__ == "__main__":
    main()
