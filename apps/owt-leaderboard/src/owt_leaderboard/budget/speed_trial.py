"""How fast a device trains: a few steps of a model, measured."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from owt_leaderboard.budget.memory import in_passes_that_fit
from owt_leaderboard.budget.sizing import Choice, choose, flops_per_training_token
from owt_leaderboard.recipe.assembly import make_model, make_optimizer
from owt_leaderboard.recipe.recipes import Recipe

if TYPE_CHECKING:
    import torch

ASSUMED_UTILISATION = 0.4  # of a GPU whose peak is known, if it compiles; a trial would have to do so first
# Of torch.compile on a CPU, for the speedrun: 1.09 by the loss and 1.03 by the update; 27 to 126 s, and 19 to 65 s.
# Taken for GPUs, too, where neither has been measured.
COMPILED_GAIN, COMPILING_SECONDS = 1.12, 100.0
_TRIAL_SHARE = 0.01  # of the time, for each of two trials
_MOST_SECONDS = 20.0
_LEAST_STEPS = 2
_MOST_WINDOWS = {"cpu": 8, "mps": 8, "cuda": 64}  # few keep a GPU busy with launching only


def measure_flops_per_second(recipe: Recipe, vocab_size: int, device: "torch.device", seconds: float) -> float:
    """Train the recipe's model on random tokens, and return how many of its operations were made in a second.

    Passes are timed with a few windows, and updates by themselves, which are one for each batch: both together tell the
    speed of whole batches sooner than these would.

    Args:
        recipe: its sizes are those of the trial.
        vocab_size: entries of the tokenizer.
        device: where to compute.
        seconds: about how long; two updates are timed at least, after a first one that does not count, and those in
            which the process was stopped do not either.
    """
    import torch

    from trainer import resolve_dtype
    from trainer.checkpoints.random_states import preserved_random_states
    from trainer.devices.devices import autocast, free_cached_memory, is_out_of_memory, synchronize
    from trainer.devices.host_memory import keep_freed_memory
    from trainer.interruption import Continuations

    if device.type == "cpu":
        keep_freed_memory()  # as the trainer will
    windows = min(_MOST_WINDOWS[device.type], recipe.batch_size)
    generator = torch.Generator().manual_seed(0)
    with preserved_random_states():
        model = make_model(recipe, vocab_size, device)
    optimizer = make_optimizer(model, recipe, str(device))
    dtype = resolve_dtype("auto", device)

    def step() -> tuple[float, float]:
        """Seconds of the passes, and of the update."""
        tokens = torch.randint(vocab_size, (windows, recipe.context_length), generator=generator).to(device)
        start = time.perf_counter()
        with autocast(device, dtype):
            loss = model.loss(tokens, tokens)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        synchronize(device)
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronize(device)
        return middle - start, time.perf_counter() - middle

    while True:  # a GPU may be too small for so many windows
        try:
            step()
            break
        except RuntimeError as error:
            if windows == 1 or not is_out_of_memory(error):
                raise
        windows //= 2
        optimizer.zero_grad(set_to_none=True)
        free_cached_memory(device)
    steps: list[tuple[float, float]] = []
    began = time.perf_counter()
    with Continuations() as stops:
        while len(steps) < _LEAST_STEPS or time.perf_counter() - began < seconds:
            taken = step()
            if not stops.count:
                steps.append(taken)
            stops.count = 0
    return computed_per_second(recipe, vocab_size, windows, steps)


def computed_per_second(recipe: Recipe, vocab_size: int, windows: int, steps: Sequence[tuple[float, float]]) -> float:
    """Operations in a second of training with whole batches, by trial steps with a part of the windows of one.

    Args:
        recipe: its sizes.
        vocab_size: entries of the tokenizer.
        windows: in the passes that were timed.
        steps: of each the seconds of its passes, which grow with the windows, and of its update, which do not.
    """
    passing, updating = (sum(seconds) / len(steps) for seconds in zip(*steps, strict=True))
    batch_seconds = passing * recipe.batch_size / windows + updating
    tokens_per_second = recipe.batch_size * recipe.context_length / batch_seconds
    return tokens_per_second * flops_per_training_token(recipe, vocab_size)


def size_for_device(
    recipe: Recipe,
    vocab_size: int,
    device: "torch.device",
    *,
    seconds: float,
    train_tokens: int,
    processes: int,
    fixed: frozenset[str],
) -> Choice:
    """Choose sizes by the speed of a device: of a GPU that compiles by its peak, else by trials, two of them.

    The second is of what the first chose. They are not compiled, which would take longer than they do; where `compile`
    is "on", the gain is assumed.

    Args:
        recipe: what to size.
        vocab_size: entries of the tokenizer.
        device: where it is to train.
        seconds: of training, the trials included.
        train_tokens: in the training text.
        processes: devices like this one that train together.
        fixed: sizes that are given.
    """
    import torch

    from trainer import resolve_dtype
    from trainer.devices.devices import device_name, free_cached_memory
    from trainer.devices.flops import peak_flops

    def sized(flops_per_second: float, left: float) -> Choice:
        return choose(
            recipe,
            vocab_size,
            flops_per_second=flops_per_second * processes,
            seconds=left,
            train_tokens=train_tokens,
            fixed=fixed,
            processes=processes,
        )

    name, dtype = device_name(device), resolve_dtype("auto", device)
    peak = peak_flops(name, dtype)
    compiles = recipe.compile == "on"
    if compiles and peak is not None:
        choice = sized(peak * ASSUMED_UTILISATION, max(1.0, seconds - COMPILING_SECONDS))
        how = f"{name}: {ASSUMED_UTILISATION:.0%} of its peak assumed, after {COMPILING_SECONDS:g} s of compiling"
    else:
        began = time.perf_counter()
        length = min(_MOST_SECONDS, _TRIAL_SHARE * seconds)
        first = sized(measure_flops_per_second(recipe, vocab_size, device, length), seconds)
        speed = measure_flops_per_second(first.recipe, vocab_size, device, length)
        took = time.perf_counter() - began
        left = seconds - took
        how = f"{name}: speed measured in {took:.1f} s"
        if compiles:
            speed *= COMPILED_GAIN
            left -= COMPILING_SECONDS
            how += f", and {COMPILED_GAIN:g} times that when it is compiled, in {COMPILING_SECONDS:g} s"
        choice = sized(speed, max(1.0, left))
    reasons = (how, *choice.reasons)
    if device.type == "cuda" and "batch_size" not in fixed:
        free_cached_memory(device)  # of the trials
        free, _ = torch.cuda.mem_get_info(device)
        parameters = sum(parameter.numel() for parameter in make_model(choice.recipe, vocab_size, "meta").parameters())
        in_passes = in_passes_that_fit(
            choice.recipe, parameters, vocab_size, free, processes=processes, number_bytes=dtype.itemsize
        )
        if in_passes != choice.recipe:
            reasons += (f"forward passes of {in_passes.batch_size} windows, for {free / 2**30:.0f} GiB of memory",)
            choice = replace(choice, recipe=in_passes)
    return replace(choice, reasons=reasons)
