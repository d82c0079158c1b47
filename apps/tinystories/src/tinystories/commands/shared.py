"""Parts shared by the commands: flags of experiments, the runner that trains their runs, reports and hints."""

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinystories.flags import DataFlags, Machine, RecipeFlags
from tinystories.variants import WORDING
from tinystories.writing import SAMPLE_PROMPT
from trainer.experiments.running.ray_engine import EngineName, RayEngine, check_engine

if TYPE_CHECKING:
    from tinystories.recipes import Recipe
    from tinystories.sweeps import Run
    from tinystories.training import TokenFiles
    from trainer.experiments.results import Kind

SECONDS_BETWEEN_TABLES = 60.0
LEAST_UTILISATION = 0.1
"""Least share of a GPU's peak that training is assumed to compute; not measured."""


@dataclass(frozen=True)
class SweepFlags:
    """Number of runs."""

    jobs: int | None = None
    """Runs at the same time, each in its own process; they take turns on the CUDA devices. By default one, and for
    ablations one for each CUDA device, or up to four on a CPU, with a core each. On Ray: at the same time on each
    machine without GPUs."""
    seeds: int = 1
    """Runs of each, with the seeds --seed, --seed + 1, …; verdicts need several."""
    engine: EngineName = "local"
    """Train on this machine, or as tasks on the Ray cluster of RAY_ADDRESS, with a GPU for each run if it has some;
    without RAY_ADDRESS Ray is started here. --out and --data-dir must be in a folder that all machines share."""

    def check(self) -> None:
        """Refuse numbers below 1, and Ray where it is missing."""
        check_engine(self.engine)
        for name in ("jobs", "seeds"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"--{name} {getattr(self, name)}: expected at least 1")


@dataclass(frozen=True, kw_only=True)
class ExperimentFlags:
    """Flags of the commands that train several runs."""

    out: Path | None = None
    """Directory of the runs and the report; by default runs/COMMAND-NAME, with the name of the data set."""
    sweep: SweepFlags = field(default_factory=SweepFlags)
    data: DataFlags = field(default_factory=DataFlags)
    recipe: RecipeFlags = field(default_factory=RecipeFlags)
    machine: Machine = field(default_factory=Machine)

    @property
    def jobs(self) -> int:
        """Runs at the same time."""
        return 1 if self.sweep.jobs is None else self.sweep.jobs


