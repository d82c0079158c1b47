"""Writing and reading the config.json of a LlamaForCausalLM, in the layouts of transformers 4 and 5."""

from pathlib import Path
from typing import Any

import torch

from nnscratch.config import TransformerConfig
from nnscratch.interchange.files import read_object

_ARCHITECTURE = "LlamaForCausalLM"
_SIZES = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "context_length",
    "hidden_size": "d_model",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "d_ff",
}
# Required values of fields that may be absent; transformers has the same defaults.
_FIXED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0,
    "pretraining_tp": 1,
    "partial_rotary_factor": 1,
    "quantization_config": None,
}
_DEFAULT_EPS = 1e-6
_DEFAULT_THETA = 10_000.0


def llama_config(
    config: TransformerConfig, dtype: torch.dtype, bos_id: int | None, eos_id: int | None
) -> dict[str, Any]:
    """Return the config.json of a model. Ids are written even if they are None, because the defaults are 1 and 2."""
    return {
        "architectures": [_ARCHITECTURE],
        "model_type": "llama",
        **{theirs: getattr(config, ours) for theirs, ours in _SIZES.items()},
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.d_k,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
    }


def read_llama_config(path: Path) -> TransformerConfig:
    """Return the architecture that a config.json describes.

    Absent fields have the defaults of transformers. Fields unrelated to the architecture (token ids, dtype,
    initializer_range, …) are ignored.

    Raises:
        ValueError: If the file is not a JSON object, or a field asks for something that `TransformerConfig` cannot
            express.
    """
    content = read_object(path, "fetch or save the model again")
    _check_architecture(path, content)
    sizes = {ours: _size(path, content, theirs) for theirs, ours in _SIZES.items()}
    heads = _heads(path, content, sizes["d_model"], sizes["num_heads"])
    tied = content.get("tie_word_embeddings", False)
    if tied is not True and tied is not False:
        raise _refusal(path, "tie_word_embeddings", tied, "True or False")
    eps = _number(path, "rms_norm_eps", content.get("rms_norm_eps", _DEFAULT_EPS))
    others = {"rope_theta": _rope_theta(path, content), "tie_embeddings": tied, "norm_eps": eps}
    return TransformerConfig.from_dict(sizes | heads | others)


def _refusal(path: Path, name: str, came: object, expected: str) -> ValueError:
    return ValueError(
        f"{str(path)!r} has {name}={came!r}, expected {expected}; TransformerLM cannot express it, "
        f"so choose another model, or open this one with transformers"
    )


def _check_architecture(path: Path, content: dict[str, Any]) -> None:
    if content.get("format") == "nnscratch":
        raise ValueError(
            f"{str(path)!r} has format='nnscratch', expected model_type='llama'; "
            f"open the directory with TransformerLM.from_pretrained"
        )
    if content.get("model_type") != "llama":
        raise _refusal(path, "model_type", content.get("model_type"), "'llama'")
    architectures = content.get("architectures")
    if architectures is not None and (not isinstance(architectures, list) or _ARCHITECTURE not in architectures):
        raise _refusal(path, "architectures", architectures, f"{[_ARCHITECTURE]!r}")
    for name, expected in _FIXED.items():
        if content.get(name) not in (None, expected):
            raise _refusal(path, name, content[name], f"{expected!r}")


def _size(path: Path, content: dict[str, Any], name: str) -> int:
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{str(path)!r} has {name}={value!r}, expected an integer of at least 1; correct the field")
    return value


def _number(path: Path, name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError(f"{str(path)!r} has {name}={value!r}, expected a positive number; correct the field")
    return float(value)


def _heads(path: Path, content: dict[str, Any], width: int, num_heads: int) -> dict[str, int]:
    """Return `num_kv_heads` and `head_size` where they differ from the defaults of `TransformerConfig`."""
    heads = {}
    if content.get("num_key_value_heads") not in (None, num_heads):
        heads["num_kv_heads"] = _size(path, content, "num_key_value_heads")
        if num_heads % heads["num_kv_heads"]:
            expected = f"a divisor of num_attention_heads={num_heads}"
            raise _refusal(path, "num_key_value_heads", heads["num_kv_heads"], expected)
    if content.get("head_dim") is None:
        if width % num_heads or width // num_heads % 2:
            raise _refusal(path, "num_attention_heads", num_heads, f"a divisor of hidden_size={width} into even heads")
        return heads
    size = _size(path, content, "head_dim")
    if size % 2:
        raise _refusal(path, "head_dim", size, "an even number")
    return heads if size * num_heads == width else heads | {"head_size": size}


def _rope_theta(path: Path, content: dict[str, Any]) -> float:
    """Return the base of the angles, which is at the top level in version 4 and in `rope_parameters` in version 5."""
    found = {"rope_theta": content.get("rope_theta")}
    for field in ("rope_scaling", "rope_parameters"):
        settings = content.get(field)
        if settings is None:
            continue
        if not isinstance(settings, dict):
            raise _refusal(path, field, settings, "an object")
        plain = {"rope_type": "default", "type": "default", "partial_rotary_factor": 1}
        for name, value in settings.items():
            if name != "rope_theta" and value not in (None, plain.get(name)):
                expected = repr(plain[name]) if name in plain else "no such setting"
                raise _refusal(path, f"{field}.{name}", value, expected)
        found[f"{field}.rope_theta"] = settings.get("rope_theta")
    thetas = {name: _number(path, name, value) for name, value in found.items() if value is not None}
    if len(set(thetas.values())) > 1:
        contradiction = " and ".join(f"{name}={value!r}" for name, value in thetas.items())
        raise ValueError(f"{str(path)!r} has {contradiction}, expected one value; remove the wrong one")
    return next(iter(thetas.values()), _DEFAULT_THETA)
