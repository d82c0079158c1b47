"""`python -m owt_leaderboard.ablate`: the switches of the speedrun one by one, at small scale and equal wall clock.

Or at equal steps, with `--steps`.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from owt_leaderboard.report.ablation_table import FULL, table, variants, write_results
from owt_leaderboard.run.processes import DataFlags, check_recipe, complete_all
from trainer.support.command_line import run_command


@dataclass(frozen=True)
class Flags:
    """Train the speedrun recipe and variants of it that differ in one switch, and write a table.

    Each run has the same time, or with --steps the same tokens; each variant has several seeds. The same command goes
    on where it stopped.
    """

    time_limit: str = "5m"
    """Wall-clock time of each run."""
    steps: int = 0
    """Optimizer steps of each run, instead of a time limit: what a switch teaches, whatever else the machine does.
    What it costs is told by the benchmark of steps; 0 keeps to the time."""
    seeds: int = 3
    """Runs of each variant."""
    variants: tuple[str, ...] = ()
    """Which to train, by default all: the recipe with one thing turned off or on. The full one is always among them."""
    set: tuple[str, ...] = ("d_model=128", "num_layers=4", "num_heads=2", "d_ff=512", "batch_size=16")
    """The sizes and other settings that all runs share; sizes must not depend on how fast a variant is."""
    jobs: int = 1
    """Runs at a time on a CPU, each with its share of the cores."""
    out: Path | None = None
    """Directory of the runs and the table; by default runs/owt-ablations-NAME-LIMIT, or -NUMBER-steps."""
    data: DataFlags = field(default_factory=DataFlags)


def _run(flags: Flags) -> int:
    from owt_leaderboard.recipe.overrides import changed
    from owt_leaderboard.recipe.recipes import speedrun
    from trainer import parse_duration, resolve_device

    parse_duration(flags.time_limit)
    for name, least in (("seeds", 1), ("jobs", 1), ("steps", 0)):
        if getattr(flags, name) < least:
            raise ValueError(f"--{name} {getattr(flags, name)}: expected {least} or more")
    kind = resolve_device(flags.data.device).type
    if flags.jobs > 1 and kind != "cpu":
        raise ValueError(f"--jobs {flags.jobs} on {kind}: runs that share a device slow each other down; expected 1")
    shared = ("sized_by_budget=False", *flags.set)
    recipe = changed(speedrun(kind), shared)
    known = variants(recipe)
    names = [FULL, *(name for name in flags.variants or known if name != FULL)]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--variants {' '.join(unknown)}: expected some of {', '.join(known)}")
    budget = f"{flags.steps}-steps" if flags.steps else flags.time_limit
    out = flags.out or Path("runs", f"owt-ablations-{flags.data.name}-{budget}")
    each = (
        f"{flags.steps:,} optimizer steps" if flags.steps else f"{flags.time_limit} of wall clock, everything included"
    )
    title = f"Switches of the speedrun on {flags.data.name}, {recipe.num_layers} layers x {recipe.d_model}"
    planned: dict[Path, tuple[str, list[str]]] = {}
    for seed in range(flags.seeds):  # one of each first, so that an early look compares all
        for name in names:
            command = ["owt_leaderboard", "--time-limit", flags.time_limit]
            if flags.steps:
                command = ["owt_leaderboard.fixed_steps", "--steps", str(flags.steps)]
            command += ["--recipe", "speedrun", "--seed", str(seed)]
            command += ["--set", *shared, *known[name], *flags.data.arguments()]
            planned[run_dir := out / f"{name}-seed-{seed}"] = name, command
            check_recipe(run_dir, changed(recipe, known[name]))
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    runs = [(run_dir, command) for run_dir, (_, command) in planned.items()]
    for number, (run_dir, summary) in enumerate(complete_all(runs, flags.jobs, print), 1):
        if summary is not None:
            results[planned[run_dir][0]].append(summary)
            print(f"[{number}/{len(runs)}] {run_dir.name}: loss {summary['final_valid_loss']}", flush=True)
        out.mkdir(parents=True, exist_ok=True)
        text = table(results, known, flags.seeds, title, each)
        write_results(out, results, text)
    print(f"\n{text}\nTable: {out / 'ablations.md'}")
    return 0 if all(len(runs) == flags.seeds for runs in results.values()) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is left, and return the exit code: 0 done, 1 a run failed; of failures that of `run_command`."""
    flags = tyro.cli(
        Flags, args=arguments, prog="python -m owt_leaderboard.ablate", config=(tyro.conf.OmitArgPrefixes,)
    )
    return run_command(lambda: _run(flags))


if __name__ == "__main__":
    sys.exit(main())
