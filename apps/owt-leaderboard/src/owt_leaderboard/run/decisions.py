"""What is decided when a run begins, and kept for those who go on with it: sizes, and the time for the entry."""

import json
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from owt_leaderboard.recipe.recipes import Recipe

BEGINNING_FILE = "beginning.json"


@dataclass(frozen=True)
class Beginning:
    """How a run was begun."""

    asked: dict[str, Any]
    """The recipe before it was sized, and the limit: what the command line says."""
    recipe: Recipe
    reasons: tuple[str, ...]
    """Why these sizes; empty if they were given."""
    predicted_tokens_per_second: float | None
    entry_seconds: float
    """Seconds to reserve for the entry, by a rehearsal."""

    def write(self, run_dir: Path) -> None:
        """Keep it in the run directory, which is made."""
        from trainer import write_atomically

        run_dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2, allow_nan=False)
        write_atomically(run_dir / BEGINNING_FILE, text.encode("utf-8") + b"\n")


def recipe_from_json(values: dict[str, Any]) -> Recipe:
    """The recipe that JSON made lists of; settings that it lacks have their defaults.

    Raises:
        ValueError: a setting is unknown here, missing, or out of range.
    """

    def plain(value: Any) -> Any:
        return tuple(map(plain, value)) if isinstance(value, list) else value

    try:
        return Recipe(**{name: plain(value) for name, value in values.items()})
    except TypeError as error:
        raise ValueError(f"a recipe of another version of this app ({error}): use that version for its run") from error


def recipe_to_record(recipe: Recipe, run_dir: Path) -> dict[str, Any]:
    """The recipe for the records of a run, which have to be the same whenever it goes on.

    In a run of an earlier version, settings that have come since are left out where they have their defaults.
    """
    from trainer import read_config

    values = asdict(recipe)
    if not (run_dir / "config.json").exists():
        return values
    before = read_config(run_dir).get("recorded", {}).get("recipe", values)
    defaults = {field.name: field.default for field in fields(Recipe)}
    return {name: value for name, value in values.items() if name in before or value != defaults[name]}


def read_beginning(run_dir: Path) -> Beginning | None:
    """What was decided in a run directory; None if nothing was."""
    path = run_dir / BEGINNING_FILE
    if not path.exists():
        return None
    values = json.loads(path.read_text("utf-8"))
    values |= {"recipe": recipe_from_json(values["recipe"]), "reasons": tuple(values["reasons"])}
    return Beginning(**values)


def find_beginning(run_dir: Path, asked: dict[str, Any]) -> Beginning | None:
    """What was decided for a run that the same command began; None if it is still to be decided.

    Raises:
        ValueError: the directory holds a run that another command began.
    """
    found = read_beginning(run_dir)
    asked = json.loads(json.dumps(asked))
    if found is None:
        return None
    # A run of an earlier version lacks the settings that have come since, and had what is their default now.
    defaults = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}
    before = json.loads(json.dumps(defaults)) | found.asked
    if before == asked:
        return found
    if not (run_dir / "summary.json").exists() and not any((run_dir / "checkpoints").glob("step_*")):
        return None  # nothing has come of it
    names = sorted(name for name in asked.keys() | before.keys() if asked.get(name) != before.get(name))
    shown = "; ".join(f"{name} was {before.get(name)!r}, now {asked.get(name)!r}" for name in names[:3])
    raise ValueError(
        f"{run_dir} holds a run with another configuration: {shown}; run the same command to go on with it, or choose "
        "another directory with --out"
    )
