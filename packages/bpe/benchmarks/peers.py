"""Calls of each library for training and encoding; their results are examined after the clock has stopped."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EOT = "<|endoftext|>"
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]


@dataclass(frozen=True)
class Job:
    """A timed call: `run` does the work, `result` converts its return value for the comparison."""

    run: Callable[[], Any]
    result: Callable[[Any], Any]


def byte_of_character() -> dict[str, int]:
    """Return the byte of each character of GPT-2's printable alphabet."""
    others = [byte for byte in range(256) if byte not in PRINTABLE]
    return {chr(byte): byte for byte in PRINTABLE} | {chr(256 + index): byte for index, byte in enumerate(others)}


def tokens_of_merges(merges: Iterable[tuple[str, str]]) -> list[bytes]:
    """Return the tokens made by merges in GPT-2's printable alphabet."""
    table = byte_of_character()
    return [bytes(table[character] for character in left + right) for left, right in merges]


# --- training: path, size of the vocabulary, threads; all learn vocab_size - 257 merges -------------------------------


def train_bpe(path: Path, vocab_size: int, threads: int) -> Job:
    """This package, which reads the file itself."""
    import bpe

    return Job(
        lambda: bpe.train(path, vocab_size, [EOT], threads=threads),
        lambda tokenizer: [left + right for left, right in tokenizer.merges],
    )


def train_gigabpe(path: Path, vocab_size: int, threads: int) -> Job:
    """`gigabpe` reads files but knows no separators, so its file has none.

    Its alphabet has only the bytes that occur, so its vocabulary is that much smaller.
    """
    import gigabpe

    data = path.read_bytes().replace(EOT.encode(), b"")
    plain = path.with_suffix(f".{os.getpid()}.txt")
    plain.write_bytes(data)
    size = vocab_size - 256 + len(np.unique(np.frombuffer(data, dtype=np.uint8)))

    def run() -> Any:
        return gigabpe.train_bpe(
            [str(plain)], vocab_size=size, special_tokens=[EOT], pretokenizer="bytelevel", threads=threads
        )

    def result(trained: Any) -> list[bytes]:
        plain.unlink()
        return tokens_of_merges(trained[1])

    return Job(run, result)


def train_rustbpe(path: Path, vocab_size: int, threads: int) -> Job:
    """`rustbpe` takes documents and knows no special tokens. Threads: RAYON_NUM_THREADS."""
    import rustbpe

    def run() -> Any:
        tokenizer = rustbpe.Tokenizer()
        tokenizer.train_from_iterator(read(path).split(EOT), vocab_size - 1, pattern=GPT2_PATTERN)
        return tokenizer

    return Job(run, lambda tokenizer: [bytes(token) for token, rank in tokenizer.get_mergeable_ranks() if rank >= 256])


