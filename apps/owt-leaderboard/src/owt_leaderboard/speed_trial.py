"""How fast a device trains: a few steps of a model, measured."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from owt_leaderboard.building import make_model, make_optimizer
from owt_leaderboard.recipes import Recipe
from owt_leaderboard.sizing import Choice, choose, flops_per_training_token

if TYPE_CHECKING:
    import torch

ASSUMED_UTILISATION = 0.4  # of a GPU whose peak is known; a trial would have to compile first
# Of torch.compile on a CPU, for the speedrun: 1.09 by the loss and 1.03 by the update; 27 to 126 s, and 19 to 65 s.
COMPILED_GAIN, COMPILING_SECONDS = 1.12, 100.0
_TRIAL_SHARE = 0.01  # of the time, for each of two trials
_MOST_SECONDS = 20.0
_LEAST_STEPS = 2
_MOST_WINDOWS = 8


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
    from trainer.devices import autocast, synchronize
    from trainer.host_memory import keep_freed_memory
    from trainer.interruption import Continuations

    if device.type == "cpu":
        keep_freed_memory()  # as the trainer will
    windows = min(_MOST_WINDOWS, recipe.batch_size)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
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

    step()
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
    """Choose sizes by the speed of a device: of a GPU by its peak, else by trials, the second of what the first chose.

    Trials are not compiled, which would take longer than they do; where `compile` is "on", the gain is assumed.

    Args:
        recipe: what to size.
        vocab_size: entries of the tokenizer.
        device: where it is to train.
        seconds: of training, the trials included.
        train_tokens: in the training text.
        processes: devices like this one that train together.
        fixed: sizes that are given.
    """
    from trainer import resolve_dtype
    from trainer.devices import device_name
    from trainer.speed import peak_flops

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

    name = device_name(device)
    peak = peak_flops(name, resolve_dtype("auto", device))
    if peak is not None:
        choice = sized(peak * ASSUMED_UTILISATION, seconds)
        how = f"{name}: {ASSUMED_UTILISATION:.0%} of its peak assumed"
    else:
        began = time.perf_counter()
        length = min(_MOST_SECONDS, _TRIAL_SHARE * seconds)
        first = sized(measure_flops_per_second(recipe, vocab_size, device, length), seconds)
        speed = measure_flops_per_second(first.recipe, vocab_size, device, length)
        took = time.perf_counter() - began
        left = seconds - took
        how = f"{name}: speed measured in {took:.1f} s"
        if recipe.compile == "on":
            speed *= COMPILED_GAIN
            left -= COMPILING_SECONDS
            how += f", and {COMPILED_GAIN:g} times that when it is compiled, in {COMPILING_SECONDS:g} s"
        choice = sized(speed, max(1.0, left))
    return Choice(choice.recipe, choice.tokens_per_second, choice.tokens, choice.parameters, (how, *choice.reasons))
