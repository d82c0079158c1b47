"""Neural-network and optimizer primitives from scratch, and a Transformer language model.

Importing this package is light: torch is imported when a public name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnscratch.accounting import (
        MemoryEstimate,
        count_parameters,
        flops_by_part,
        flops_per_token,
        memory_estimate,
    )
    from nnscratch.attention import CausalSelfAttention, scaled_dot_product_attention
    from nnscratch.config import TransformerConfig
    from nnscratch.functional import cross_entropy, perplexity, silu, softmax
    from nnscratch.generation.cache import KeyValueCache
    from nnscratch.generation.decoding import complete, generate, stream, stream_with_logits
    from nnscratch.generation.sampling import next_token_probabilities
    from nnscratch.interchange.gguf import export_gguf
    from nnscratch.interchange.huggingface import export_huggingface, import_huggingface
    from nnscratch.language_model import LanguageModel
    from nnscratch.layers import (
        Embedding,
        Linear,
        ReLUSquaredFeedForward,
        RMSNorm,
        SiLUFeedForward,
        SwiGLU,
    )
    from nnscratch.losses import linear_cross_entropy
    from nnscratch.optimizers.adamw import AdamW
    from nnscratch.optimizers.clipping import clip_grad_norm
    from nnscratch.optimizers.combined import CombinedOptimizer
    from nnscratch.optimizers.muon import Muon
    from nnscratch.optimizers.schedules import cosine_schedule, trapezoid_schedule
    from nnscratch.optimizers.sgd import SGD
    from nnscratch.rotary_embedding import RotaryEmbedding
    from nnscratch.transformer import TransformerBlock, TransformerLM

    __version__: str

_MODULE_OF = {
    "AdamW": "optimizers.adamw",
    "CausalSelfAttention": "attention",
    "CombinedOptimizer": "optimizers.combined",
    "Embedding": "layers",
    "KeyValueCache": "generation.cache",
    "LanguageModel": "language_model",
    "Linear": "layers",
    "MemoryEstimate": "accounting",
    "Muon": "optimizers.muon",
    "RMSNorm": "layers",
    "ReLUSquaredFeedForward": "layers",
    "RotaryEmbedding": "rotary_embedding",
    "SGD": "optimizers.sgd",
    "SiLUFeedForward": "layers",
    "SwiGLU": "layers",
    "TransformerBlock": "transformer",
    "TransformerConfig": "config",
    "TransformerLM": "transformer",
    "clip_grad_norm": "optimizers.clipping",
    "cosine_schedule": "optimizers.schedules",
    "count_parameters": "accounting",
    "cross_entropy": "functional",
    "export_gguf": "interchange.gguf",
    "export_huggingface": "interchange.huggingface",
    "flops_by_part": "accounting",
    "flops_per_token": "accounting",
    "complete": "generation.decoding",
    "generate": "generation.decoding",
    "import_huggingface": "interchange.huggingface",
    "linear_cross_entropy": "losses",
    "memory_estimate": "accounting",
    "next_token_probabilities": "generation.sampling",
    "perplexity": "functional",
    "scaled_dot_product_attention": "attention",
    "silu": "functional",
    "softmax": "functional",
    "stream": "generation.decoding",
    "stream_with_logits": "generation.decoding",
    "trapezoid_schedule": "optimizers.schedules",
}

__all__ = [
    "SGD",
    "AdamW",
    "CausalSelfAttention",
    "CombinedOptimizer",
    "Embedding",
    "KeyValueCache",
    "LanguageModel",
    "Linear",
    "MemoryEstimate",
    "Muon",
    "RMSNorm",
    "ReLUSquaredFeedForward",
    "RotaryEmbedding",
    "SiLUFeedForward",
    "SwiGLU",
    "TransformerBlock",
    "TransformerConfig",
    "TransformerLM",
    "__version__",
    "clip_grad_norm",
    "complete",
    "cosine_schedule",
    "count_parameters",
    "cross_entropy",
    "export_gguf",
    "export_huggingface",
    "flops_by_part",
    "flops_per_token",
    "generate",
    "import_huggingface",
    "linear_cross_entropy",
    "memory_estimate",
    "next_token_probabilities",
    "perplexity",
    "scaled_dot_product_attention",
    "silu",
    "softmax",
    "stream",
    "stream_with_logits",
    "trapezoid_schedule",
]


def _version() -> str:
    """Return the installed version, or a local one when the package is used from a source folder."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("scratchlm-nnscratch")
    except PackageNotFoundError:
        return "0+source"


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        value: object = _version()
    elif name in _MODULE_OF:
        value = getattr(import_module(f"nnscratch.{_MODULE_OF[name]}"), name)
    else:
        raise AttributeError(f"module 'nnscratch' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not yet."""
    return sorted(set(globals()) | set(__all__))
