"""Encode and train on texts that are slow unless time is linear in the length of a pre-token or a line.

    python hostile.py [--vocabularies FOLDER] [--repeats N]

Encoding is `encode` with GPT-2's vocabulary by a tokenizer that has not seen the text; training learns 2,000 tokens.
Kernels are compiled before. Figures are medians of seconds; the ids must decode to the text.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from statistics import median

from tables import machine_line

import bpe

EOT = "<|endoftext|>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def texts() -> dict[str, str]:
    """Return the texts by name."""
    draw = random.Random(1)
    return {
        "a million times 'a'": "a" * 10**6,
        "a million spaces": " " * 10**6,
        "a million line breaks": "\n" * 10**6,
        "a million times '^'": "^" * 10**6,
        "a million random letters": "".join(draw.choices(LETTERS, k=10**6)),
        "10 MB of random letters": "".join(draw.choices(LETTERS, k=10**7)),
        "a line of 10 MB, letters, digits and signs": "".join(draw.choices(LETTERS + '0123456789{}:",', k=10**7)),
        "10 MB of random Chinese characters": "".join(chr(draw.randint(0x4E00, 0x9FFF)) for _ in range(3_400_000)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / "vocabularies"
    parser.add_argument("--vocabularies", type=Path, default=folder, help="folder of gpt2_vocab.json, gpt2_merges.txt")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    def load() -> bpe.Tokenizer:
        files = options.vocabularies / "gpt2_vocab.json", options.vocabularies / "gpt2_merges.txt"
        return bpe.Tokenizer.from_files(*files, [EOT])

    load().encode(" x" * 10**6)
    bpe.train_from_iterator([" ab c" * 10**6], 300)
    print(f"{'text':52}{'encode':>9}{'train':>9}")
    for name, text in texts().items():
        encoding, training = [], []
        for _ in range(options.repeats):
            tokenizer = load()
            begin = time.perf_counter()
            ids = tokenizer.encode(text)
            encoding.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            bpe.train_from_iterator([text], 2000)
            training.append(time.perf_counter() - begin)
            if tokenizer.decode(ids) != text:
                raise AssertionError(f"{name}: the ids decode to another text")
        print(f"{name:52}{median(encoding):7.2f} s{median(training):7.2f} s", flush=True)
    print(machine_line())


if __name__ == "__main__":
    main()
