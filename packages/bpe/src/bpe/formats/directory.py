"""A folder with a tokenizer in every format that can hold it."""

from __future__ import annotations

import json
from pathlib import Path

from bpe.files import write_text
from bpe.formats import gpt2, huggingface, tiktoken
from bpe.text import END_OF_TEXT, StrPath
from bpe.vocabulary import TokenizerSpec

TOKENIZER_JSON = "tokenizer.json"


def load(directory: StrPath) -> TokenizerSpec:
    """Read the tokenizer.json of a folder, which is complete.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not byte-level BPE.
    """
    path = Path(directory) / TOKENIZER_JSON
    if not path.exists():
        raise FileNotFoundError(f"no {TOKENIZER_JSON} in {str(directory)!r}; name a folder that save_pretrained wrote")
    return huggingface.load(path)


def save(spec: TokenizerSpec, directory: StrPath) -> None:
    """Write all formats; tokenizer.json, which `load` reads, comes last.

    The formats of GPT-2 and tiktoken are omitted, and old files in them removed, where their readers would give other
    ids.

    Raises:
        OSError: If the folder cannot be created or written to.
        ValueError: If tokenizer.json cannot hold the tokenizer.
    """
    folder = Path(directory)
    content = huggingface.to_json(spec)  # raises before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    if gpt2.can_hold(spec):
        gpt2.save(spec, folder / "vocab.json", folder / "merges.txt")
    else:
        _remove(folder, "vocab.json", "merges.txt")
    if tiktoken.obstacle(spec):
        _remove(folder, "tokenizer.tiktoken")
    else:
        tiktoken.save_ranks(spec, folder / "tokenizer.tiktoken")
    settings: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if END_OF_TEXT in spec.special_tokens:
        settings |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    write_text(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
    write_text(folder / TOKENIZER_JSON, content)


def _remove(folder: Path, *names: str) -> None:
    """Remove the files of an earlier tokenizer from the folder."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
