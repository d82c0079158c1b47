"""Decisions made once per run and reused on resume: sizes, and the seconds reserved for the entry."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnscratch.speedrun import Recipe, from_record, to_record
from trainer.experiments.runs import OtherAppError, recorded_of
from trainer.records import flatten
from trainer.support.files import make_directory

DECISIONS_FILE = "beginning.json"


@dataclass(frozen=True)
class Decisions:
    """Everything that a run decided before it trained."""

    asked: dict[str, Any]
    """The command line: the recipe before it was sized, the given sizes and the time limit."""
    recipe: Recipe
    reasons: tuple[str, ...]
    """Explanation of the sizes and of tuned rates; empty if both were given."""
    predicted_tokens_per_second: float | None
    entry_seconds: float
    """Seconds to reserve for the entry, from a rehearsal."""

    @property
    def time_limit_seconds(self) -> float:
        """Time limit that the run began with."""
        return float(self.asked["time_limit_seconds"])

    def write(self, run_dir: Path) -> None:
        """Write `beginning.json` into the run directory, which is created if necessary."""
        from trainer import write_atomically

        make_directory(run_dir)
        values = {**vars(self), "recipe": to_record(self.recipe)}
        text = json.dumps(values, indent=2, allow_nan=False)
        write_atomically(run_dir / DECISIONS_FILE, text.encode("utf-8") + b"\n")


def check_app(run_dir: Path) -> None:
    """Check that a directory holds no run of another program, before anything is written there.

    Raises:
        ValueError: If it does, or the run is of another version of this app.
    """
    if not (run_dir / "config.json").exists():
        return
    try:
        recorded = recorded_of(run_dir, "owt_leaderboard")
    except OtherAppError:
        raise ValueError(f"{run_dir} holds a run of another program: choose another directory with --out") from None
    from_record(recorded["recipe"])


def asked_of(recipe: Recipe, fixed: frozenset[str], time_limit_seconds: float) -> dict[str, Any]:
    """Return what `Decisions.asked` keeps of a command line, as JSON values; a run may go on without the compiler."""
    asked = to_record(replace(recipe, compile="auto"))
    return {"time_limit_seconds": time_limit_seconds, "fixed": sorted(fixed), "recipe": asked}


def read_decisions(run_dir: Path) -> Decisions | None:
    """Return the decisions of a run; None if there are none.

    Raises:
        ValueError: If another version of the app made them, or the file is damaged.
    """
    from trainer.records import read_object

    path = run_dir / DECISIONS_FILE
    if not path.exists():
        return None
    remedy = "restore it, or choose another directory with --out"
    try:
        values = read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from None
    if lacking := [name for name in ("recipe", "reasons") if not isinstance(values.get(name), dict | list)]:
        raise ValueError(f"{path} is damaged: expected {' and '.join(lacking)} in it; {remedy}")
    recipe = from_record(values["recipe"])
    if isinstance(values.get("asked"), dict) and isinstance(values["asked"].get("recipe"), dict):
        values["asked"]["recipe"]["compile"] = "auto"  # as `asked_of` writes it now
    try:
        return Decisions(**{**values, "recipe": recipe, "reasons": tuple(values["reasons"])})
    except TypeError as error:
        raise ValueError(f"{path} is damaged, or of another version ({error}); {remedy}") from None


def find_decisions(run_dir: Path, asked: dict[str, Any]) -> Decisions | None:
    """Return the decisions of a run that the same command started, perhaps with another time limit.

    They are None if they are still to be made.

    Raises:
        ValueError: If the directory holds a run of another command, or of another version of the app, or lacks the
            decisions of its run.
    """
    found = read_decisions(run_dir)
    has_begun = (run_dir / "summary.json").exists() or any((run_dir / "checkpoints").glob("step_*"))
    if found is None and has_begun:
        raise ValueError(
            f"{run_dir} lacks {DECISIONS_FILE}, where a run with a time limit keeps its sizes and its limit: restore "
            "the file, or choose another directory with --out"
        )
    if found is None or found.asked == asked:
        return found
    if not has_begun:
        return None  # the other command produced nothing
    shown = shown_differences({**found.asked, "time_limit_seconds": asked["time_limit_seconds"]}, asked)
    if not shown:
        return found
    raise ValueError(
        f"{run_dir} holds a run with another configuration: {shown}; run the same command to resume it, or choose "
        "another directory with --out"
    )


def is_recipe_of(run_dir: Path, recipe: Recipe, fixed: frozenset[str]) -> bool:
    """Return whether a run was started with this recipe, before it was sized, and these given sizes.

    Raises:
        ValueError: If the run is of another version of the app, or damaged.
    """
    found = read_decisions(run_dir)
    return found is not None and found.asked == asked_of(recipe, fixed, found.time_limit_seconds)


def first_limit(run_dir: Path) -> float | None:
    """Return the time limit that a run began with, in seconds; None if it has not trained yet."""
    found = read_decisions(run_dir) if (run_dir / "config.json").exists() else None
    return None if found is None else found.time_limit_seconds


def last_limit(run_dir: Path, decisions: Decisions) -> float:
    """Return the time limit of the last command that trained a run, in seconds."""
    from trainer import read_config

    if not (run_dir / "config.json").exists():  # it has not trained yet
        return decisions.time_limit_seconds
    return float(read_config(run_dir)["recorded"].get("time_limit_seconds", decisions.time_limit_seconds))


def earlier_limits(run_dir: Path) -> list[float]:
    """Return the time limits that a run had before its present one, in seconds and in order."""
    from trainer.records import read_object

    resumed = read_object(run_dir / "environment.json").get("resumed", [])
    changes = [session.get("changed", {}).get("recorded.time_limit_seconds") for session in resumed]
    return [float(change[0]) for change in changes if change is not None and change[0] is not None]


def shown_differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return the first three settings that differ, in words; "" if none do."""
    old, new = (
        {name.removeprefix("recipe."): value for name, value in flatten(values).items()} for values in (before, now)
    )
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return "; ".join(f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in names[:3])
