"""Accounting: parameters, floating-point operations, memory and training time of a model, from its config alone.

This room needs no torch. `python -m nnscratch.accounting` prints the results as tables or JSON.
"""

from nnscratch.accounting.activations import activation_values, handout_activation_values
from nnscratch.accounting.flops import (
    MatrixProduct,
    adamw_flops,
    flops_by_part,
    flops_per_token,
    matrix_products,
    training_seconds,
)
from nnscratch.accounting.memory import MemoryEstimate, largest_batch_size, memory_estimate
from nnscratch.accounting.parameters import count_parameters, parameters_by_part
from nnscratch.accounting.presets import GPT2

__all__ = [
    "GPT2",
    "MatrixProduct",
    "MemoryEstimate",
    "activation_values",
    "adamw_flops",
    "count_parameters",
    "flops_by_part",
    "flops_per_token",
    "handout_activation_values",
    "largest_batch_size",
    "matrix_products",
    "memory_estimate",
    "parameters_by_part",
    "training_seconds",
]
