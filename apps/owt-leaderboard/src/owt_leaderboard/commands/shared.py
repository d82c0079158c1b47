"""Flags, data and error handling that the commands share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from nnscratch.speedrun import RECIPES, Recipe, RecipeName, changed, compiled_if_it_pays, given_settings
from owt_leaderboard.run import TunedRates, find_rates
from owt_leaderboard.texts import CORPUS, TokenFiles
from trainer.experiments import texts
from trainer.experiments.long_limits import LONG_SECONDS, check_device
from trainer.experiments.running.processes import follow_parent
from trainer.support.command_line import run_command

FlagsT = TypeVar("FlagsT")
RatesSource = Literal["tuned", "recipe"]
RunArgument = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
"""A run directory, given without the name of a flag."""
VALID_BYTES_PER_SECOND = 10_000
"""Validation text of a short run for each second of its limit. Two slow cores evaluated 110 to 210 kB in a second."""


@dataclass(frozen=True)
class DataFlags(texts.DataFlags):
    """The text and the device."""

    corpus = CORPUS

    dataset: str | None = None
    """"sample" (the default: articles composed here, no network needed), "owt" (the course's sample of OpenWebText from
    the Hugging Face hub, 12 GB unpacked, downloaded once) or the path of a text file (.txt, .gz, .zst) whose documents
    are separated by <|endoftext|>, of a table with --column, or of a folder of such files. For a long limit on a GPU
    give it: a sample that was not asked for is refused where it would be seen more than 20 times."""
    valid_bytes: int | None = None
    """Use only the first documents of the validation text, up to this many bytes; 0 uses all of it. By default a run
    of less than ten minutes uses 10 kB for each second of its limit, and everything else uses all."""
    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU) or a device such as cpu, mps, cuda:1. A limit of ten minutes or more on a CPU
    needs cpu here."""

    @property
    def device_type(self) -> str:
        """Type of the device: "cuda", "mps" or "cpu"."""
        from trainer import resolve_device

        return resolve_device(self.device).type

    def for_limit(self, seconds: float) -> "DataFlags":
        """Return these flags with the `valid_bytes` of a time limit, unless they were given."""
        if self.valid_bytes is not None or seconds >= LONG_SECONDS:
            return self
        return replace(self, valid_bytes=int(VALID_BYTES_PER_SECOND * seconds))

    def arguments(self) -> list[str]:
        """Return these flags as arguments of a command line."""
        words = [] if self.dataset is None else ["--dataset", self.dataset]
        words += ["--data-dir", str(self.data_dir), "--device", self.device]
        if self.valid_dataset is not None:
            words += ["--valid-dataset", str(self.valid_dataset)]
        words += [] if self.column is None else ["--column", self.column]
        return words + ([] if self.valid_bytes is None else ["--valid-bytes", str(self.valid_bytes)])


def chosen_recipe(
    name: RecipeName, data: DataFlags, assignments: Sequence[str], seed: int = 0, *, flops: float | None = None
) -> Recipe:
    """Return the recipe of this name for a device and a budget, with the assignments of --set and the seed.

    `flops` are the operations of training, which decide what a GPU trains; None without a time limit.
    """
    return replace(changed(RECIPES[name](data.device_type, flops), assignments), seed=seed)


def budget_flops(data: DataFlags, seconds: float) -> float | None:
    """Return the operations that the devices of a run are expected to compute in a time limit; None for a CPU."""
    from trainer import resolve_device
    from trainer.distributed import read_ranks
    from trainer.experiments.speed_trial import expected_flops

    if data.device_type == "cpu":
        return None
    return expected_flops(resolve_device(data.device), seconds, processes=read_ranks().world_size)


def stored_rates(
    source: RatesSource, files: TokenFiles, device_type: str, recipe: Recipe, assignments: Sequence[str]
) -> TunedRates | None:
    """Return the rates that --rates asks for and `tune` has stored, without those given by --set; None if none are.

    Raises:
        ValueError: If their file is damaged, or of another version.
    """
    return find_rates(files, device_type, recipe, given_settings(assignments)) if source == "tuned" else None


def check_machine(data: DataFlags, recipe: Recipe, seconds: float | None) -> None:
    """Check device and compilers of a run before its data are prepared, which may take hours.

    Args:
        data: The text and the device.
        recipe: The recipe, of which `compile` matters.
        seconds: Time limit; None for a number of steps, which leaves `compile` as it is.

    Raises:
        ValueError: If a long limit would begin on a CPU that the user did not choose, or a compiler is missing.
    """
    from trainer.devices import check_compilers

    kind = data.device_type
    if seconds is not None:
        check_device(data.device, seconds)
        recipe = compiled_if_it_pays(recipe, kind, seconds)
    compiles = recipe.compile == "on" or (recipe.compile == "auto" and kind == "cuda")
    check_compilers(kind, compiles=compiles, without="--set compile=off")


def check_least(name: str, value: int, least: int = 1) -> None:
    """Raise a ValueError if the number given by a flag is too small."""
    if value < least:
        raise ValueError(f"--{name} {value}: expected {least} or more")


def command(flags_type: type[FlagsT], run: Callable[[FlagsT], int], module: str) -> Callable[..., int]:
    """Return the `main` of a command: it parses arguments into flags, runs, and returns the exit code."""

    def main(arguments: Sequence[str] | None = None) -> int:
        follow_parent()
        prog = f"python -m {module}"
        flags = tyro.cli(flags_type, args=arguments, prog=prog, config=(tyro.conf.OmitArgPrefixes,))
        return run_command(lambda: run(flags))

    return main
