"""The tokenizer.json of the `tokenizers` library, as far as it is plain byte-level BPE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpe.files import write_text
from bpe.formats.gpt2 import decode_vocab, encode_vocab, from_characters, read_json, to_characters
from bpe.patterns import GPT2_PATTERN, is_gpt2_pattern
from bpe.texts import StrPath

if TYPE_CHECKING:
    from bpe.tokenizer import Tokenizer

_UNSUPPORTED_MODEL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges")
_UNSUPPORTED_TOKEN = ("single_word", "lstrip", "rstrip")


def load(path: StrPath) -> Tokenizer:
    """Read a tokenizer.json; its added tokens become special tokens.

    Raises:
        ValueError: If it is not byte-level BPE, or asks for something that would change ids and is not supported.
    """
    from bpe.tokenizer import Tokenizer

    source = f"file {str(path)!r}"
    content = read_json(path)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict) or "merges" not in model:
        raise ValueError(f"{source} has no BPE model, expected a tokenizer.json of byte-level BPE; check it")
    _refuse(source, "model.type", model.get("type", "BPE") != "BPE" and model["type"])
    for name in _UNSUPPORTED_MODEL:
        _refuse(source, f"model.{name}", model.get(name))
    _refuse(source, "normalizer", content.get("normalizer"))
    added = content.get("added_tokens") or []
    for token in added:
        for name in _UNSUPPORTED_TOKEN:
            _refuse(source, f"{name} of the added token {token['content']!r}", token.get(name))
    special = {token["content"]: token["id"] for token in added}
    vocab = decode_vocab({**model["vocab"], **special}, special, source)
    merges = [_merge(source, merge) for merge in model["merges"]]
    return Tokenizer(vocab, merges, list(special), pattern=_pattern(source, content.get("pre_tokenizer")))


def _refuse(source: str, name: str, value: object) -> None:
    """Refuse a setting that has any value but nothing."""
    if value:
        raise ValueError(
            f"{source} has {name} = {value!r}, expected none: it is not supported; use the library tokenizers"
        )


def _merge(source: str, merge: object) -> tuple[bytes, bytes]:
    """Return a merge written as "A B" (older files) or ["A", "B"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2:
        raise ValueError(f"{source} has the merge {merge!r}, expected two tokens; check it")
    return from_characters(parts[0]), from_characters(parts[1])


def _pattern(source: str, pre_tokenizer: Any) -> str:
    """Return the pattern of a pre-tokenizer: ByteLevel with GPT-2's, or Split by a pattern and then ByteLevel."""
    steps = pre_tokenizer or {}
    steps = steps.get("pretokenizers", [steps])
    byte_level = steps[-1]
    if byte_level.get("type") != "ByteLevel" or len(steps) > 2:
        raise ValueError(
            f"{source} has pre_tokenizer = {pre_tokenizer!r}, expected ByteLevel, alone or after one Split"
        )
    _refuse(source, "add_prefix_space", byte_level.get("add_prefix_space"))
    if len(steps) == 1:
        if not byte_level.get("use_regex", True):
            return r"(?s:.+)"
        return GPT2_PATTERN
    split = steps[0]
    plain = split.get("behavior") == "Isolated" and not split.get("invert") and not byte_level.get("use_regex", True)
    if split.get("type") != "Split" or "Regex" not in split.get("pattern", {}) or not plain:
        raise ValueError(
            f"{source} has the pre-tokenizer {split!r}, expected an isolating Split by a Regex before ByteLevel"
        )
    return split["pattern"]["Regex"]


def save(tokenizer: Tokenizer, path: StrPath) -> None:
    """Write a tokenizer.json with which the `tokenizers` library gives the same ids.

    Raises:
        ValueError: If the format cannot hold the tokenizer.
    """
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    pre_tokenizer: dict[str, Any] = byte_level
    if not is_gpt2_pattern(tokenizer.pattern):
        split = {"type": "Split", "pattern": {"Regex": tokenizer.pattern}, "behavior": "Isolated", "invert": False}
        pre_tokenizer = {"type": "Sequence", "pretokenizers": [split, {**byte_level, "use_regex": False}]}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = sorted((tokenizer.token_to_id(token), token) for token in tokenizer.special_tokens)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id_, "content": token, **plain} for id_, token in special],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": encode_vocab(tokenizer),
            "merges": [[to_characters(left), to_characters(right)] for left, right in tokenizer.merges],
        },
    }
    write_text(Path(path), json.dumps(content, ensure_ascii=False, indent=1) + "\n")
