"""Experiments read back from their directories: runs, failures, and the groups of runs that belong together."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from trainer.experiments.results.wording import PLAIN, Wording
from trainer.experiments.running.processes import KILLED_FOR_MEMORY
from trainer.support.files import make_directory, write_atomically

Kind = Literal["ablations", "lr-sweep", "batch-sweep"]
EXPERIMENT_FILE = "experiment.json"
FAILURE_FILE = "failure.json"
_NUMBERS = ("step", "tokens", "seconds_training", "loss")
"""Numbers of an evaluation, of which the loss may be None."""
_DESCRIBED = ("device", "device_name", "dtype", "started", "threads", "torch")
"""Values of an environment that the report shows."""
_SETTINGS = "num_layers d_model num_heads context_length vocab_size batch_size learning_rate".split()
"""Settings of a recipe that the report shows."""
_MEMORY_ERRORS = ("out of memory", "outofmemory", "memoryerror", "can't allocate memory", "alloc_failed")

_Key = tuple[str, float | None, int | None]
"""Name, learning rate and batch size of a group; the numbers are set by a sweep."""
_SEED = re.compile(r"(?P<name>.+?)(?:-seed-\d+)?")
_RATE = re.compile(r"(?:batch-(?P<batch>\d+)-)?rate-(?P<rate>.+)")


@dataclass(frozen=True)
class Curve:
    """The evaluations of a run, as lists of equal length; None marks a value that was not finite or is not known."""

    steps: list[int]
    tokens: list[int]
    """Training tokens seen."""
    seconds: list[float]
    """Training time, without evaluations and start-up."""
    losses: list[float | None]
    """Nats per token."""
    bits: list[float | None]
    """Bits per byte."""


@dataclass(frozen=True)
class Result:
    """A finished run."""

    name: str
    directory: Path
    recipe: dict[str, Any]
    """Settings without the names of their groups ("model.d_model" is "d_model"), and the number of steps or seconds."""
    config: dict[str, Any]
    """Content of `config.json`, flattened."""
    environment: dict[str, Any]
    summary: dict[str, Any]
    valid: Curve
    sample: str | None
    """The last text that the model wrote in training."""

    @property
    def vocabulary(self) -> tuple[int, str | None]:
        """Size and digest of the tokenizer; losses per token compare only between equal ones."""
        return self.recipe["vocab_size"], self.config.get("recorded.tokenizer_sha256")

    @property
    def diverged(self) -> bool:
        """True if the run diverged, so that its loss must not enter an average."""
        return bool(self.summary["diverged"]) or not _finite(self.summary["final_valid_loss"])

    @property
    def divergence(self) -> str:
        """Time and manner of the divergence, or "no"."""
        if not self.diverged:
            return "no"
        step = self.summary["diverged_at_step"]
        if step is not None:
            return f"not finite at step {step:,}"
        return "ends above its start" if _finite(self.summary["final_valid_loss"]) else "loss not finite"


@dataclass(frozen=True)
class Failure:
    """A run that ended with an error."""

    name: str
    error: str

    @property
    def out_of_memory(self) -> bool:
        """True if the run lacked memory."""
        return any(words in self.error.lower() for words in (*_MEMORY_ERRORS, KILLED_FOR_MEMORY))


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed."""

    name: str
    """The variant, or the setting of a sweep: "0.012", "16 at 0.012"."""
    rate: float | None
    """The learning rate that a sweep set; None in ablations."""
    batch_size: int | None
    """The batch size that a batch-sweep set; None otherwise."""
    runs: tuple[Result, ...]
    """Finished runs, ordered by seed."""
    failures: tuple[Failure, ...]

    @property
    def stable(self) -> tuple[Result, ...]:
        """The runs that did not diverge."""
        return tuple(run for run in self.runs if not run.diverged)

    @property
    def diverged(self) -> tuple[Result, ...]:
        """The runs that diverged."""
        return tuple(run for run in self.runs if run.diverged)

    @property
    def is_stable(self) -> bool:
        """True if there are runs and none diverged."""
        return bool(self.runs) and not self.diverged

    def values(self, name: str) -> list[float]:
        """A number from the summaries of the stable runs, without runs that do not have it."""
        found = (run.summary.get(name) for run in self.stable)
        return [float(value) for value in found if value is not None and _finite(value)]


