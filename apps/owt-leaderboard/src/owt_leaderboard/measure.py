"""`python -m owt_leaderboard.measure`: short runs of different limits, for the predictions of `plan`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from owt_leaderboard.run.processes import DataFlags, check_recipe, complete
from trainer.support.command_line import run_command


@dataclass(frozen=True)
class Flags:
    """Train the speedrun recipe for several limits, each with the sizes of its budget, and write what was measured.

    The same command goes on where it stopped.
    """

    limits: tuple[str, ...] = ("1m", "2m", "4m", "8m")
    """Wall-clock time of each run; the wider apart, the better the slope is known."""
    seeds: int = 1
    """Runs of each limit."""
    set: tuple[str, ...] = ()
    """Changes of the recipe, as for `python -m owt_leaderboard`."""
    out: Path | None = None
    """Directory of the runs and of measurements.json; by default runs/owt-scaling-NAME."""
    data: DataFlags = field(default_factory=DataFlags)


def _run(flags: Flags) -> int:
    from owt_leaderboard.budget.scaling import measurement_of, write_measurements
    from owt_leaderboard.recipe.overrides import changed
    from owt_leaderboard.recipe.recipes import speedrun
    from trainer import parse_duration, resolve_device

    if flags.seeds < 1:
        raise ValueError(f"--seeds {flags.seeds}: expected 1 or more")
    for limit in flags.limits:
        parse_duration(limit)
    out = flags.out or Path("runs", f"owt-scaling-{flags.data.name}")
    recipe = changed(speedrun(resolve_device(flags.data.device).type), flags.set)
    measured, failed = [], 0
    for seed in range(flags.seeds):
        for limit in flags.limits:
            run_dir = out / f"{limit}-seed-{seed}"
            check_recipe(run_dir, recipe)
            command = ["owt_leaderboard", "--recipe", "speedrun", "--time-limit", limit, "--seed", str(seed)]
            command += (["--set", *flags.set] if flags.set else []) + flags.data.arguments()
            summary = complete(run_dir, command, print)
            if summary is None or summary["final_valid_loss"] is None:
                failed += 1
                continue
            measured.append(one := measurement_of(run_dir, flags.data.name))
            print(f"{limit}: {one.num_layers} x {one.d_model}, {one.tokens:,} tokens, loss {one.loss:.4f}", flush=True)
            write_measurements(out / "measurements.json", measured)
    print(f"{len(measured)} runs measured, {failed} failed: {out / 'measurements.json'}, for plan --measurements")
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return the exit code: 0 done, 1 a run failed; of failures that of `run_command`."""
    flags = tyro.cli(
        Flags, args=arguments, prog="python -m owt_leaderboard.measure", config=(tyro.conf.OmitArgPrefixes,)
    )
    return run_command(lambda: _run(flags))


if __name__ == "__main__":
    sys.exit(main())
