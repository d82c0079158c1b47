"""Any finished runs as an experiment: those that differ only in their seed are one group."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.experiments.results.records import Experiment, Group, Result, name_without_seed, read_result
from trainer.experiments.results.wording import PLAIN, Described

_SAME = ("model.class", "recorded.tokenizer_sha256")
"""Records beside the recipe that runs of one group share."""
_FREE = ("seed", "evaluations", "evaluations.count", "count")
"""Settings of a recipe that may differ within a group."""
_SHOWN = 6  # settings of a group that differ from the first one's


def read_runs(directories: Sequence[Path]) -> Experiment:
    """Read runs of any app as variants of the first one.

    Raises:
        FileNotFoundError: A run is not finished.
        ValueError: There are fewer than two runs, a file is damaged, or the validation texts differ.
    """
    found = {path.resolve(): replace(read_result(path), name=str(path)) for path in directories}
    if len(found) < 2:
        raise ValueError(f"only {len(found)} different runs were given, expected two or more to compare")
    groups: dict[str, list[Result]] = {}
    for run in found.values():
        groups.setdefault(_identity(run), []).append(run)
    firsts = [runs[0] for runs in groups.values()]
    names = [name_without_seed(run.directory.resolve().name) for run in firsts]
    names = [name if names.count(name) == 1 else run.name for name, run in zip(names, firsts, strict=True)]
    changes = ["the first run given", *(_changes(firsts[0], run) for run in firsts[1:])]
    described = {name: Described(change) for name, change in zip(names, changes, strict=True)}
    return Experiment(
        kind="ablations",
        title=f"Comparison of {len(found)} runs",
        dataset=None,
        target_loss=None,
        notes=_notes_on_texts(list(found.values())),
        groups=tuple(
            Group(name, None, None, runs=tuple(sorted(runs, key=lambda run: run.recipe.get("seed", 0))), failures=())
            for name, runs in zip(names, groups.values(), strict=True)
        ),
        unfinished=(),
        wording=replace(PLAIN, variants=described, baseline=names[0]),
    )


def _identity(run: Result) -> str:
    """Return everything that runs of one group have in common, as one text."""
    recipe = {name: value for name, value in run.recipe.items() if name not in _FREE}
    same = {name: value for name, value in run.config.items() if name in _SAME or name.startswith("data.")}
    return json.dumps([recipe, same], sort_keys=True)


def _changes(first: Result, run: Result) -> str:
    """Return the settings in which a run differs from the first one: "d_model=256 norm=none"."""
    before, now = first.recipe, run.recipe
    names = [name for name in before if name in now and name not in _FREE and before[name] != now[name]]
    names = [name for name in names if "." not in name or name.rpartition(".")[2] not in names]
    shown = [f"{name}={now[name]}" for name in names[:_SHOWN]]
    shown += [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    others = sorted(before.keys() ^ now.keys())  # as between versions
    unshown = f"other settings: {', '.join(others[:_SHOWN])}" if others else "another text or tokenizer"
    classes = [one.config.get("model.class") for one in (first, run)]
    return " ".join([*([str(classes[1])] if classes[0] != classes[1] else []), *shown]) or unshown


def _notes_on_texts(runs: Sequence[Result]) -> tuple[str, ...]:
    """Compare the validation texts, by their tokens or their length, and return what is not known about them.

    Raises:
        ValueError: If the texts of two runs differ.
    """
    tokens: dict[Any, tuple[Result, Any]] = {}
    lengths: dict[int, Result] = {}
    for run in runs:
        text = {name: value for name, value in run.config.items() if name.startswith("data.valid.")}
        other, expected = tokens.setdefault(run.vocabulary, (run, text))
        if text == expected and (length := _text_bytes(run)) is not None:
            lengths.setdefault(length, run)
            other = next(iter(lengths.values()))
        if text != expected or len(lengths) > 1:
            raise ValueError(
                f"{run.name} and {other.name} were evaluated on different texts: expected runs with the same "
                "validation text, because their losses say nothing about each other"
            )
    if len(tokens) == 1 or all(_text_bytes(run) is not None for run in runs if not run.diverged):
        return ()
    return ("The runs have different tokenizers. Their losses compare only if the validation text was the same.",)


def _text_bytes(run: Result) -> int | None:
    """Return the bytes of the validation text, from the losses per token and per byte; None where one is not known."""
    loss, bits = run.summary["final_valid_loss"], run.summary["bits_per_byte"]
    count = run.config.get("data.valid.tokens")
    if run.diverged or count is None or not bits:
        return None
    return round((count - 1) * loss / math.log(2) / bits)  # the first token is no target
