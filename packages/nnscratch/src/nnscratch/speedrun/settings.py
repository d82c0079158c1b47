"""Settings of a recipe by their names: as NAME=VALUE on a command line, and as JSON in the records of a run."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nnscratch.speedrun.recipes import Recipe

RECORD_VERSION = 2
"""Version of the form in which runs record their recipe."""
SIZE_NAMES = (
    "model.d_model",
    "model.num_layers",
    "model.num_heads",
    "model.d_ff",
    "model.ngram_dropout",
    "batches.batch_size",
    "evaluations.evaluated_windows",
)
"""Settings that the budget chooses if `sized_by_budget` is on: sizes, and what depends on the training tokens."""
_SHORT = {"optimizer": "optimizer.kind", "schedule": "schedule.kind", "evaluations": "evaluations.count"}
_PLACEHOLDER_HEAD = 64


def _types(of: Any, prefix: str = "") -> dict[str, Any]:
    """Return the type of every setting by its dotted name."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(of).items():
        found |= _types(kind, f"{name}.") if is_dataclass(kind) else {prefix + name: kind}
    return found


_TYPES = _types(Recipe)


def full_name(name: str) -> str:
    """Return the dotted name of a setting, such as "model.qk_norm" for "qk_norm".

    Raises:
        ValueError: If no setting, or more than one, has this name; the message lists the candidates.
    """
    name = _SHORT.get(name, name)
    found = [full for full in _TYPES if full == name or full.endswith(f".{name}")]
    if len(found) != 1:
        problem = "names several settings" if found else "is not a setting"
        raise ValueError(f"{name!r} {problem}: expected one of {', '.join(found or _TYPES)}")
    return found[0]


def changed(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """Return the recipe with some settings changed.

    If sizes are chosen by the budget, heads and width that are not given are adapted to those that are, and the budget
    finds a d_ff for the kind of feed-forward network.

    Args:
        recipe: The recipe to change.
        assignments: Such as "learning_rate=0.01", "model.qk_norm=False", "logit_soft_cap=None" or "schedule=cosine".

    Raises:
        ValueError: If an assignment has another form, names no setting of a recipe, or its value does not fit. Also if
            one adds or removes a gate in a recipe of given sizes and none gives d_ff, because a gate is a third matrix.
    """
    values: dict[str, Any] = dict(map(_parsed, assignments))
    if values.get("sized_by_budget", recipe.sized_by_budget):
        width, heads = values.get("model.d_model"), values.get("model.num_heads")
        if width and not heads:
            values["model.num_heads"] = 1
        elif heads and not width:
            values["model.d_model"] = _PLACEHOLDER_HEAD * heads
    elif "model.d_ff" not in values and "model.ffn" in values:
        _check_gate(recipe.model.ffn, values["model.ffn"], recipe.model.d_ff)
    return with_settings(recipe, values)


def same_parameters(d_ff: int, *, is_gated: bool) -> int:
    """Return the inner width of a feed-forward network with a gate, or without one, for as many parameters, in eights.

    Args:
        d_ff: Inner width of the other kind.
        is_gated: Whether the width is that of SwiGLU, whose third matrix makes all three narrower.
    """
    return max(8, 8 * round(d_ff * (2 / 3 if is_gated else 3 / 2) / 8))


def _check_gate(before: str, now: str, d_ff: int) -> None:
    """Refuse a change of the number of matrices in a feed-forward network that keeps their width."""
    if (before == "swiglu") != (now == "swiglu"):
        same, times = same_parameters(d_ff, is_gated=now == "swiglu"), "3/2" if now == "swiglu" else "2/3"
        raise ValueError(
            f"ffn={now}: with d_ff={d_ff} it has {times} of the parameters of {before}; give d_ff too, such "
            f"as d_ff={same} for as many parameters, or d_ff={d_ff} to keep it"
        )


def with_settings(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with the settings of these dotted names set."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        group, _, leaf = name.rpartition(".")
        groups.setdefault(group, {})[leaf] = value
    whole = groups.pop("", {})
    parts = {group: replace(getattr(recipe, group), **leaves) for group, leaves in groups.items()}
    return replace(recipe, **parts, **whole)


def given_settings(assignments: Sequence[str]) -> frozenset[str]:
    """Return the dotted names of the settings that the assignments set."""
    return frozenset(name for name, _ in map(_parsed, assignments))


def given_sizes(assignments: Sequence[str]) -> frozenset[str]:
    """Return which of `SIZE_NAMES` the assignments set."""
    return given_settings(assignments).intersection(SIZE_NAMES)


def to_record(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as JSON values, with the version of their form."""
    return {"version": RECORD_VERSION, **json.loads(json.dumps(asdict(recipe)))}


def from_record(record: Mapping[str, Any]) -> Recipe:
    """Return the recipe that `to_record` wrote.

    Raises:
        ValueError: If another version of the app wrote it.
    """
    values = {name: _with_tuples(value) for name, value in record.items() if name != "version"}
    kinds = get_type_hints(Recipe)
    try:
        if record.get("version") != RECORD_VERSION:
            raise TypeError(f"its form has version {record.get('version', 1)}, this one writes {RECORD_VERSION}")
        groups = {name: kinds[name](**part) for name, part in values.items() if isinstance(part, dict)}
        return Recipe(**{**values, **groups})
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"another version recorded this recipe ({error}): use the run with that version, or train another one in a "
            "directory of its own"
        ) from error


def _parsed(text: str) -> tuple[str, Any]:
    """Return the dotted name and the value of an assignment."""
    name, equals, written = (part.strip() for part in text.partition("="))
    if not equals:
        raise ValueError(f"{text!r}: expected NAME=VALUE")
    try:
        name = full_name(name)
    except ValueError as error:
        raise ValueError(f"{text}: {error}") from None
    if name == "seed":
        raise ValueError(f"{text}: the seed is no setting of a recipe here, expected it on its own (--seed)")
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError):
        value = written  # a word such as cosine
    kind = _TYPES[name]
    if not _fits(value, kind):
        expected = kind.__name__ if isinstance(kind, type) else kind
        raise ValueError(f"{text}: {value!r} is a {type(value).__name__}, expected {expected}")
    return name, float(value) if kind is float else value


def _fits(value: object, kind: Any) -> bool:
    """Return whether a value is of an annotated type; an int counts as a float, a bool never as a number."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple)
    options = get_args(kind) or (kind,)
    return type(value) in options or (float in options and type(value) is int)


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(part) for name, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
