"""What `python -m nnscratch.accounting` shows, as plain values that JSON can hold."""

from dataclasses import dataclass
from typing import Any

from nnscratch.accounting.activations import activation_values, handout_activation_values
from nnscratch.accounting.flops import adamw_flops, flops_by_part, flops_per_token, matrix_products, training_seconds
from nnscratch.accounting.memory import largest_batch_size, memory_estimate
from nnscratch.accounting.parameters import count_parameters, parameters_by_part
from nnscratch.config import TransformerConfig

SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Training:
    """How a model is trained, and on what."""

    batch_size: int
    """Sequences in a step."""
    steps: int
    optimizer: str
    memory_gb: float
    """Memory of the device in 10⁹ bytes."""
    flops_per_second: float
    mfu: float
    """Share of `flops_per_second` that training reaches."""
    bytes_per_value: int = 4


def model_report(config: TransformerConfig) -> dict[str, Any]:
    """Return parameters and operations of a model at its context length; bytes are those of float32."""
    length = config.context_length
    parts = flops_by_part(config)
    per_token = flops_per_token(config)
    return {
        "config": config.to_dict(),
        "parameters": count_parameters(config),
        "parameters_by_part": parameters_by_part(config),
        "parameter_bytes": 4 * count_parameters(config),
        "forward_flops": round(per_token * length),
        "forward_flops_by_part": {name: round(flops * length) for name, flops in parts.items()},
        "forward_share_by_part": {name: flops / per_token for name, flops in parts.items()},
        "training_flops_per_token": flops_per_token(config, backward=True),
        "matrix_products": [
            {
                "name": product.name,
                "part": product.part,
                "rows": product.rows,
                "inner": product.inner,
                "columns": product.columns,
                "times": product.times,
                "flops": product.flops,
            }
            for product in matrix_products(config)
        ],
    }


def training_report(config: TransformerConfig, training: Training) -> dict[str, Any]:
    """Return memory and time of training; memory for this package's activations and for the assignment's list."""
    size = training.bytes_per_value
    estimate = memory_estimate(config, 1, optimizer=training.optimizer, bytes_per_value=size)
    memory = training.memory_gb * 1e9
    kept = {
        "kept by this package": activation_values(config),
        "the assignment's list": handout_activation_values(config),
    }
    seconds = training_seconds(
        config,
        steps=training.steps,
        batch_size=training.batch_size,
        flops_per_second=training.flops_per_second,
        mfu=training.mfu,
    )
    return {
        "batch_size": training.batch_size,
        "steps": training.steps,
        "optimizer": training.optimizer,
        "bytes_per_value": size,
        "memory_gb": training.memory_gb,
        "flops_per_second": training.flops_per_second,
        "mfu": training.mfu,
        "parameter_bytes": estimate.parameters,
        "gradient_bytes": estimate.gradients,
        "optimizer_state_bytes": estimate.optimizer_state,
        "fixed_bytes": estimate.fixed,
        "activations": [
            {
                "counted": name,
                "bytes_per_sequence": values * size,
                "bytes_at_batch_size": estimate.fixed + training.batch_size * values * size,
                "largest_batch_size": largest_batch_size(estimate.fixed, values * size, memory),
            }
            for name, values in kept.items()
        ],
        "adamw_step_flops": adamw_flops(config) if training.optimizer == "adamw" else None,
        "training_step_flops": flops_per_token(config, backward=True) * config.context_length * training.batch_size,
        "tokens": training.steps * training.batch_size * config.context_length,
        "training_days": seconds / SECONDS_PER_DAY,
    }
