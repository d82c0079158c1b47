"""Command `python -m owt_leaderboard.plan`: size, tokens, speed and loss to expect of a device and a time limit."""

from dataclasses import dataclass
from pathlib import Path

from nnscratch.speedrun import TRAINING_SHARE, choose, compiled_if_it_pays, speedrun
from owt_leaderboard.budget import (
    MIN_RUNS,
    PACKAGED,
    measured_on,
    nearest_speed,
    predict_loss,
    read_measurements,
)
from owt_leaderboard.commands.shared import command
from trainer.experiments.speed_trial import ASSUMED_UTILISATION, COMPILING_SECONDS


@dataclass(frozen=True)
class Flags:
    """Predict a run from measured runs of the same device, or from the peak of a GPU; nothing is trained."""

    time_limit: str = "1.5h"
    """Wall-clock time from the start of the process to its end, as 1.5h, 45m or 90s."""
    device: str = "auto"
    """"auto", cpu, mps or cuda:1 for a device of this machine, or the name of another or its beginning, such as
    "NVIDIA H100"."""
    dataset: str = "owt"
    """Data set of the measured runs, by its name."""
    measurements: Path | None = None
    """File that `python -m owt_leaderboard.measure` wrote; by default the one that this package ships."""


def _run(flags: Flags) -> int:
    from trainer import parse_duration

    limit = parse_duration(flags.time_limit)
    name, kind, peak = _device(flags.device)
    known = measured_on(name, flags.dataset, read_measurements(flags.measurements or PACKAGED))
    print(f"{known[0].device if known else name}, {limit:,.0f} s, {flags.dataset}")
    if known:
        recipe = speedrun("cuda")  # of a measured GPU, known or not
        if known[0].vocab_size != recipe.model.vocab_size:
            recipe = speedrun(kind, 0.0)
        speed, share = nearest_speed(known, limit)
        print(f"speed of the nearest of {len(known)} measured runs")
    elif peak is not None:
        speed, share = peak * ASSUMED_UTILISATION, TRAINING_SHARE
        recipe = speedrun(kind, speed * limit)
        if compiled_if_it_pays(recipe, kind, limit).compile == "on":
            share -= COMPILING_SECONDS / limit
        print(f"no measurements for this device yet: assuming {ASSUMED_UTILISATION:.0%} of its peak")
    else:
        print("no measurements for this device yet: make some with python -m owt_leaderboard.measure")
        return 1
    vocab_size, length = recipe.model.vocab_size, recipe.model.context_length
    if others := sorted({run.context_length for run in known} - {length}):
        print(
            f"runs with windows of {', '.join(map(str, others))} tokens are among the measured ones, and the recipe "
            f"has {length} now: they show the speed and the loss of an earlier recipe"
        )
    choice = choose(recipe, vocab_size, flops_per_second=speed, seconds=share * limit, train_tokens=None)
    for reason in choice.reasons:
        print(reason)
    model = choice.recipe.model
    print(f"size: {model.num_layers} layers x {model.d_model}, {choice.parameters:,} parameters")
    print(f"tokens: {choice.tokens:,.0f}, {choice.tokens_per_second:,.0f} per second")
    if len(known) < MIN_RUNS:
        print(
            f"loss: no prediction from {len(known)} measured runs of this device and data; expected {MIN_RUNS} or more"
        )
        return 0
    loss = predict_loss(known, choice.tokens * choice.recipe.flops_per_token(vocab_size))
    print(f"loss: {loss.loss:.3f}, 95 % interval [{loss.low:.3f}, {loss.high:.3f}], from a fit to {len(known)} runs")
    if loss.extrapolation > 1:
        beyond = f"{loss.extrapolation:.1f} times the largest measured compute"
        print(f"this extrapolates to {beyond}; a power law has no floor, so it is too optimistic there")
    return 0


def _device(device: str) -> tuple[str, str, float | None]:
    """Return name, type and peak of a device of this machine, or of one that is only named."""
    import torch

    from trainer import resolve_device, resolve_dtype
    from trainer.devices.devices import device_name
    from trainer.devices.flops import peak_flops

    if device == "auto" or device.split(":")[0] in ("cpu", "mps", "cuda"):
        where = resolve_device(device)
        return device_name(where), where.type, peak_flops(device_name(where), resolve_dtype("auto", where))
    peak = peak_flops(device, torch.bfloat16)
    return device, "cpu" if peak is None else "cuda", peak


main = command(Flags, _run, "owt_leaderboard.plan")
