"""The tokenizer.json of the `tokenizers` library, if it is byte-level BPE."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from bpe import kernels
from bpe.files import write_text
from bpe.formats.added_tokens import read_added_tokens, write_added_tokens
from bpe.formats.byte_characters import also_ordinary, decode_vocab, encode_merges, encode_vocab, last_of_each
from bpe.formats.json_files import list_of, read_json, refuse, unsupported
from bpe.formats.packed import pack
from bpe.formats.split_patterns import (
    BYTE_LEVEL,
    PreTokenizer,
    read_normalization,
    read_pre_tokenizer,
    steps_of,
    write_pre_tokenizer,
)
from bpe.text import (
    Pattern,
    StrPath,
    byte_characters,
    check_added_tokens,
    from_characters,
    is_byte_level,
    scanner_of,
)
from bpe.vocabulary import Merge, PackedVocabulary, TokenizerSpec

TOKENIZER_JSON = "tokenizer.json"

_WORTH_PACKING = 5000
"""With fewer merges, they are read without arrays in a few milliseconds."""

_UNSUPPORTED_MODEL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
_POST_PROCESSORS = frozenset({"ByteLevel", "TemplateProcessing", "RobertaProcessing", "BertProcessing"})


def load(path: StrPath, extras: Mapping[str, str] | None = None) -> TokenizerSpec:
    """Read a tokenizer.json like those of GPT-2, Llama 3, Qwen, DeepSeek, Falcon, GPT-NeoX or RoBERTa.

    Tokens that a post-processor puts around a text, such as a beginning-of-text token, are not added, and no text is
    truncated or padded: the ids equal those of the library with `add_special_tokens=False`, `no_truncation()` and
    `no_padding()`. These settings, and others that decide no ids, are kept in `extras` and written back.

    Args:
        path: The file.
        extras: What other files hold; see `TokenizerSpec.extras`.

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
    normalization = read_normalization(source, content.get("normalizer"))
    pre_tokenizer = read_pre_tokenizer(source, content.get("pre_tokenizer"))
    _check_rest(source, content, model["vocab"])
    added, ids = read_added_tokens(source, content.get("added_tokens"), model["vocab"])
    packed = _packed(model, pre_tokenizer.pattern, ids)
    if packed is not None:
        special, others = check_added_tokens(added, (), normalizes=normalization is not None)
        contents = [*special, *(token.content for token in others if not token.special)]
        return TokenizerSpec.from_packed(
            packed,
            {content: ids[content] for content in contents},
            special_tokens=special,
            **pre_tokenizer._asdict(),
            ignore_merges=bool(model.get("ignore_merges")),
            normalization=normalization,
            added_tokens=others,
            extras={**(extras or {}), TOKENIZER_JSON: _extras(content)},
        )
    merges = last_of_each([_merge(source, merge) for merge in list_of(source, "model.merges", model["merges"])])
    for token in sorted(also_ordinary(ids.keys() & model["vocab"].keys(), merges)):  # the two would share an id
        raise unsupported(source, f"the added token {token!r}", token, "one that is not written like another token")
    vocab = decode_vocab({**model["vocab"], **ids}, ids, source)
    try:
        spec = TokenizerSpec.checked(
            vocab,
            merges,
            **pre_tokenizer._asdict(),
            ignore_merges=bool(model.get("ignore_merges")),
            normalization=normalization,
            added_tokens=added,
            extras={**(extras or {}), TOKENIZER_JSON: _extras(content)},
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    for content_, id_ in ids.items():
        if spec.found_ids[content_] != id_:
            raise ValueError(
                f"{source} has id {id_} for the added token {content_!r}, expected one above that of the ordinary "
                f"token of the same bytes, {spec.found_ids[content_]}; rename the added token"
            )
    return spec


def _packed(model: Mapping[str, Any], pattern: Pattern, added: Mapping[str, int]) -> PackedVocabulary | None:
    """Return vocabulary and merges as arrays, where kernels are ready to use them and nothing about them is unusual."""
    if not isinstance(model["merges"], list) or scanner_of(pattern) is None:
        return None
    if len(model["merges"]) < _WORTH_PACKING or not kernels.are_ready():
        return None
    if any(is_byte_level(content) for content in added if not content.isascii()):
        return None  # its text may be the written form of another token
    return pack(model["vocab"], model["merges"], added)


def _extras(content: Mapping[str, Any]) -> str:
    """Return what a tokenizer.json has beside vocabulary and merges, and which added tokens its vocabulary has."""
    model = content["model"]
    settings = {name: value for name, value in model.items() if name not in ("vocab", "merges")}
    added = content.get("added_tokens") or []
    inside = [token["content"] for token in added if token["content"] in model["vocab"]]
    return json.dumps({**content, "added_tokens": added, "model": settings, "inside": inside}, ensure_ascii=False)


def _check_rest(source: str, content: Mapping[str, Any], vocab: Mapping[str, int]) -> None:
    """Check the settings that do not change ids, so that no unknown setting goes unnoticed."""
    unknown_token = content["model"].get("unk_token")
    if unknown_token and not all(character in vocab for character in byte_characters()):
        raise unsupported(source, "model.unk_token", unknown_token, "none where the vocabulary lacks some of the bytes")
    for name, known, members in (
        ("post_processor", _POST_PROCESSORS, "processors"),
        ("decoder", frozenset({"ByteLevel"}), "decoders"),
    ):
        for step in steps_of(source, name, content.get(name), members):
            if step.get("type") not in known:
                raise unsupported(source, name, step.get("type"), f"one of {', '.join(sorted(known))}")


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

    The library decodes most added tokens to their text, but not those made only of letters like é, which also stand for
    bytes.

    Raises:
        ValueError: If the format cannot hold the tokenizer.
    """
    write_text(Path(path), to_json(spec))


def to_json(spec: TokenizerSpec) -> str:
    """Return the tokenizer.json of a tokenizer; settings of a file that it was read from are kept.

    Raises:
        ValueError: If the format cannot hold it.
    """
    earlier = json.loads(spec.extras.get(TOKENIZER_JSON, "{}"))
    inside, model = earlier.pop("inside", spec.found_ids), earlier.pop("model", {})
    added = write_added_tokens(spec, earlier.get("added_tokens", ()))
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        **earlier,
        "added_tokens": added,
        "normalizer": _normalizer(spec, earlier.get("normalizer")),
        "pre_tokenizer": _pre_tokenizer(spec, earlier.get("pre_tokenizer")),
        "post_processor": _with_ids(earlier.get("post_processor"), spec),
        "decoder": earlier.get("decoder", BYTE_LEVEL),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            **model,
            "ignore_merges": spec.ignore_merges,
            "vocab": _vocab(spec, added, spec.found_ids.keys() - set(inside)),
            "merges": encode_merges(spec),
        },
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _normalizer(spec: TokenizerSpec, earlier: object) -> object:
    """Return an earlier normalizer if it means the same, or else a new one."""
    if read_normalization(TOKENIZER_JSON, earlier) == spec.normalization:
        return earlier
    return {"type": spec.normalization} if spec.normalization else None


def _pre_tokenizer(spec: TokenizerSpec, earlier: object) -> object:
    """Return an earlier pre-tokenizer if it means the same, or else a new one."""
    wanted = PreTokenizer(spec.pattern, spec.byte_pattern, spec.add_prefix_space)
    same = earlier is not None and read_pre_tokenizer(TOKENIZER_JSON, earlier) == wanted
    return earlier if same else write_pre_tokenizer(wanted)


def _with_ids(value: Any, spec: TokenizerSpec) -> Any:
    """Return a post-processor with the present ids of its special tokens."""
    if isinstance(value, list):
        return [_with_ids(one, spec) for one in value]
    if not isinstance(value, dict):
        return value
    changed = {name: _with_ids(one, spec) for name, one in value.items()}
    if {"ids", "tokens"} <= set(value):  # of TemplateProcessing
        changed["ids"] = [
            spec.found_ids.get(token, id_) for token, id_ in zip(value["tokens"], value["ids"], strict=True)
        ]
    for name in {"sep", "cls"} & set(value):  # of RobertaProcessing and BertProcessing
        token, id_ = value[name]
        changed[name] = [token, spec.found_ids.get(token, id_)]
    return changed


def _vocab(spec: TokenizerSpec, added: Sequence[Mapping[str, Any]], outside: Set[str]) -> dict[str, int]:
    """Return the vocabulary by written form; added tokens stay outside if the library then numbers them the same."""
    numbered = [entry["id"] for entry in added if entry["content"] in outside]
    size = len(spec.vocab) - len(outside)
    same = numbered == [*range(size, size + len(outside))]
    return encode_vocab(spec, outside if same else ())
