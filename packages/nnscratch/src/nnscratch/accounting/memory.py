"""Memory of a training step."""

import math
from dataclasses import dataclass

from nnscratch.accounting.activations import activation_values, block_activation_values
from nnscratch.accounting.parameters import count_parameters, ngram_table_rows
from nnscratch.config import TransformerConfig

OPTIMIZER_TENSORS = {"sgd": 0, "muon": 1, "adamw": 2}
"""Numbers per parameter in the state of each optimizer."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a training step, in bytes."""

    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    """Tensors that the forward pass keeps for the backward pass, and with checkpointed blocks those of one block."""

    @property
    def fixed(self) -> int:
        """Memory independent of the batch size: everything but the activations."""
        return self.parameters + self.gradients + self.optimizer_state

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.fixed + self.activations


def memory_estimate(
    config: TransformerConfig,
    batch_size: int,
    *,
    context_length: int | None = None,
    optimizer: str = "adamw",
    bytes_per_value: int = 4,
    checkpoint_blocks: bool = False,
) -> MemoryEstimate:
    """Return the memory of training with `TransformerLM.loss`, in bytes, without workspace.

    Activations are those that the layers of this package keep (`activation_values`). Logits are computed in chunks, and
    a chunk counts as workspace.

    Tables of n-grams count with the state of `RowwiseAdagrad`, two float32 numbers per row, beside any optimizer. Their
    gradients count whole, as they are under `torch.compile`. Otherwise only rows in use have one, and less is needed.

    Args:
        config: The model.
        batch_size: Sequences per step.
        context_length: Tokens per sequence; by default that of the config.
        optimizer: "adamw" keeps two numbers per parameter, "muon" one (NorMuon one more per row), "sgd" none.
        bytes_per_value: 4 for float32.
        checkpoint_blocks: With `TransformerLM.checkpoint_blocks`. The forward pass keeps the input of each block, and
            the backward pass has one block at a time in memory.

    Raises:
        ValueError: If a size is below 1 or the optimizer is unknown.
    """
    length = config.context_length if context_length is None else context_length
    _check_sizes(batch_size=batch_size, context_length=length, bytes_per_value=bytes_per_value)
    if optimizer not in OPTIMIZER_TENSORS:
        raise ValueError(f"optimizer={optimizer!r} is unknown; choose one of {', '.join(OPTIMIZER_TENSORS)}")
    parameters, rows = count_parameters(config), ngram_table_rows(config)
    others = parameters - rows * config.d_model
    activations = activation_values(config, length, checkpoint_blocks=checkpoint_blocks)
    if checkpoint_blocks:  # The input of the block that is computed again is in memory already.
        activations += block_activation_values(config, length) - length * config.d_model
    return MemoryEstimate(
        parameters=parameters * bytes_per_value,
        gradients=parameters * bytes_per_value,
        optimizer_state=OPTIMIZER_TENSORS[optimizer] * others * bytes_per_value + 8 * rows,
        activations=batch_size * activations * bytes_per_value,
    )


def cache_memory(
    config: TransformerConfig, batch_size: int = 1, *, context_length: int | None = None, bytes_per_value: int = 4
) -> int:
    """Return the bytes of a `KeyValueCache`: keys and values of every layer, key-value head and position.

    Args:
        config: The model.
        batch_size: Sequences in the cache.
        context_length: Positions per sequence; by default those of the config.
        bytes_per_value: 4 for float32.

    Raises:
        ValueError: If a size is below 1.
    """
    length = config.context_length if context_length is None else context_length
    _check_sizes(batch_size=batch_size, context_length=length, bytes_per_value=bytes_per_value)
    return 2 * config.num_layers * batch_size * length * config.kv_heads * config.d_k * bytes_per_value


def _check_sizes(**sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value!r} is out of range; choose at least 1")


def largest_batch_size(fixed: int, per_sequence: int, memory: int | float) -> int:
    """Return the largest batch size for which fixed + per_sequence · batch bytes fit in `memory`; 0 if none does.

    Raises:
        ValueError: If a size is negative or not finite, or `per_sequence` is 0.
    """
    for name, value, least in (("fixed", fixed, 0), ("per_sequence", per_sequence, 1), ("memory", memory, 0)):
        if not least <= value < math.inf:
            raise ValueError(f"{name}={value!r} is out of range; choose a finite number of bytes of at least {least}")
    return max(0, int((memory - fixed) // per_sequence))
