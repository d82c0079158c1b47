"""From a recipe to its model, optimizer, learning-rate schedule and loss."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from nnscratch.speedrun.recipes import Recipe

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn
    from torch.optim import Optimizer

    from nnscratch.language_model import LanguageModel
    from nnscratch.speedrun.language_model import SpeedrunLM

SCHEDULE_STEPS = 10_000
"""Resolution of the schedule: the clock moves it from step 0 to this step."""
_COUNTED_TOKENS = 2**24  # counting the triples of so many takes 2 s and a gigabyte of memory


def make_model(recipe: Recipe, vocab_size: int, device: "torch.device | str | None" = None) -> "SpeedrunLM":
    """Return the recipe's model, for a tokenizer that may have fewer entries than the recipe asks for.

    Weights are drawn from torch's global random state, on the device itself because a GPU is fast at it.
    """
    from nnscratch.speedrun.language_model import SpeedrunLM

    return SpeedrunLM(replace(recipe.model, vocab_size=vocab_size), device)


def learn_ngrams(model: "SpeedrunLM", token_ids: "np.ndarray[Any, Any]") -> None:
    """Give rows to the n-grams that are frequent in a training text, if the model has tables of such n-grams.

    The first 16.8 M tokens decide.
    """
    if model.config.ngram_rows is not None and model.config.ngram_min_count is not None:
        import numpy as np
        import torch

        counted = torch.from_numpy(np.array(token_ids[:_COUNTED_TOKENS], dtype=np.int64))
        model.ngram_embeddings.learn_ngrams(counted)


def make_optimizer(model: "SpeedrunLM", recipe: Recipe, dtype: "torch.dtype | None" = None) -> "Optimizer":
    """Return AdamW for everything, or Muon for the matrices inside the blocks and AdamW for the rest.

    Tables of n-grams have RowwiseAdagrad. A group's `lr_scale` is its rate as a multiple of the recipe's
    `learning_rate`, which the schedule sets.

    Args:
        model: The model.
        recipe: Its recipe.
        dtype: Dtype of Muon's products, best that of the other products in training; by default as in `Muon`.
    """
    from nnscratch.optimizers import AdamW, CombinedOptimizer, Muon, RowwiseAdagrad

    settings = recipe.optimizer
    rates = {
        "matrices": settings.muon_learning_rate,
        "embeddings": settings.embedding_learning_rate,
        "head": settings.head_learning_rate,
        "scalars": settings.scalar_learning_rate,
        "tables": settings.table_learning_rate,
    }
    base, decay = settings.learning_rate, settings.weight_decay
    groups: dict[str, dict[str, Any]] = {
        name: {"params": parameters, "lr": rates[name] or base, "lr_scale": (rates[name] or base) / base}
        for name, parameters in model.parameter_groups().items()
        if parameters
    }
    optimizers: list[Optimizer] = []
    if "tables" in groups:
        optimizers.append(RowwiseAdagrad([groups.pop("tables")], weight_decay=settings.table_weight_decay))
    if settings.kind == "adamw":
        if len({group["lr_scale"] for group in groups.values()}) == 1:  # one group takes fewer kernels
            groups = {"all": {"params": [p for group in groups.values() for p in group["params"]]}}
        optimizers.insert(0, AdamW(groups.values(), lr=base, betas=settings.betas, weight_decay=decay))
        return optimizers[0] if len(optimizers) == 1 else CombinedOptimizer(optimizers)
    muon = Muon(
        [groups.pop("matrices")],
        momentum=settings.muon_momentum,
        weight_decay=decay,
        cautious_weight_decay=settings.cautious_weight_decay,
        coefficients="polar-express",
        normuon=settings.normuon,
        newton_schulz_dtype=dtype,
    )
    rest = AdamW(groups.values(), lr=base, betas=settings.betas, weight_decay=0.0)
    return CombinedOptimizer([muon, rest, *optimizers])


def rate_factor(recipe: Recipe) -> float:
    """Return the factor of all learning rates that `reference_batch_tokens` asks for, given the size of a step."""
    reference = recipe.optimizer.reference_batch_tokens
    return 1.0 if reference is None else (recipe.step_tokens / reference) ** 0.5


def learning_rate_schedule(recipe: Recipe, ticks: int = SCHEDULE_STEPS) -> Callable[[int], float]:
    """Return the learning rate as a function of the tick of the clock, or of the step in a run measured in steps.

    Sizes must have been chosen, because `reference_batch_tokens` compares with those of the recipe.
    """
    from nnscratch.optimizers import cosine_schedule, trapezoid_schedule

    settings, max_lr = recipe.schedule, recipe.optimizer.learning_rate * rate_factor(recipe)
    min_lr = max_lr * settings.final_learning_rate_fraction
    warmup = round(ticks * settings.warmup_fraction)
    decay_start = max(warmup, round(ticks * (1 - settings.decay_fraction)))

    def schedule(tick: int) -> float:
        step = tick + 1  # the first update happens at tick 0, and a rate of zero would waste it
        if settings.kind == "cosine":
            return cosine_schedule(step, max_lr=max_lr, min_lr=min_lr, warmup_steps=warmup, decay_steps=ticks)
        return trapezoid_schedule(
            step, max_lr=max_lr, min_lr=min_lr, warmup_steps=warmup, decay_start=decay_start, decay_steps=ticks
        )

    return schedule


def momentum_schedule(recipe: Recipe, ticks: int = SCHEDULE_STEPS) -> Callable[[int], float] | None:
    """Return the factor of Muon's momentum as a function of the tick; None if the momentum stays as it is.

    It rises linearly from `muon_momentum_start`, and falls back to it in a cool-down (modded-nanogpt).
    """
    settings, start = recipe.optimizer, recipe.optimizer.muon_momentum_start
    if settings.kind != "muon" or start is None:
        return None
    lowest, schedule = start / settings.muon_momentum, recipe.schedule
    points = [(0.0, lowest), (schedule.momentum_warmup_fraction, 1.0)]
    if schedule.momentum_cooldown_fraction:
        points += [(1.0 - schedule.momentum_cooldown_fraction, 1.0), (1.0, lowest)]
    return _interpolation(points, ticks)


def weight_decay_schedule(recipe: Recipe, ticks: int = SCHEDULE_STEPS) -> Callable[[int], float] | None:
    """Return the factor of all weight decays as a function of the tick; None if they stay as they are."""
    points = recipe.schedule.weight_decay_factors
    return _interpolation(points, ticks) if points else None


def _interpolation(points: Sequence[tuple[float, float]], ticks: int) -> Callable[[int], float]:
    """Return the linear interpolation, by tick, of pairs of a share of the ticks and a value."""
    shares = [share for share, _ in points]

    def schedule(tick: int) -> float:
        share = tick / max(1, ticks - 1)
        after = bisect_right(shares, share)
        (left, low), (right, high) = points[max(0, after - 1)], points[min(after, len(points) - 1)]
        return low if left == right else low + (high - low) * (share - left) / (right - left)

    return schedule


def make_loss(recipe: Recipe, mask_id: int) -> "Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]":
    """Return the mean loss of a batch, as a function of the model, its inputs and their targets.

    In training, `masked_inputs` are replaced by the token `mask_id`, best one that occurs in no text.
    """
    import torch

    share, sampled = recipe.batches.masked_inputs or 0.0, recipe.batches.sampled_tokens

    def loss(module: "nn.Module", inputs: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        if share and module.training:
            inputs = inputs.masked_fill(torch.rand(inputs.shape, device=inputs.device) < share, mask_id)
        return cast("LanguageModel", module).loss(inputs, targets, num_sampled=sampled if module.training else None)

    return loss
