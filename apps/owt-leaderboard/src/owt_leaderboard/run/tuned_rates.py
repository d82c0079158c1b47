"""File of the learning rates that were found for a text and a kind of device, beside its token files."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from nnscratch.speedrun import SIZE_NAMES, Recipe, to_record
from owt_leaderboard.run.decisions import shown_differences
from owt_leaderboard.texts import TokenFiles

VERSION = 1
"""Version of the form of the file."""
RATE_NAMES = (
    "optimizer.learning_rate",
    "optimizer.muon_learning_rate",
    "optimizer.embedding_learning_rate",
    "optimizer.head_learning_rate",
    "optimizer.scalar_learning_rate",
    "optimizer.table_learning_rate",
)
"""Rates that a file may hold."""
_REFERENCE = "optimizer.reference_batch_tokens"
_DECISIVE = ("model.", "optimizer.", "schedule.", "batches.sampled_tokens")
_FREE = {*RATE_NAMES, *SIZE_NAMES, _REFERENCE, "model.vocab_size"}


class TunedRates(NamedTuple):
    """Settings of a recipe that a file replaces, and a line about them to print and to keep."""

    settings: dict[str, Any]
    reason: str


def rates_file(files: TokenFiles, device_type: str) -> Path:
    """Return the path of the rates for a text, its vocabulary and a type of device, which need not exist."""
    return files.train.parent / f"tuned-rates-{device_type}.json"


def rates_to_tune(recipe: Recipe, given: Collection[str]) -> dict[str, float]:
    """Return the rates that parameters of a recipe have, by their dotted names, without those that the user gave."""
    found = {name: getattr(recipe.optimizer, name.rpartition(".")[2]) for name in RATE_NAMES}
    own = {name: rate for name, rate in found.items() if rate is not None}
    if len(own) == len(RATE_NAMES):  # nothing is left for the general rate
        del own["optimizer.learning_rate"]
    if recipe.model.ngram_rows is None:
        del own["optimizer.table_learning_rate"]
    return {name: rate for name, rate in own.items() if name not in given}


def write_rates(path: Path, content: dict[str, Any]) -> None:
    """Write a file of rates; `content` is JSON, with the values that `find_rates` needs.

    These are "rates" by their dotted names, empty if the recipe's own are kept, the "reference_batch_tokens" for which
    they hold, the "recipe" of the trials and a "summary" in words.
    """
    from trainer import write_atomically

    text = json.dumps({"version": VERSION, **content}, indent=2, allow_nan=False)
    write_atomically(path, text.encode("utf-8") + b"\n")


def find_rates(files: TokenFiles, device_type: str, recipe: Recipe, given: Collection[str]) -> TunedRates | None:
    """Return the rates that were tuned for a text, its vocabulary and a type of device; None if none were.

    Args:
        files: The text.
        device_type: "cuda", "mps" or "cpu".
        recipe: The recipe that is to get them.
        given: Dotted names of settings that the user gave, which stay.

    Raises:
        ValueError: If the file is damaged, or of another version.
    """
    from trainer.records import read_object

    path = rates_file(files, device_type)
    if not path.exists():
        return None
    remedy = "run python -m owt_leaderboard.tune again, remove the file, or give --rates recipe"
    try:
        content = read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}; {remedy}") from None
    if (version := content.get("version")) != VERSION:
        raise ValueError(f"{path} has the version {version!r}, and this app reads {VERSION}; {remedy}")
    rates, reference, tried, summary = (
        cast(Any, content.get(name)) for name in ("rates", "reference_batch_tokens", "recipe", "summary")
    )
    is_complete = isinstance(rates, dict) and isinstance(tried, dict) and isinstance(summary, str)
    if not is_complete or not all(map(_is_rate, rates, rates.values())) or type(reference) is not int or reference < 1:
        raise ValueError(
            f"{path} is damaged: expected positive numbers by the names of rates in it, reference_batch_tokens, "
            f"recipe and summary; {remedy}"
        )
    if others := shown_differences(_decisive_settings(tried), _decisive_settings(to_record(recipe))):
        return TunedRates({}, f"rates: the recipe's; those in {path} were found with other settings ({others})")
    used = {name: rate for name, rate in rates.items() if name not in given}
    if not rates:
        return TunedRates({}, f"rates: the recipe's, which {path} keeps ({summary})")
    if not used:
        return None
    found = f"rates: {shown_rates(used)}, from {path} ({summary})"
    if _REFERENCE in given:  # the user's number holds for all rates
        own = recipe.optimizer.reference_batch_tokens or reference
        converted = {name: rate * (own / reference) ** 0.5 for name, rate in used.items()}
        return TunedRates(converted, f"{found}, converted from steps of {reference:,} tokens to {own:,}")
    return TunedRates(
        {**used, _REFERENCE: reference},
        f"{found}; all rates, also those of --set, are multiplied by the root of tokens per step / {reference:,}",
    )


def _decisive_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recorded recipe on which good rates depend."""
    from trainer.records import flatten

    settings = flatten(dict(record))
    return {name: value for name, value in settings.items() if name.startswith(_DECISIVE) and name not in _FREE}


def shown_rates(rates: Mapping[str, float]) -> str:
    """Return rates by short names, such as "muon 0.02, head 0.008"."""
    names = {name: name.rpartition(".")[2].removesuffix("learning_rate").rstrip("_") for name in rates}
    return ", ".join(f"{names[name] or 'others'} {rate:.3g}" for name, rate in rates.items())


def _is_rate(name: str, rate: object) -> bool:
    return name in RATE_NAMES and isinstance(rate, float | int) and not isinstance(rate, bool) and 0 < rate < math.inf
