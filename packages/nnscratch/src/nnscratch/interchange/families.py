"""Families of published models: the architecture of each, and its names in transformers."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from nnscratch.config import TransformerConfig

_FREE = frozenset(
    "vocab_size context_length d_model num_layers num_heads num_kv_heads head_size d_ff rope_theta rope_scaling "
    "tie_embeddings norm_eps dropout attention_dropout".split()
)
"""Fields in which models of every family differ. Dropout acts in training only."""
_PLAIN: dict[str, Any] = {"norm": "pre", "position": "rope", "ffn": "swiglu"}


@dataclass(frozen=True)
class Family:
    """Family of models that one class of transformers represents."""

    name: str
    """Name with its article, for messages."""
    model_type: str
    """Name in config.json."""
    architecture: str
    """Class in transformers."""
    features: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `TransformerConfig` that are not those of a Llama."""
    free: frozenset[str] = frozenset()
    """Fields besides `_FREE` in which its models differ."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values in transformers of fields absent from config.json, where they are not those of a Llama."""
    switches: tuple[str, ...] = ()
    """Fields of config.json for biases, all of which have to be off."""

    def require(self, config: TransformerConfig) -> None:
        """Raise a ValueError unless the config is one of this family, naming the first field with another value."""
        wanted = {**_PLAIN, **self.features}
        for item in fields(config):
            # Every other field adds to the architecture, and its default leaves the addition out.
            value, only = getattr(config, item.name), wanted.get(item.name, item.default)
            if item.name not in _FREE | self.free and only is not MISSING and value != only:
                raise ValueError(
                    f"{item.name}={value!r} is not {self.name}; only {item.name}={only!r} can be exported, "
                    f"so keep the model in the format of save_pretrained"
                )


_WINDOWS = frozenset({"window", "full_attention_layers"})
_GAINS = frozenset({"qk_norm_gains"})  # An export writes gains of one.
LLAMA = Family("a Llama", "llama", "LlamaForCausalLM", switches=("attention_bias", "mlp_bias"))
MISTRAL = Family(
    "a Mistral",
    "mistral",
    "MistralForCausalLM",
    free=frozenset({"window"}),
    defaults={"num_key_value_heads": 8, "sliding_window": 4096},
)
QWEN_2 = Family(
    "a Qwen 2",
    "qwen2",
    "Qwen2ForCausalLM",
    features={"qkv_bias": True},
    free=_WINDOWS,
    defaults={"num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28},
)
QWEN_3 = Family(
    "a Qwen 3",
    "qwen3",
    "Qwen3ForCausalLM",
    features={"qk_norm": True},
    free=_WINDOWS | _GAINS,
    defaults={"num_key_value_heads": 32, "head_dim": 128, "sliding_window": 4096, "max_window_layers": 28},
    switches=("attention_bias",),
)
SMOLLM_3 = Family(
    "a SmolLM 3",
    "smollm3",
    "SmolLM3ForCausalLM",
    free=_WINDOWS | {"no_rope_layers"},
    defaults={
        "num_key_value_heads": 4,
        "rope_theta": 2_000_000.0,
        "tie_word_embeddings": True,
        "no_rope_layer_interval": 4,
    },
    switches=("attention_bias", "mlp_bias"),
)
OLMO_2 = Family(
    "an OLMo 2",
    "olmo2",
    "Olmo2ForCausalLM",
    features={"norm": "reordered", "qk_norm": True, "qk_norm_scope": "all_heads"},
    free=_GAINS,
    defaults={"rms_norm_eps": 1e-5},
    switches=("attention_bias",),
)
FAMILIES = {family.model_type: family for family in (LLAMA, MISTRAL, QWEN_2, QWEN_3, SMOLLM_3, OLMO_2)}


def family_of(config: object, origin: str | None = None) -> tuple[Family, TransformerConfig]:
    """Return the family of a config, and the config.

    Args:
        config: The config of a model.
        origin: The `model_type` that it came from. It decides if models of several families have such a config, as a
            Mistral without a window is a Llama; otherwise it is the simplest of them.

    Raises:
        TypeError: If it is the config of another class of models.
        ValueError: If no family has such models, naming the first field that does not fit.
    """
    config = _require_transformer(config)
    if config.norm == "reordered":
        family = OLMO_2
    elif config.qkv_bias:
        family = QWEN_2
    elif config.qk_norm:
        family = QWEN_3
    elif config.no_rope_layers or config.full_attention_layers or origin == SMOLLM_3.model_type:
        family = SMOLLM_3
    # transformers 5 opens a Llama only if the heads divide the width, and any Mistral.
    elif config.window is not None or config.d_model % config.num_heads or origin == MISTRAL.model_type:
        family = MISTRAL
    else:
        family = LLAMA
    family.require(config)
    first = config.full_attention_layers
    if family in (QWEN_2, QWEN_3) and first != tuple(range(len(first))):
        raise ValueError(
            f"full_attention_layers={first!r} is not {family.name}; only the first layers of one have no window, "
            f"so keep the model in the format of save_pretrained"
        )
    return family, config


def require_llama(config: object) -> TransformerConfig:
    """Return the config if it is that of a Llama without scaled frequencies.

    Raises:
        TypeError: If it is the config of another class of models.
        ValueError: If it is not that of a Llama, naming the first field with another value.
    """
    config = _require_transformer(config)
    LLAMA.require(config)
    if config.rope_scaling is not None:
        raise ValueError(
            f"rope_scaling={config.rope_scaling!r} cannot be exported to this format; use export_huggingface"
        )
    return config


def _require_transformer(config: object) -> TransformerConfig:
    if not isinstance(config, TransformerConfig):
        raise TypeError(
            f"the config is of class {type(config).__name__}, expected TransformerConfig; export a TransformerLM"
        )
    return config
