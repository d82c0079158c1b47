"""Accounting: parameters, floating-point operations, memory and training time of a model, from its config alone.

`python -m nnscratch.accounting` prints the results as tables or JSON. Only the module `lowering`, which counts
bytes and launches of a compiled loss, needs torch.
"""

from nnscratch.accounting.activations import activation_values as activation_values
from nnscratch.accounting.activations import handout_activation_values as handout_activation_values
from nnscratch.accounting.flops import MatrixProduct as MatrixProduct
from nnscratch.accounting.flops import adamw_flops as adamw_flops
from nnscratch.accounting.flops import flops_by_part as flops_by_part
from nnscratch.accounting.flops import flops_per_token as flops_per_token
from nnscratch.accounting.flops import matrix_products as matrix_products
from nnscratch.accounting.flops import training_seconds as training_seconds
from nnscratch.accounting.memory import MemoryEstimate as MemoryEstimate
from nnscratch.accounting.memory import cache_memory as cache_memory
from nnscratch.accounting.memory import largest_batch_size as largest_batch_size
from nnscratch.accounting.memory import memory_estimate as memory_estimate
from nnscratch.accounting.parameters import count_parameters as count_parameters
from nnscratch.accounting.parameters import parameters_by_part as parameters_by_part
from nnscratch.accounting.presets import GPT2 as GPT2
