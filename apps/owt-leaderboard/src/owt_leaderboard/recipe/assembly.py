"""From a recipe to a model, its optimizer and its schedule."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from owt_leaderboard.recipe.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from nnscratch import TransformerConfig, TransformerLM
    from owt_leaderboard.model.config import SpeedrunConfig
    from owt_leaderboard.model.language_model import SpeedrunLM

SCHEDULE_STEPS = 10_000  # the schedule's resolution: the clock moves it from step 0 to this one
_OWN_SWITCHES = (
    "zero_init_projections",
    "value_embeddings",
    "skip_connections",
    "embedding_shortcut",
    "bigram_embeddings",
    "embedding_norm",
    "narrow_stream",
)


def make_config(recipe: Recipe, vocab_size: int) -> "TransformerConfig | SpeedrunConfig":
    """The description of the recipe's model; what nnscratch's Transformer can do is left to it.

    Args:
        recipe: the sizes and switches.
        vocab_size: entries of the tokenizer, which may have fewer than the recipe asks for.
    """
    from nnscratch import TransformerConfig

    sizes: dict[str, Any] = {
        "vocab_size": vocab_size,
        "context_length": recipe.context_length,
        "d_model": recipe.d_model,
        "num_layers": recipe.num_layers,
        "num_heads": recipe.num_heads,
        "d_ff": recipe.d_ff,
        "rope_theta": recipe.rope_theta,
    }
    shared: dict[str, Any] = {
        name: getattr(recipe, name) for name in ("ffn", "qk_norm", "logit_soft_cap", "tie_embeddings")
    }
    own: dict[str, Any] = {name: getattr(recipe, name) for name in _OWN_SWITCHES}
    if not any(own.values()):
        return TransformerConfig(**sizes, **shared)
    from owt_leaderboard.model.config import SpeedrunConfig

    return SpeedrunConfig(**sizes, **shared, **own)


def make_model(
    recipe: Recipe, vocab_size: int, device: "torch.device | str | None" = None
) -> "TransformerLM | SpeedrunLM":
    """The recipe's model, with weights by torch's random state, drawn on the device, for a GPU is fast at it."""
    from nnscratch import TransformerConfig, TransformerLM

    config = make_config(recipe, vocab_size)
    if isinstance(config, TransformerConfig):
        return TransformerLM(config, device)
    from owt_leaderboard.model.language_model import SpeedrunLM

    return SpeedrunLM(config, device)


def parameter_groups(model: "TransformerLM | SpeedrunLM") -> "dict[str, list[Parameter]]":
    """The parameters by what trains them: "matrices" inside of the blocks, "embeddings", "head" and "scalars".

    A tied output layer is among the embeddings.
    """
    own: Callable[[], dict[str, list[Parameter]]] | None = getattr(model, "parameter_groups", None)
    if own is not None:
        return own()
    matrices = [parameter for parameter in model.layers.parameters() if parameter.dim() == 2]
    embedding, head = model.token_embeddings.weight, model.lm_head.weight
    known = {*matrices, embedding, head}
    return {
        "matrices": matrices,
        "embeddings": [embedding],
        "head": [] if head is embedding else [head],
        "scalars": [parameter for parameter in model.parameters() if parameter not in known],
    }


def make_optimizer(model: "TransformerLM | SpeedrunLM", recipe: Recipe, device: str = "auto") -> "Optimizer":
    """AdamW for everything, or Muon for the matrices inside of the blocks and AdamW for the rest.

    A group's `lr_scale` is its rate as a multiple of the recipe's `learning_rate`, which the schedule sets. Muon's
    products are in the dtype in which the device trains.

    Args:
        model: what to train.
        recipe: its optimizer and rates.
        device: where it will be trained: "auto" or a device name.
    """
    from nnscratch import AdamW, CombinedOptimizer, Muon
    from trainer import resolve_device, resolve_dtype

    rates = {
        "matrices": recipe.muon_learning_rate,
        "embeddings": recipe.embedding_learning_rate,
        "head": recipe.head_learning_rate,
        "scalars": recipe.scalar_learning_rate,
    }
    base = recipe.learning_rate
    if recipe.optimizer == "adamw" and all(rate is None for rate in rates.values()):
        return AdamW(model.parameters(), lr=base, betas=recipe.betas, weight_decay=recipe.weight_decay)
    groups = {
        name: {"params": parameters, "lr": rates[name] or base, "lr_scale": (rates[name] or base) / base}
        for name, parameters in parameter_groups(model).items()
        if parameters
    }
    if recipe.optimizer == "adamw":
        return AdamW(groups.values(), lr=base, betas=recipe.betas, weight_decay=recipe.weight_decay)
    muon = Muon(
        [groups.pop("matrices")],
        momentum=recipe.muon_momentum,
        weight_decay=recipe.weight_decay,
        cautious_weight_decay=recipe.cautious_weight_decay,
        coefficients="polar-express",
        normuon=recipe.normuon,
        newton_schulz_dtype=resolve_dtype("auto", resolve_device(device)),
    )
    return CombinedOptimizer([muon, AdamW(groups.values(), lr=base, betas=recipe.betas, weight_decay=0.0)])


def learning_rate_schedule(recipe: Recipe, ticks: int = SCHEDULE_STEPS) -> Callable[[int], float]:
    """The learning rate at each of the ticks of a clock, or of the steps of a run that is measured in steps."""
    from nnscratch import cosine_schedule, trapezoid_schedule

    max_lr = recipe.learning_rate
    min_lr = max_lr * recipe.final_learning_rate_fraction
    warmup = round(ticks * recipe.warmup_fraction)
    decay_start = max(warmup, round(ticks * (1 - recipe.decay_fraction)))

    def schedule(tick: int) -> float:
        step = tick + 1  # the first update happens at tick 0, and a rate of zero would waste it
        if recipe.schedule == "cosine":
            return cosine_schedule(step, max_lr=max_lr, min_lr=min_lr, warmup_steps=warmup, decay_steps=ticks)
        return trapezoid_schedule(
            step,
            max_lr=max_lr,
            min_lr=min_lr,
            warmup_steps=warmup,
            decay_start=decay_start,
            decay_steps=ticks,
        )

    return schedule
