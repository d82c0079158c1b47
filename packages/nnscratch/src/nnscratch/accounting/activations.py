"""What a forward pass keeps for the backward pass, in numbers per sequence.

Each function stands for one kind of layer of this package and changes with its backward pass;
`tests/test_accounting.py` compares their sum with what autograd really keeps.
"""

from nnscratch.accounting.parameters import FEED_FORWARD_MATRICES, norm_count
from nnscratch.config import TransformerConfig


def _norm(config: TransformerConfig, length: int) -> int:
    # The input, which is a sum that nobody else keeps, and a number per row.
    return length * (config.d_model + 1)


def _attention(config: TransformerConfig, length: int) -> int:
    width, heads = config.d_model, config.num_heads
    # The input of the qkv product; q, k, v and output of the attention and a number per row, from which the backward
    # pass computes the weights anew; the output projection's input is a rearranged copy.
    values = length * width + 4 * length * width + heads * length + length * width
    if config.qk_norm:
        values += length * (3 * width + 2 * heads)  # q and k before the norm are views of the whole product
    return values


def _feed_forward(config: TransformerConfig, length: int) -> int:
    # The input; for the gate its two inputs, for silu x and its sigmoid, for relu² x clamped;
    # the input of the last product.
    return length * config.d_model + {"swiglu": 3, "silu": 3, "relu_squared": 2}[config.ffn] * length * config.d_ff


def _loss(config: TransformerConfig, length: int) -> int:
    # The gradient with respect to the features, which the loss computes on its way forward.
    return length * config.d_model


def activation_values(config: TransformerConfig, context_length: int | None = None) -> int:
    """Return the numbers that `TransformerLM.loss` keeps for the backward pass, per sequence.

    Copies of weights are not among them: the three projections' joint matrix, 3 · d_model² in each layer, and the
    output layer's gradient, both whatever the batch.

    Args:
        config: the model.
        context_length: tokens in a sequence; by default the config's.
    """
    length = config.context_length if context_length is None else context_length
    layer = _attention(config, length) + _feed_forward(config, length)
    return config.num_layers * layer + norm_count(config) * _norm(config, length) + _loss(config, length)


def handout_activation_values(config: TransformerConfig, context_length: int | None = None) -> int:
    """Return the outputs of the components that the assignment lists (problem adamwAccounting), per sequence.

    In each block the norms, q, k, v, the products of queries and keys, the softmax, the weighted sum, the output
    projection, and the feed-forward network's products, activation and, if it has one, gate; then the final norm,
    the logits and each position's cross-entropy. It is what a program holds that keeps every result once.

    Args:
        config: the model.
        context_length: tokens in a sequence; by default the config's.
    """
    length = config.context_length if context_length is None else context_length
    width, squares = config.d_model, config.num_heads * length * length
    attention = 5 * length * width + 2 * squares
    inner = {3: 4, 2: 2}[FEED_FORWARD_MATRICES[config.ffn]]
    feed_forward = length * (inner * config.d_ff + width)
    norms = norm_count(config) * length * width
    return config.num_layers * (attention + feed_forward) + norms + length * (config.vocab_size + 1)
