"""Architectures for tests: every two values of norm, position and feed-forward network occur together."""

import dataclasses

from nnscratch import AdamW, CombinedOptimizer, RopeScaling, RowwiseAdagrad, TransformerLM

VARIANTS = [
    {},
    {"ffn": "silu", "position": "none", "qk_norm": True},
    {"ffn": "relu_squared", "logit_soft_cap": 5.0},
    {"norm": "post", "position": "none", "ffn": "swiglu"},
    {"norm": "post", "ffn": "silu", "tie_embeddings": True},
    {"norm": "post", "position": "none", "ffn": "relu_squared", "logit_soft_cap": 5.0},
    {"norm": "none", "ffn": "swiglu", "qk_norm": True},
    {"norm": "none", "position": "none", "ffn": "silu"},
    {"norm": "none", "ffn": "relu_squared", "tie_embeddings": True},
    {"num_kv_heads": 1, "qk_norm": True, "ffn": "silu"},
    {"num_kv_heads": 2, "qk_norm": True, "qk_norm_gains": False},
    {"num_kv_heads": 2, "head_size": 12, "norm": "post"},
    {"norm": "reordered", "qk_norm": True, "qk_norm_scope": "all_heads", "num_kv_heads": 2},
    {"qkv_bias": True, "rope_scaling": RopeScaling(4.0, 1.0, 2.0, 8)},
    {"window": 3, "num_kv_heads": 2},
    {"document_separator": 1, "num_kv_heads": 2},
    {"window": 4, "full_attention_layers": (0,), "no_rope_layers": (1,), "qkv_bias": True, "qk_norm": True},
    {"ngram_rows": 97, "num_kv_heads": 2},
    {"ngram_rows": 41, "ngrams": (3,), "document_separator": 1},
]


def variant(config, changes):
    """The model with these changes; tables of n-grams start at zero and are filled, or a mistake would go unnoticed."""
    model = TransformerLM(dataclasses.replace(config, **changes))
    for table in tables(model):
        table.data.normal_()
    return model


def tables(model):
    return [param for name, param in model.named_parameters() if name.startswith("ngram_embeddings.")]


def optimizer_for(model, lr):
    rest = [param for name, param in model.named_parameters() if not name.startswith("ngram_embeddings.")]
    parts = [AdamW(rest, lr=lr)]
    if tables(model):
        parts.append(RowwiseAdagrad(tables(model), lr=lr))
    return CombinedOptimizer(parts)
