"""Activations: the numbers per sequence that a forward pass keeps for the backward pass.

Each private function counts one kind of layer and has to follow its backward pass. `tests/accounting/` compares their
sum with the tensors that autograd keeps.
"""

from nnscratch.accounting.parameters import FEED_FORWARD_MATRICES, norm_count
from nnscratch.config import TransformerConfig


def _norm(config: TransformerConfig, length: int) -> int:
    # The input, a sum that no other layer keeps, and one number per row.
    return length * (config.d_model + 1)


def _attention(config: TransformerConfig, length: int) -> int:
    q_width, kv_width = config.num_heads * config.d_k, config.kv_heads * config.d_k
    # The input of the qkv product; q, k, v, the attention output and one number per row and head, from which the
    # backward pass recomputes the weights; the input of the output projection, which is a rearranged copy.
    values = config.d_model + 2 * q_width + 2 * kv_width + config.num_heads + q_width
    if config.qk_norm:  # q and k before the norm are views of the whole product.
        values += q_width + 2 * kv_width
        values += 2 if config.qk_norm_scope == "all_heads" else config.num_heads + config.kv_heads
    if config.attention_dropout:  # The weights before and after it, and a copy of k and v for each head of queries.
        values += 2 * config.num_heads * length - config.num_heads - q_width + 2 * (q_width - kv_width)
    return length * values


def _feed_forward(config: TransformerConfig, length: int) -> int:
    # The input of the network; two inputs of the gate, or x and sigmoid(x) of SiLU, or max(x, 0) of squared ReLU
    # (which its kernels for GPUs do without); the input of the last product.
    return length * config.d_model + {"swiglu": 3, "silu": 3, "relu_squared": 2}[config.ffn] * length * config.d_ff


def _loss(config: TransformerConfig, length: int) -> int:
    # The gradient with respect to the features, which the loss computes in its forward pass.
    return length * config.d_model


def activation_values(
    config: TransformerConfig, context_length: int | None = None, *, checkpoint_blocks: bool = False
) -> int:
    """Return the numbers that `TransformerLM.loss` keeps for the backward pass, per sequence.

    They exclude tensors whose size is independent of the batch: the joint matrix of the three projections in each
    layer, and the gradient of the output layer. They also exclude dropout's masks, one byte for each number.

    Args:
        config: The model.
        context_length: Tokens per sequence; by default that of the config.
        checkpoint_blocks: With `TransformerLM.checkpoint_blocks`: of each block only its input, the residual stream.
    """
    length = config.context_length if context_length is None else context_length
    layer = length * config.d_model if checkpoint_blocks else block_activation_values(config, length)
    final_norm = _norm(config, length) if config.has_final_norm else 0
    return config.num_layers * layer + final_norm + _loss(config, length)


def block_activation_values(config: TransformerConfig, length: int) -> int:
    """Return the numbers that one block keeps for the backward pass, its input included, per sequence."""
    norms = 0 if config.norm == "none" else 2 * _norm(config, length)
    return _attention(config, length) + _feed_forward(config, length) + norms


def handout_activation_values(config: TransformerConfig, context_length: int | None = None) -> int:
    """Return the numbers in the outputs of the components that problem adamwAccounting lists, per sequence.

    The components are, in each block, the norms, q, k, v, the products of queries and keys, the softmax, the weighted
    sum, the output projection, and the products, the activation and the gate (if any) of the feed-forward network; then
    the final norm, the logits and the cross-entropy at each position. A program that keeps every result once holds
    them.

    Args:
        config: The model.
        context_length: Tokens per sequence; by default that of the config.
    """
    length = config.context_length if context_length is None else context_length
    width, squares = config.d_model, config.num_heads * length * length
    attention = length * (2 * (config.num_heads + config.kv_heads) * config.d_k + width) + 2 * squares
    inner = {3: 4, 2: 2}[FEED_FORWARD_MATRICES[config.ffn]]
    feed_forward = length * (inner * config.d_ff + width)
    norms = norm_count(config) * length * width
    return config.num_layers * (attention + feed_forward) + norms + length * (config.vocab_size + 1)
