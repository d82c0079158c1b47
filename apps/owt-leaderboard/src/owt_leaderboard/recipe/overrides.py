"""Settings of a recipe as people write them on a command line: NAME=VALUE."""

import ast
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, get_type_hints

from owt_leaderboard.recipe.recipes import Recipe


def changed(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """Return the recipe with some settings changed.

    Args:
        recipe: what to change.
        assignments: such as "learning_rate=0.01", "qk_norm=False", "logit_soft_cap=None" or "schedule=cosine".

    Raises:
        ValueError: one is no assignment, names no setting of a recipe or the seed, or its value is of another type or
            out of range.
    """
    return replace(recipe, **dict(_parse(text) for text in assignments))


def names_of(assignments: Sequence[str]) -> set[str]:
    """The settings that assignments name."""
    return {text.partition("=")[0].strip() for text in assignments}


def _parse(text: str) -> tuple[str, Any]:
    name, equals, written = (part.strip() for part in text.partition("="))
    known = [field.name for field in fields(Recipe)]
    if not equals or name not in known:
        raise ValueError(f"--set {text}: expected NAME=VALUE with one of the names {', '.join(known)}")
    if name == "seed":
        raise ValueError(f"--set {text}: expected the seed as --seed")
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError):
        value = written  # a word such as cosine
    expected = get_type_hints(Recipe)[name]
    if not _is_of(value, expected):
        raise ValueError(f"--set {text}: {value!r} is a {type(value).__name__}, expected {expected}")
    return name, float(value) if expected is float else value


def _is_of(value: object, expected: Any) -> bool:
    """Whether a value is of an annotated type; an integer is also a float, and True no integer."""
    options = getattr(expected, "__args__", (expected,))
    if str(expected).startswith("typing.Literal"):
        return value in options
    if str(expected).startswith("tuple"):
        return isinstance(value, tuple)
    if isinstance(value, bool):
        return bool in options
    return any(
        option is type(value) or (option is float and type(value) is int) for option in options if option is not bool
    )
