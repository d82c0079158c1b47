"""Sorts composed documents into endless, disjoint training and validation streams, and writes them to files.

What composes them is a function of a random generator, such as one that fills a `trainer.experiments.grammar.Grammar`.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

Split = Literal["train", "valid"]
Compose = Callable[[random.Random], str]

VALID_SHARE = 16  # one document in so many belongs to the validation split
_REMEMBERED_DOCUMENTS = 1_000_000  # repeats are looked for among so many; bounds the memory of an endless stream
_FRUITLESS_LIMIT = 10_000  # so many unusable documents in a row mean that the grammar has run dry
_WORD = re.compile(r"\w+")


def split_of(text: str) -> Split:
    """Tell which split a document belongs to: a function of its words alone, so no text is ever in both."""
    return "train" if _digest(text) % VALID_SHARE else "valid"


def _digest(text: str) -> int:
    words = " ".join(_WORD.findall(text.casefold()))
    return int.from_bytes(blake2b(words.encode(), digest_size=8).digest(), "big")


def documents(compose: Compose, *, split: Split, seed: int) -> Iterator[str]:
    """Compose documents without end, keeping those of one split.

    Candidate i is `compose` applied to a generator seeded by (seed, i) alone. Dropped are the candidates of the other
    split (15 of 16 when `split` is "valid") and those whose words equal a former one's (looked for among a million).

    Raises:
        ValueError: for an unknown split, a seed that is no non-negative integer, an empty document, or (while
            iterating) when 10,000 candidates in a row had to be dropped.
    """
    if split not in ("train", "valid"):
        raise ValueError(f"split is {split!r}: expected 'train' or 'valid'; choose one of them")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is {seed!r}: expected an integer of 0 or more; choose such a one")
    return _documents(compose, split == "valid", seed)


def _documents(compose: Compose, valid: bool, seed: int) -> Iterator[str]:
    rng = random.Random()
    seen: set[int] = set()
    index = fruitless = 0
    while True:
        rng.seed(int.from_bytes(blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "big"))
        text = compose(rng)
        if not text.strip():
            raise ValueError(f"document {index} of seed {seed} is {text!r}: expected words; correct the grammar")
        digest = _digest(text)
        if (digest % VALID_SHARE == 0) == valid and digest not in seen:
            if len(seen) < _REMEMBERED_DOCUMENTS:
                seen.add(digest)
            yield text
            fruitless = 0
        else:
            fruitless += 1
            if fruitless == _FRUITLESS_LIMIT:
                raise ValueError(
                    f"{fruitless} documents in a row were repeats or of the other split, after {len(seen)} good ones: "
                    "expected a grammar with more variety; enrich it or ask for fewer documents"
                )
        index += 1


@dataclass(frozen=True)
class CorpusReport:
    """What `write_corpus` wrote: the file, the number of documents and the bytes of UTF-8, separators included."""

    path: Path
    documents: int
    bytes: int


def write_corpus(
    path: str | os.PathLike[str],
    compose: Compose,
    *,
    split: Split,
    seed: int,
    documents: int | None = None,
    min_bytes: int | None = None,
    separator: str = "<|endoftext|>",
) -> CorpusReport:
    """Write a stream's beginning to a file, each document followed by a line with the separator.

    It ends with document number `documents`, or with the one that brings the file to `min_bytes` bytes; give exactly
    one of the two. The file appears under its name when it is complete, or not at all.

    Raises:
        FileNotFoundError: if the folder is missing.
        ValueError: as `documents` does; for a wrong limit; if a document contains the separator.
    """
    limit, name = (documents, "documents") if min_bytes is None else (min_bytes, "min_bytes")
    if (documents is None) == (min_bytes is None):
        raise ValueError(f"documents is {documents!r} and min_bytes is {min_bytes!r}: expected one of them, not both")
    if not isinstance(limit, int) or limit < 1:
        raise ValueError(f"{name} is {limit!r}: expected an integer of 1 or more; choose such a one")
    if not separator or "\n" in separator:
        raise ValueError(f"separator is {separator!r}: expected one line of text such as '<|endoftext|>'; use that")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {str(path.parent)!r} of {path.name!r} does not exist; create it first")
    stream = _stream(compose, split=split, seed=seed)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = size = 0
    try:
        with temporary.open("wb") as file:
            while (count if min_bytes is None else size) < limit:
                text = next(stream)
                if separator in text:
                    raise ValueError(f"document {text!r} contains the separator {separator!r}: choose another one")
                size += file.write(f"{text}\n{separator}\n".encode())
                count += 1
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return CorpusReport(path, count, size)


_stream = documents  # the name that `write_corpus` can use, where `documents` is its parameter


def write_splits(
    directory: Path,
    name: str,
    compose: Compose,
    *,
    train_bytes: int,
    valid_bytes: int,
    notify: Callable[[str], None] | None = None,
) -> tuple[Path, Path]:
    """Return the paths of a composed training and validation text, writing what is not there yet.

    The folder's name carries a digest of what `compose` makes, so that another grammar gets other files.

    Args:
        directory: where the folder is kept; made if it is missing.
        name: the beginning of the folder's name.
        compose: makes one document.
        train_bytes: least size of the training text.
        valid_bytes: least size of the validation text.
        notify: gets one line for each file that is written.
    """
    trial = "".join(compose(random.Random(seed)) for seed in range(64))
    folder = directory / f"{name}-{blake2b(f'{train_bytes} {valid_bytes} {trial}'.encode(), digest_size=6).hexdigest()}"
    folder.mkdir(parents=True, exist_ok=True)
    sizes: dict[Split, int] = {"train": train_bytes, "valid": valid_bytes}
    for split, size in sizes.items():
        path = folder / f"{split}.txt"
        if not path.exists():
            report = write_corpus(path, compose, split=split, seed=0, min_bytes=size)
            if notify is not None:
                notify(f"composed {report.documents:,} documents, {report.bytes / 1e6:.1f} MB: {path}")
    return folder / "train.txt", folder / "valid.txt"
