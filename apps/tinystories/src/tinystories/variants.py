"""The ablations: named small changes of a recipe, each with a hypothesis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from tinystories.recipes import Recipe
from trainer.experiments.results import Described, Wording

LOWER_RATE_FRACTION = 0.25  # of the baseline's learning rate, for no_rmsnorm_low_lr


@dataclass(frozen=True)
class Variant:
    """A named change of a recipe."""

    name: str
    change: Callable[[Recipe], Recipe]
    what: str
    """Difference from the baseline, in a few words."""
    hypothesis: str
    """Prediction, written before the runs."""
    expected: Literal["worse", "better"] | None
    """The hypothesis in a word: the loss compared with the baseline's; None for the baseline itself."""


ABLATIONS: tuple[Variant, ...] = (
    Variant(
        "baseline",
        lambda recipe: recipe,
        "pre-norm, RoPE, SwiGLU",
        "The reference for the other variants.",
        None,
    ),
    Variant(
        "no_rmsnorm",
        lambda recipe: replace(recipe, norm="none"),
        "no RMSNorm, same learning rate",
        "Without norms, the baseline's best rate is too high: training diverges or ends worse.",
        "worse",
    ),
    Variant(
        "no_rmsnorm_low_lr",
        lambda recipe: replace(recipe, norm="none", learning_rate=recipe.learning_rate * LOWER_RATE_FRACTION),
        f"no RMSNorm, {LOWER_RATE_FRACTION:g} of the learning rate",
        "A lower rate is stable without norms, but learns more slowly than the baseline.",
        "worse",
    ),
    Variant(
        "post_norm",
        lambda recipe: replace(recipe, norm="post"),
        "norm after each residual sum",
        "Post-norm trains a little worse and less stably than pre-norm.",
        "worse",
    ),
    Variant(
        "nope",
        lambda recipe: replace(recipe, position="none"),
        "no position embedding",
        "The causal mask reveals some position: training works, but worse than with RoPE.",
        "worse",
    ),
    Variant(
        "silu",
        lambda recipe: replace(recipe, ffn="silu", d_ff=4 * recipe.d_model),
        "SiLU feed-forward, d_ff = 4 d_model",
        "With as many parameters, the gate of SwiGLU helps a little.",
        "worse",
    ),
    Variant(
        "tied_embeddings",
        lambda recipe: replace(recipe, tie_embeddings=True),
        "one matrix as embedding and output layer",
        "Small models need the parameters, and the two uses need different rates: a little worse.",
        "worse",
    ),
    Variant(
        "qk_norm",
        lambda recipe: replace(recipe, qk_norm=True),
        "queries and keys normalised",
        "Bounded attention scores are more stable at a high learning rate: a little better.",
        "better",
    ),
    Variant(
        "relu_squared",
        lambda recipe: replace(recipe, ffn="relu_squared", d_ff=4 * recipe.d_model),
        "ReLU² feed-forward, d_ff = 4 d_model",
        "With as many parameters, as good as SwiGLU or better (So et al. 2021), in fewer products.",
        "better",
    ),
    Variant(
        "muon",
        lambda recipe: replace(recipe, optimizer="muon"),
        "Muon for the matrices inside the blocks",
        "Orthogonal updates learn more per token than AdamW's: clearly better.",
        "better",
    ),
    Variant(
        "half_vocabulary",
        lambda recipe: replace(recipe, vocab_size=recipe.vocab_size // 2),
        "tokenizer of half the size",
        "Shorter tokens mean less text for as many tokens: worse in bits per byte.",
        "worse",
    ),
    Variant(
        "double_vocabulary",
        lambda recipe: replace(recipe, vocab_size=recipe.vocab_size * 2),
        "tokenizer of twice the size",
        "More text for as many tokens outweighs fewer examples of each token: better in bits per byte.",
        "better",
    ),
    Variant(
        "speedrun",
        lambda recipe: replace(recipe, optimizer="muon", qk_norm=True, ffn="relu_squared", d_ff=4 * recipe.d_model),
        "Muon, QK-norm and ReLU² together",
        "Most of the single gains add up.",
        "better",
    ),
)

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in ABLATIONS}
SETS: dict[str, tuple[str, ...]] = {
    "assignment": ("baseline", "no_rmsnorm", "no_rmsnorm_low_lr", "post_norm", "nope", "silu"),
    "all": tuple(VARIANTS),
}
"""Names for several variants."""

_PROGRAMS = ("run", "tinystories", "__main__", "worker")
"""Modules and scripts of the process of a run, whose arguments are those of the command."""


def _command(arguments: Sequence[str]) -> str:
    program = Path(arguments[0])
    return " ".join(["python -m tinystories.run" if program.stem in _PROGRAMS else program.name, *arguments[1:]])


WORDING = Wording(
    {variant.name: Described(variant.what, variant.hypothesis, variant.expected) for variant in ABLATIONS},
    text="story",
    text_note="Same prompt, same seed, temperature 0.8, top-p 0.95.",
    command=_command,
)
"""Words for the reports."""

if TYPE_CHECKING:
    VariantName: TypeAlias = str
    SetName: TypeAlias = str
else:  # the command line accepts exactly these names
    VariantName, SetName = Literal[tuple(VARIANTS)], Literal[tuple(SETS)]


def chosen_variants(names: Sequence[str]) -> list[Variant]:
    """The variants of these names or sets, each once and in the order of `ABLATIONS`."""
    wanted = {variant for name in names for variant in SETS.get(name, (name,))}
    return [variant for name, variant in VARIANTS.items() if name in wanted]
