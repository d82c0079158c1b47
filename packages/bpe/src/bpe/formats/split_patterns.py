"""The normalizer and the pre-tokenizer of a tokenizer.json."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from bpe.formats.json_files import list_of, object_of, refuse, unsupported
from bpe.formats.oniguruma import covers_all_text, from_oniguruma, to_oniguruma
from bpe.text import GPT2_PATTERN, Pattern, scanner_of

UNSPLIT_PATTERN = r"(?s:.+)"
"""The pattern that does not split a text, like ByteLevel without its own pattern."""

DIGIT_PATTERN = r"\p{N}"
PUNCTUATION_PATTERN = r"[\p{P}$+<=>^`|~]"

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_SPLITS = ("Split", "Digits", "Punctuation")


class PreTokenizer(NamedTuple):
    """A pre-tokenizer: three fields of a `TokenizerSpec`."""

    pattern: Pattern = GPT2_PATTERN
    byte_pattern: tuple[str, ...] = ()
    add_prefix_space: bool = False


def steps_of(source: str, name: str, value: object, members: str) -> list[dict[str, Any]]:
    """Return the steps of a setting: the members of a Sequence (also of nested ones), or the setting itself."""
    if value is None:
        return []
    step = object_of(source, name, value)
    if step.get("type") != "Sequence":
        return [step]
    inner = list_of(source, f"{name}.{members}", step.get(members))
    return [found for one in inner for found in steps_of(source, name, one, members)]


def read_normalization(source: str, normalizer: object) -> str | None:
    """Return the normal form of a normalizer, or None.

    Raises:
        ValueError: If it is anything except NFC.
    """
    steps = steps_of(source, "normalizer", normalizer, "normalizers")
    for step in steps:
        if step.get("type") != "NFC":
            raise unsupported(source, "normalizer", step, "NFC or none")
    return "NFC" if steps else None


def read_pre_tokenizer(source: str, value: object) -> PreTokenizer:
    """Return the patterns of a pre-tokenizer: ByteLevel, with Splits, Digits and Punctuation before or after it.

    Raises:
        ValueError: If it is anything else.
    """
    steps = steps_of(source, "pre_tokenizer", value, "pretokenizers")
    kinds = [step.get("type") for step in steps]
    if kinds.count("ByteLevel") != 1 or not set(kinds) <= {"ByteLevel", *_SPLITS}:
        expected = f"ByteLevel, alone or with {', '.join(_SPLITS)} before or after it"
        raise unsupported(source, "pre_tokenizer", kinds or None, expected)
    place = kinds.index("ByteLevel")
    byte_level, before, after = steps[place], steps[:place], steps[place + 1 :]
    add_prefix_space = bool(byte_level.get("add_prefix_space"))
    refuse(source, "pre_tokenizer.add_prefix_space (of ByteLevel after another step)", before and add_prefix_space)
    patterns = [_split_pattern(source, step) for step in before]
    if byte_level.get("use_regex", True):
        patterns.append(GPT2_PATTERN)
    byte_patterns = tuple(_split_pattern(source, step) for step in after)
    if len(patterns) < 2:
        return PreTokenizer(patterns[0] if patterns else UNSPLIT_PATTERN, byte_patterns, add_prefix_space)
    return PreTokenizer(tuple(patterns), byte_patterns, add_prefix_space)


def _split_pattern(source: str, step: dict[str, Any]) -> str:
    """Return the pattern of a step that splits, and leaves all the text."""
    kind = step["type"]
    if kind == "Digits":
        return DIGIT_PATTERN if step.get("individual_digits") else f"{DIGIT_PATTERN}+"
    behavior, name = step.get("behavior", "Isolated"), f"pre_tokenizer.behavior (of {kind})"
    removes_no_match = kind == "Split" and behavior == "Removed" and bool(step.get("invert"))
    if behavior not in ("Isolated", "Contiguous") and not removes_no_match:
        raise unsupported(source, name, behavior, "'Isolated' or 'Contiguous'")
    pattern = PUNCTUATION_PATTERN if kind == "Punctuation" else _pattern_of(source, step)
    if behavior == "Contiguous":
        return f"{pattern}+" if kind == "Punctuation" else f"(?:{pattern})+"
    if removes_no_match and scanner_of(pattern) is None and not covers_all_text(pattern):
        raise unsupported(source, name, behavior, "'Isolated', because its pattern may leave text, which is removed")
    return pattern


def _pattern_of(source: str, split: dict[str, Any]) -> str:
    """Return the pattern of a Split: a regular expression, or text that stands for itself."""
    name = "pre_tokenizer.pattern"
    given = object_of(source, name, split.get("pattern"))
    (kind, pattern) = next(iter(given.items()), (None, None))
    if len(given) != 1 or kind not in ("Regex", "String") or not isinstance(pattern, str) or not pattern:
        raise unsupported(source, name, given, "a Regex or a String")
    if kind == "String":
        return re.escape(pattern)
    try:
        return from_oniguruma(pattern)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def write_pre_tokenizer(value: PreTokenizer) -> dict[str, Any]:
    """Return the pre-tokenizer for patterns.

    Raises:
        ValueError: If Oniguruma has no equivalent of a pattern, or several patterns come with a space before the text.
    """
    patterns = list(value.pattern) if isinstance(value.pattern, tuple) else [value.pattern]
    use_regex = patterns[-1] == GPT2_PATTERN
    if use_regex or patterns == [UNSPLIT_PATTERN]:
        patterns.pop()
    if patterns and value.add_prefix_space:
        raise ValueError(
            f"add_prefix_space is True with the pattern {value.pattern!r}, expected bpe.GPT2_PATTERN: a tokenizer.json "
            "cannot hold both; change one"
        )
    byte_level = {**BYTE_LEVEL, "add_prefix_space": value.add_prefix_space, "use_regex": use_regex}
    steps = [*map(_split, patterns), byte_level, *map(_split, value.byte_pattern)]
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}


def write_pattern(pattern: Pattern) -> dict[str, Any]:
    """Return the pre-tokenizer for a pattern.

    Raises:
        ValueError: If Oniguruma has no equivalent of the pattern.
    """
    return write_pre_tokenizer(PreTokenizer(pattern))


def _split(pattern: str) -> dict[str, Any]:
    """Return the step for one pattern."""
    return {"type": "Split", "pattern": {"Regex": to_oniguruma(pattern)}, "behavior": "Isolated", "invert": False}
