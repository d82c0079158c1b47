"""`python -m owt_leaderboard.ablate`: the switches of the speedrun one by one, at small scale and equal wall clock."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from owt_leaderboard.ablations import FULL, table, variants, write_results
from owt_leaderboard.subruns import DataFlags, complete_all
from trainer.command_line import run_command


@dataclass(frozen=True)
class Flags:
    """Train the speedrun recipe and variants of it that differ in one switch, and write a table.

    Each run has the same time, each variant several seeds. The same command goes on where it stopped.
    """

    time_limit: str = "5m"
    """Wall-clock time of each run."""
    seeds: int = 3
    """Runs of each variant."""
    variants: tuple[str, ...] = ()
    """Which to train, by default all: the recipe with one thing turned off or on. The full one is always among them."""
    set: tuple[str, ...] = ("d_model=128", "num_layers=4", "num_heads=2", "d_ff=512", "batch_size=16")
    """The sizes and other settings that all runs share; sizes must not depend on how fast a variant is."""
    jobs: int = 1
    """Runs at a time on a CPU, each with its share of the cores."""
    out: Path | None = None
    """Directory of the runs and the table; by default runs/owt-ablations-NAME-LIMIT."""
    data: DataFlags = field(default_factory=DataFlags)


def _run(flags: Flags) -> int:
    from owt_leaderboard.overrides import changed
    from owt_leaderboard.recipes import speedrun
    from trainer import parse_duration, resolve_device

    parse_duration(flags.time_limit)
    for name in ("seeds", "jobs"):
        if getattr(flags, name) < 1:
            raise ValueError(f"--{name} {getattr(flags, name)}: expected 1 or more")
    kind = resolve_device(flags.data.device).type
    if flags.jobs > 1 and kind != "cpu":
        raise ValueError(f"--jobs {flags.jobs} on {kind}: runs that share a device slow each other down; expected 1")
    shared = ("sized_by_budget=False", *flags.set)
    recipe = changed(speedrun(kind), shared)
    known = variants(recipe)
    names = [FULL, *(name for name in flags.variants or known if name != FULL)]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--variants {' '.join(unknown)}: expected some of {', '.join(known)}")
    out = flags.out or Path("runs", f"owt-ablations-{flags.data.name}-{flags.time_limit}")
    title = f"Switches of the speedrun on {flags.data.name}, {recipe.num_layers} layers x {recipe.d_model}"
    planned: dict[Path, tuple[str, list[str]]] = {}
    for seed in range(flags.seeds):  # one of each first, so that an early look compares all
        for name in names:
            arguments = ["--recipe", "speedrun", "--time-limit", flags.time_limit, "--seed", str(seed)]
            arguments += ["--set", *shared, *known[name], *flags.data.arguments()]
            planned[out / f"{name}-seed-{seed}"] = name, arguments
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    runs = [(run_dir, arguments) for run_dir, (_, arguments) in planned.items()]
    for number, (run_dir, summary) in enumerate(complete_all(runs, flags.jobs, print), 1):
        if summary is not None:
            results[planned[run_dir][0]].append(summary)
            print(f"[{number}/{len(runs)}] {run_dir.name}: loss {summary['final_valid_loss']}", flush=True)
        out.mkdir(parents=True, exist_ok=True)
        text = table(results, known, flags.seeds, title, flags.time_limit)
        write_results(out, results, text)
    print(f"\n{text}\nTable: {out / 'ablations.md'}")
    return 0 if all(len(runs) == flags.seeds for runs in results.values()) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not finished, and return the exit code: 0 done, 1 a run failed, 2 wrong input, 130 interrupted."""
    flags = tyro.cli(
        Flags, args=arguments, prog="python -m owt_leaderboard.ablate", config=(tyro.conf.OmitArgPrefixes,)
    )
    return run_command(lambda: _run(flags))


if __name__ == "__main__":
    sys.exit(main())
