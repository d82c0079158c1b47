"""Arithmetic of a run that nobody has measured: milliseconds of a step, seconds of the time limit, tokens and loss.

Every number that is not computed is an assumption: a judgement that no GPU has confirmed, named in `Rates`, `TimeCosts`
and `ENTRIES`.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from nnscratch.accounting import flops_by_part
from nnscratch.speedrun import SIZE_NAMES, Recipe, computing_parameters, flops_per_token, parameters_by_group
from nnscratch.speedrun.memory import in_passes_that_fit
from nnscratch.speedrun.sizing import TRAINING_SHARE, choose
from owt_leaderboard.budget.clock import EXIT_SECONDS
from trainer.experiments.speed_trial import ASSUMED_UTILISATION, COMPILING_SECONDS
from trainer.experiments.speedrun import seconds_between_saves

RESERVE = 1.25
"""Times the slowest evaluation and save that the trainer's clock reserves for the end of a run."""
OWT_VALID_TOKENS = 66_500_000
"""Tokens of OpenWebText's validation text: 290 MB at about 4.37 bytes per token."""
# Memory in TB/s and GB, from NVIDIA's data sheets. The first entry that occurs in the device's name counts.
_MEMORY = {
    "GB200": (8.0, 186),
    "B200": (8.0, 180),
    "GH200": (4.0, 96),
    "H200": (4.8, 141),
    "H100 PCIe": (2.0, 80),
    "H100 NVL": (3.9, 94),
    "H100": (3.35, 80),
    "H800": (3.35, 80),
    "H20": (4.0, 96),
    "A100-PCIE-40GB": (1.555, 40),
    "A100-SXM4-40GB": (1.555, 40),
    "A100 80GB PCIe": (1.935, 80),
    "A100": (2.039, 80),
    "A800": (2.039, 80),
    "A40": (0.696, 48),
    "A30": (0.933, 24),
    "A10G": (0.6, 24),
    "A10": (0.6, 24),
    "L40S": (0.864, 48),
    "L40": (0.864, 48),
    "L4": (0.3, 24),
    "RTX 6000 Ada": (0.96, 48),
    "RTX A6000": (0.768, 48),
    "RTX 5090": (1.792, 32),
    "RTX 4090": (1.008, 24),
    "RTX 3090": (0.936, 24),
}
_PRODUCTS, _ATTENTION, _LIBRARY_ATTENTION = 580 / 989.4, 250 / 989.4, 330 / 989.4
_BANDWIDTH = 2.75 / 3.35
_ATOMIC_ADDITIONS = 3e11 / 3.35e12  # per second, by byte per second of the memory
PLAUSIBLE = ((520 / 580, 200 / 250), (650 / 580, 300 / 250))
"""Slowest and fastest plausible rate of products and of attention, as shares of the assumed ones."""
_FREE = 0.98  # share of a GPU's memory before a run
_ADAMW_BYTES, _MUON_BYTES, _GRADIENT_BYTES = 28, 30, 4
_SHORT_CONTEXT = 1024
_NEWTON_SCHULZ_STEPS = 5


@dataclass(frozen=True)
class Rates:
    """Assumed speed of a GPU. For an H100 SXM it is 580 TFLOP/s, 2.75 TB/s and 250 TFLOP/s.

    580 TFLOP/s (`PLAUSIBLE`: 520 to 650) are what products with an inner size of 1,024 reach under its power limit,
    and 200 to 300 TFLOP/s a Triton kernel of attention. Other GPUs have the same shares of their peaks.
    """

    peak: float
    """Peak FLOP/s of products in bfloat16."""
    products: float
    """FLOP/s of matrix products."""
    attention: float
    """FLOP/s of our attention kernels."""
    library_attention: float
    """FLOP/s of attention by cuDNN or FlashAttention 3."""
    bandwidth: float
    """Bytes per second of element-wise kernels."""
    additions: float
    """Atomic additions per second, to the gradients of embeddings."""
    free_bytes: int
    """Memory that a run finds free."""


