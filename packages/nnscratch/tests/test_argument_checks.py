"""Inputs of the wrong shape or dtype are refused by name, with the expected shape or dtype."""

import pytest
import torch

from nnscratch import (
    CausalSelfAttention,
    Embedding,
    Linear,
    RMSNorm,
    RotaryEmbedding,
    SwiGLU,
    TransformerConfig,
    TransformerLM,
    cross_entropy,
    linear_cross_entropy,
    scaled_dot_product_attention,
)

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


def ids(*shape):
    return zeros(*shape, dtype=torch.int64)


def model():
    return TransformerLM(
        TransformerConfig(vocab_size=10, context_length=8, d_model=16, num_layers=1, num_heads=2, d_ff=32)
    )


CASES = {
    "linear": (lambda: Linear(4, 8)(zeros(2, 5)), r"x has shape \(2, 5\), expected \(..., 4\).*d_in"),
    "linear without dimensions": (lambda: Linear(4, 8)(zeros()), r"x has shape \(\), expected \(..., 4\)"),
    "norm": (lambda: RMSNorm(4)(zeros(2, 1)), r"x has shape \(2, 1\), expected \(..., 4\).*d_model"),
    "feed-forward": (lambda: SwiGLU(4, 8)(zeros(2, 5)), r"x has shape \(2, 5\), expected \(..., 4\)"),
    "rotation": (
        lambda: RotaryEmbedding(1e4, 8, 16)(zeros(2, 3, 2)),
        r"x has shape \(2, 3, 2\), expected \(..., 8\).*d_k",
    ),
    "embedding of numbers": (
        lambda: Embedding(4, 8)(zeros(3)),
        r"token_ids has dtype torch.float32, expected integers",
    ),
    "attention": (
        lambda: CausalSelfAttention(16, 2)(zeros(2, 3, 12)),
        r"x has shape \(2, 3, 12\), expected \(..., 16\)",
    ),
    "added values": (
        lambda: CausalSelfAttention(16, 2)(zeros(2, 3, 16), added_values=zeros(1, 3, 16)),
        r"added_values has shape \(1, 3, 16\), expected \(2, 3, 16\), the shape of the values",
    ),
    "keys' features": (
        lambda: scaled_dot_product_attention(zeros(2, 3, 8), zeros(2, 3, 6), zeros(2, 3, 6)),
        r"k has shape \(2, 3, 6\), expected \(..., 8\).*d_k",
    ),
    "keys' batch": (
        lambda: scaled_dot_product_attention(zeros(2, 3, 8), zeros(1, 3, 8), zeros(1, 3, 6)),
        r"k has shape \(1, 3, 8\), expected \(2, 'keys', 8\)",
    ),
    "values": (
        lambda: scaled_dot_product_attention(zeros(2, 3, 8), zeros(2, 4, 8), zeros(2, 3, 6)),
        r"v has shape \(2, 3, 6\), expected \(2, 4, 'd_v'\)",
    ),
    "mask": (
        lambda: scaled_dot_product_attention(
            zeros(2, 3, 8), zeros(2, 4, 8), zeros(2, 4, 6), zeros(3, 3, dtype=torch.bool)
        ),
        r"mask has shape \(3, 3\), expected \(2, 3, 4\)",
    ),
    "mask's batch": (
        lambda: scaled_dot_product_attention(
            zeros(2, 3, 8), zeros(2, 4, 8), zeros(2, 4, 6), zeros(5, 3, 4, dtype=torch.bool)
        ),
        r"mask has shape \(5, 3, 4\), expected \(2, 3, 4\)",
    ),
    "mask of numbers": (
        lambda: scaled_dot_product_attention(zeros(2, 3, 8), zeros(2, 4, 8), zeros(2, 4, 6), zeros(3, 4)),
        r"mask has dtype torch.float32, expected torch.bool",
    ),
    "cross-entropy": (
        lambda: cross_entropy(zeros(2, 3, 8), ids(2, 4)),
        r"targets has shape \(2, 4\), expected \(2, 3\)",
    ),
    "targets of numbers": (
        lambda: cross_entropy(zeros(2, 8), zeros(2)),
        r"targets has dtype torch.float32, expected integers",
    ),
    "linear cross-entropy": (
        lambda: linear_cross_entropy(zeros(2, 3, 8), zeros(10, 7), ids(2, 3)),
        r"hidden has shape \(2, 3, 8\), expected \(..., 7\)",
    ),
    "linear cross-entropy's targets": (
        lambda: linear_cross_entropy(zeros(2, 3, 8), zeros(10, 8), ids(2, 4)),
        r"targets has shape \(2, 4\), expected \(2, 3\)",
    ),
    "one sequence": (lambda: model()(ids(4)), r"token_ids has shape \(4,\), expected \(batch, seq\)"),
    "no ids": (lambda: model()(zeros(1, 4)), r"token_ids has dtype torch.float32, expected"),
    "loss": (lambda: model().loss(ids(1, 4), ids(1, 5)), r"targets has shape \(1, 5\), expected \(1, 4\)"),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_inputs_are_refused_by_name(case):
    call, message = CASES[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_an_id_outside_the_table_is_named():
    with pytest.raises(IndexError, match="token_ids range from 1 to 12, expected 0 to 9: the table has 10 rows"):
        model()(torch.tensor([[1, 12]]))