class ExperimentRunner:
    """Trains the runs of an experiment and keeps its report.

    Args:
        directory: Directory of the runs.
        kind: Kind of the experiment.
        title: Title of the report.
        flags: The text, the machine and the number of runs at the same time.
        recipe: Settings that the runs have in common, except for those that the experiment changes.
        files: Token files by size of the vocabulary.
        machine: Where to train, if not on the machine of the flags.

    Raises:
        ValueError: The directory holds another experiment, or the same one with another recipe or text.
    """

    def __init__(
        self,
        directory: Path,
        kind: "Kind",
        title: str,
        flags: ExperimentFlags,
        recipe: "Recipe",
        files: "dict[int, TokenFiles]",
        machine: Machine | None = None,
    ) -> None:
        from tinystories.sweeps import Sweep
        from trainer.experiments.results import read_header, write_header

        self.directory = directory
        self.notes: list[str] = []
        self.failed: dict[str, str] = {}
        """Names of the runs that failed, with their errors."""
        self._files = files
        before = read_header(directory)
        shared = {"recipe": _shared(recipe), "texts": _texts_of(files[recipe.vocab_size])}
        _check_same(directory, before, {"kind": kind, "shared": shared})
        check_text(recipe, files[recipe.vocab_size], flags.machine.device, is_given=flags.data.dataset is not None)
        machine, jobs = machine or flags.machine, flags.jobs
        self.engine: RayEngine | None = None
        """The cluster that the runs are trained on, if it is one."""
        if flags.sweep.engine == "ray":
            read = [path for several in files.values() for path in asdict(several).values()]
            self.engine = RayEngine(directory, read, device=machine.device, jobs=jobs)
        self._describe = partial(write_header, directory, kind, title, flags.data.name, shared=shared)
        # Findings of an earlier call stay until this one has replaced them.
        self._describe(target_loss=before.get("target_loss"), notes=before.get("notes", ()))
        self._sweep = Sweep(machine, partial(print, flush=True), self._refresh, jobs, self.engine)
        self._refreshed = time.monotonic()

    def run(self, recipe: "Recipe", name: str, number: int = 0) -> "Run":
        """The run of a recipe with the seed `recipe.seed + number`; the name of the first seed has no suffix."""
        from tinystories.sweeps import Run

        seed = recipe.seed + number
        directory = self.directory / (name if number == 0 else f"{name}-seed-{seed}")
        return Run(replace(recipe, seed=seed), directory, self._files[recipe.vocab_size])

    def runs_at(self, recipe: "Recipe", rate: float, *, seeds: int = 1, prefix: str = "") -> "list[Run]":
        """The runs of a recipe at one learning rate, one for each seed."""
        from tinystories.recipes import at_rate

        return [self.run(at_rate(recipe, rate), f"{prefix}rate-{rate:g}", number) for number in range(seeds)]

    def try_rates(
        self, recipe: "Recipe", *, seeds: int = 1, prefix: str = ""
    ) -> Callable[[Sequence[float]], dict[float, float]]:
        """Return a function that trains a recipe at several rates and returns the mean loss at each.

        The loss is infinite where a run diverged or failed.

        Args:
            recipe: What to train.
            seeds: Runs at each rate.
            prefix: Beginning of the names of the runs.
        """

        def losses(rates: Sequence[float]) -> dict[float, float]:
            runs = {rate: self.runs_at(recipe, rate, seeds=seeds, prefix=prefix) for rate in rates}
            self.train([run for several in runs.values() for run in several])
            return {rate: sum(run.final_loss for run in several) / seeds for rate, several in runs.items()}

        return losses

    def train(self, runs: "Sequence[Run]") -> None:
        """Train the runs that are not finished."""
        try:
            failed = self._sweep.run_all(runs)
        except (ValueError, OSError):
            self._remove_if_empty()
            raise
        for run in runs:
            self.failed.pop(run.name, None)
        self.failed |= {run.name: run.failure or "" for run in failed}

    def accept_lack_of_memory(self) -> bool:
        """Stop counting runs that ran out of memory as failures; return whether there were any."""
        from trainer.experiments.results import Failure

        out_of_memory = [name for name, error in self.failed.items() if Failure(name, error).out_of_memory]
        for name in out_of_memory:
            del self.failed[name]
        return bool(out_of_memory)

    def note(self, sentence: str) -> None:
        """Keep a sentence for the report, and print it."""
        print(sentence)
        self.notes.append(sentence)

    def finish(self, target_loss: float | None = None) -> int:
        """Write the report, print its table and the runs that failed, and return the exit code."""
        self._describe(target_loss=target_loss, notes=self.notes)
        report(self.directory)
        for name, error in self.failed.items():
            print(f"{name} failed: {error}; the same command tries it again", file=sys.stderr)
        return 1 if self.failed else 0

    def _remove_if_empty(self) -> None:
        """Leave nothing behind if wrong input kept every run from beginning."""
        if self.engine is not None:
            self.engine.close()
        from trainer.experiments.results import EXPERIMENT_FILE

        if [path.name for path in self.directory.iterdir()] == [EXPERIMENT_FILE]:
            (self.directory / EXPERIMENT_FILE).unlink()
            self.directory.rmdir()

    def _refresh(self) -> None:
        """Print an interim table, but not after every short run."""
        from trainer.experiments.reporting import print_table
        from trainer.experiments.results import read_experiment

        if time.monotonic() - self._refreshed > SECONDS_BETWEEN_TABLES:
            print_table(read_experiment(self.directory, WORDING))
            self._refreshed = time.monotonic()


