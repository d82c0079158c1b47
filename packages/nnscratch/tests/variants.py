"""Architectures for tests: every two values of norm, position and feed-forward network occur together."""

from nnscratch import RopeScaling

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
    {"num_kv_heads": 2, "head_size": 12, "norm": "post"},
    {"norm": "reordered", "qk_norm": True, "qk_norm_scope": "all_heads", "num_kv_heads": 2},
    {"qkv_bias": True, "rope_scaling": RopeScaling(4.0, 1.0, 2.0, 8)},
    {"window": 3, "num_kv_heads": 2},
    {"document_separator": 1, "num_kv_heads": 2},
    {"window": 4, "full_attention_layers": (0,), "no_rope_layers": (1,), "qkv_bias": True, "qk_norm": True},
]
