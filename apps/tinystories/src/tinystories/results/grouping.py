"""Which runs of an experiment belong together: their directories' names say it, for failed runs have nothing else."""

import re
from typing import Any, Literal

Kind = Literal["ablations", "lr-sweep", "batch-sweep"]
Key = tuple[str, float | None, int | None]
"""Name, learning rate and batch size of a group; the numbers are what a sweep sets."""

_SEED = re.compile(r"(?P<name>.+?)(?:-seed-\d+)?")
_RATE = re.compile(r"(?:batch-(?P<batch>\d+)-)?rate-(?P<rate>.+)")


def group_key(kind: Kind, directory_name: str, recipe: dict[str, Any]) -> Key:
    """The group of a run, by its directory's name; the recipe, empty for a failed run, says what the name does not."""
    match = _SEED.fullmatch(directory_name)
    name = match["name"] if match else directory_name
    if kind == "ablations":
        return name, None, None
    setting = _RATE.fullmatch(name)
    try:
        rate = float(setting["rate"]) if setting else recipe.get("learning_rate")
    except ValueError:
        rate = recipe.get("learning_rate")
    if rate is None:
        return name, None, None
    if kind == "lr-sweep":
        return f"{rate:g}", rate, None
    batch_size = int(setting["batch"]) if setting and setting["batch"] else recipe.get("batch_size")
    return f"{batch_size} at {rate:g}", rate, batch_size
