"""Reading the files of a tokenizer that accompany an exported model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnscratch.interchange.files import read_object

TOKENIZER_JSON = "tokenizer.json"
SETTINGS_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
END_OF_TEXT = "<|endoftext|>"

_ADVICE = "save the tokenizer again"
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class TokenizerFiles:
    """Content of the files of a tokenizer."""

    path: Path
    """Path of the tokenizer.json."""
    content: dict[str, Any]
    """Content of the tokenizer.json."""
    settings: dict[str, Any]
    """Content of the tokenizer_config.json; empty if there is none."""
    ids: dict[str, int]
    """Id of every token by its text in the file, including added tokens."""
    bos_id: int | None
    """Token before a text: the one named in the settings, else <|endoftext|>, else none."""
    eos_id: int | None
    """Token after a text: the one named in the settings, else <|endoftext|>, else none."""


def read_tokenizer_files(directory: Path, vocab_size: int) -> TokenizerFiles:
    """Read a directory with a tokenizer.json for a model of `vocab_size` tokens.

    Raises:
        FileNotFoundError: If there is no tokenizer.json.
        ValueError: If a file is damaged, an id is beyond the model's vocabulary, or the settings name a token that
            tokenizer.json lacks.
    """
    path = directory / TOKENIZER_JSON
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}; name a directory with a saved tokenizer")
    content = read_object(path, _ADVICE)
    ids = _token_ids(path, content)
    if max(ids.values()) >= vocab_size:
        raise ValueError(
            f"{str(path)!r} has ids up to {max(ids.values())}, but vocab_size={vocab_size}; "
            f"name the tokenizer that the model was trained with"
        )
    settings_path = directory / SETTINGS_FILE
    settings = read_object(settings_path, _ADVICE) if settings_path.is_file() else {}
    legacy_path = directory / SPECIAL_TOKENS_FILE
    named = (read_object(legacy_path, _ADVICE) if legacy_path.is_file() else {}) | settings
    roles = {role: _role_id(directory, role, named.get(role), ids) for role in _ROLES}
    end_of_text = ids.get(END_OF_TEXT)
    bos_id, eos_id = roles["bos_token"], roles["eos_token"]
    return TokenizerFiles(
        path=path,
        content=content,
        settings=settings,
        ids=ids,
        bos_id=end_of_text if bos_id is None else bos_id,
        eos_id=end_of_text if eos_id is None else eos_id,
    )


def _token_ids(path: Path, content: dict[str, Any]) -> dict[str, int]:
    model = content.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if not vocab:
        raise ValueError(f"{str(path)!r} has no model.vocab, expected tokens with their ids; {_ADVICE}")
    if isinstance(vocab, list):  # Unigram lists pairs of token and score in the order of ids.
        vocab = {entry[0]: index for index, entry in enumerate(vocab)}
    ids = dict(vocab)
    for token in content.get("added_tokens") or []:
        if ids.setdefault(token["content"], token["id"]) != token["id"]:
            raise ValueError(
                f"{str(path)!r} has the token {token['content']!r} with id {ids[token['content']]} in the "
                f"vocabulary and {token['id']} among the added tokens, expected one id; rename the added token"
            )
    if wrong := [index for index in ids.values() if not isinstance(index, int) or index < 0]:
        raise ValueError(f"{str(path)!r} has the id {wrong[0]!r}, expected integers of at least 0; {_ADVICE}")
    return ids


def _role_id(directory: Path, role: str, token: object, ids: dict[str, int]) -> int | None:
    """Return the id of a token that the settings name, as a string or as an object with the string in `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    if text is None:
        return None
    if text not in ids:
        # transformers would add the token, with an id beyond the model's vocabulary.
        raise ValueError(
            f"{SETTINGS_FILE} of {str(directory)!r} has {role}={text!r}, expected a token of {TOKENIZER_JSON}; "
            f"remove it there, or train the tokenizer with it"
        )
    return ids[text]
