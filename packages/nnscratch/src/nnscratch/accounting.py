"""Parameters, floating-point operations and memory of a model, computed from its config."""

from dataclasses import dataclass

from torch import nn

from nnscratch.config import TransformerConfig

_FEED_FORWARD_MATRICES = {"swiglu": 3, "silu": 2, "relu_squared": 2}
_OPTIMIZER_TENSORS = {"sgd": 0, "muon": 1, "adamw": 2}


def count_parameters(model: nn.Module | TransformerConfig) -> int:
    """Return the number of parameters of a module, or of the `TransformerLM` of a config; a shared one counts once."""
    if isinstance(model, nn.Module):
        return sum(param.numel() for param in model.parameters())
    config, width = model, model.d_model
    norms = {"pre": 2 * config.num_layers + 1, "post": 2 * config.num_layers, "none": 0}[config.norm]
    block = 4 * width * width + _FEED_FORWARD_MATRICES[config.ffn] * width * config.d_ff
    if config.qk_norm:
        block += 2 * config.head_size
    embeddings = (1 if config.tie_embeddings else 2) * config.vocab_size * width
    return embeddings + config.num_layers * block + norms * width


def flops_by_part(
    config: TransformerConfig, context_length: int | None = None, *, backward: bool = False
) -> dict[str, float]:
    """Return the floating-point operations per token of each part: qkv, attention, output, ffn, lm_head.

    Counted are matrix products, a product of (m, k) and (k, n) as 2 m k n, with attention over the whole square of
    positions, the masked half included, as `torch.utils.flop_counter` counts too.

    Args:
        config: the model.
        context_length: tokens in a sequence; by default the config's.
        backward: count forward and backward pass; a backward pass is two forward passes.
    """
    length = config.context_length if context_length is None else context_length
    if length < 1:
        raise ValueError(f"context_length={length!r} is no sequence; choose at least 1")
    width, layers, factor = config.d_model, config.num_layers, 3 if backward else 1
    parts = {
        "qkv": 2 * 3 * width * width * layers,
        "attention": 2 * 2 * length * width * layers,
        "output": 2 * width * width * layers,
        "ffn": 2 * _FEED_FORWARD_MATRICES[config.ffn] * width * config.d_ff * layers,
        "lm_head": 2 * width * config.vocab_size,
    }
    return {name: float(factor * flops) for name, flops in parts.items()}


def flops_per_token(config: TransformerConfig, context_length: int | None = None, *, backward: bool = False) -> float:
    """Return the sum of `flops_by_part`: the floating-point operations for one token."""
    return sum(flops_by_part(config, context_length, backward=backward).values())


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a training step, in bytes."""

    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    """What the forward pass keeps for the backward pass."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.parameters + self.gradients + self.optimizer_state + self.activations


def _activations(config: TransformerConfig, length: int) -> int:
    """Return the numbers kept for the backward pass per sequence by this package's layers."""
    width, inner, heads = config.d_model, config.d_ff, config.num_heads
    # each norm: its input and a number per row; an input that is a sum is kept by nobody else
    norm = length * (width + 1)
    # the input of the qkv product; q, k, v and output of the attention, its weights and a number per row;
    # the output projection's input is a rearranged copy
    attention = length * width + 4 * length * width + heads * length * (length + 1) + length * width
    if config.qk_norm:
        attention += length * (3 * width + 2 * heads)  # q and k before the norm are views of the whole product
    # the input; for the gate: sigmoid, activation, value; for silu: x and sigmoid; for relu²: x clamped and before;
    # the input of the last product
    ffn = length * width + {"swiglu": 4, "silu": 3, "relu_squared": 3}[config.ffn] * length * inner
    norms = {"pre": 2 * config.num_layers + 1, "post": 2 * config.num_layers, "none": 0}[config.norm]
    # the gradient with respect to the features, which the loss computes on its way forward
    return config.num_layers * (attention + ffn) + norms * norm + length * width


def memory_estimate(
    config: TransformerConfig,
    batch_size: int,
    *,
    context_length: int | None = None,
    optimizer: str = "adamw",
    bytes_per_value: int = 4,
) -> MemoryEstimate:
    """Return the memory that training with `TransformerLM.loss` takes, in bytes, before any workspace.

    Activations are those that this package's layers keep; the logits never exist as a whole, and a chunk of them is
    workspace.

    Args:
        config: the model.
        batch_size: sequences in a step.
        context_length: tokens in a sequence; by default the config's.
        optimizer: "adamw" keeps two numbers per parameter, "muon" one, "sgd" none.
        bytes_per_value: 4 for float32.

    Raises:
        ValueError: if a size is below 1 or the optimizer is unknown.
    """
    length = config.context_length if context_length is None else context_length
    for name, value in (("batch_size", batch_size), ("context_length", length), ("bytes_per_value", bytes_per_value)):
        if value < 1:
            raise ValueError(f"{name}={value!r} is no size; choose at least 1")
    if optimizer not in _OPTIMIZER_TENSORS:
        raise ValueError(f"optimizer={optimizer!r} is unknown; choose one of {', '.join(_OPTIMIZER_TENSORS)}")
    parameters = count_parameters(config) * bytes_per_value
    return MemoryEstimate(
        parameters=parameters,
        gradients=parameters,
        optimizer_state=_OPTIMIZER_TENSORS[optimizer] * parameters,
        activations=batch_size * _activations(config, length) * bytes_per_value,
    )
