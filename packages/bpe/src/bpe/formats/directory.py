"""A folder with a tokenizer in every format that can hold it."""

from __future__ import annotations

import json
from pathlib import Path

from bpe.files import write_text
from bpe.formats import gpt2, huggingface, tiktoken
from bpe.text import END_OF_TEXT, StrPath
from bpe.vocabulary import TokenizerSpec

TOKENIZER_JSON = "tokenizer.json"
_OTHER_FILES = ("vocab.json", "merges.txt", "tokenizer.tiktoken", "tokenizer_config.json")


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


def check_target(directory: StrPath) -> None:
    """Refuse a folder with files that `save` would replace or remove, but without a tokenizer.json beside them.

    Raises:
        FileExistsError: If there are such files, which another program may need.
    """
    folder = Path(directory)
    found = [name for name in _OTHER_FILES if (folder / name).exists()]
    if found and not (folder / TOKENIZER_JSON).exists():
        raise FileExistsError(
            f"folder {str(folder)!r} has {', '.join(found)} but no {TOKENIZER_JSON}, so another program may need them, "
            "and saving would replace or remove them; move them away, or name another folder"
        )


def save(spec: TokenizerSpec, directory: StrPath) -> None:
    """Write all formats; tokenizer.json, which `load` reads, comes last.

    The formats of GPT-2 and tiktoken are omitted, and old files in them removed, where their readers would give other
    ids.

    Raises:
        FileExistsError: If the folder has such files, but no tokenizer.json.
        OSError: If the folder cannot be created or written to.
        ValueError: If tokenizer.json cannot hold the tokenizer.
    """
    folder = Path(directory)
    content = huggingface.to_json(spec)  # raises before anything is written
    check_target(folder)
    is_new = not (folder / TOKENIZER_JSON).exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _write(spec, folder, content)
    except BaseException:
        if is_new:  # otherwise the next attempt would take the files for those of another program
            _remove(folder, *_OTHER_FILES)
        raise


def _write(spec: TokenizerSpec, folder: Path, content: str) -> None:
    """Write all files; `content` is that of tokenizer.json."""
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
