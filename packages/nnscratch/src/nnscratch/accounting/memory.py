"""How much memory training takes."""

import math
from dataclasses import dataclass

from nnscratch.accounting.activations import activation_values
from nnscratch.accounting.parameters import count_parameters
from nnscratch.config import TransformerConfig

OPTIMIZER_TENSORS = {"sgd": 0, "muon": 1, "adamw": 2}
"""Numbers that each optimizer keeps for a parameter."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of a training step, in bytes."""

    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    """What the forward pass keeps for the backward pass."""

    @property
    def fixed(self) -> int:
        """What does not grow with the batch: all but the activations."""
        return self.parameters + self.gradients + self.optimizer_state

    @property
    def total(self) -> int:
        """All of it."""
        return self.fixed + self.activations


def memory_estimate(
    config: TransformerConfig,
    batch_size: int,
    *,
    context_length: int | None = None,
    optimizer: str = "adamw",
    bytes_per_value: int = 4,
) -> MemoryEstimate:
    """Return the memory that training with `TransformerLM.loss` takes, in bytes, before any workspace.

    Activations are those that this package's layers keep (`activation_values`); the logits never exist as a whole, and
    a chunk of them is workspace.

    Args:
        config: the model.
        batch_size: sequences in a step.
        context_length: tokens in a sequence; by default the config's.
        optimizer: "adamw" keeps two numbers per parameter, "muon" one (NorMuon one more per row), "sgd" none.
        bytes_per_value: 4 for float32.

    Raises:
        ValueError: if a size is below 1 or the optimizer is unknown.
    """
    length = config.context_length if context_length is None else context_length
    for name, value in (("batch_size", batch_size), ("context_length", length), ("bytes_per_value", bytes_per_value)):
        if value < 1:
            raise ValueError(f"{name}={value!r} is no size; choose at least 1")
    if optimizer not in OPTIMIZER_TENSORS:
        raise ValueError(f"optimizer={optimizer!r} is unknown; choose one of {', '.join(OPTIMIZER_TENSORS)}")
    parameters = count_parameters(config) * bytes_per_value
    return MemoryEstimate(
        parameters=parameters,
        gradients=parameters,
        optimizer_state=OPTIMIZER_TENSORS[optimizer] * parameters,
        activations=batch_size * activation_values(config, length) * bytes_per_value,
    )


def largest_batch_size(fixed: int, per_sequence: int, memory: int | float) -> int:
    """Return the largest batch with per_sequence · batch + fixed bytes in `memory` bytes; 0 if not even one fits.

    Raises:
        ValueError: if a size is negative or not finite, or a sequence takes nothing.
    """
    for name, value, least in (("fixed", fixed, 0), ("per_sequence", per_sequence, 1), ("memory", memory, 0)):
        if not least <= value < math.inf:
            raise ValueError(f"{name}={value!r} is not a size in bytes; choose a finite number of at least {least}")
    return max(0, int((memory - fixed) // per_sequence))
