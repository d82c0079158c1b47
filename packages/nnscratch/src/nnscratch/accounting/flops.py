"""How much a model computes, in floating-point operations, and how long that takes."""

from dataclasses import dataclass

from nnscratch.accounting.parameters import FEED_FORWARD_MATRICES, count_parameters
from nnscratch.config import TransformerConfig

Number = int | float


@dataclass(frozen=True)
class MatrixProduct:
    """A product of (rows, inner) and (inner, columns), made `times` times in the forward pass of one sequence."""

    name: str
    part: str
    """Where `flops_by_part` counts it: qkv, attention, output, ffn or lm_head."""
    rows: int
    inner: int
    columns: int
    times: int

    @property
    def flops(self) -> int:
        """Floating-point operations of all of them: each is rows · columns sums of `inner` products."""
        return 2 * self.rows * self.inner * self.columns * self.times


def _length(config: TransformerConfig, context_length: int | None) -> int:
    length = config.context_length if context_length is None else context_length
    if length < 1:
        raise ValueError(f"context_length={length!r} is no sequence; choose at least 1")
    return length


def matrix_products(config: TransformerConfig, context_length: int | None = None) -> list[MatrixProduct]:
    """Return every matrix product of the forward pass of one sequence.

    Attention is counted over the whole square of positions, the masked half included, as the assignment and
    `torch.utils.flop_counter` count it.

    Args:
        config: the model.
        context_length: tokens in the sequence; by default the config's.

    Raises:
        ValueError: if the length is below 1.
    """
    length = _length(config, context_length)
    width, inner, layers, heads, head = (
        config.d_model,
        config.d_ff,
        config.num_layers,
        config.num_heads,
        config.head_size,
    )
    inward = "w1 and w3" if FEED_FORWARD_MATRICES[config.ffn] == 3 else "w1"
    return [
        MatrixProduct("q, k and v projections", "qkv", length, width, width, 3 * layers),
        MatrixProduct("queries with keys", "attention", length, head, length, heads * layers),
        MatrixProduct("weights with values", "attention", length, length, head, heads * layers),
        MatrixProduct("output projection", "output", length, width, width, layers),
        MatrixProduct(inward, "ffn", length, width, inner, (FEED_FORWARD_MATRICES[config.ffn] - 1) * layers),
        MatrixProduct("w2", "ffn", length, inner, width, layers),
        MatrixProduct("output layer", "lm_head", length, width, config.vocab_size, 1),
    ]


def flops_by_part(
    config: TransformerConfig, context_length: int | None = None, *, backward: bool = False
) -> dict[str, float]:
    """Return the floating-point operations per token of each part: qkv, attention, output, ffn, lm_head.

    Counted are the products of `matrix_products`. These are the model's operations, the numerator of a model FLOP
    utilisation (Chowdhery et al. 2022, appendix B): a kernel that skips the masked half of attention's square does
    fewer, and one that computes attention weights again in the backward pass does more.

    Args:
        config: the model.
        context_length: tokens in a sequence; by default the config's.
        backward: count forward and backward pass; a backward pass is two forward passes.

    Raises:
        ValueError: if the length is below 1.
    """
    length, factor = _length(config, context_length), 3 if backward else 1
    parts: dict[str, float] = {}
    for product in matrix_products(config, length):
        parts[product.part] = parts.get(product.part, 0.0) + factor * product.flops / length
    return parts


def flops_per_token(config: TransformerConfig, context_length: int | None = None, *, backward: bool = False) -> float:
    """Return the sum of `flops_by_part`: the floating-point operations for one token."""
    return sum(flops_by_part(config, context_length, backward=backward).values())


def adamw_flops(config: TransformerConfig, *, weight_decay: bool = True) -> int:
    """Return the floating-point operations of one step of AdamW (Loshchilov and Hutter 2019, algorithm 2).

    For each parameter 3 for the mean (two products, a sum), 4 for the mean square (one more product), 5 for the
    update (root, sum with eps, quotient, product with the rate, difference) and 2 for the decay (product, difference):
    14. What is the same for all parameters is computed once and not counted.
    """
    return (14 if weight_decay else 12) * count_parameters(config)


def training_seconds(
    config: TransformerConfig,
    *,
    steps: int,
    batch_size: int,
    flops_per_second: Number,
    mfu: Number = 1.0,
    context_length: int | None = None,
) -> float:
    """Return how long training takes, in seconds; the optimizer's operations are too few to count.

    Args:
        config: the model.
        steps: number of updates.
        batch_size: sequences in a step.
        flops_per_second: the most that the device can do.
        mfu: share of it that training reaches, model FLOP utilisation, above 0 and up to 1.
        context_length: tokens in a sequence; by default the config's.

    Raises:
        ValueError: if a value is out of range.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size), ("flops_per_second", flops_per_second)):
        if not value > 0:
            raise ValueError(f"{name}={value!r} is out of range; choose a positive number")
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu={mfu!r} is out of range; choose a number above 0 and up to 1")
    length = _length(config, context_length)
    flops = steps * batch_size * length * flops_per_token(config, length, backward=True)
    return flops / (flops_per_second * mfu)
