"""Endless, disjoint training and validation streams of composed documents, and files of them.

The caller passes a function that composes one document from a random generator, for example by filling a
`trainer.grammar.Grammar`.
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

from trainer.support.files import atomic_file, make_directory

Split = Literal["train", "valid"]
Compose = Callable[[random.Random], str]

VALID_SHARE = 16  # one document in 16 belongs to the validation split
_REMEMBERED_DOCUMENTS = 1_000_000  # bounds the memory of an endless stream
_FRUITLESS_LIMIT = 10_000  # dropped documents in a row that mean an exhausted grammar
_WORD = re.compile(r"\w+")


def split_of(text: str) -> Split:
    """Return the split of a document: a function of its words alone, so that no text is ever in both."""
    return "train" if _digest(text) % VALID_SHARE else "valid"


def _digest(text: str) -> int:
    words = " ".join(_WORD.findall(text.casefold()))
    return int.from_bytes(blake2b(words.encode(), digest_size=8).digest(), "big")


def documents(compose: Compose, *, split: Split, seed: int) -> Iterator[str]:
    """Compose documents without end, keeping those of one split.

    Candidate i is `compose` applied to a generator seeded by (seed, i) alone. Candidates of the other split are dropped
    (15 of 16 when `split` is "valid"), and so are those with the same words as one of the first million kept.

    Raises:
        ValueError: If the split is unknown, the seed is not an integer of 0 or more, a document is empty, or (while
            iterating) 10,000 candidates in a row were dropped.
    """
    _check_stream(split, seed)
    return _documents(compose, split == "valid", seed)


def _check_stream(split: Split, seed: int) -> None:
    if split not in ("train", "valid"):
        raise ValueError(f"split is {split!r}: expected 'train' or 'valid'; choose one of them")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is {seed!r}: expected an integer of 0 or more; choose such a one")


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
    """The file that `write_corpus` wrote, its documents, and its bytes of UTF-8 with separators."""

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
    """Write the beginning of a stream to a file, each document followed by a line with the separator.

    The file ends with document number `documents`, or with the one that brings it to `min_bytes` bytes; give exactly
    one of the two. It appears under its name when it is complete, or not at all.

    Raises:
        FileNotFoundError: If the folder is missing.
        ValueError: As `documents` does; if the limit is wrong; if a document contains the separator.
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
    _check_stream(split, seed)
    stream = _documents(compose, split == "valid", seed)
    count = size = 0
    with atomic_file(path) as file:
        while (count if min_bytes is None else size) < limit:
            text = next(stream)
            if separator in text:
                raise ValueError(f"document {text!r} contains the separator {separator!r}: choose another one")
            size += file.write(f"{text}\n{separator}\n".encode())
            count += 1
    return CorpusReport(path, count, size)


def write_splits(
    directory: Path,
    name: str,
    compose: Compose,
    *,
    train_bytes: int,
    valid_bytes: int,
    notify: Callable[[str], None] | None = None,
) -> tuple[Path, Path]:
    """Return the paths of a composed training and validation text, writing missing files.

    The folder's name carries a digest of samples of `compose`, so that another grammar gets other files.

    Args:
        directory: Where the folder is kept; created if missing.
        name: Prefix of the folder's name.
        compose: Composes one document.
        train_bytes: Minimum size of the training text.
        valid_bytes: Minimum size of the validation text.
        notify: Gets one line for each file that is written.
    """
    trial = "".join(compose(random.Random(seed)) for seed in range(64))
    folder = directory / f"{name}-{blake2b(f'{train_bytes} {valid_bytes} {trial}'.encode(), digest_size=6).hexdigest()}"
    make_directory(folder)
    sizes: dict[Split, int] = {"train": train_bytes, "valid": valid_bytes}
    for split, size in sizes.items():
        path = folder / f"{split}.txt"
        if not path.exists():
            report = write_corpus(path, compose, split=split, seed=0, min_bytes=size)
            if notify is not None:
                notify(f"composed {report.documents:,} documents, {report.bytes / 1e6:.1f} MB: {path}")
    return folder / "train.txt", folder / "valid.txt"
