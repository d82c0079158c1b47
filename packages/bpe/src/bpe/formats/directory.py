"""A folder with a tokenizer in every format that can hold it, and with settings of `transformers`."""

from __future__ import annotations

import json
from pathlib import Path

from bpe.arguments import folder_of
from bpe.files import write_text
from bpe.formats import gpt2, huggingface, tiktoken
from bpe.formats.byte_characters import encode_vocab
from bpe.formats.huggingface import TOKENIZER_JSON
from bpe.formats.json_files import texts_beside
from bpe.text import END_OF_TEXT, StrPath
from bpe.vocabulary import TokenizerSpec

_CONFIG = "tokenizer_config.json"
_OTHER_FILES = ("vocab.json", "merges.txt", "tokenizer.tiktoken", _CONFIG)
_SETTINGS = (
    _CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
"""Files of `transformers` that are kept."""


def load(directory: StrPath) -> TokenizerSpec:
    """Read the tokenizer.json of a folder, which is complete; the settings of `transformers` are kept as they are.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not byte-level BPE, or a file of settings is not UTF-8.
    """
    path = folder_of(directory) / TOKENIZER_JSON
    if not path.exists():
        raise FileNotFoundError(f"no {TOKENIZER_JSON} in {str(directory)!r}; name a folder that save_pretrained wrote")
    return huggingface.load(path, texts_beside(path.parent, _SETTINGS))


def check_target(directory: StrPath) -> None:
    """Refuse a folder with files that `save` would replace or remove, but without a tokenizer.json beside them.

    Raises:
        FileExistsError: If there are such files, which another program may need.
    """
    folder = folder_of(directory)
    found = [name for name in _OTHER_FILES if (folder / name).exists()]
    if found and not (folder / TOKENIZER_JSON).exists():
        raise FileExistsError(
            f"folder {str(folder)!r} has {', '.join(found)} but no {TOKENIZER_JSON}, so another program may need them, "
            "and saving would replace or remove them; move them away, or name another folder"
        )


def save(spec: TokenizerSpec, directory: StrPath) -> None:
    """Write all formats, and the settings that came with the tokenizer; tokenizer.json, which `load` reads, comes last.

    The formats of GPT-2 and tiktoken are omitted where their readers would give other ids. Old files in them are then
    removed, except a vocab.json and merges.txt of this very vocabulary where `transformers` may read them with a class
    that came with the settings.

    Raises:
        FileExistsError: If the folder has such files, but no tokenizer.json.
        OSError: If the folder cannot be created or written to.
        ValueError: If tokenizer.json cannot hold the tokenizer.
    """
    folder = folder_of(directory)
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
    elif not (_CONFIG in spec.extras and _has_vocabulary(folder, spec)):
        _remove(folder, "vocab.json", "merges.txt")
    if tiktoken.obstacle(spec):
        _remove(folder, "tokenizer.tiktoken")
    else:
        tiktoken.save_ranks(spec, folder / "tokenizer.tiktoken")
    for name, text in {_CONFIG: _new_settings(spec), **spec.extras}.items():
        if name != TOKENIZER_JSON:
            (folder / name).parent.mkdir(exist_ok=True)
            write_text(folder / name, text)
    write_text(folder / TOKENIZER_JSON, content)


def _new_settings(spec: TokenizerSpec) -> str:
    """Return the tokenizer_config.json of a tokenizer that came without one."""
    settings: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    if END_OF_TEXT in spec.special_tokens:
        settings |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT)
    return json.dumps(settings, indent=2) + "\n"


def _has_vocabulary(folder: Path, spec: TokenizerSpec) -> bool:
    """Return whether vocab.json and merges.txt in a folder hold the vocabulary and the merges of a tokenizer."""
    paths = folder / "vocab.json", folder / "merges.txt"
    if not all(path.is_file() for path in paths):
        return False
    try:
        vocab, merges = json.loads(paths[0].read_bytes()), gpt2.read_merges(paths[1])
    except ValueError:
        return False
    own = encode_vocab(spec)
    return (
        isinstance(vocab, dict)
        and vocab.items() <= own.items()
        and own.keys() - vocab.keys() <= spec.found_ids.keys()
        and merges == list(dict.fromkeys(spec.merges))
    )


def _remove(folder: Path, *names: str) -> None:
    """Remove the files of an earlier tokenizer from the folder."""
    for name in names:
        (folder / name).unlink(missing_ok=True)
