"""Preparing a data set: a tokenizer trained on it and its texts as token files, made once and found again."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.encoding.token_files import EncodeReport
from bpe.files import file_digest
from bpe.text.patterns import GPT2_PATTERN
from bpe.text.special_tokens import END_OF_TEXT, check_special_tokens
from bpe.text.utf8 import StrPath
from bpe.threads import check_threads
from bpe.tokenizer import Tokenizer
from bpe.training.train import check_vocab_size, train
from bpe.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Preparation:
    """A tokenizer and two token files; `reports` are of train and valid, `reused` says that nothing had to be made.

    A report of a token file that was already there has 0 seconds.
    """

    tokenizer: Tokenizer
    tokenizer_directory: Path
    train_tokens: Path
    valid_tokens: Path
    reports: tuple[EncodeReport, EncodeReport]
    reused: bool


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
) -> Preparation:
    """Train a tokenizer on the training text and encode both texts, in `directory/<key>/`.

    The key stands for the bytes of both files, `vocab_size`, the special tokens and the version of this package, so
    that nothing is made twice. Every step appears whole or not at all: one that was interrupted is done again.

    Args:
        train_path: The training text.
        valid_path: The validation text.
        vocab_size: Tokens of the vocabulary.
        directory: Where to keep what is made; it is created.
        special_tokens: Special tokens of the tokenizer.
        threads: How many threads to use; None is all cores.
        progress: Whether to report on stderr.
        notify: Is called with one line for each finished step.
        digests: The SHA-256, in hexadecimal, of files for which it is known: these are not read for the key.

    Raises:
        OSError: If a file is missing or cannot be read, or the directory not be written to.
        ValueError: If a file is empty, or an argument is wrong.
    """
    special = check_special_tokens(special_tokens)
    check_vocab_size(vocab_size, special)
    check_threads(threads)
    tell = notify or (lambda line: None)
    paths = (Path(train_path), Path(valid_path))
    key = _key(paths, vocab_size, special, digests or {})
    folder = Path(directory) / key
    folder.mkdir(parents=True, exist_ok=True)

    tokenizer_directory = folder / "tokenizer"
    reused = tokenizer_directory.exists()
    if not reused:
        trained = train(paths[0], vocab_size, special, threads=threads, progress=progress)
        _save_whole(trained, tokenizer_directory)
        tell(f"tokenizer of {trained.vocab_size:,} tokens trained on {paths[0].name}")
    tokenizer = Tokenizer.from_pretrained(tokenizer_directory)

    reports = []
    for name, path in zip(("train", "valid"), paths, strict=True):
        target = folder / f"{name}.npy"
        if target.exists():
            reports.append(_report_of(target))
            continue
        reused = False
        report = tokenizer.encode_file(path, target, threads, progress=progress)
        reports.append(report)
        tell(f"{path.name}: {report.tokens:,} tokens, {report.bytes_per_token:.2f} bytes per token")
    return Preparation(
        tokenizer, tokenizer_directory, folder / "train.npy", folder / "valid.npy", (reports[0], reports[1]), reused
    )


def _key(paths: Sequence[Path], vocab_size: int, special_tokens: list[str], known: Mapping[Path, str]) -> str:
    """Return a name for what is prepared from these files with these settings: 16 hexadecimal digits."""
    digests = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no file {str(path)!r}; check the path")
        if path.is_dir():
            raise ValueError(f"{str(path)!r} is a folder, expected a text file; name a file in it")
        if path.stat().st_size == 0:
            raise ValueError(f"file {str(path)!r} is empty, expected text; check how it was made")
        digests.append([known.get(path) or file_digest(path), path.suffix])
    content = json.dumps([digests, vocab_size, special_tokens, GPT2_PATTERN, __version__])
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]


def _save_whole(tokenizer: Tokenizer, directory: Path) -> None:
    """Save a tokenizer to a directory that appears when all its files are written."""
    temporary = Path(tempfile.mkdtemp(prefix=".tokenizer.", suffix=".partial", dir=directory.parent))
    try:
        temporary.chmod(directory.parent.stat().st_mode)
        tokenizer.save_pretrained(temporary)
        try:
            temporary.rename(directory)
        except OSError:
            if not directory.exists():  # else another process has made the same one in the meantime
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _report_of(tokens: Path) -> EncodeReport:
    """Return the report of a token file that is there, from the description beside it."""
    facts = json.loads(tokens.with_suffix(".json").read_text("utf-8"))
    return EncodeReport(facts["tokens"], facts["bytes"], facts["dtype"], facts["invalid_utf8"], 0.0, tokens)
