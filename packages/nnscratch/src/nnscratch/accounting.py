"""What a model costs: parameters, floating-point operations per token, and memory for training."""

from dataclasses import dataclass

from nnscratch.config import TransformerConfig


def count_parameters(config: TransformerConfig, *, embeddings: bool = True) -> int:
    """Trainable numbers of a `TransformerLM`; `embeddings=False` leaves out the table of token embeddings.

    A tied matrix counts once, as the output's.
    """
    matrices = 3 if config.ffn == "swiglu" else 2
    layer = 4 * config.d_model**2 + matrices * config.d_model * config.d_ff
    norms = {"pre": 2 * config.num_layers + 1, "post": 2 * config.num_layers, "none": 0}[config.norm]
    table = config.vocab_size * config.d_model
    tables = table if config.tie_embeddings or not embeddings else 2 * table
    return config.num_layers * layer + norms * config.d_model + tables


@dataclass(frozen=True)
class FlopsPerToken:
    """Operations of the matrix products per token, forward only, by part; m x n x k counts 2 m n k."""

    qkv: float
    attention: float
    """Scores and weighted values, over the whole window: a causal mask does not save the plain product anything."""
    output: float
    ffn: float
    head: float

    @property
    def forward(self) -> float:
        """The sum of the parts."""
        return self.qkv + self.attention + self.output + self.ffn + self.head

    @property
    def training(self) -> float:
        """Forward and backward, which costs twice the forward."""
        return 3 * self.forward


def flops_per_token(config: TransformerConfig, sequence_length: int | None = None) -> FlopsPerToken:
    """Count the matrix products per token in windows of `sequence_length`, by default the context length.

    Everything else (norms, softmax, activations) is below a hundredth and left out.
    """
    length = config.context_length if sequence_length is None else sequence_length
    if not 1 <= length <= config.context_length:
        raise ValueError(f"sequence_length is {length}: expected 1 to context_length, which is {config.context_length}")
    width, layers = config.d_model, config.num_layers
    return FlopsPerToken(
        qkv=layers * 6 * width**2,
        attention=layers * 4 * length * width,
        output=layers * 2 * width**2,
        ffn=layers * 2 * (3 if config.ffn == "swiglu" else 2) * width * config.d_ff,
        head=2 * width * config.vocab_size,
    )


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes for training with AdamW in float32, by part."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """The sum of the parts."""
        return self.parameters + self.gradients + self.optimizer + self.activations


def memory_estimate(config: TransformerConfig, batch_size: int, bytes_per_number: int = 4) -> MemoryEstimate:
    """Estimate the memory of a training step, by the assignment's list of activations (problem adamwAccounting).

    Per layer: two norms, the three projections, scores and their softmax, the weighted values, the output projection
    and the feed-forward layer's inner vectors; then the last norm, the logits and the loss. It is what the plain
    computation keeps; `linear_cross_entropy` keeps less.

    Raises:
        ValueError: a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}: expected 1 or more")
    tokens = batch_size * config.context_length
    inner = 4 if config.ffn == "swiglu" else 2  # W1 x, SiLU(W1 x), W3 x and their product
    layer = tokens * (2 + 3 + 1 + 1 + 1) * config.d_model + tokens * inner * config.d_ff
    layer += 2 * batch_size * config.num_heads * config.context_length**2
    activations = config.num_layers * layer + tokens * (config.d_model + config.vocab_size + 1)
    weights = count_parameters(config) * bytes_per_number
    return MemoryEstimate(weights, weights, 2 * weights, activations * bytes_per_number)
