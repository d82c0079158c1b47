"""Floating-point operations (FLOPs) of a model, and the training time that follows from them."""

from dataclasses import dataclass

from nnscratch.accounting.parameters import FEED_FORWARD_MATRICES, count_parameters, ngram_table_rows
from nnscratch.config import TransformerConfig

Number = int | float


@dataclass(frozen=True)
class MatrixProduct:
    """Product of (rows, inner) and (inner, columns), computed `times` times in the forward pass of one sequence."""

    name: str
    part: str
    """Part to which `flops_by_part` assigns it: qkv, attention, output, ffn or lm_head."""
    rows: int
    inner: int
    columns: int
    times: int

    @property
    def flops(self) -> int:
        """FLOPs of all `times` products; each product consists of rows · columns sums of `inner` products."""
        return 2 * self.rows * self.inner * self.columns * self.times


def _length(config: TransformerConfig, context_length: int | None) -> int:
    length = config.context_length if context_length is None else context_length
    if length < 1:
        raise ValueError(f"context_length={length!r} is out of range; choose at least 1")
    return length


def matrix_products(config: TransformerConfig, context_length: int | None = None) -> list[MatrixProduct]:
    """Return every matrix product of the forward pass of one sequence.

    Attention is counted over the whole square of positions, including the masked half, as in the assignment and in
    `torch.utils.flop_counter`. In a layer with a window each query counts with as many keys as the window has.

    Args:
        config: The model.
        context_length: Tokens in the sequence; by default that of the config.

    Raises:
        ValueError: If the length is below 1.
    """
    length = _length(config, context_length)
    width, inner, layers, heads, head = config.d_model, config.d_ff, config.num_layers, config.num_heads, config.d_k
    full = len([layer for layer in range(layers) if config.window_of(layer) is None])
    window = length if config.window is None else min(config.window, length)
    inward = "w1 and w3" if FEED_FORWARD_MATRICES[config.ffn] == 3 else "w1"
    attention = [
        MatrixProduct("queries with keys", "attention", length, head, length, heads * full),
        MatrixProduct("weights with values", "attention", length, length, head, heads * full),
        MatrixProduct("queries with keys in windows", "attention", length, head, window, heads * (layers - full)),
        MatrixProduct("weights with values in windows", "attention", length, window, head, heads * (layers - full)),
    ]
    return [
        MatrixProduct("q projection", "qkv", length, width, heads * head, layers),
        MatrixProduct("k and v projections", "qkv", length, width, config.kv_heads * head, 2 * layers),
        *(product for product in attention if product.times > 0),
        MatrixProduct("output projection", "output", length, heads * head, width, layers),
        MatrixProduct(inward, "ffn", length, width, inner, (FEED_FORWARD_MATRICES[config.ffn] - 1) * layers),
        MatrixProduct("w2", "ffn", length, inner, width, layers),
        MatrixProduct("output layer", "lm_head", length, width, config.vocab_size, 1),
    ]


def flops_by_part(
    config: TransformerConfig, context_length: int | None = None, *, backward: bool = False
) -> dict[str, float]:
    """Return the FLOPs per token of each part: qkv, attention, output, ffn, lm_head.

    The count consists of the products of `matrix_products`. It is the numerator of model FLOPs utilization (Chowdhery
    et al. 2022, appendix B), independent of the implementation: a kernel that skips the masked half of attention
    computes less, and one that recomputes attention weights in the backward pass computes more.

    Args:
        config: The model.
        context_length: Tokens per sequence; by default that of the config.
        backward: Count the forward and the backward pass; a backward pass is two forward passes.

    Raises:
        ValueError: If the length is below 1.
    """
    length, factor = _length(config, context_length), 3 if backward else 1
    parts: dict[str, float] = {}
    for product in matrix_products(config, length):
        parts[product.part] = parts.get(product.part, 0.0) + factor * product.flops / length
    return parts


def flops_per_token(config: TransformerConfig, context_length: int | None = None, *, backward: bool = False) -> float:
    """Return the FLOPs per token, the sum of `flops_by_part`."""
    return sum(flops_by_part(config, context_length, backward=backward).values())


def adamw_flops(config: TransformerConfig, *, weight_decay: bool = True) -> int:
    """Return the FLOPs of one step of AdamW (Loshchilov and Hutter 2019, algorithm 2).

    Each parameter takes 14: 3 for the mean (two products, a sum), 4 for the mean square (one more product), 5 for the
    update (root, sum with eps, quotient, product with the rate, difference) and 2 for the decay (product, difference).
    Values shared by all parameters are computed once and not counted. Tables of n-grams have another optimizer.
    """
    parameters = count_parameters(config) - ngram_table_rows(config) * config.d_model
    return (14 if weight_decay else 12) * parameters


def training_seconds(
    config: TransformerConfig,
    *,
    steps: int,
    batch_size: int,
    flops_per_second: Number,
    mfu: Number = 1.0,
    context_length: int | None = None,
) -> float:
    """Return the training time in seconds, without the optimizer, whose FLOPs are negligible.

    Args:
        config: The model.
        steps: Number of updates.
        batch_size: Sequences per step.
        flops_per_second: Peak throughput of the device.
        mfu: Model FLOPs utilization, the achieved share of the peak, above 0 and up to 1.
        context_length: Tokens per sequence; by default that of the config.

    Raises:
        ValueError: If a value is out of range.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size), ("flops_per_second", flops_per_second)):
        if not value > 0:
            raise ValueError(f"{name}={value!r} is out of range; choose a positive number")
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu={mfu!r} is out of range; choose a number above 0 and up to 1")
    length = _length(config, context_length)
    flops = steps * batch_size * length * flops_per_token(config, length, backward=True)
    return flops / (flops_per_second * mfu)
