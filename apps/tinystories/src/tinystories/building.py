"""Construction of the model and the optimizer of a recipe."""

from collections.abc import Iterable
from dataclasses import fields
from hashlib import sha256
from typing import TYPE_CHECKING

from tinystories.recipes import Recipe

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from nnscratch import TransformerConfig, TransformerLM


def model_config(recipe: Recipe, vocab_size: int) -> "TransformerConfig":
    """Return the recipe's architecture for a tokenizer of `vocab_size` entries."""
    from nnscratch import TransformerConfig

    # A recipe shares field names with the config. Fields of the config that a recipe lacks keep their defaults.
    names = {field.name for field in fields(TransformerConfig)} & {field.name for field in fields(Recipe)}
    settings = {name: getattr(recipe, name) for name in names}
    return TransformerConfig(**settings | {"vocab_size": vocab_size})


def make_model(recipe: Recipe, vocab_size: int) -> "TransformerLM":
    """Return the recipe's model with initial weights that follow from its seed and from their names.

    Models of the same seed begin with the same values in every layer that they share, whatever their other layers are,
    so that the runs of a variant and of the baseline are pairs.
    """
    import torch

    from nnscratch import Embedding, Linear, TransformerLM

    torch.manual_seed(recipe.seed)
    model = TransformerLM(model_config(recipe, vocab_size))
    for name, module in model.named_modules():
        is_tied = module is model.lm_head and recipe.tie_embeddings
        if isinstance(module, Linear | Embedding) and not is_tied:
            torch.manual_seed(int.from_bytes(sha256(f"{recipe.seed} {name}".encode()).digest()[:8], "little"))
            module.reset_parameters()
    torch.manual_seed(recipe.seed)  # for dropout
    return model


def make_optimizer(model: "TransformerLM", recipe: Recipe) -> "Optimizer":
    """AdamW for everything, or Muon for the matrices inside the blocks and AdamW for the rest.

    The schedule sets the learning rate of AdamW. The `lr_scale` of a group is the ratio of the group's rate to AdamW's.
    """
    from nnscratch import AdamW, CombinedOptimizer, Muon

    def adamw(parameters: "Iterable[Parameter]") -> AdamW:
        return AdamW(parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay)

    if recipe.optimizer == "adamw":
        return adamw(model.parameters())
    matrices = [parameter for parameter in model.layers.parameters() if parameter.dim() == 2]
    inside = set(matrices)
    others = [parameter for parameter in model.parameters() if parameter not in inside]
    group = {"params": matrices, "lr_scale": recipe.muon_learning_rate / recipe.learning_rate}
    muon = Muon([group], lr=recipe.muon_learning_rate, weight_decay=recipe.weight_decay)
    return CombinedOptimizer([muon, adamw(others)])
