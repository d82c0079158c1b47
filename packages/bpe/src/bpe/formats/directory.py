"""A directory with a tokenizer in every format that can hold it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from bpe.files import write_text
from bpe.formats import gpt2, huggingface, tiktoken
from bpe.text.special_tokens import END_OF_TEXT
from bpe.text.utf8 import StrPath

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer

TOKENIZER_JSON = "tokenizer.json"


def load(directory: StrPath) -> Tokenizer:
    """Read tokenizer.json of a directory, which holds everything.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not byte-level BPE.
    """
    path = Path(directory) / TOKENIZER_JSON
    if not path.exists():
        raise FileNotFoundError(f"no {TOKENIZER_JSON} in {str(directory)!r}; name a folder that save_pretrained wrote")
    return huggingface.load(path)


def save(tokenizer: Tokenizer, directory: StrPath) -> None:
    """Write all formats; tokenizer.json, which `load` reads, comes last.

    The formats of GPT-2 and tiktoken are left out, and old files of theirs removed, where their readers would give
    other ids.

    Raises:
        OSError: If the directory cannot be made or written to.
        ValueError: If the tokenizer cannot be written.
    """
    folder = Path(directory)
    content = huggingface.to_json(tokenizer)  # refuses what the formats cannot hold before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    if gpt2.obstacle(tokenizer):
        _remove(folder, "vocab.json", "merges.txt")
    else:
        gpt2.save(tokenizer, folder / "vocab.json", folder / "merges.txt")
    if tiktoken.obstacle(tokenizer):
        _remove(folder, "tokenizer.tiktoken")
    else:
        tiktoken.save_ranks(tokenizer, folder / "tokenizer.tiktoken")
    settings: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if tokenizer.eot_id is not None:
        settings |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
    write_text(folder / TOKENIZER_JSON, content)


def _remove(folder: Path, *names: str) -> None:
    """Remove what an earlier tokenizer left in the folder."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
