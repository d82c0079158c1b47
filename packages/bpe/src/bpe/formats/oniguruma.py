r"""Translation of patterns between `regex`, which runs ours, and Oniguruma, which runs those of a tokenizer.json.

The two dialects differ. In `{1,3}+` the plus is possessive in `regex` and another repetition in Oniguruma. `^` and `$`
match at the ends of the text in `regex` and of lines in Oniguruma. `\w`, `\p{Word}` and `\p{XDigit}` stand for
different characters. Constructs with an equivalent are translated, all others are refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bpe.text import compile_pattern

_INTERVAL = r"\{(?:\d+,?\d*|,\d+)\}"
_PARTS = re.compile(
    rf"""
      \(\?m:[$^]\) | \(\?[a-zA-Z-]+[:)] | \(\?(?:<?[=!]|[:>]) | \(\?? | \)
    | \\[pP]\{{[^}}]*\}} | \\. | \[\^?(?:\\.|[^\]\\])+\]
    | {_INTERVAL}[+?]? | [?*+]
    | .""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\([pP]\{[^}]*\}|.)", re.DOTALL)
_ESCAPED_WORD = re.compile(r"(?<!\\)((?:\\\\)*)\\w")
_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200C\u200D"  # the meaning of \w in `regex`

_SAME_GROUPS = frozenset({"(", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"})
_SAME_LETTERS = frozenset("sSdDrntfvaxu")
_OTHER_PROPERTIES = re.compile(
    r"(is)?(word|xdigit|posix\w*)"
)  # in lower case, without the characters that both engines ignore in names
_TO_ONIGURUMA = {
    "(?s:": "(?m:",
    "(?m:$)": "$",
    "(?m:^)": "^",
    "$": r"\Z",
    "^": r"\A",
    r"\Z": r"\z",
    r"\w": f"[{_WORD}]",
    r"\W": f"[^{_WORD}]",
}


class _Part(NamedTuple):
    """A part of a pattern; `counted` if it ends with an interval without a second quantifier."""

    text: str
    counted: bool = False


def to_oniguruma(pattern: str) -> str:
    """Translate a pattern of `regex` to an equivalent pattern of Oniguruma.

    Raises:
        ValueError: If a construct has another meaning in Oniguruma or is unknown there.
    """
    return _Translation(pattern, "Oniguruma", {**_TO_ONIGURUMA, r"\A": r"\A"}).result()


def from_oniguruma(pattern: str) -> str:
    """Translate a pattern of Oniguruma to an equivalent pattern of `regex`.

    Raises:
        ValueError: If a construct has another meaning in `regex` or is unknown there.
    """
    table = {theirs: ours for ours, theirs in _TO_ONIGURUMA.items()}
    return _Translation(_without_inner_classes(pattern), "regex", table).result()


_BRACKETS = re.compile(r"\\.|\[\^?|\]|&&|-|.", re.DOTALL)


def _without_inner_classes(pattern: str) -> str:
    """Write a class within a class, which only adds its characters, without its brackets: `[a[bc]]` as `[abc]`."""
    parts = _BRACKETS.findall(pattern)
    depth, kept = 0, []
    for number, part in enumerate(parts):
        opens = part.startswith("[")
        inner = (depth > 0 and part == "[") or (depth > 1 and part == "]")
        if (depth and part in ("&&", "[^")) or (opens and parts[number + 1 : number + 2] == ["]"]):
            return pattern  # more than an addition, or a bracket that stands for itself
        if inner and {"-", ":"} & set(parts[number - 1 : number + 2]):
            return pattern  # a hyphen that could come to make a range, or a POSIX class
        depth += opens - (part == "]" and depth > 0)
        kept.append("" if inner else part)
    return "".join(kept)


_WITHIN_WHITE_SPACE = frozenset({r"\s+(?!\S)", r"\s++$", r"\s+$"})


def covers_all_text(pattern: str) -> bool:
    """Return whether a pattern of `regex` is known to match every character of every text.

    An alternative that backtracks and does not look around matches wherever its shortest matches do. Some of these must
    match each character by itself, and no alternative may match the empty string.
    """
    alternatives: list[list[str]] = [[]]
    depth = 0
    for part in _PARTS.findall(pattern):
        depth += part.startswith("(") - (part == ")")
        if part == "|" and not depth:
            alternatives.append([])
        else:
            alternatives[-1].append(part)
    others = ["".join(parts) for parts in alternatives if "".join(parts) not in _WITHIN_WHITE_SPACE]
    if not all(_backtracks(parts) for parts in alternatives if "".join(parts) in others):
        return False
    matches = compile_pattern(f"(?:{'|'.join(others)})").fullmatch
    characters = (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    return matches("") is None and all(map(matches, characters))


def _backtracks(parts: list[str]) -> bool:
    """Return whether the parts of a pattern neither look around nor give up alternatives that they have passed."""
    quantified = False
    for part in parts:
        if part.startswith("(?") and part not in ("(?:", "(?i:", "(?-i:"):
            return False
        if part in ("^", "$") or (part[0] == "\\" and part[1].isalnum() and part[1] not in _SAME_LETTERS | set("pPwW")):
            return False
        if (quantified and part == "+") or (part[0] == "{" and part.endswith("+")):
            return False
        quantified = part[0] in "?*+" or bool(re.fullmatch(_INTERVAL, part))
    return True


class _Translation:
    """One pass over a pattern that collects the parts of every open group."""

    def __init__(self, pattern: str, engine: str, table: dict[str, str]) -> None:
        self._pattern = pattern
        self._engine = engine
        self._table = table
        self._open: list[tuple[str, list[_Part]]] = [("", [])]

    def result(self) -> str:
        """Return the translated pattern."""
        for match in _PARTS.finditer(self._pattern):
            self._add(match.group(), at_start=match.start() == 0)
        if len(self._open) > 1:
            raise self._refusal(self._open[-1][0])
        return "".join(part.text for part in self._open[0][1])

    def _add(self, part: str, *, at_start: bool) -> None:
        """Add the next part."""
        parts = self._open[-1][1]
        if part in self._table:
            if part.startswith("(") and part.endswith(":"):
                self._open.append((self._table[part], []))
            else:
                parts.append(_Part(self._table[part]))
        elif part in _SAME_GROUPS:
            self._open.append((part, []))
        elif part == ")" and len(self._open) > 1:
            self._close()
        elif re.fullmatch(rf"[?*+]|{_INTERVAL}[+?]?", part) and parts:
            parts.append(self._repeated(parts.pop(), part))
        elif part.startswith("[") and len(part) > 1:
            parts.append(_Part(self._character_class(part)))
        elif (part[0] in "()[?*+" and not (part == "(?i)" and at_start)) or not self._is_same_escape(part):
            raise self._refusal(part)
        else:
            parts.append(_Part(part))

    def _close(self) -> None:
        """Close the innermost group."""
        opening, parts = self._open.pop()
        if self._engine == "regex" and opening == "(?>" and len(parts) == 1 and parts[0].counted:
            self._open[-1][1].append(_Part(parts[0].text + "+"))
            return
        self._open[-1][1].append(_Part(f"{opening}{''.join(part.text for part in parts)})"))

    def _repeated(self, part: _Part, quantifier: str) -> _Part:
        """Return a part with a quantifier."""
        if not quantifier.startswith("{"):
            return _Part(part.text + quantifier)
        if quantifier.endswith("+"):
            group = "(?>" if self._engine == "Oniguruma" else "(?:"
            repeated = f"{group}{part.text}{quantifier[:-1]})"
            return _Part(repeated if self._engine == "Oniguruma" else repeated + "+")
        if quantifier.endswith("?") and "," not in quantifier:
            raise self._refusal(quantifier)
        return _Part(part.text + quantifier, counted=not quantifier.endswith("?"))

    def _character_class(self, text: str) -> str:
        r"""Return a character class with \w written out for Oniguruma, or contracted for `regex`."""
        if self._engine == "Oniguruma":
            translated = _ESCAPED_WORD.sub(lambda match: match[1] + _WORD, text)
            rest = _ESCAPED_WORD.sub(r"\1", text)
        else:
            translated, rest = text.replace(_WORD, r"\w"), text.replace(_WORD, "")
        escapes = _ESCAPE.finditer(rest)
        plain = _ESCAPE.sub("", rest)[1:]
        operators = any(operator in plain for operator in ("[", "&&", "||", "--", "~~"))
        if operators or not all(self._is_same_escape(escape.group()) for escape in escapes):
            raise self._refusal(text)
        return translated

    @staticmethod
    def _is_same_escape(part: str) -> bool:
        """Return whether a part is not an escape, or an escape with the same meaning in both dialects."""
        if part.startswith(("\\p{", "\\P{")):
            name = re.sub(r"[\^_-]", "", part[3:-1]).lower()
            return not set("=: ") & set(part) and not _OTHER_PROPERTIES.fullmatch(name)
        return not part.startswith("\\") or (not part[1:].isalnum() or part[1:] in _SAME_LETTERS)

    def _refusal(self, part: str) -> ValueError:
        """Return the error for a part that cannot be translated."""
        return ValueError(
            f"pattern {self._pattern!r} has {part!r}, which {self._engine} does not know or understands differently; "
            "rewrite it"
        )
