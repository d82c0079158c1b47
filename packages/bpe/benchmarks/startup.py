"""Time complete new processes: imports, training on a small text, the first sentence.

    python startup.py [--vocabularies FOLDER] [--repeats N]

Numba's cache is empty for each process. Processes that use kernels are timed again with the cache filled. "python" is
an interpreter that does nothing, which is part of all other times. The text of 133 kB is composed here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tables import machine_line

EOT = "<|endoftext|>"
SENTENCE = "Once upon a time, there was a cat who didn't like the rain."


def small_text(size: int) -> str:
    """Return a text of `size` bytes with a few thousand different words."""
    text = "".join(f"word{index * 7919 % 3001} is not {index % 977}, they've said.\n" for index in range(size // 20))
    return text[:size]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / "vocabularies"
    parser.add_argument("--vocabularies", type=Path, default=folder, help="folder of gpt2_vocab.json, gpt2_merges.txt")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch, "small.txt"), Path(scratch, "large.txt")
        small.write_text(small_text(133_000), encoding="utf-8")
        large.write_text(small_text(8_000_000), encoding="utf-8")
        files = options.vocabularies / "gpt2_vocab.json", options.vocabularies / "gpt2_merges.txt"
        load = f"t = bpe.Tokenizer.from_files({str(files[0])!r}, {str(files[1])!r}, [{EOT!r}]); "
        encode_large = load + f"t.encode_to_numpy(open({str(large)!r}).read())"
        plain = {
            "python": "pass",
            "import numpy": "import numpy",
            "import bpe": "import bpe",
            "import bpe, numpy": "import bpe, numpy",
            "train 133 kB to 500 tokens": f"import bpe; bpe.train({str(small)!r}, 500)",
            "load GPT-2's vocabulary, encode a sentence": f"import bpe; {load}t.encode({SENTENCE!r})",
        }
        compiled = {
            "train 8 MB to 500 tokens": f"import bpe; bpe.train({str(large)!r}, 500)",
            "load GPT-2's vocabulary, encode 8 MB": f"import bpe; {encode_large}",
        }

        def seconds(code: str, cache: str) -> float:
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"NUMBA_CACHE_DIR": cache})
            return time.perf_counter() - begin

        for name, code in plain.items():
            times = []
            for _ in range(options.repeats):
                with tempfile.TemporaryDirectory() as cache:
                    times.append(seconds(code, cache))
            print(f"{name:52}{median(times):8.3f} s", flush=True)
        for name, code in compiled.items():
            with tempfile.TemporaryDirectory() as cache:
                first = seconds(code, cache)
                later = median(seconds(code, cache) for _ in range(options.repeats))
            print(f"{name + ', compiling':52}{first:8.3f} s\n{name + ', from the cache':52}{later:8.3f} s", flush=True)
    print(machine_line())


if __name__ == "__main__":
    main()
