"""Variants of a recipe for ablations, each with one setting changed to its opposite."""

from dataclasses import fields

from nnscratch.speedrun import SWITCHES
from nnscratch.speedrun.recipes import OptimizerRecipe, Recipe
from nnscratch.speedrun.settings import full_name, same_parameters, to_record
from trainer.records import flatten

FULL = "full"
"""Name of the unchanged recipe."""
_SWITCHES = (*SWITCHES, *(item.name for item in fields(OptimizerRecipe) if isinstance(item.default, bool)))
_OPTIONAL: dict[str, tuple[str, ...]] = {
    "logit_soft_cap": ("15.0", "None"),
    "ngram_rows": ("262144", "None"),
    "ngram_min_count": ("4", "None"),
    "sampled_tokens": ("2048", "None"),
    "average_from": ("0.9", "None"),
    "masked_inputs": ("0.1", "0.0"),
    "dropout": ("0.1", "0.0"),
    "ngram_dropout": ("0.5", "0.0"),
    "table_weight_decay": ("0.1", "0.0"),
    "muon_momentum_start": ("0.85", "None"),
    "weight_decay_factors": ("((0.0,1.0),(1.0,0.0))", "()"),
}
_CHOICES = {
    "optimizer": ("muon", "adamw"),
    "schedule": ("trapezoid", "cosine"),
    "sampling": ("shuffled", "random", "documents"),
}
_WEIGHT_DECAY, _STRONG_WEIGHT_DECAY = 0.1, 0.8
_ADAMW_MATRIX_RATE = 0.003  # a hundredth of Muon's in units of an update's size


def variants(recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Return the assignments of each variant by its name, starting with the full recipe, which has none.

    The other kind of feed-forward network gets as many parameters: SwiGLU's third matrix makes all three narrower.
    """
    settings = flatten(to_record(recipe))
    found: dict[str, tuple[str, ...]] = {FULL: ()}
    kind = "relu_squared" if recipe.model.ffn == "swiglu" else "swiglu"
    found[kind] = (f"ffn={kind}", f"d_ff={same_parameters(recipe.model.d_ff, is_gated=kind == 'swiglu')}")
    # Rates for twice the step are lower by the root of 2 in this one.
    reference: dict[str, tuple[str, ...]] = {"reference_batch_tokens": (str(2 * round(recipe.step_tokens)), "None")}
    for name, values in (dict.fromkeys(_SWITCHES, ("True", "False")) | _OPTIONAL | reference).items():
        value = settings[full_name(name)]
        is_on = value is not None if name == "average_from" else bool(value)
        found[f"no_{name}" if is_on else name] = (f"{name}={values[is_on]}",)
    if recipe.model.ngram_rows is None:
        for name in ("ngram_dropout", "ngram_min_count", "table_weight_decay"):
            for inert in (name, f"no_{name}"):  # there are no n-grams
                found.pop(inert, None)
    for name, values in _CHOICES.items():
        for other in values:
            if other != settings[full_name(name)]:
                found[other] = (f"{name}={other}",)
    if "adamw" in found:
        found["adamw"] += (f"muon_learning_rate={_ADAMW_MATRIX_RATE}",)
    is_weak = recipe.optimizer.weight_decay < _STRONG_WEIGHT_DECAY
    found["strong_weight_decay" if is_weak else "weak_weight_decay"] = (
        f"weight_decay={_STRONG_WEIGHT_DECAY if is_weak else _WEIGHT_DECAY}",
    )
    if recipe.schedule.average_decay is None:
        found["moving_average"] = ("average_from=0.1", "average_decay=0.99")
    else:
        found["no_moving_average"] = ("average_decay=None",)
        found["no_average_from"] += ("average_decay=None",)
    if recipe.batches.batch_ramp:
        found["no_batch_ramp"] = ("batch_ramp=()",)
    else:  # from half of the batch to one and a half
        half = max(1, recipe.batches.batch_size // 2)
        found["batch_ramp"] = ("batch_ramp=((0.0,1),(0.33,2),(0.67,3))", f"batch_size={half}")
    return found
