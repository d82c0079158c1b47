"""Time complete new processes: imports, training on a small text, the first sentence, a larger text.

    python startup.py [--vocabularies FOLDER] [--repeats N]

"first" is the first process after an installation that compiled no Python files, as uv installs: a copy of the package
without __pycache__, and no cache of Numba. "later" is the median of the processes after it. "python" is an interpreter
that does nothing, which is part of all other times. Kernels are ready machine code: a process that imports Numba or
llvmlite ends this program. The texts are composed here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tables import machine_line

import bpe

EOT = "<|endoftext|>"
SENTENCE = "Once upon a time, there was a cat who didn't like the rain."
NO_COMPILER = "\nimport sys\nassert not {'numba', 'llvmlite'} & set(sys.modules), 'the process has imported a compiler'"


def small_text(size: int) -> str:
    """Return a text of `size` bytes with a few thousand different words."""
    text = "".join(f"word{index * 7919 % 3001} is not {index % 977}, they've said.\n" for index in range(size // 20))
    return text[:size]


def seconds(code: str, folder: Path) -> float:
    """Return the seconds of a process with the copy of the package in `folder`."""
    variables = {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "numba"), "PYTHONDONTWRITEBYTECODE": ""}
    environment = {key: value for key, value in (os.environ | variables).items() if value}
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code + NO_COMPILER], check=True, env=environment)
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / "vocabularies"
    parser.add_argument("--vocabularies", type=Path, default=folder, help="folder of gpt2_tokenizer.json")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    package = Path(bpe.__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch, "small.txt"), Path(scratch, "large.txt")
        small.write_text(small_text(133_000), encoding="utf-8")
        large.write_text(small_text(8_000_000), encoding="utf-8")
        load = (
            f"import bpe; t = bpe.Tokenizer.from_huggingface({str(options.vocabularies / 'gpt2_tokenizer.json')!r}); "
        )
        codes = {
            "python": "pass",
            "import numpy": "import numpy",
            "import bpe": "import bpe",
            "train 133 kB to 500 tokens": f"import bpe; bpe.train({str(small)!r}, 500)",
            "train 8 MB to 500 tokens": f"import bpe; bpe.train({str(large)!r}, 500)",
            "load GPT-2's vocabulary, encode a sentence": f"{load}t.encode({SENTENCE!r})",
            "load GPT-2's vocabulary, encode 8 MB": f"{load}t.encode_to_numpy(open({str(large)!r}).read())",
        }
        print(f"{'':44}{'first':>10}{'later':>10}")
        for name, code in codes.items():
            copy = Path(scratch, "installed")
            shutil.copytree(package, copy / "bpe", ignore=shutil.ignore_patterns("__pycache__"))
            first = seconds(code, copy)
            later = median(seconds(code, copy) for _ in range(options.repeats))
            print(f"{name:44}{first:8.3f} s{later:8.3f} s", flush=True)
            shutil.rmtree(copy)
    print(machine_line())


if __name__ == "__main__":
    main()
