"""Preparation of a data set: a tokenizer trained on it and its texts as token files, made once and found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpe.arguments import folder_of
from bpe.encoding import EncodeReport
from bpe.files import file_digest, whole_directory
from bpe.text import END_OF_TEXT, GPT2_PATTERN, StrPath, check_special_tokens
from bpe.threads import check_threads
from bpe.tokenizer import Tokenizer
from bpe.tokenizer_training import train
from bpe.training import check_vocab_size


@dataclass(frozen=True)
class Preparation:
    """A tokenizer and two token files; `reports` are for train and valid, `reused` if nothing had to be made.

    The report of a token file that existed already has 0 seconds.
    """

    tokenizer: Tokenizer
    tokenizer_directory: Path
    train_tokens: Path
    valid_tokens: Path
    reports: tuple[EncodeReport, EncodeReport]
    reused: bool


_FORM = 2
"""Number of the form of token files and their descriptions: those of an earlier form are made anew."""


def prepare(
    train_path: StrPath,
    valid_path: StrPath,
    *,
    vocab_size: int,
    directory: StrPath,
    special_tokens: Iterable[str] = (END_OF_TEXT,),
    threads: int | None = None,
    progress: bool = False,
    notify: Callable[[str], None] | None = None,
    digests: Mapping[Path, str] | None = None,
    tokenizer: StrPath | None = None,
) -> Preparation:
    """Train a tokenizer on the training text and encode both texts, in `directory/<key>/`.

    The key depends on the bytes of the training text, `vocab_size`, the special tokens and the version of this package,
    and the name of the other token file on the bytes of the validation text, so nothing is made twice. Each result
    appears complete or not at all; an interrupted step is repeated.

    Args:
        train_path: The training text.
        valid_path: The validation text.
        vocab_size: The size of the vocabulary in tokens.
        directory: The folder for the results; it is created.
        special_tokens: The special tokens of the tokenizer.
        threads: The number of threads; None uses all cores.
        progress: Whether to report on stderr.
        notify: Called with one line for each completed step.
        digests: SHA-256, in hexadecimal, of files for which it is known; these files are not read for the key.
        tokenizer: The folder of a tokenizer to encode with, of `vocab_size` tokens; None trains one.

    Raises:
        OSError: If a file is missing or cannot be read, or the folder cannot be written to.
        ValueError: If a file is empty, or an argument is wrong.
    """
    special = check_special_tokens(special_tokens)
    vocab_size = check_vocab_size(vocab_size, special)
    check_threads(threads)
    report_line = notify or (lambda line: None)
    paths = {"train": Path(train_path), "valid": Path(valid_path)}
    given = None if tokenizer is None else Tokenizer.from_pretrained(tokenizer)
    if given is not None and given.vocab_size != vocab_size:
        raise ValueError(
            f"vocab_size is {vocab_size}, but the tokenizer in {str(tokenizer)!r} has {given.vocab_size} tokens"
        )
    contents = {name: [_digest(path, digests or {}), path.suffix] for name, path in paths.items()}
    settings = [vocab_size, special, GPT2_PATTERN] if given is None else [given.sha256]
    folder = folder_of(directory) / _key(contents["train"], settings)
    folder.mkdir(parents=True, exist_ok=True)
    targets = {"train": folder / "train.npy", "valid": folder / f"valid-{_key(contents['valid'])}.npy"}

    tokenizer_directory = folder / "tokenizer"
    reused = tokenizer_directory.exists()
    if not reused:
        trained = given or train(paths["train"], vocab_size, special, threads=threads, progress=progress)
        with whole_directory(tokenizer_directory) as building:
            trained.save_pretrained(building)
        if given is None:
            report_line(f"tokenizer of {trained.vocab_size:,} tokens trained on {paths['train'].name}")
    made = Tokenizer.from_pretrained(tokenizer_directory)

    reports = []
    for name, path in paths.items():
        target = targets[name]
        if target.exists():
            facts = json.loads(target.with_suffix(".json").read_text("utf-8"))
            report = EncodeReport(facts["tokens"], facts["bytes"], facts["dtype"], facts["invalid_utf8"], 0.0, target)
            reports.append(report)
            continue
        reused = False
        report = made.encode_file(path, target, threads, progress=progress)
        reports.append(report)
        report_line(f"{path.name}: {report.tokens:,} tokens, {report.bytes_per_token:.2f} bytes per token")
    return Preparation(made, tokenizer_directory, targets["train"], targets["valid"], (reports[0], reports[1]), reused)


def _digest(path: Path, known: Mapping[Path, str]) -> str:
    """Return the SHA-256 of a text, after a check that it is one."""
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r}; check the path")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder, expected a text file; name a file in it")
    if path.stat().st_size == 0:
        raise ValueError(f"file {str(path)!r} is empty, expected text; check how it was made")
    return known.get(path) or file_digest(path)


def _key(*contents: list[Any]) -> str:
    """Return a name for these contents and the version of this package: 16 hexadecimal digits."""
    content = json.dumps([*contents, package_version(), _FORM])
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]


def package_version() -> str:
    """Return the version of the installed package, or "0+source" if it is imported from a source folder."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("scratchlm-bpe")
    except PackageNotFoundError:
        return "0+source"