def train_tokenizers(path: Path, vocab_size: int, threads: int) -> Job:
    """`tokenizers` takes documents. Threads: RAYON_NUM_THREADS."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    def run() -> Any:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=[EOT], initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(read(path).split(EOT), trainer)
        return tokenizer

    return Job(run, lambda tokenizer: tokens_of_merges(json.loads(tokenizer.to_str())["model"]["merges"]))


# --- encoding with GPT-2's vocabulary: folder of vocabularies, path of the text, threads ------------------------------


def read(path: Path) -> str:
    """Return a text with its line ends unchanged."""
    return path.read_bytes().decode("utf-8")


def read_with_utf8(path: Path) -> str:
    """Return a text whose UTF-8 CPython has cached, just as a library that takes bytes gets them ready-made."""
    text = read(path)
    function = ctypes.pythonapi.PyUnicode_AsUTF8AndSize
    function.restype = ctypes.c_void_p
    function(ctypes.py_object(text), None)
    return text


def flat(parts: Iterable[Any]) -> np.ndarray:
    """Return the concatenated ids of documents."""
    return np.concatenate([np.asarray(part, dtype=np.uint32) for part in parts])


def encode_bpe(folder: Path, path: Path, threads: int, task: str) -> Job:
    """This package."""
    import bpe

    tokenizer = bpe.Tokenizer.from_files(folder / "gpt2_vocab.json", folder / "gpt2_merges.txt", [EOT])
    if task == "file":
        out = path.with_suffix(f".{os.getpid()}.npy")
        return Job(lambda: tokenizer.encode_file(path, out, threads), lambda _: taken(out))
    text = read_with_utf8(path)
    if task == "list":
        return Job(lambda: tokenizer.encode(text), np.array)
    return Job(lambda: tokenizer.encode_to_numpy(text, threads=threads), np.asarray)


def taken(path: Path) -> np.ndarray:
    """Return the ids of a token file and remove it with its description."""
    ids: np.ndarray = np.load(path)
    path.unlink()
    path.with_suffix(".json").unlink(missing_ok=True)
    return ids


def encode_gigatoken(folder: Path, path: Path, threads: int, task: str) -> Job:
    """`gigatoken` with one text; files are saved like those of this package. Threads: RAYON_NUM_THREADS."""
    import gigatoken

    tokenizer = gigatoken.Tokenizer(folder / "gpt2_tokenizer.json")
    if task == "file":
        out = path.with_suffix(f".{os.getpid()}.npy")

        def encode_and_save() -> None:
            ids = np.asarray(tokenizer.encode_files(gigatoken.TextFileSource([path]))[0])
            with out.open("wb") as file:
                np.save(file, ids.astype(np.uint16))
                file.flush()
                os.fsync(file.fileno())

        return Job(encode_and_save, lambda _: taken(out))
    text = read_with_utf8(path)
    if task == "list":
        return Job(lambda: tokenizer.encode_batch_list([text])[0], np.array)
    return Job(lambda: tokenizer.encode(text), np.asarray)


def encode_gigatoken_batch(folder: Path, path: Path, threads: int, task: str) -> Job:
    """`gigatoken` with documents, which it encodes in parallel; separators get no id. Threads: RAYON_NUM_THREADS."""
    import awkward
    import gigatoken

    tokenizer = gigatoken.Tokenizer(folder / "gpt2_tokenizer.json")
    data = path.read_bytes()
    return Job(
        lambda: tokenizer.encode_batch(gigatoken.BytesSource(data, separator=EOT)),
        lambda result: np.asarray(awkward.flatten(result)),
    )


def encode_tiktoken(folder: Path, path: Path, threads: int, task: str) -> Job:
    """`tiktoken` with one text on one thread, or with documents on several, to lists."""
    import json

    import tiktoken

    table = byte_of_character()
    vocabulary = json.loads(read(folder / "gpt2_vocab.json"))
    ranks = {bytes(table[character] for character in token): id_ for token, id_ in vocabulary.items() if token != EOT}
    encoding = tiktoken.Encoding(
        "gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={EOT: vocabulary[EOT]}
    )
    text = read_with_utf8(path)
    if task == "array":
        return Job(lambda: encoding.encode_to_numpy(text, allowed_special="all"), np.asarray)
    if threads == 1:
        return Job(lambda: encoding.encode(text, allowed_special="all"), np.array)
    return Job(lambda: encoding.encode_ordinary_batch(text.split(EOT), num_threads=threads), flat)


def encode_tokenizers(folder: Path, path: Path, threads: int, task: str) -> Job:
    """`tokenizers` with documents, to lists. Threads: RAYON_NUM_THREADS."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "gpt2_tokenizer.json"))
    text = read_with_utf8(path)
    return Job(lambda: [encoding.ids for encoding in tokenizer.encode_batch_fast(text.split(EOT))], flat)


TRAINERS = {"bpe": train_bpe, "gigabpe": train_gigabpe, "rustbpe": train_rustbpe, "tokenizers": train_tokenizers}
ENCODERS = {
    "bpe": encode_bpe,
    "gigatoken": encode_gigatoken,
    "gigatoken-batch": encode_gigatoken_batch,
    "tiktoken": encode_tiktoken,
    "tokenizers": encode_tokenizers,
}
TASKS = {
    "train": list(TRAINERS),
    "array": ["bpe", "gigatoken", "gigatoken-batch", "tiktoken"],
    "file": ["bpe", "gigatoken"],
    "list": ["bpe", "gigatoken", "tiktoken", "tokenizers"],
}
"""The libraries for each task."""
