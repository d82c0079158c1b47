"""What is decided when a run begins, and kept for those who go on with it: sizes, and the time for the entry."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from owt_leaderboard.recipes import Recipe

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
    """What the entry took, written once in advance."""

    def write(self, run_dir: Path) -> None:
        """Keep it in the run directory, which is made."""
        from trainer import write_atomically

        run_dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2, allow_nan=False)
        write_atomically(run_dir / BEGINNING_FILE, text.encode("utf-8") + b"\n")


def recipe_from_json(values: dict[str, Any]) -> Recipe:
    """The recipe that JSON made lists of."""

    def plain(value: Any) -> Any:
        return tuple(map(plain, value)) if isinstance(value, list) else value

    return Recipe(**{name: plain(value) for name, value in values.items()})


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
    if found is None or found.asked == asked:
        return found
    if not (run_dir / "summary.json").exists() and not any((run_dir / "checkpoints").glob("step_*")):
        return None  # nothing has come of it
    names = sorted(name for name in asked.keys() | found.asked.keys() if asked.get(name) != found.asked.get(name))
    shown = "; ".join(f"{name} was {found.asked.get(name)!r}, now {asked.get(name)!r}" for name in names[:3])
    raise ValueError(
        f"{run_dir} holds a run with another configuration: {shown}; run the same command to go on with it, or choose "
        "another directory with --out"
    )
