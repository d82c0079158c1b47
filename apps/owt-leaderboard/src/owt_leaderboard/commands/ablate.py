"""Command `python -m owt_leaderboard.ablate`: the switches of the speedrun, one by one, at small scale."""

import shlex
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from nnscratch.speedrun import changed
from owt_leaderboard.commands.shared import DataFlags, budget_flops, check_least, check_machine, chosen_recipe, command
from owt_leaderboard.run import PlannedRun, complete_all, finished
from owt_leaderboard.variants import FULL, variants
from trainer.experiments.reporting import report, write_report
from trainer.experiments.results import Described, Experiment, Wording, read_experiment, write_header
from trainer.experiments.running.ray_engine import EngineName, RayEngine, check_engine


@dataclass(frozen=True)
class Flags:
    """Train the speedrun recipe and variants of it that differ in one switch, and write a report.

    Every run has the same time, or with --steps the same tokens; each variant has several seeds. The same command
    resumes where it stopped. Where the text repeats, nothing is masked or dropped, because no budget decides: give
    masked_inputs and ngram_dropout in --set.
    """

    time_limit: str = "5m"
    """Wall-clock time of each run."""
    steps: int = 0
    """Optimizer steps of each run, instead of a time limit: compares what a switch teaches, whatever else the machine
    does. The benchmark of steps measures what it costs. 0 keeps the time limit."""
    seeds: int = 3
    """Runs of each variant."""
    variants: tuple[str, ...] = ()
    """Variants to train, by default all: the recipe with one thing turned off or on. The full recipe always
    runs too."""
    set: tuple[str, ...] = ("d_model=128", "num_layers=4", "num_heads=2", "d_ff=512", "batch_size=8")
    """Sizes and other settings of all runs; sizes must not depend on how fast a variant is."""
    jobs: int = 1
    """Runs at a time on a CPU, each with its share of the cores. On Ray: at a time on each machine without GPUs."""
    engine: EngineName = "local"
    """Train on this machine, or as tasks on the Ray cluster of RAY_ADDRESS, with a GPU for each run if it has some;
    without RAY_ADDRESS Ray is started here. --out, --data-dir and the text must be in a folder that all machines
    share."""
    out: Path | None = None
    """Directory of the runs and the report; by default runs/owt-ablations-NAME-LIMIT, or -NUMBER-steps."""
    data: DataFlags = field(default_factory=DataFlags)


def _run(flags: Flags) -> int:
    from trainer import parse_duration

    limit = parse_duration(flags.time_limit)
    check_engine(flags.engine)
    for name, least in (("seeds", 1), ("jobs", 1), ("steps", 0)):
        check_least(name, getattr(flags, name), least)
    data = flags.data
    if flags.jobs > 1 and data.device_type != "cpu":
        raise ValueError(
            f"--jobs {flags.jobs} on {data.device_type}: runs that share a device slow each other down; expected 1"
        )
    shared = ("sized_by_budget=False", *flags.set)
    recipe = chosen_recipe("speedrun", data, shared, flops=None if flags.steps else budget_flops(data, limit))
    check_machine(data, recipe, None if flags.steps else limit)
    known = variants(recipe)
    names = [FULL, *(name for name in flags.variants or known if name != FULL)]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--variants {' '.join(unknown)}: expected some of {', '.join(known)}")
    budget = f"{flags.steps}-steps" if flags.steps else flags.time_limit
    out = flags.out or Path("runs", f"owt-ablations-{data.name}-{budget}")
    words = ["owt_leaderboard", "--time-limit", flags.time_limit, "--rates", "recipe"]
    note = f"Every run has {flags.time_limit} of wall clock, everything included; faster variants see more tokens."
    if flags.steps:
        words = ["owt_leaderboard.fixed_steps", "--steps", str(flags.steps)]
        note = f"Every run makes {flags.steps:,} optimizer steps, however long they take."
    runs: list[PlannedRun] = []
    for seed in range(flags.seeds):  # one run of each variant first, so that an early look compares them all
        for name in names:
            settings = ["--recipe", "speedrun", "--seed", str(seed), "--set", *shared, *known[name]]
            planned = changed(replace(recipe, seed=seed), known[name])
            runs.append(PlannedRun(out / f"{name}-seed-{seed}", [*words, *settings, *data.arguments()], planned))
    title = f"Switches of the speedrun on {data.name}, {recipe.model.num_layers} layers x {recipe.model.d_model}"
    described = {name: Described(" ".join(known[name]) or "the recipe") for name in known}
    shown = shlex.join(["python", "-m", "owt_leaderboard.ablate", *sys.argv[1:]])
    wording = Wording(described, FULL, command=lambda _: shown)

    def experiment() -> Experiment:
        write_header(out, "ablations", title, data.name, notes=[note])
        return read_experiment(out, wording)

    number, earlier = 0, sum(finished(run.run_dir) is not None for run in runs)

    def ended(run: PlannedRun, summary: dict[str, Any] | None) -> None:
        nonlocal number
        number += 1
        if summary is not None:
            print(f"[{number}/{len(runs)}] {run.run_dir.name}: loss {summary['final_valid_loss']}", flush=True)
        if earlier < number < len(runs):
            write_report(experiment(), out)

    engine = RayEngine(out, [], device=data.device, jobs=flags.jobs) if flags.engine == "ray" else None
    complete_all(runs, flags.jobs, partial(print, flush=True), ended, engine)
    report(experiment(), out)
    return 0 if all(finished(run.run_dir) is not None for run in runs) else 1


main = command(Flags, _run, "owt_leaderboard.ablate")
