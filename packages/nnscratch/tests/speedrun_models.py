"""Small speedrun models, and settings of small recipes, for several test files."""

import dataclasses

import torch

from nnscratch.speedrun import SpeedrunConfig

OFF = SpeedrunConfig(vocab_size=50, context_length=12, d_model=32, num_layers=4, num_heads=4, d_ff=48)
CHANGES = {
    "ffn": "relu_squared",
    "qk_norm": True,
    "zero_init_projections": True,
    "logit_soft_cap": 5.0,
    "value_embeddings": True,
    "skip_connections": True,
    "embedding_shortcut": True,
    "ngram_rows": 211,
    "embedding_norm": True,
    "attention_gates": True,
    "smear": True,
    "backout": True,
    "narrow_stream": True,
    "tie_embeddings": True,
}
TINY = (
    "vocab_size=300",
    "context_length=16",
    "d_model=16",
    "num_layers=1",
    "num_heads=2",
    "d_ff=40",
    "batch_size=2",
)
ON = dataclasses.replace(OFF, **CHANGES | {"tie_embeddings": False})
CONFIGS = {
    "off": OFF,
    **{name: dataclasses.replace(OFF, **{name: value}) for name, value in CHANGES.items()},
    "ungated": dataclasses.replace(OFF, ffn="silu"),
    "on": ON,
    "no gains": dataclasses.replace(OFF, qk_norm=True, qk_norm_gains=False),
    "on, no gains": dataclasses.replace(ON, gainless_norms=True),
    "on, 5 layers, tied": dataclasses.replace(ON, num_layers=5, tie_embeddings=True),
    "on, wider than the gate": dataclasses.replace(ON, d_model=48, num_layers=2),
}


def disturb(model):
    """Move every parameter away from its start, where much is zero."""
    with torch.no_grad():
        for param in model.parameters():
            param.add_(0.2 * torch.randn_like(param))
    return model


def ids(config, batch=2):
    return torch.randint(config.vocab_size, (batch, config.context_length))
