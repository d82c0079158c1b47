"""The tokenizer.json of the `tokenizers` library, if it is plain byte-level BPE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bpe.files import write_text
from bpe.formats.added_tokens import read_added_tokens
from bpe.formats.byte_characters import (
    also_ordinary,
    byte_characters,
    decode_vocab,
    encode_merges,
    encode_vocab,
    from_characters,
    last_of_each,
)
from bpe.formats.json_files import list_of, object_of, read_json, refuse, unsupported
from bpe.formats.split_patterns import BYTE_LEVEL, read_normalization, read_pattern, write_pattern
from bpe.text import StrPath
from bpe.vocabulary import Merge, TokenizerSpec

_UNSUPPORTED_MODEL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
_POST_PROCESSORS = frozenset({"ByteLevel", "TemplateProcessing", "RobertaProcessing", "BertProcessing", "Sequence"})


def load(path: StrPath) -> TokenizerSpec:
    """Read a tokenizer.json like those of GPT-2, Llama 3 or Qwen.

    All its added tokens become special tokens, because all are found before the text is split. Tokens that a
    post-processor puts around a text, such as a beginning-of-text token, are not added: the ids equal those of the
    library with `add_special_tokens=False`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not byte-level BPE, or has a setting that would change ids and is not supported.
    """
    source = f"file {str(path)!r}"
    content = read_json(path)
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict) or "merges" not in model:
        raise ValueError(f"{source} has no BPE model, expected a tokenizer.json of byte-level BPE; check it")
    if model.get("type", "BPE") != "BPE":
        raise unsupported(source, "model.type", model["type"], "'BPE'")
    for name in _UNSUPPORTED_MODEL:
        refuse(source, f"model.{name}", model.get(name))
    for name in ("truncation", "padding"):
        refuse(source, name, content.get(name))
    normalization = read_normalization(source, content.get("normalizer"))
    pattern = read_pattern(source, content.get("pre_tokenizer"))
    _check_rest(source, content, model["vocab"])
    added = read_added_tokens(source, content.get("added_tokens"), model["vocab"], normalizes=normalization is not None)
    merges = last_of_each([_merge(source, merge) for merge in list_of(source, "model.merges", model["merges"])])
    for token in sorted(also_ordinary(added, merges)):  # the two would share an id
        raise unsupported(source, f"the added token {token!r}", token, "one that is not written like another token")
    vocab = decode_vocab({**model["vocab"], **added}, added, source)
    ignore_merges = bool(model.get("ignore_merges"))
    try:
        spec = TokenizerSpec.checked(
            vocab, merges, list(added), pattern=pattern, ignore_merges=ignore_merges, normalization=normalization
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    for token, id_ in added.items():
        if spec.special_ids[token] != id_:
            raise ValueError(
                f"{source} has id {id_} for the added token {token!r}, expected one above that of the ordinary token "
                f"of the same bytes, {spec.special_ids[token]}; rename the added token"
            )
    return spec


def _check_rest(source: str, content: Mapping[str, Any], vocab: Mapping[str, int]) -> None:
    """Check the settings that do not change ids, so that no unknown setting goes unnoticed."""
    unknown_token = content["model"].get("unk_token")
    if unknown_token and not all(character in vocab for character in byte_characters()):
        raise unsupported(source, "model.unk_token", unknown_token, "none where the vocabulary lacks some of the bytes")
    for name, known in (("post_processor", _POST_PROCESSORS), ("decoder", {"ByteLevel", "Sequence"})):
        value = content.get(name)
        if value is None:
            continue
        step = object_of(source, name, value)
        members = [step, *list_of(source, name, step.get("processors", step.get("decoders", [])))]
        for member in members:
            kind = object_of(source, name, member).get("type")
            if kind not in known:
                raise unsupported(source, name, kind, f"one of {', '.join(sorted(known))}")


def _merge(source: str, merge: object) -> Merge:
    """Return a merge in the form "A B" (older files) or ["A", "B"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
        raise ValueError(f"{source} has the merge {merge!r}, expected two tokens; check it")
    try:
        return from_characters(parts[0]), from_characters(parts[1])
    except ValueError as error:
        raise ValueError(f"{source} has the merge {merge!r}: {error}") from None


def save(spec: TokenizerSpec, path: StrPath) -> None:
    """Write a tokenizer.json with which the `tokenizers` library gives the same ids.

    All special tokens are marked as special. The library decodes most of them to their text, but not those made only of
    letters like é, which also stand for bytes.

    Raises:
        ValueError: If the format cannot hold the tokenizer.
    """
    write_text(Path(path), to_json(spec))


def to_json(spec: TokenizerSpec) -> str:
    """Return the tokenizer.json of a tokenizer.

    Raises:
        ValueError: If the format cannot hold it.
    """
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id_, "content": token, **plain} for token, id_ in spec.special_ids.items()],
        "normalizer": {"type": spec.normalization} if spec.normalization else None,
        "pre_tokenizer": write_pattern(spec.pattern),
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": spec.ignore_merges,
            "vocab": encode_vocab(spec),
            "merges": encode_merges(spec),
        },
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
