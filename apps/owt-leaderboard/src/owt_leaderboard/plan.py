"""`python -m owt_leaderboard.plan`: size, tokens, speed and loss to expect of a device and a time limit."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from trainer.support.command_line import run_command


@dataclass(frozen=True)
class Flags:
    """Predict what a run will be, by measured runs of the same device or by the peak of a GPU; nothing is trained."""

    time_limit: str = "1.5h"
    """Wall-clock time from the start of the process to its end, as 1.5h, 45m or 90s."""
    device: str = "auto"
    """"auto", cpu, mps, cuda:1 for a device of this machine, or the name of another or its beginning, such as
    "NVIDIA H100"."""
    dataset: str = "owt"
    """The data set of the measured runs, by its name."""
    measurements: Path | None = None
    """What `python -m owt_leaderboard.measure` wrote; by default what this package ships."""


def _run(flags: Flags) -> int:
    from owt_leaderboard.budget.scaling import (
        LEAST_RUNS,
        PACKAGED,
        measured_on,
        nearest_speed,
        predict_loss,
        read_measurements,
    )
    from owt_leaderboard.budget.sizing import TRAINING_SHARE, choose, flops_per_training_token
    from owt_leaderboard.budget.speed_trial import ASSUMED_UTILISATION, COMPILING_SECONDS
    from owt_leaderboard.recipe.recipes import speedrun
    from owt_leaderboard.run.timed_run import compiled_if_it_pays
    from trainer import parse_duration

    limit = parse_duration(flags.time_limit)
    name, kind, peak = _device(flags.device)
    recipe = speedrun(kind)
    known = measured_on(name, flags.dataset, read_measurements(flags.measurements or PACKAGED))
    print(f"{known[0].device if known else name}, {limit:,.0f} s, {flags.dataset}")
    if known:
        if kind != "cuda" and known[0].vocab_size == speedrun("cuda").vocab_size:  # a GPU whose peak is not known
            recipe = speedrun("cuda")
        speed, share = nearest_speed(known, limit)
        how = f"speed of the nearest of {len(known)} measured runs"
    elif peak is not None:
        speed, share = peak * ASSUMED_UTILISATION, TRAINING_SHARE
        if compiled_if_it_pays(recipe, kind, limit).compile == "on":
            share -= COMPILING_SECONDS / limit
        how = f"no measurements for this device yet: {ASSUMED_UTILISATION:.0%} of its peak assumed"
    else:
        print("no measurements for this device yet: make some with python -m owt_leaderboard.measure")
        return 1
    choice = choose(recipe, recipe.vocab_size, flops_per_second=speed, seconds=share * limit, train_tokens=None)
    print(how)
    for reason in choice.reasons:
        print(reason)
    print(f"size: {choice.recipe.num_layers} layers x {choice.recipe.d_model}, {choice.parameters:,} parameters")
    print(f"tokens: {choice.tokens:,.0f}, {choice.tokens_per_second:,.0f} per second")
    if len(known) < LEAST_RUNS:
        print(f"loss: not predicted, for {len(known)} measured runs of this device and data are too few")
        return 0
    loss = predict_loss(known, choice.tokens * flops_per_training_token(choice.recipe, recipe.vocab_size))
    print(f"loss: {loss.loss:.3f}, 95 % interval [{loss.low:.3f}, {loss.high:.3f}] of a fit to {len(known)} runs")
    if loss.beyond > 1:
        print(f"an extrapolation, to {loss.beyond:.1f} times the largest compute measured; a power law has no floor")
    return 0


def _device(device: str) -> tuple[str, str, float | None]:
    """Name, kind and peak of a device of this machine, or of one that is only named."""
    import torch

    from trainer import resolve_device, resolve_dtype
    from trainer.devices.devices import device_name
    from trainer.devices.flops import peak_flops

    if device == "auto" or device.split(":")[0] in ("cpu", "mps", "cuda"):
        where = resolve_device(device)
        return device_name(where), where.type, peak_flops(device_name(where), resolve_dtype("auto", where))
    peak = peak_flops(device, torch.bfloat16)
    return device, "cpu" if peak is None else "cuda", peak


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict, and return the exit code: 0 done, 1 the device is unknown; of failures that of `run_command`."""
    flags = tyro.cli(Flags, args=arguments, prog="python -m owt_leaderboard.plan")
    return run_command(lambda: _run(flags))


if __name__ == "__main__":
    sys.exit(main())