@dataclass(frozen=True)
class Experiment:
    """A directory of runs."""

    kind: Kind
    title: str
    dataset: str | None
    target_loss: float | None
    """The validation loss whose price in tokens and seconds a batch-sweep compares."""
    notes: tuple[str, ...]
    groups: tuple[Group, ...]
    """Variants in the order of the wording, then others by name; groups of sweeps by batch size and rate."""
    unfinished: tuple[str, ...]
    """Runs that began and have neither finished nor failed."""
    wording: Wording

    @property
    def runs(self) -> list[Result]:
        """All finished runs."""
        return [run for group in self.groups for run in group.runs]

    @property
    def failures(self) -> list[Failure]:
        """All failed runs."""
        return [failure for group in self.groups for failure in group.failures]

    @property
    def best_run(self) -> Result | None:
        """The run with the fewest bits per byte (nats per token where bytes are not known); None if all diverged."""
        stable = [run for run in self.runs if not run.diverged]
        names = ("bits_per_byte", "final_valid_loss")
        name = names[any(run.summary[names[0]] is None for run in stable)]
        return min(stable, key=lambda run: float(run.summary[name]), default=None)

    @property
    def baseline(self) -> Group | None:
        """The group that the other variants are compared with."""
        return next((group for group in self.groups if group.name == self.wording.baseline), None)


def read_experiment(directory: Path, wording: Wording = PLAIN) -> Experiment:
    """Read an experiment, finished or not, that `wording` describes.

    Raises:
        FileNotFoundError: No run in the directory has finished or failed.
        ValueError: `experiment.json` cannot be understood.
    """
    header = read_header(directory)
    kind: Kind = header.get("kind", "ablations")
    failures = [
        Failure(path.parent.name, error)
        for path in sorted(directory.glob(f"*/{FAILURE_FILE}"))
        if (error := read_failure(path.parent)) is not None
    ]
    finished: list[Result] = []
    for path in sorted(directory.glob("*/summary.json")):
        try:
            finished.append(read_result(path.parent))
        except (ValueError, OSError, KeyError) as error:  # a damaged run must not take the others with it
            text = f"a record lacks {error}" if isinstance(error, KeyError) else str(error)
            failures.append(Failure(path.parent.name, text))
    if not finished and not failures:
        raise FileNotFoundError(f"{directory} holds no finished run: train some there first")
    begun = sorted(path.parent.name for path in directory.glob("*/config.json"))
    known = {result.name for result in finished} | {failure.name for failure in failures}
    return Experiment(
        kind=kind,
        title=header.get("title") or f"Runs in {directory.resolve().name}",
        dataset=header.get("dataset"),
        target_loss=header.get("target_loss"),
        notes=tuple(header.get("notes", ())),
        groups=_grouped(kind, finished, failures, list(wording.variants)),
        unfinished=tuple(name for name in begun if name not in known),
        wording=wording,
    )


def read_header(directory: Path) -> dict[str, Any]:
    """Read the `experiment.json` of a directory of runs; empty if there is none.

    Raises:
        ValueError: The file cannot be understood.
    """
    path = directory / EXPERIMENT_FILE
    if not path.exists():
        return {}
    try:
        header = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and the same command writes it again") from error
    kinds = get_args(Kind)
    if not isinstance(header, dict) or header.get("kind", "ablations") not in kinds:
        raise ValueError(f"{path} holds {header!r}: expected an object whose kind is one of {', '.join(kinds)}")
    types = {"title": str, "dataset": str, "notes": list, "target_loss": int | float, "shared": dict}
    wrong = [name for name, kind in types.items() if not isinstance(header.get(name), kind | None)]
    header = {name: value for name, value in header.items() if value is not None}
    shared = header.get("shared", {"recipe": {}, "texts": ""})
    if wrong or not isinstance(shared.get("recipe"), dict) or "texts" not in shared:
        raise ValueError(
            f"{path} is damaged: {', '.join(wrong) or 'shared'} is not what was written; delete it, and the same "
            "command writes it again"
        )
    return header


