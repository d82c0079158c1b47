"""The normalizer and the pre-tokenizer of a tokenizer.json."""

from __future__ import annotations

from typing import Any

from bpe.formats.json_files import list_of, object_of, refuse, unsupported
from bpe.formats.oniguruma import from_oniguruma, to_oniguruma
from bpe.text import GPT2_PATTERN

UNSPLIT_PATTERN = r"(?s:.+)"
"""The pattern that does not split a text, like ByteLevel without its own pattern."""

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _steps(source: str, name: str, value: object, members: str) -> list[dict[str, Any]]:
    """Return the steps of a setting: the members of a Sequence (also of nested ones), or the setting itself."""
    if value is None:
        return []
    step = object_of(source, name, value)
    if step.get("type") != "Sequence":
        return [step]
    inner = list_of(source, f"{name}.{members}", step.get(members))
    return [found for one in inner for found in _steps(source, name, one, members)]


def read_normalization(source: str, normalizer: object) -> str | None:
    """Return the normal form of a normalizer, or None.

    Raises:
        ValueError: If it is anything except NFC.
    """
    steps = _steps(source, "normalizer", normalizer, "normalizers")
    for step in steps:
        if step.get("type") != "NFC":
            raise unsupported(source, "normalizer", step, "NFC or none")
    return "NFC" if steps else None


def read_pattern(source: str, pre_tokenizer: object) -> str:
    """Return the pattern of a pre-tokenizer: ByteLevel with GPT-2's pattern, or a Split by a pattern before ByteLevel.

    Raises:
        ValueError: If it is anything else.
    """
    steps = _steps(source, "pre_tokenizer", pre_tokenizer, "pretokenizers")
    kinds = [step.get("type") for step in steps]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]):
        raise unsupported(source, "pre_tokenizer", kinds or None, "ByteLevel, alone or after one Split")
    refuse(source, "pre_tokenizer.add_prefix_space", steps[-1].get("add_prefix_space"))
    uses_gpt2 = steps[-1].get("use_regex", True)
    if len(steps) == 1:
        return GPT2_PATTERN if uses_gpt2 else UNSPLIT_PATTERN
    refuse(source, "pre_tokenizer.use_regex (of ByteLevel after a Split)", uses_gpt2)
    split = steps[0]
    pattern = object_of(source, "pre_tokenizer.pattern", split.get("pattern")).get("Regex")
    if not isinstance(pattern, str):
        raise unsupported(source, "pre_tokenizer.pattern", split["pattern"], "a Regex")
    if split.get("behavior") != "Isolated":
        raise unsupported(source, "pre_tokenizer.behavior", split.get("behavior"), "'Isolated'")
    refuse(source, "pre_tokenizer.invert", split.get("invert"))
    try:
        return from_oniguruma(pattern)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def write_pattern(pattern: str) -> dict[str, Any]:
    """Return the pre-tokenizer for a pattern.

    Raises:
        ValueError: If Oniguruma has no equivalent of the pattern.
    """
    if pattern == GPT2_PATTERN:
        return dict(BYTE_LEVEL)
    byte_level = {**BYTE_LEVEL, "use_regex": False}
    if pattern == UNSPLIT_PATTERN:
        return byte_level
    split = {"type": "Split", "pattern": {"Regex": to_oniguruma(pattern)}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level]}