def assumed_rates(name: str, peak: float) -> Rates:
    """Return the assumed speed of a GPU.

    Args:
        name: Its name, or the beginning of it.
        peak: Its peak FLOP/s in bfloat16.

    Raises:
        ValueError: If the bandwidth of its memory is not known.
    """
    known = next((memory for part, memory in _MEMORY.items() if re.search(rf"\b{part}\b", name)), None)
    if known is None:
        raise ValueError(f"the memory of {name!r} is not known: expected a name with one of {', '.join(_MEMORY)}")
    terabytes, gigabytes = known
    return Rates(
        peak=peak,
        products=_PRODUCTS * peak,
        attention=_ATTENTION * peak,
        library_attention=_LIBRARY_ATTENTION * peak,
        bandwidth=_BANDWIDTH * terabytes * 1e12,
        additions=_ATOMIC_ADDITIONS * terabytes * 1e12,
        free_bytes=int(_FREE * gigabytes * 2**30),
    )


def plausible_rates(rates: Rates) -> list[Rates]:
    """Return the slowest and the fastest plausible rates."""
    return [
        replace(rates, products=products * rates.products, attention=attention * rates.attention)
        for products, attention in PLAUSIBLE
    ]


def size_by_rates(recipe: Recipe, rates: Rates, *, limit: float, fixed: frozenset[str]) -> Recipe:
    """Return the recipe in the sizes and passes that a run on this GPU would choose, on a text that is not repeated.

    Args:
        recipe: The recipe, with `compile` decided.
        rates: Speed of the GPU.
        limit: Time limit in seconds.
        fixed: Names of the sizes that the user gave.

    Raises:
        ValueError: If even the smallest pass does not fit into memory.
    """
    compiling = COMPILING_SECONDS if recipe.compile == "on" else 0.0
    sized = choose(
        recipe,
        recipe.model.vocab_size,
        flops_per_second=rates.peak * ASSUMED_UTILISATION,
        seconds=max(1.0, TRAINING_SHARE * limit - compiling),
        train_tokens=None,
        fixed=fixed if recipe.sized_by_budget else frozenset(SIZE_NAMES),
    ).recipe
    if "batches.batch_size" in fixed or not recipe.sized_by_budget:
        return sized
    parameters = sum(parameters_by_group(sized.model).values())
    return in_passes_that_fit(sized, parameters, sized.model.vocab_size, rates.free_bytes)


class Line(NamedTuple):
    """One line of arithmetic."""

    name: str
    arithmetic: str
    amount: float
    """Milliseconds of a step, or seconds of the time limit."""


class Utilisation(NamedTuple):
    """Model FLOPs utilisation in both conventions, from 0 to 1."""

    square: float
    """Attention is counted over the whole square of positions, as the trainer does."""
    causal: float
    """Attention is counted over the half that is not masked."""


def training_flops(recipe: Recipe) -> Utilisation:
    """Return the FLOPs per token of a forward and backward pass, in both conventions."""
    model = recipe.model
    square = flops_per_token(model, backward=True)
    return Utilisation(square, square - flops_by_part(model, backward=True)["attention"] / 2)


def utilisation(recipe: Recipe, tokens_per_second: float, peak: float) -> Utilisation:
    """Return the MFU of a speed on a device of this peak."""
    square, causal = training_flops(recipe)
    return Utilisation(tokens_per_second * square / peak, tokens_per_second * causal / peak)


@dataclass(frozen=True)
class StepPrediction:
    """Milliseconds of an optimizer step."""

    tokens: int
    lines: tuple[Line, ...]
    library_attention: Line
    """Attention by cuDNN or FlashAttention 3, in the place of our kernels."""

    @property
    def milliseconds(self) -> float:
        """Sum of the lines."""
        return math.fsum(line.amount for line in self.lines)

    @property
    def tokens_per_second(self) -> float:
        """Training tokens per second of steps."""
        return 1e3 * self.tokens / self.milliseconds

    def with_library_attention(self) -> "StepPrediction":
        """Return the prediction with attention by a library."""
        lines = tuple(self.library_attention if line.name == "attention" else line for line in self.lines)
        return StepPrediction(self.tokens, lines, self.library_attention)