def write_header(
    directory: Path,
    kind: Kind,
    title: str,
    dataset: str,
    *,
    shared: Mapping[str, Any] | None = None,
    target_loss: float | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write `experiment.json`, from which a report learns the purpose of the runs in a directory.

    Args:
        directory: Directory of the runs; created if need be.
        kind: Kind of the experiment.
        title: Title of the report.
        dataset: Name of the text.
        shared: Settings that all runs have in common, so that no others are mixed in; None if each run records them.
        target_loss: The loss at which batch sizes are compared, in nats per token.
        notes: Sentences for the report.
    """
    make_directory(directory)
    content = {
        "kind": kind,
        "title": title,
        "dataset": dataset,
        "target_loss": target_loss,
        "notes": list(notes),
        "shared": None if shared is None else dict(shared),
    }
    write_atomically(directory / EXPERIMENT_FILE, json.dumps(content, indent=2).encode("utf-8") + b"\n")


def write_failure(directory: Path, error: str) -> None:
    """Write the error that ended a run into its directory, which is created if need be."""
    make_directory(directory)
    write_atomically(directory / FAILURE_FILE, json.dumps({"error": error}).encode("utf-8") + b"\n")


def read_failure(directory: Path) -> str | None:
    """The error that ended the last attempt at a run; None if there was none or the run has finished since."""
    from trainer.records import read_object

    path = directory / FAILURE_FILE
    if (directory / "summary.json").exists() or not path.exists():
        return None
    try:
        return str(read_object(path).get("error"))
    except ValueError as error:
        return str(error)


def read_result(directory: Path) -> Result:
    """Read one run.

    Raises:
        FileNotFoundError: The run is not finished (it has no `summary.json`), or a file is missing.
        ValueError: It records no recipe, or a file is damaged.
    """
    from trainer.records import Summary, flatten, read_config, read_lines, read_metrics, read_object

    path = directory / "summary.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{directory} is not a finished run: it has no summary.json; run the same command again"
        )
    summary = Summary.from_json(read_object(path), str(path)).to_json()
    evaluations = [record for record in read_metrics(directory) if record.get("event") == "eval"]
    if not all(isinstance(record[name], int | float | None) for record in evaluations for name in _NUMBERS):
        raise ValueError(f"{directory / 'metrics.jsonl'} is damaged: expected numbers in its evaluations")
    texts = [
        text for _, record in read_lines(directory / "samples.jsonl") if isinstance(text := record.get("text"), str)
    ]
    environment = read_object(directory / "environment.json")
    if lacking := [name for name in _DESCRIBED if not isinstance(environment.get(name), str | int)]:
        raise ValueError(f"{directory / 'environment.json'} is damaged: expected {', '.join(lacking)} in it")
    config = flatten(read_config(directory))
    return Result(
        name=directory.name,
        directory=directory,
        recipe=_settings(config, directory / "config.json"),
        config=config,
        environment=environment,
        summary=summary,
        valid=Curve(
            [record["step"] for record in evaluations],
            [record["tokens"] for record in evaluations],
            [record["seconds_training"] for record in evaluations],
            [record["loss"] for record in evaluations],
            [record.get("bits_per_byte") for record in evaluations],
        ),
        sample=texts[-1] if texts else None,
    )


def _settings(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings in the recipe of a run by their own names; a limit may stand beside the recipe."""
    prefix = "recorded.recipe."
    settings = {name.removeprefix(prefix): value for name, value in config.items() if name.startswith(prefix)}
    found = {"steps": config.get("steps"), "time_limit_seconds": config.get("recorded.time_limit_seconds"), **settings}
    found |= {name.rpartition(".")[2]: value for name, value in settings.items()}
    if lacking := [name for name in _SETTINGS if not isinstance(found.get(name), int | float)]:
        raise ValueError(f"{path} has no recipe of this version, or is damaged: expected {', '.join(lacking)} in it")
    return found


def _grouped(kind: Kind, results: list[Result], failures: list[Failure], order: list[str]) -> tuple[Group, ...]:
    keys = {result.name: _key(kind, result.name, result.recipe) for result in results}
    keys |= {failure.name: _key(kind, failure.name, {}) for failure in failures}

    def position(key: _Key) -> tuple[float, float, int, str]:
        name, rate, batch_size = key
        return batch_size or 0, rate or 0.0, order.index(name) if name in order else len(order), name

    def seed(result: Result) -> tuple[int, str]:
        return result.recipe.get("seed", 0), result.name

    return tuple(
        Group(
            *key,
            runs=tuple(sorted((result for result in results if keys[result.name] == key), key=seed)),
            failures=tuple(failure for failure in failures if keys[failure.name] == key),
        )
        for key in sorted(set(keys.values()), key=position)
    )


def _key(kind: Kind, directory_name: str, recipe: dict[str, Any]) -> _Key:
    """The group of a run, by the name of its directory: a failed run has nothing else, and its `recipe` is empty."""
    name = name_without_seed(directory_name)
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


def name_without_seed(directory_name: str) -> str:
    """Return the name of a run's directory without the seed at its end."""
    match = _SEED.fullmatch(directory_name)
    return match["name"] if match else directory_name


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
