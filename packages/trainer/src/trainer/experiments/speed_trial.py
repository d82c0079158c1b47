"""Training speed of a device, measured in a few steps or taken from its known peak, and the sizes that suit it.

`models` is the module `nnscratch.speedrun`, and recipes are its.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from trainer.experiments.speedrun import SpeedrunPackage

if TYPE_CHECKING:
    import torch

    from trainer.config import DtypeName

ASSUMED_UTILISATION = 0.4
"""Assumed MFU of a GPU whose peak is known and that compiles; a trial would have to compile first."""
COMPILED_GAIN = {"cpu": 1.12, "cuda": 2.0}
"""Assumed speed of compiled steps of the speedrun, as a multiple of that of eager steps, by type of device.

On a CPU it is measured: 1.09 from the loss and 1.03 from the update. On CUDA it is not: it follows from the bytes that
element-wise operations move in a pass of 65,536 tokens of 12 layers x 1024, 870 GB eager and 145 GB compiled by
Inductor's own estimate, beside matrix products that compiling does not change. Elsewhere nothing is assumed.
"""
COMPILING_SECONDS = 100.0
"""Assumed seconds of compiling. On a CPU, 27 to 126 s were measured for the loss, and 19 to 65 s for the update."""
_PRODUCT_SIZE, _PRODUCTS = 2048, 10
_TRIAL_SHARE = 0.01  # of the time, for each of two trials
_MAX_SECONDS = 5.0
_MIN_STEPS = 3  # for a median that ignores one step in which the process was stopped
_SKEW = 7  # 2,048 tokens are then about 780 of 4,096; in web texts they are about 700, in stories 500
_TRIAL_TEXT = 2**18  # tokens whose n-grams get rows; 4,096 tokens then use 1,600 of them, and 3,700 in a web text
_MAX_WINDOWS = {"cpu": 8, "mps": 8, "cuda": 64}  # fewer would keep a GPU busy with launches only


def expected_flops(device: torch.device, seconds: float, *, processes: int = 1, dtype: DtypeName = "auto") -> float:
    """Return the floating-point operations of a model that some devices compute in a time, before there is a model.

    The rate is `ASSUMED_UTILISATION` of the peak, or of a device of unknown peak, of the rate of ten square products.

    Args:
        device: The device.
        seconds: Seconds of training.
        processes: Devices of the same kind that share the work.
        dtype: Dtype of the matrix products.
    """
    import torch

    from trainer import resolve_dtype
    from trainer.devices.devices import device_name, synchronize
    from trainer.devices.flops import peak_flops

    resolved = resolve_dtype(dtype, device)
    rate = peak_flops(device_name(device), resolved)
    if rate is None:
        factor = torch.ones(_PRODUCT_SIZE, _PRODUCT_SIZE, device=device, dtype=resolved)
        factor @ factor  # loads the library
        synchronize(device)
        began = time.perf_counter()
        for _ in range(_PRODUCTS):
            factor @ factor
        synchronize(device)
        rate = 2 * _PRODUCT_SIZE**3 * _PRODUCTS / (time.perf_counter() - began)
    return processes * rate * ASSUMED_UTILISATION * seconds


def measure_flops_per_second(
    models: SpeedrunPackage, recipe: Any, vocab_size: int, device: torch.device, dtype: torch.dtype, seconds: float
) -> float:
    """Train the recipe's model on random tokens, and return the model's floating-point operations per second.

    Passes are timed with a few windows and updates separately, because there is one update per batch. Together they
    give the speed of whole batches sooner than whole batches would. The trial takes about `seconds`, and at least three
    steps after a warm-up step. `dtype` is that of the matrix products.
    """
    import torch

    from trainer.checkpoints.random_states import preserved_random_states
    from trainer.devices.devices import autocast, free_cached_memory, is_out_of_memory, synchronize
    from trainer.devices.host_memory import keep_freed_memory

    if device.type == "cpu":
        keep_freed_memory()  # as the trainer does
    windows = min(_MAX_WINDOWS[device.type], recipe.batches.batch_size)
    generator = torch.Generator().manual_seed(0)
    with preserved_random_states():
        model = models.make_model(recipe, vocab_size, device)
    optimizer = models.make_optimizer(model, recipe, dtype)

    def random_tokens(*shape: int) -> torch.Tensor:
        """Most tokens of a text are a few frequent ones, so a sampled loss computes few logits for them."""
        return (vocab_size * torch.rand(shape, generator=generator) ** _SKEW).long()

    models.learn_ngrams(model, random_tokens(_TRIAL_TEXT).numpy())

    def step() -> tuple[float, float]:
        """Return the seconds of the forward and backward pass, and those of the update."""
        shape = windows, recipe.model.context_length
        tokens = random_tokens(*shape).to(device)
        start = time.perf_counter()
        with autocast(device, dtype):
            loss = model.loss(tokens, tokens, num_sampled=recipe.batches.sampled_tokens)
        loss.backward()
        synchronize(device)
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronize(device)
        return middle - start, time.perf_counter() - middle

    while True:  # a GPU may be too small for this many windows
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
    while len(steps) < _MIN_STEPS or time.perf_counter() - began < seconds:
        steps.append(step())
    return flops_per_second_of(recipe, vocab_size, windows, steps)


def flops_per_second_of(recipe: Any, vocab_size: int, windows: int, steps: Sequence[tuple[float, float]]) -> float:
    """Return the operations per second of training with whole batches, from trial steps with fewer windows.

    `steps` are pairs of the seconds of a pass, which grow with its windows, and of an update, which do not.
    """
    passing, updating = (median(seconds) for seconds in zip(*steps, strict=True))
    batch_size = recipe.batches.batch_size
    batch_seconds = passing * batch_size / windows + updating
    return batch_size * recipe.model.context_length / batch_seconds * recipe.flops_per_token(vocab_size)


def size_for_device(
    models: SpeedrunPackage,
    recipe: Any,
    vocab_size: int,
    device: torch.device,
    *,
    seconds: float,
    train_tokens: int,
    processes: int,
    fixed: frozenset[str],
    dtype: DtypeName = "auto",
) -> Any:
    """Return sizes that suit a device, from the peak of a known GPU that compiles, otherwise from one or two trials.

    The second trial runs the sizes that the first one suggests, if they are others. Trials are not compiled, because
    compiling would take longer than they do; if the run will be compiled, an assumed gain is added. Arguments and
    result are those of `choose`, for one device and with `seconds` that include the trials; `dtype` is that of the
    matrix products.
    """
    import torch

    from trainer import resolve_dtype
    from trainer.devices.devices import device_name, free_cached_memory
    from trainer.devices.flops import peak_flops

    def sized(flops_per_second: float, left: float) -> Any:
        return models.choose(
            recipe,
            vocab_size,
            flops_per_second=flops_per_second * processes,
            seconds=left,
            train_tokens=train_tokens,
            fixed=fixed,
            processes=processes,
        )

    name, resolved = device_name(device), resolve_dtype(dtype, device)
    peak = peak_flops(name, resolved)
    compiles = recipe.compile == "on"
    if compiles and peak is not None:
        choice = sized(peak * ASSUMED_UTILISATION, max(1.0, seconds - COMPILING_SECONDS))
        how = f"{name}: assuming {ASSUMED_UTILISATION:.0%} of its peak, after {COMPILING_SECONDS:g} s of compiling"
    else:
        began = time.perf_counter()
        length = min(_MAX_SECONDS, _TRIAL_SHARE * seconds)
        speed = measure_flops_per_second(models, recipe, vocab_size, device, resolved, length)
        first = sized(speed, seconds)
        if _sizes_of(first.recipe) != _sizes_of(recipe):
            speed = measure_flops_per_second(models, first.recipe, vocab_size, device, resolved, length)
        took = time.perf_counter() - began
        left = seconds - took
        how = f"{name}: speed measured in {took:.1f} s"
        if compiles:
            gain = COMPILED_GAIN.get(device.type, 1.0)
            speed *= gain
            left -= COMPILING_SECONDS
            how += f"; assuming {gain:g} times that after {COMPILING_SECONDS:g} s of compiling"
        choice = sized(speed, max(1.0, left))
    reasons = (how, *choice.reasons)
    if device.type == "cuda" and "batches.batch_size" not in fixed:
        free_cached_memory(device)  # of the trials
        free, _ = torch.cuda.mem_get_info(device)
        model = models.make_model(choice.recipe, vocab_size, "meta")
        parameters = sum(parameter.numel() for parameter in model.parameters())
        in_passes = models.in_passes_that_fit(
            choice.recipe, parameters, vocab_size, free, processes=processes, number_bytes=resolved.itemsize
        )
        if in_passes != choice.recipe:
            windows = in_passes.batches.batch_size
            reasons += (f"forward passes of {windows} windows, for {free / 2**30:.0f} GiB of memory",)
            choice = replace(choice, recipe=in_passes)
    return replace(choice, reasons=reasons)


def _sizes_of(recipe: Any) -> tuple[int, ...]:
    """Return the sizes on which the speed depends."""
    model = recipe.model
    return model.num_layers, model.d_model, model.num_heads, model.d_ff, recipe.batches.batch_size