def check_text(recipe: "Recipe", files: "TokenFiles", device: str, *, is_given: bool) -> None:
    """Print the epochs of a text that a run will see more than 20 times.

    Tokens within a time limit are only estimated for a GPU whose peak is known, from `LEAST_UTILISATION`.

    Args:
        recipe: The recipe of the run.
        files: The texts.
        device: Device to train on.
        is_given: Whether the user named the text.

    Raises:
        ValueError: If the limit is long, the device such a GPU, and the text was not named.
    """
    from nnscratch import flops_per_token
    from tinystories.building import model_config
    from trainer import TokenDataset, resolve_device, resolve_dtype
    from trainer.devices import device_name, peak_flops
    from trainer.experiments.long_limits import LONG_SECONDS, check_repetition
    from trainer.support.command_line import print_once

    tokens, where, seconds = float(recipe.tokens), resolve_device(device), recipe.time_limit_seconds
    is_long = seconds is not None and seconds >= LONG_SECONDS
    if seconds is not None:
        peak = peak_flops(device_name(where), resolve_dtype("auto", where)) if where.type == "cuda" else None
        if peak is None or not is_long:
            return
        each = flops_per_token(model_config(recipe, recipe.vocab_size), backward=True)
        tokens = seconds * peak * LEAST_UTILISATION / each
    check_repetition(
        tokens,
        len(TokenDataset(files.train)),
        is_text_given=is_given or not is_long,
        device_type=where.type,
        notify=print_once,
    )


def report(directory: Path) -> None:
    """Print the table and the key figures of the runs in a directory, write their report, and print a next step."""
    from trainer.experiments import reporting
    from trainer.experiments.results import read_experiment

    experiment = read_experiment(directory, WORDING)
    reporting.report(experiment, directory)
    if (best := experiment.best_run) is not None:
        print(next_step(best.directory))


def next_step(run_dir: Path) -> str:
    """A line with the command that lets the model of a run write, ready to be copied."""
    found = shutil.which("python")
    is_this = "NOX_CURRENT_SESSION" not in os.environ and found and Path(found).parent == Path(sys.executable).parent
    python = "python" if is_this else os.path.relpath(sys.executable)
    command = shlex.join([python, "-m", "tinystories.run", "generate", str(run_dir)])
    return f'Next: {command} --prompt "{SAMPLE_PROMPT}"'


def _shared(recipe: "Recipe") -> dict[str, Any]:
    """Settings that all runs of an experiment share or vary; seeds may be added, and evaluations do not matter."""
    return {name: value for name, value in asdict(recipe).items() if name not in ("seed", "evaluations")}


def _texts_of(files: "TokenFiles") -> str:
    """The names of the token files, which depend on their content and on the tokenizer."""
    return f"{files.train.parent.name}/{files.valid.name}"


def _check_same(directory: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to mix experiments in one directory."""
    now = json.loads(json.dumps(now))  # turns tuples into lists
    differing = [name for name in now if name in before and before[name] != now[name]]
    if not differing or not any(directory.glob("*/config.json")):
        return
    pairs = [(name, before[name], now[name]) for name in differing]
    if differing == ["shared"]:
        known = {**before["shared"]["recipe"], "texts": before["shared"]["texts"]}
        asked = {**now["shared"]["recipe"], "texts": now["shared"]["texts"]}
        pairs = [(name, known.get(name), asked[name]) for name in asked if known.get(name) != asked[name]]
    shown = "; ".join(f"{name} was {old!r}, now {new!r}" for name, old, new in pairs[:3])
    raise ValueError(
        f"{directory} holds runs of another experiment: {shown}. Repeat that command to resume it, or choose another "
        "directory with --out"
    )
