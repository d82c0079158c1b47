"""Text from a grammar: templates with holes, filled by facts and rules.

A template is plain text with two kinds of holes, which nest:

* ``[red|blue|pale {shade}]`` is one of its alternatives, drawn independently at each occurrence;
* ``{hero}`` is a fact or, if there is none of this name, a rule of the grammar; ``{hero.their}`` is a field of a fact
  that is a mapping (``{hero}`` alone is its ``name``); ``{Hero}`` begins with a capital; ``{a toy}`` and ``{A toy}``
  put the right article, *a* or *an*, before it.

The caller fixes the facts, so that they stay the same throughout a document: they give composed text its long-range
structure. A fact may itself be a template.

Every draw goes through `random.Random.random`, the only method whose sequence Python promises to keep from version to
version. Therefore a corpus is the same on every machine.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Fact = str | Mapping[str, str]
Item = TypeVar("Item")

_SLOT = re.compile(r"(?P<article>[aA] )?(?P<name>[A-Za-z_]\w*)(?:\.(?P<field>\w+))?")
_AN = re.compile(  # what begins with a vowel sound: "an hour", "an 11th", but "a unicorn", "a one-way road"
    r"(?!uni(?![nmd])|use|usu|eu|one\b|once\b|ute)[aeiou]|hour|honest|honou?r|heir|8|1[18](?:th)?\b", re.IGNORECASE
)


def pick(rng: random.Random, options: Sequence[Item]) -> Item:
    """Draw one of the options, each equally likely."""
    return options[int(rng.random() * len(options))]


def pick_distinct(rng: random.Random, options: Sequence[Item], count: int) -> list[Item]:
    """Draw `count` options at different positions, in random order; ValueError if there are fewer options."""
    if not 0 <= count <= len(options):
        raise ValueError(f"count is {count!r}: expected 0 to {len(options)}, the number of options; ask for fewer")
    pool = list(options)
    return [pool.pop(int(rng.random() * len(pool))) for _ in range(count)]


def with_article(phrase: str) -> str:
    """Put *a* or *an* before a phrase, by the sound it begins with ("an hour", "a unicorn")."""
    return f"an {phrase}" if _AN.match(phrase) else f"a {phrase}"


def capitalise(text: str) -> str:
    """Make the first letter a capital and keep the others."""
    return text[:1].upper() + text[1:]


def table(columns: str, rows: str) -> tuple[Mapping[str, str], ...]:
    """Read a table of facts: one row per line, its fields separated by semicolons and named by `columns`.

    Raises:
        ValueError: If a row has more or fewer fields than there are columns.
    """
    names = columns.split()
    read = []
    for line in filter(None, map(str.strip, rows.splitlines())):
        fields = [field.strip() for field in line.split(";")]
        if len(fields) != len(names):
            raise ValueError(f"row {line!r} has {len(fields)} fields: expected {len(names)} ({columns}); correct it")
        read.append(dict(zip(names, fields, strict=True)))
    return tuple(read)


@dataclass(frozen=True, slots=True)
class _Choice:
    alternatives: tuple[_Sequence, ...]


@dataclass(frozen=True, slots=True)
class _Slot:
    name: str
    field: str | None
    capital: bool
    article: bool


_Sequence = tuple[str | _Slot | _Choice, ...]


class Grammar:
    """Named rules, each of one template or several to draw from, and the rendering of templates that use them.

    Raises:
        ValueError: If the brackets or slots of a template are malformed, or a rule is empty.
    """

    def __init__(self, rules: Mapping[str, str | Sequence[str]] | None = None) -> None:
        self._parsed: dict[str, _Sequence] = {}
        self._rules: dict[str, _Choice] = {}
        for name, templates in (rules or {}).items():
            alternatives = (templates,) if isinstance(templates, str) else templates
            if not alternatives:
                raise ValueError(f"rule {name!r} is empty: expected one template or more; add one or drop the rule")
            self._rules[name] = _Choice(tuple(self._parse(template) for template in alternatives))

    def render(self, template: str, facts: Mapping[str, Fact], rng: random.Random) -> str:
        """Fill a template with facts and rules; ValueError if a slot has neither, or leads back to itself."""
        out: list[str] = []
        try:
            self._emit(self._parse(template), facts, rng.random, out)
        except RecursionError:
            raise ValueError(f"template {template!r} never ends: a fact or rule in it leads back to itself") from None
        return "".join(out)

    def _parse(self, template: str) -> _Sequence:
        parsed = self._parsed.get(template)
        if parsed is None:
            parsed = self._parsed[template] = _parse(template)
        return parsed

    def _emit(
        self, sequence: _Sequence, facts: Mapping[str, Fact], uniform: Callable[[], float], out: list[str]
    ) -> None:
        for part in sequence:
            if part.__class__ is str:
                out.append(part)
            elif part.__class__ is _Choice:
                alternatives = part.alternatives
                self._emit(alternatives[int(uniform() * len(alternatives))], facts, uniform, out)
            else:
                assert isinstance(part, _Slot)
                self._emit_slot(part, facts, uniform, out)

    def _emit_slot(self, slot: _Slot, facts: Mapping[str, Fact], uniform: Callable[[], float], out: list[str]) -> None:
        value = facts.get(slot.name)
        if value is None:
            rule = self._rules.get(slot.name)
            if rule is None or slot.field:
                raise ValueError(
                    f"slot {slot.name!r} is unknown: expected a fact ({', '.join(sorted(facts))}) "
                    f"or a rule ({', '.join(sorted(self._rules))}); add it or correct the name"
                )
            inner: _Sequence = (rule,)
        else:
            if not isinstance(value, str):
                value = _field(value, slot)
            elif slot.field:
                raise ValueError(f"slot {slot.name}.{slot.field} asks a field of plain text {value!r}: drop the field")
            inner = self._parse(value) if "{" in value or "[" in value else (value,)
        if slot.capital or slot.article:
            begin = len(out)
            self._emit(inner, facts, uniform, out)
            text = "".join(out[begin:])
            text = with_article(text) if slot.article else text
            out[begin:] = [capitalise(text) if slot.capital else text]
        else:
            self._emit(inner, facts, uniform, out)


def _field(value: Mapping[str, str], slot: _Slot) -> str:
    name = slot.field or "name"
    try:
        return value[name]
    except KeyError:
        raise ValueError(
            f"slot {slot.name!r} has no field {name!r}: expected one of {', '.join(sorted(value))}; correct the name"
        ) from None


def _parse(template: str) -> _Sequence:
    """Parse a template in one pass: `open_choices` holds the finished alternatives of each open bracket."""
    current: list[str | _Slot | _Choice] = []
    open_choices: list[tuple[list[str | _Slot | _Choice], list[_Sequence]]] = []
    for token in re.findall(r"\{[^{}]*\}|[\[|\]{}]|[^\[|\]{}]+", template):
        if token == "[":
            open_choices.append((current, []))
            current = []
        elif token in ("|", "]"):
            if not open_choices:
                raise ValueError(f"template {template!r} has {token!r} outside brackets: expected a '[' before it")
            outer, alternatives = open_choices[-1]
            alternatives.append(tuple(current))
            current = []
            if token == "]":
                current = outer
                current.append(_Choice(tuple(alternatives)))
                open_choices.pop()
        elif token[0] in "{}":
            current.append(_parse_slot(token, template))
        else:
            current.append(token)
    if open_choices:
        raise ValueError(f"template {template!r} has a '[' without its ']': close it")
    return tuple(current)


def _parse_slot(token: str, template: str) -> _Slot:
    match = _SLOT.fullmatch(token[1:-1]) if token.endswith("}") else None
    if match is None:
        raise ValueError(
            f"template {template!r} has a malformed slot {token!r}: expected {{name}}, {{name.field}} or {{a name}}"
        )
    name, article = match["name"], match["article"]
    first_letter = article or name
    return _Slot(name[0].lower() + name[1:], match["field"], first_letter[0].isupper(), article is not None)