def predict_step(recipe: Recipe, pass_bytes: float, rates: Rates) -> StepPrediction:
    """Predict a step of a recipe on one GPU.

    Args:
        recipe: The recipe in its final sizes; a pass has `batches.batch_size` windows.
        pass_bytes: Bytes of everything but products and attention in a forward and backward pass.
        rates: Speed of the GPU.
    """
    model, passes = recipe.model, recipe.batches.mean_passes
    pass_tokens = recipe.batches.batch_size * model.context_length
    tokens = round(passes * pass_tokens)
    parameters, groups = computing_parameters(model), parameters_by_group(model)
    # The sums of the output layer's gradient over chunks of positions happen inside products: one read, one write.
    sums = 8 * model.vocab_size * model.d_model * _chunks(pass_tokens, model.vocab_size)
    moved = passes * (pass_bytes + sums)
    tables = 1 + len(model.value_embedding_layers)
    additions = tables * tokens * model.d_model
    lines = [
        Line(
            "matrix products",
            f"6 x {parameters / 1e6:.1f} M x {tokens:,} tokens at {rates.products / 1e12:.0f} TFLOP/s",
            1e3 * 6 * parameters * tokens / rates.products,
        ),
        Line(
            "element-wise kernels",
            f"{passes:g} x ({pass_bytes / 1e9:.1f} GB lowered + {sums / 1e9:.1f} GB in products of the loss) at "
            f"{rates.bandwidth / 1e12:.2f} TB/s",
            1e3 * moved / rates.bandwidth,
        ),
        Line(
            "embedding gradients",
            f"{tables} tables x {tokens:,} x {model.d_model} atomic additions at {rates.additions / 1e9:.0f} G/s",
            1e3 * additions / rates.additions,
        ),
        _attention(recipe, tokens, rates),
    ]
    adamw = sum(groups[name] for name in ("embeddings", "head", "scalars"))
    if recipe.optimizer.kind == "muon":
        flops, size = newton_schulz_flops(recipe), _MUON_BYTES * groups["matrices"]
        lines.append(
            Line(
                "Muon",
                f"{flops / 1e12:.2f} TFLOP at {rates.products / 1e12:.0f} TFLOP/s + {size / 1e9:.1f} GB",
                1e3 * (flops / rates.products + size / rates.bandwidth),
            )
        )
    else:
        adamw += groups["matrices"]
    dense = sum(groups.values()) - groups["tables"]
    adamw_bytes, norm_bytes = _ADAMW_BYTES * adamw, _GRADIENT_BYTES * dense
    accumulated = 3 * _GRADIENT_BYTES * dense * (passes - 1)
    lines.append(
        Line(
            "AdamW, norm, accumulation",
            f"{adamw_bytes / 1e9:.1f} + {norm_bytes / 1e9:.1f} + {accumulated / 1e9:.1f} GB",
            1e3 * (adamw_bytes + norm_bytes + accumulated) / rates.bandwidth,
        )
    )
    return StepPrediction(tokens, tuple(lines), _library_attention(recipe, tokens, rates))


