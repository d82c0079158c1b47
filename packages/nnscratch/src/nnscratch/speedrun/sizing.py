"""Model and batch sizes for a budget: as large as the device's speed and the time allow."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from nnscratch.speedrun.accounting import computing_parameters
from nnscratch.speedrun.recipes import Recipe
from nnscratch.speedrun.settings import with_settings

LADDER = (
    (2, 64), (3, 64), (2, 128), (3, 128), (4, 128), (4, 192), (4, 256), (5, 320), (6, 384), (7, 448), (8, 512),
    (9, 640), (10, 768), (11, 896), (12, 1024), (14, 1024), (16, 1024), (16, 1280), (18, 1408), (20, 1536),
    (22, 1792), (24, 2048),
)  # fmt: skip
"""(layers, width) of the candidates in rising size: shallow where there are few parameters, then about 64 to 85 of
width per layer, as in nanochat and in the entries of the leaderboard."""
TRAINING_SHARE = 0.93
"""Assumed share of the remaining time that goes into training; evaluations and the end take the rest."""
COMPILING_PAYS_FROM = {"cpu": 1800.0, "cuda": 300.0}
"""Shortest time limit in seconds for which compiling pays off, by type of device.

On a CPU, compiling takes 27 to 126 s and shortens a step by 9 to 22 %. The limit for a GPU, where a larger gain is
expected, is not based on a measurement.
"""
_REFERENCE_TOKENS, _REFERENCE_BATCH = 2e9, 2**17  # training tokens, and tokens per step, of the leaderboard's entries
_BATCH_EXPONENT = 0.654
_MIN_PASS_TOKENS = 4096  # on a CPU, smaller steps learn more from a token but take longer for it
_MASKED_INPUTS, _MASKED_FROM_EPOCHS = 0.1, 2.0
_DROPPED_PER_EPOCH, _MOST_DROPPED = 0.25, 0.75  # of the vectors of n-grams, after the first epoch
_EVALUATED_SHARE = 0.02  # of the operations of training, for the evaluations on the way
_LEAST_WINDOWS = 16


@dataclass(frozen=True)
class Choice:
    """Chosen sizes, and what to expect of them."""

    recipe: Recipe
    tokens_per_second: float
    tokens: float
    """Training tokens within the time."""
    parameters: int
    """Parameters of the matrices and the output layer, without embeddings."""
    reasons: tuple[str, ...]
    """Lines to print that explain the choice."""


def resized(recipe: Recipe, num_layers: int, d_model: int, fixed: Collection[str] = ()) -> Recipe:
    """Return the recipe with another depth, width, and heads and d_ff to match; settings in `fixed` stay."""
    if "model.d_model" in fixed:
        d_model = recipe.model.d_model
    # A gate needs a third matrix: with 8/3 of the width there are as many parameters as with 4 and no gate.
    d_ff = 64 * round(8 * d_model / 3 / 64) if recipe.model.ffn == "swiglu" else 4 * d_model
    sizes = {
        "model.num_layers": num_layers,
        "model.d_model": d_model,
        "model.num_heads": _heads(d_model),
        "model.d_ff": max(1, d_ff),
    }
    return with_settings(recipe, {name: size for name, size in sizes.items() if name not in fixed})


def _heads(d_model: int) -> int:
    """Return heads of about 128 channels, or 64 in a narrow model; their even size must divide the width."""
    wanted = 128 if d_model >= 512 and d_model % 128 == 0 else 64
    possible = [size for size in range(2, d_model + 1, 2) if d_model % size == 0] or [d_model]
    return d_model // min(possible, key=lambda size: abs(math.log(size / wanted)))


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
    """Choose the sizes whose ratio of training tokens to parameters is closest to the recipe's `tokens_per_parameter`.

    More parameters learn more from each token but see fewer tokens. The best ratio is about 10 for what a GPU computes
    in hours (isoFLOP fits of nanochat, Karpathy 2025; Hoffmann et al. 2022 find 20, counted without embeddings).

    Args:
        recipe: The recipe; its sizes count only where `fixed` names them.
        vocab_size: Entries of the tokenizer.
        flops_per_second: Floating-point operations of the model that all processes compute per second of training.
        seconds: Seconds of training.
        train_tokens: Tokens of the training text, from which the number of epochs follows; None if unknown.
        fixed: Names from `SIZE_NAMES` that must not be chosen.
        processes: Devices of the same kind that share the windows of a batch.

    Raises:
        ValueError: If the fixed number of heads divides none of the widths.
    """
    ladder: tuple[tuple[int, int], ...] = LADDER
    if "model.num_heads" in fixed and "model.d_model" not in fixed:
        heads = recipe.model.num_heads
        ladder = tuple((layers, width) for layers, width in LADDER if width % (2 * heads) == 0)
        if not ladder:
            widths = ", ".join(str(width) for width in sorted({width for _, width in LADDER}))
            raise ValueError(
                f"num_heads={heads} divides none of the widths to choose from, {widths}: give d_model, too"
            )
    candidates = [resized(recipe, layers, width, fixed) for layers, width in ladder]
    candidates = [with_settings(candidate, {"model.vocab_size": vocab_size}) for candidate in candidates]

    def tokens_of(candidate: Recipe) -> float:
        return seconds * flops_per_second / candidate.flops_per_token(vocab_size)

    def distance(candidate: Recipe) -> float:
        ratio = tokens_of(candidate) / computing_parameters(candidate.model)
        return abs(math.log(ratio / recipe.tokens_per_parameter))

    best = min(candidates, key=distance)
    tokens, parameters = tokens_of(best), computing_parameters(best.model)
    settings: dict[str, Any] = {"model.vocab_size": recipe.model.vocab_size}
    if "batches.batch_size" not in fixed:
        settings["batches.batch_size"] = math.ceil(batch_windows(best, tokens) / processes) * processes
    epochs = tokens / train_tokens if train_tokens else 0.0
    seen = f"; {epochs:.2f} epochs of the training text" if train_tokens else ""
    if best.batches.masked_inputs is None:
        share = settings["batches.masked_inputs"] = _MASKED_INPUTS if epochs >= _MASKED_FROM_EPOCHS else 0.0
        seen += f", so {share:.0%} of the input tokens are masked" if share else ""
    if best.model.ngram_rows is not None and "model.ngram_dropout" not in fixed:
        share = round(min(_MOST_DROPPED, max(0.0, _DROPPED_PER_EPOCH * (epochs - 1))), 2)
        settings["model.ngram_dropout"] = share
        seen += f"; {share:.0%} of the vectors of n-grams are dropped" if share else ""
    if "evaluations.evaluated_windows" not in fixed:
        windows = _windows_on_the_way(best, tokens)
        settings["evaluations.evaluated_windows"] = min(best.evaluations.evaluated_windows, windows)
    best = with_settings(best, settings)
    step = best.step_tokens
    return Choice(
        best,
        tokens / seconds,
        tokens,
        parameters,
        (
            f"{flops_per_second / 1e9:,.1f} GFLOP/s for {seconds:,.0f} s of training: {tokens / 1e6:,.1f} M tokens for "
            f"{best.model.num_layers} layers x {best.model.d_model} ({parameters / 1e6:,.2f} M parameters in matrices "
            f"and output layer); {tokens / parameters:.1f} tokens per parameter, closest to "
            f"{recipe.tokens_per_parameter:g}",
            f"{step:,.0f} tokens per step, about {tokens / step:,.0f} steps{seen}",
        ),
    )


def _windows_on_the_way(recipe: Recipe, tokens: float) -> int:
    """Return the windows of each evaluation but the last; without gradients they take a third of the operations."""
    evaluated = _EVALUATED_SHARE * 3 * tokens / (recipe.evaluations.count + 1)
    return max(_LEAST_WINDOWS, int(evaluated / recipe.model.context_length))


def batch_windows(recipe: Recipe, tokens: float) -> int:
    """Return the windows of a forward pass, a power of two: a step's tokens grow with the run's to the power of 0.654.

    The best batch grows with compute to the power of 0.327 (DeepSeek-AI 2024, arXiv 2401.02954, figure 3), and compute
    with the square of the tokens. The curve passes through the batches of the leaderboard's entries, 131 k tokens per
    step for 2 G in all, and gives 4 k tokens per step for 10 M. A pass has 4,096 tokens or more.
    """
    step = _REFERENCE_BATCH * (tokens / _REFERENCE_TOKENS) ** _BATCH_EXPONENT / recipe.batches.mean_passes
    length = recipe.model.context_length
    least = math.ceil(math.log2(max(1.0, _MIN_PASS_TOKENS / length)))
    return 2 ** max(least, round(math.log2(max(1.0, step / length))))


def compiled_if_it_pays(recipe: Recipe, device_type: str, seconds: float) -> Recipe:
    """Return the recipe with compile="auto" replaced by "on" or "off", according to the device and the time limit.

    A sampled loss cannot be compiled. Compiled on a CPU, tables of n-grams would have dense gradients, of which every
    step changes all rows.
    """
    if recipe.compile != "auto" or device_type not in COMPILING_PAYS_FROM:
        return recipe
    has_tables = device_type == "cpu" and recipe.model.ngram_rows is not None
    pays = seconds >= COMPILING_PAYS_FROM[device_type] and recipe.batches.sampled_tokens is None and not has_tables
    return replace(recipe, compile="on" if pays else "off")
