"""Sizes by budget: how large a model should be for what a device can compute in the time."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from owt_leaderboard.recipe.assembly import make_config
from owt_leaderboard.recipe.recipes import Recipe

LADDER = (
    (2, 64), (3, 64), (2, 128), (3, 128), (4, 128), (4, 192), (4, 256), (5, 320), (6, 384), (7, 448), (8, 512),
    (9, 640), (10, 768), (11, 896), (12, 1024), (14, 1024), (16, 1024), (16, 1280), (18, 1408), (20, 1536),
    (22, 1792), (24, 2048),
)  # fmt: skip
"""(layers, width), each larger than the one before: shallow where there are few parameters, then about 64 to 85 of
width for a layer, as in nanochat and in the entries of the leaderboard."""
SIZE_NAMES = ("d_model", "num_layers", "num_heads", "d_ff", "batch_size")
TRAINING_SHARE = 0.93  # of the time that is left; the rest goes to evaluations and the end
_REFERENCE_TOKENS, _REFERENCE_BATCH = 2e9, 2**17  # training tokens, and tokens of a step, of the leaderboard's entries
_BATCH_EXPONENT = 0.654
_LEAST_WINDOWS = 16
_MASKED_INPUTS, _MASKED_FROM = 0.1, 2.0  # share of the tokens, and how often the text has to be seen for it


@dataclass(frozen=True)
class Choice:
    """Sizes, and what is expected of them."""

    recipe: Recipe
    tokens_per_second: float
    tokens: float
    """Training tokens in the time."""
    parameters: int
    """Of the matrices and the output layer: those that compute."""
    reasons: tuple[str, ...]
    """Why, in lines to print."""


def flops_per_training_token(recipe: Recipe, vocab_size: int) -> float:
    """Operations of a forward and backward pass for one token: all matrix products, attention and gates included."""
    from nnscratch import TransformerConfig, flops_per_token
    from owt_leaderboard.model import accounting as speedrun_accounting

    config = make_config(recipe, vocab_size)
    if isinstance(config, TransformerConfig):
        return flops_per_token(config, backward=True)
    return speedrun_accounting.flops_per_token(config, backward=True)


def computing_parameters(recipe: Recipe, vocab_size: int) -> int:
    """Parameters of the matrices inside of the blocks and of the output layer; embeddings are only looked up."""
    feed_forward = (3 if recipe.ffn == "swiglu" else 2) * recipe.d_model * recipe.d_ff
    return recipe.num_layers * (4 * recipe.d_model**2 + feed_forward) + vocab_size * recipe.d_model


def resized(recipe: Recipe, num_layers: int, d_model: int, fixed: Collection[str] = ()) -> Recipe:
    """The recipe with other sizes of the model; those in `fixed` stay as they are."""
    if "d_model" in fixed:
        d_model = recipe.d_model
    # A gate needs a third matrix, and 8/3 of the width gives as many parameters as 4 without it.
    d_ff = 64 * round(8 * d_model / 3 / 64) if recipe.ffn == "swiglu" else 4 * d_model
    sizes: dict[str, Any] = {
        "num_layers": num_layers,
        "d_model": d_model,
        "num_heads": _heads(d_model),
        "d_ff": d_ff,
    }
    return replace(recipe, **{name: size for name, size in sizes.items() if name not in fixed})


def _heads(d_model: int) -> int:
    """Heads of 128 numbers, or 64 in a narrow model; where these do not divide it, of the even number nearest to it."""
    wanted = 128 if d_model >= 512 and d_model % 128 == 0 else 64
    possible = [size for size in range(2, d_model + 1, 2) if d_model % size == 0] or [d_model]
    return d_model // min(possible, key=lambda size: abs(math.log(size / wanted)))


def _fits(recipe: Recipe) -> bool:
    """Whether the heads divide the width, into even numbers, of which rotations need pairs."""
    return recipe.d_model % (2 * recipe.num_heads) == 0


def choose(
    recipe: Recipe,
    vocab_size: int,
    *,
    flops_per_second: float,
    seconds: float,
    train_tokens: int | None,
    fixed: Collection[str] = (),
    processes: int = 1,
) -> Choice:
    """Choose the sizes whose training tokens by parameters come closest to the recipe's `tokens_per_parameter`.

    More parameters learn more from each token and see fewer of them; the best is at about 10 for what a GPU computes
    in hours (isoFLOP fits of nanochat, Karpathy 2025; Hoffmann et al. 2022 have 20, counted without embeddings).

    Args:
        recipe: the sizes in it count only where `fixed` names them.
        vocab_size: entries of the tokenizer.
        flops_per_second: what the device computes of the model's operations in a second of training.
        seconds: of training.
        train_tokens: in the training text, to tell how often it is seen; None if it is not known.
        fixed: sizes that are not to be chosen.
        processes: devices that share the windows of a batch, all alike.

    Raises:
        ValueError: the heads that are fixed divide no width.
    """
    candidates = [resized(recipe, layers, width, fixed) for layers, width in LADDER]
    if not {"d_model", "num_heads"} <= set(fixed):  # else the model says what is wrong
        candidates = [candidate for candidate in candidates if _fits(candidate)]
    if not candidates:
        raise ValueError(
            f"num_heads={recipe.num_heads} divides none of the widths that are chosen from, "
            f"{', '.join(str(width) for width in sorted({width for _, width in LADDER}))}: give d_model, too"
        )

    def tokens_of(candidate: Recipe) -> float:
        return seconds * flops_per_second / flops_per_training_token(candidate, vocab_size)

    def distance(candidate: Recipe) -> float:
        ratio = tokens_of(candidate) / computing_parameters(candidate, vocab_size)
        return abs(math.log(ratio / recipe.tokens_per_parameter))

    best = min(candidates, key=distance)
    tokens, parameters = tokens_of(best), computing_parameters(best, vocab_size)
    if "batch_size" not in fixed:
        windows = batch_windows(best, tokens)
        best = replace(best, batch_size=math.ceil(windows / processes) * processes)
    epochs = tokens / train_tokens if train_tokens else 0.0
    seen = f"; the text is seen {epochs:.2f} times" if train_tokens else ""
    if best.masked_inputs is None:
        best = replace(best, masked_inputs=_MASKED_INPUTS if epochs >= _MASKED_FROM else 0.0)
        seen += f", so {best.masked_inputs:.0%} of its tokens are hidden each time" if best.masked_inputs else ""
    step = best.batch_size * mean_accumulation(best) * best.context_length
    return Choice(
        best,
        tokens / seconds,
        tokens,
        parameters,
        (
            f"{flops_per_second / 1e9:,.1f} GFLOP/s for {seconds:,.0f} s of training: {tokens / 1e6:,.1f} M tokens of "
            f"{best.num_layers} layers x {best.d_model} ({parameters / 1e6:,.2f} M parameters in matrices and output "
            f"layer), {tokens / parameters:.1f} tokens for each, nearest to {recipe.tokens_per_parameter:g}",
            f"steps of {step:,.0f} tokens, about {tokens / step:,.0f} of them{seen}",
        ),
    )


def batch_windows(recipe: Recipe, tokens: float) -> int:
    """Windows in a forward pass: a step's tokens grow with those of the run to the power of 0.654, by powers of two.

    The best batch grows with compute to the power of 0.327 (DeepSeek-AI 2024, arXiv 2401.02954, figure 3), and compute
    with the square of the tokens. The curve goes through the batches of the leaderboard's entries, 131 k tokens of 2 G,
    and gives 4 k tokens for 10 M.
    """
    step = _REFERENCE_BATCH * (tokens / _REFERENCE_TOKENS) ** _BATCH_EXPONENT / mean_accumulation(recipe)
    return max(_LEAST_WINDOWS, 2 ** round(math.log2(max(1.0, step / recipe.context_length))))


def mean_accumulation(recipe: Recipe) -> float:
    """Forward passes for a step, a mean over the time of the run."""
    if not recipe.batch_ramp:
        return 1.0
    starts = [start for start, _ in recipe.batch_ramp] + [1.0]
    return sum((end - start) * passes for (start, passes), end in zip(recipe.batch_ramp, starts[1:], strict=True))
