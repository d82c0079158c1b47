"""Command `python -m owt_leaderboard.measure`: short runs of several limits, for the predictions of `plan`."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from owt_leaderboard.budget import write_measurements
from owt_leaderboard.commands.shared import DataFlags, budget_flops, check_least, check_machine, chosen_recipe, command
from owt_leaderboard.run import PlannedRun, complete, measurement_of


@dataclass(frozen=True)
class Flags:
    """Train the speedrun recipe for several limits, each with the sizes of its budget, and write the measurements.

    All are evaluated on the same part of the validation text, that of the shortest limit. The same command resumes
    where it stopped.
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
    from trainer import parse_duration

    check_least("seeds", flags.seeds)
    seconds_of = {limit: parse_duration(limit) for limit in flags.limits}
    data = flags.data.for_limit(min(seconds_of.values()))  # the law is fitted to losses on the same text
    out = flags.out or Path("runs", f"owt-scaling-{data.name}")
    recipes = {
        limit: chosen_recipe("speedrun", data, flags.set, flops=budget_flops(data, seconds))
        for limit, seconds in seconds_of.items()
    }
    for limit, seconds in seconds_of.items():
        check_machine(data, recipes[limit], seconds)
    measured, failed = [], 0
    for seed in range(flags.seeds):
        for limit in flags.limits:
            run_dir = out / f"{limit}-seed-{seed}"
            words = ["owt_leaderboard", "--recipe", "speedrun", "--time-limit", limit, "--seed", str(seed)]
            words += ["--rates", "recipe"]  # a later search would make later runs differ
            words += (["--set", *flags.set] if flags.set else []) + data.arguments()
            summary = complete(PlannedRun(run_dir, words, replace(recipes[limit], seed=seed)), print)
            if summary is None or summary["final_valid_loss"] is None:
                failed += 1
                continue
            measured.append(one := measurement_of(run_dir, data.name))
            print(f"{limit}: {one.num_layers} x {one.d_model}, {one.tokens:,} tokens, loss {one.loss:.4f}", flush=True)
            write_measurements(out / "measurements.json", measured)
    print(f"{len(measured)} runs measured, {failed} failed; use with plan --measurements {out / 'measurements.json'}")
    return 1 if failed else 0


main = command(Flags, _run, "owt_leaderboard.measure")
