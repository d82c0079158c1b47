"""The assignment's ablations: each a named small change of one recipe, with what it is expected to do."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from tinystories.recipes import Recipe

LOWER_RATE_FRACTION = 0.25  # of the baseline's learning rate, for the second run without norms


@dataclass(frozen=True)
class Variant:
    """A named change of a recipe."""

    name: str
    change: Callable[[Recipe], Recipe]
    what: str
    """What differs from the baseline, in a few words."""
    hypothesis: str
    """Written before the runs."""


ABLATIONS: tuple[Variant, ...] = (
    Variant(
        "baseline",
        lambda recipe: recipe,
        "pre-norm, RoPE, SwiGLU",
        "The reference that the others are compared with.",
    ),
    Variant(
        "no_rmsnorm",
        lambda recipe: replace(recipe, norm="none"),
        "no RMSNorm, same learning rate",
        "Without norms the best rate of the baseline is too high: training diverges or ends worse.",
    ),
    Variant(
        "no_rmsnorm_low_lr",
        lambda recipe: replace(recipe, norm="none", learning_rate=recipe.learning_rate * LOWER_RATE_FRACTION),
        f"no RMSNorm, {LOWER_RATE_FRACTION:g} of the learning rate",
        "A lower rate is stable without norms, but slower than the baseline.",
    ),
    Variant(
        "post_norm",
        lambda recipe: replace(recipe, norm="post"),
        "norm after each residual sum",
        "Post-norm trains, a little worse and less steadily than pre-norm.",
    ),
    Variant(
        "nope",
        lambda recipe: replace(recipe, position="none"),
        "no position embedding",
        "The causal mask gives away some position: training works, worse than with RoPE.",
    ),
    Variant(
        "silu",
        lambda recipe: replace(recipe, ffn="silu", d_ff=4 * recipe.d_model),
        "SiLU feed-forward, d_ff = 4 d_model",
        "At matched parameters the gate of SwiGLU helps a little.",
    ),
)

VariantName = Literal["baseline", "no_rmsnorm", "no_rmsnorm_low_lr", "post_norm", "nope", "silu"]
VARIANTS: dict[str, Variant] = {variant.name: variant for variant in ABLATIONS}
