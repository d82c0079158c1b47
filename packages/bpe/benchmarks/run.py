"""Compare training and encoding with other libraries on the real texts in ../shared/data beside the repository.

    python packages/bpe/benchmarks/run.py [--threads N]

Every figure is one run in this process. What is compiled was compiled before; encoders start with an empty cache
("first") or with what they remember of the same text ("again"). Outputs are compared, not only times.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import bpe

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
TRAINING = [("tinystories_train.txt", 10_000), ("owt_train.txt", 32_000), ("english_novels_100.txt.gz", 32_000)]
ENCODING = ["tinystories_train.txt", "owt_train.txt", "torture_mix.txt"]
EOT = "<|endoftext|>"


def timed(function):
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result


def read(name):
    from bpe.texts import TextFile

    return b"".join(TextFile(DATA / name).chunks()).decode("utf-8")


def train_tokenizers(text, vocab_size):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[EOT], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text.split(EOT), trainer)
    return tokenizer


def benchmark_training(threads):
    print(f"\n{'training':<28}{'vocabulary':>11}{'bpe s':>9}{'tokenizers s':>14}{'ratio':>8}")
    for name, vocab_size in TRAINING:
        seconds, _ = timed(lambda name=name, size=vocab_size: bpe.train(DATA / name, size, threads=threads))
        text = read(name)
        theirs, _ = timed(lambda text=text, size=vocab_size: train_tokenizers(text, size))
        print(f"{name:<28}{vocab_size:>11,}{seconds:>9.2f}{theirs:>14.2f}{theirs / seconds:>7.1f}x")


def benchmark_encoding():
    import tiktoken
    from tokenizers import Tokenizer

    folder = DATA / "vocabularies"
    files = folder / "gpt2_vocab.json", folder / "gpt2_merges.txt"
    vocab = bpe.Tokenizer.from_files(*files, [EOT]).vocab
    ranks = {token: id_ for id_, token in vocab.items() if id_ != vocab_id(vocab)}
    reference = tiktoken.Encoding(
        "gpt2", pat_str=bpe.GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={EOT: vocab_id(vocab)}
    )
    huggingface = Tokenizer.from_file(str(folder / "gpt2_tokenizer.json"))
    header = ("bpe first", "again", "tiktoken", "tokenizers", "ratio")
    print(f"\n{'encoding, MB/s, one thread':<28}" + "".join(f"{column:>12}" for column in header))
    for name in ENCODING:
        text = read(name)
        size = len(text.encode()) / 1e6
        tokenizer = bpe.Tokenizer.from_files(*files, [EOT])
        first, ids = timed(lambda t=tokenizer, text=text: t.encode_to_numpy(text))
        again, _ = timed(lambda t=tokenizer, text=text: t.encode_to_numpy(text))
        other, expected = timed(lambda text=text: reference.encode_to_numpy(text, allowed_special="all"))
        slower, _ = timed(lambda text=text: [huggingface.encode(part) for part in text.split(EOT)])
        if not np.array_equal(ids, expected):
            sys.exit(f"ids of {name} differ from tiktoken's")
        speeds = "".join(f"{size / seconds:>12.1f}" for seconds in (first, again, other, slower))
        print(f"{name:<28}{speeds}{other / first:>11.1f}x")


def vocab_id(vocab):
    return next(id_ for id_, token in vocab.items() if token == EOT.encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, help="threads of bpe.train (default: all cores)")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit(f"no folder {DATA}: the texts to measure with are read from there")
    from bpe.pretokens import count_blocks
    from bpe.texts import Block
    from bpe.training import learn_merges

    # Compile, or take from the disk cache, before anything is timed.
    counts = count_blocks([Block(b"a cat" * 9, [])] * 9, bpe.GPT2_PATTERN, 2, "kernels")
    learn_merges(counts, 3, "kernels")
    bpe.train_from_iterator(["a cat"], 260)._load_kernels().encode(Block(b"a cat", []))
    benchmark_training(options.threads)
    benchmark_encoding()


if __name__ == "__main__":
    main()