def _chunks(tokens: int, vocab_size: int) -> int:
    """Return the chunks of the loss on a GPU, of up to 2**28 logits in rows of 128."""
    most = max(1, 2**28 // vocab_size // 128)
    return math.ceil(math.ceil(tokens / 128) / most)


def _causal_flops(recipe: Recipe, tokens: int, block: int) -> float:
    """Return the FLOPs of attention's forward pass in blocks: half of the square, and half a block of each row."""
    model = recipe.model
    return 2 * model.context_length * model.d_model * model.num_layers * tokens * (1 + block / model.context_length)


def _attention(recipe: Recipe, tokens: int, rates: Rates) -> Line:
    """Return the time of our kernels: 2 products forward; 4 for gradients of keys and values, and 3 of queries."""
    model = recipe.model
    block = 64 if model.context_length <= _SHORT_CONTEXT else 128
    flops = (1 + 2 + 1.5) * _causal_flops(recipe, tokens, block)
    # For the sums of its rows times their gradients, the kernel of the queries' gradient reads the output, in bfloat16.
    output = 2 * model.d_model * model.num_layers * tokens
    return Line(
        "attention",
        f"{flops / 1e12:.2f} TFLOP in 9 products at {rates.attention / 1e12:.0f} TFLOP/s + {output / 1e9:.1f} GB",
        1e3 * (flops / rates.attention + output / rates.bandwidth),
    )


def _library_attention(recipe: Recipe, tokens: int, rates: Rates) -> Line:
    flops = (1 + 2.5) * _causal_flops(recipe, tokens, 128)
    rate = rates.library_attention
    arithmetic = f"{flops / 1e12:.2f} TFLOP in 7 products at {rate / 1e12:.0f} TFLOP/s"
    return Line("attention", arithmetic, 1e3 * flops / rate)


def newton_schulz_flops(recipe: Recipe) -> float:
    """Return the FLOPs with which Muon orthogonalizes the matrices of all blocks in five iterations.

    For an m x n matrix X with m <= n, an iteration is X Xᵀ, the square of that, and its product with X (Jordan et al.
    2024).
    """
    model = recipe.model
    shapes = [(model.d_model, model.d_model)] * 4
    shapes += [(model.d_model, model.d_ff)] * (3 if model.ffn == "swiglu" else 2)
    one = sum(4 * min(shape) ** 2 * max(shape) + 2 * min(shape) ** 3 for shape in shapes)
    return float(_NEWTON_SCHULZ_STEPS * model.num_layers * one)


def predict_evaluation(recipe: Recipe, forward_bytes: float, rates: Rates) -> float:
    """Return the tokens per second of compiled evaluations.

    Args:
        recipe: The recipe in its final sizes.
        forward_bytes: Bytes of everything but products and attention per token of a forward pass of training, which
            also computes the gradients of the loss: an evaluation moves fewer.
        rates: Speed of the GPU.
    """
    model = recipe.model
    block = 64 if model.context_length <= _SHORT_CONTEXT else 128
    seconds = 2 * computing_parameters(model) / rates.products + forward_bytes / rates.bandwidth
    return 1 / (seconds + _causal_flops(recipe, 1, block) / rates.attention)


def checkpoint_bytes(recipe: Recipe) -> int:
    """Return the bytes of a checkpoint: weights, and Muon's one or AdamW's two moments, all in float32."""
    groups = parameters_by_group(recipe.model)
    parameters = sum(groups.values())
    momenta = groups["matrices"] if recipe.optimizer.kind == "muon" else 2 * groups["matrices"]
    rest = sum(groups[name] for name in ("embeddings", "head", "scalars"))
    return 4 * (parameters + momenta + 2 * rest) + 4 * (groups["tables"] // recipe.model.d_model)


@dataclass(frozen=True)
class TimeCosts:
    """Seconds of a run besides its steps. The defaults are assumptions for a GPU."""

    evaluated_per_second: float
    """Tokens per second of evaluations."""
    valid_tokens: int
    """Tokens of the whole validation text."""
    saved_per_second: float = 1e9
    """Bytes of a checkpoint written per second."""
    copied_per_second: float = 25e9
    """Bytes copied per second from the GPU to pinned memory."""
    start: float = 25.0
    """Imports, the choice of sizes, a rehearsal of the entry, and weights."""
    compiling: float = COMPILING_SECONDS
    """Compiling the loss and the update."""
    compiling_evaluation: float = 30.0
    """Compiling the loss of evaluations."""
    sample: float = 1.0
    """Text that the model writes at each evaluation, and records."""
    entry: float = 4.0
    """Texts and picture of the entry."""

    def end_seconds(self, recipe: Recipe) -> float:
        """Return the seconds of the last evaluation and save."""
        return self.valid_tokens / self.evaluated_per_second + checkpoint_bytes(recipe) / self.saved_per_second

    def unused_seconds(self, recipe: Recipe) -> float:
        """Return the seconds that are reserved for the end and not needed: the run ends so long before its limit."""
        return (RESERVE - 1) * self.end_seconds(recipe)


def time_lines(recipe: Recipe, limit: float, costs: TimeCosts) -> tuple[Line, ...]:
    """Return everything that takes time within a limit in seconds, except training steps."""
    part = min(costs.valid_tokens, recipe.evaluations.evaluated_windows * recipe.model.context_length)
    count = recipe.evaluations.count
    each = part / costs.evaluated_per_second + costs.sample
    whole, size = costs.valid_tokens / costs.evaluated_per_second, checkpoint_bytes(recipe)
    save, saves = size / costs.saved_per_second, int(limit / seconds_between_saves(limit))
    pause = size / costs.copied_per_second
    return (
        Line("start", "imports, sizes, rehearsal of the entry, weights", costs.start),
        Line(
            "compiling",
            f"{costs.compiling:.0f} s for loss and update, {costs.compiling_evaluation:.0f} s for evaluations",
            costs.compiling + costs.compiling_evaluation,
        ),
        Line(
            "evaluations",
            f"{count + 1} x ({part:,} tokens at {costs.evaluated_per_second / 1e3:,.1f} k/s + {costs.sample:.1f} s for "
            "a text)",
            (count + 1) * each,
        ),
        Line("checkpoints", f"{saves} pauses to copy {size / 1e9:.2f} GB", saves * pause),
        Line(
            "end kept",
            f"{RESERVE} x ({costs.valid_tokens:,} tokens in {whole:.1f} s + {save:.1f} s to save)",
            RESERVE * costs.end_seconds(recipe),
        ),
        Line("entry and exit", f"{costs.entry:.1f} s + {EXIT_SECONDS:.1f} s", costs.entry + EXIT_SECONDS),
    )


def training_seconds(limit: float, lines: Sequence[Line]) -> float:
    """Return the seconds of a limit that are left for steps; negative if the rest exceeds the limit."""
    return limit - math.fsum(line.amount for line in lines)


class Entry(NamedTuple):
    """Published result on OpenWebText with 32,000 tokens and windows of 512, and its compute, derived."""

    name: str
    loss: float
    flops: float
    """Tokens times FLOPs per token, attention counted over the half that is not masked."""
    change: float
    """Expected difference of this recipe at equal compute, a judgement."""
    reason: str


SLOPE = 0.089
"""Nats by which the loss falls when compute doubles."""
SPREAD = 0.04
"""Uncertainty of a loss predicted from `ENTRIES`, a judgement: their FLOPs are derived, and our rates are untuned."""
# Pull requests of github.com/stanford-cs336/assignment1-basics-leaderboard.
ENTRIES = (
    Entry(
        "Skogstad, pull request 100",
        3.0158,
        1.6e18,
        -0.015,
        "value embeddings, shortcut, soft cap and a long decay -0.02 to -0.06, untuned rates +0.01 to +0.04",
    ),
    Entry("Brunborg, pull request 70, verified", 3.0781, 1.9e18, -0.06, "findings of later speedruns"),
    Entry("Li, pull request 160", 3.0354, 1.43e18, 0.0, "nearly this recipe"),
)
_COMPARABLE = 2.0


class Extrapolated(NamedTuple):
    """Loss predicted from one published entry."""

    entry: Entry
    loss: float


def predict_from_entries(flops: float) -> list[Extrapolated] | None:
    """Return the loss of a run on OpenWebText from each published entry, by the slope in compute.

    Args:
        flops: Tokens times FLOPs per token, attention counted over the half that is not masked.

    Returns:
        None if the compute is more than twice as far from that of all entries, where the slope is not known.
    """
    known = [entry.flops for entry in ENTRIES]
    if not min(known) / _COMPARABLE <= flops <= max(known) * _COMPARABLE:
        return None
    return [Extrapolated(one, one.loss + one.change - SLOPE * math.log2(flops / one.flops)) for one in ENTRIES]
