"""Token files by memory map, and random windows of them."""

from __future__ import annotations

import json
import mmap
import os
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from trainer.devices import to_device

TokenArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_MAGIC = b"\x93NUMPY"
_FORMAT = "scratchlm-tokens"
_SCAN_CHUNK = 1 << 22  # ids looked at together when the largest one is sought: bounds the memory


class TokenDataset:
    """A file of token ids, read through a memory map.

    The file is a one-dimensional `.npy` of uint16 or uint32. If a `.json` of the same stem lies beside it, its `bytes`
    (UTF-8 bytes of the text), `vocab_size` and `tokenizer_sha256` are read; without it they are None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such array, it is empty or cut short, or the `.json` contradicts it.
    """

    def __init__(self, npy_path: str | os.PathLike[str]) -> None:
        self.path = Path(npy_path)
        self.tokens: TokenArray = _open_tokens(self.path)
        self.metadata: dict[str, Any] = _read_sidecar(self.path, len(self.tokens))

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"TokenDataset({str(self.path)!r}: {self.num_tokens:,} tokens, {self.tokens.dtype})"

    @property
    def num_tokens(self) -> int:
        """Token ids in the file."""
        return len(self.tokens)

    @property
    def num_bytes(self) -> int | None:
        """UTF-8 bytes of the text that was encoded."""
        return self.metadata.get("bytes")

    @property
    def vocab_size(self) -> int | None:
        """Vocabulary size of the tokenizer that wrote the file."""
        return self.metadata.get("vocab_size")

    @property
    def tokenizer_sha256(self) -> str | None:
        """Checksum of the tokenizer that wrote the file."""
        return self.metadata.get("tokenizer_sha256")

    @cached_property
    def max_token_id(self) -> int:
        """The largest id in the file, found by reading all of it once."""
        largest = 0
        for begin in range(0, len(self.tokens), _SCAN_CHUNK):
            largest = max(largest, int(self.tokens[begin : begin + _SCAN_CHUNK].max()))
            _release_pages(self.tokens)
        return largest

    def check_ids(self, vocab_size: int) -> None:
        """Check that a model with `vocab_size` embeddings can read every id.

        Raises:
            ValueError: an id is too large.
        """
        if self.max_token_id >= vocab_size:
            raise ValueError(
                f"{self.path} holds the token id {self.max_token_id}: expected ids below the vocabulary size "
                f"{vocab_size}; encode the text with the model's own tokenizer"
            )


def get_batch(
    tokens: TokenArray,
    batch_size: int,
    context_length: int,
    device: torch.device | str,
    generator: np.random.Generator | torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw windows whose starts are uniform over all n - context_length possible ones.

    Args:
        tokens: (n,) token ids, a numpy array or memory map; only what is drawn is read.
        batch_size: windows to draw, independently of each other.
        context_length: tokens in a window.
        device: where the tensors go; a bad one raises torch's own error.
        generator: source of the starts; None is torch's global generator.

    Returns:
        Inputs and targets, both (batch_size, context_length) int64; targets are the inputs' next tokens.

    Raises:
        ValueError: `tokens` is not one-dimensional or too short, or a size is below 1.
    """
    if batch_size < 1 or context_length < 1:
        raise ValueError(f"batch_size is {batch_size!r}, context_length {context_length!r}: expected 1 or more")
    check_length(tokens, context_length, "tokens")
    count = len(tokens) - context_length
    if isinstance(generator, np.random.Generator):
        starts = generator.integers(count, size=batch_size)
    else:
        starts = torch.randint(count, (batch_size,), generator=generator).numpy()
    windows = tokens[starts[:, None] + np.arange(context_length + 1)].astype(np.int64)
    _release_pages(tokens)
    batch = torch.from_numpy(windows)
    return to_device(batch[:, :-1].contiguous(), device), to_device(batch[:, 1:].contiguous(), device)


def batch_generator(seed: int, step: int, micro_step: int) -> np.random.Generator:
    """Return the generator of one batch: a pure function of its arguments, so resuming needs no loader state."""
    return np.random.default_rng([seed, step, micro_step])


def read_window(tokens: TokenArray, begin: int, length: int) -> torch.Tensor:
    """Read `length` consecutive ids as int64, keeping nothing of the file in memory."""
    window = torch.from_numpy(np.asarray(tokens[begin : begin + length]).astype(np.int64))
    _release_pages(tokens)
    return window


def check_length(tokens: TokenArray, context_length: int, what: str) -> None:
    """Check that an array of ids holds at least one window and the token after it.

    Raises:
        ValueError: it has another number of dimensions, or is too short.
    """
    if tokens.ndim != 1:
        raise ValueError(f"{what} has the shape {tokens.shape}: expected one dimension")
    if len(tokens) < context_length + 1:
        raise ValueError(
            f"{what} has {len(tokens)} tokens: expected at least {context_length + 1}, one window of context_length "
            f"{context_length} and the token after it; use a longer text or a smaller context_length"
        )


def _open_tokens(path: Path) -> TokenArray:
    if not path.is_file():
        raise FileNotFoundError(f"no token file at {path}: expected an .npy file of token ids; encode a text into it")
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        raise ValueError(
            f"{path} is not a token file: it begins with {magic!r}, expected an .npy file; encode it again"
        )
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if path.stat().st_size and _is_empty_array(path):
            raise ValueError(f"{path} is empty: it holds no tokens; encode a text that is not empty") from error
        raise ValueError(f"{path} is cut short or damaged ({error}); encode the text again") from error
    if tokens.ndim != 1:
        raise ValueError(f"{path} has the shape {tokens.shape}: expected one dimension; save the ids as one row")
    if tokens.dtype.kind != "u" or tokens.dtype.itemsize not in (2, 4):
        raise ValueError(f"{path} holds {tokens.dtype}: expected uint16 or uint32; save it with ids.astype('uint16')")
    if len(tokens) == 0:
        raise ValueError(f"{path} is empty: it holds no tokens; encode a text that is not empty")
    return tokens


def _is_empty_array(path: Path) -> bool:
    """Whether the header announces no elements: such a file cannot be mapped."""
    try:
        return np.load(path, allow_pickle=False).size == 0
    except (ValueError, OSError, EOFError):
        return False


def _read_sidecar(path: Path, num_tokens: int) -> dict[str, Any]:
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        return {}
    try:
        metadata = json.loads(sidecar.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{sidecar} is not JSON ({error}); encode the text again") from error
    if not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise ValueError(f"{sidecar} does not describe a token file: expected the format {_FORMAT!r}; move it away")
    if metadata.get("tokens") != num_tokens:
        raise ValueError(
            f"{path} holds {num_tokens} tokens but {sidecar.name} says {metadata.get('tokens')!r}; encode it again"
        )
    return metadata


def _release_pages(tokens: TokenArray) -> None:
    """Take what was read off the resident memory; the system's cache keeps it, so that reading again is cheap.

    Only read-only maps: in a copy-on-write one it would undo what was written.
    """
    mapping = getattr(tokens, "_mmap", None)
    if isinstance(mapping, mmap.mmap) and getattr(tokens, "mode", None) == "r" and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
