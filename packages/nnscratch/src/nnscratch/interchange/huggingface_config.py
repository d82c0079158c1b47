"""Writing and reading config.json of the families of models, in the layouts of transformers 4 and 5."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnscratch.config import RopeScaling, TransformerConfig
from nnscratch.interchange.families import FAMILIES, MISTRAL, QWEN_2, QWEN_3, SMOLLM_3, Family
from nnscratch.interchange.files import read_object

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
    "partial_rotary_factor": 1,
    "quantization_config": None,
}
# What transformers takes for absent fields of a Llama.
_DEFAULTS = {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
}
_SCALING = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_context_length",
}
_FULL, _SLIDING = "full_attention", "sliding_attention"


def huggingface_config(
    config: TransformerConfig, family: Family, dtype: torch.dtype, bos_id: int | None, eos_id: int | None
) -> dict[str, Any]:
    """Return the config.json of a model of a family.

    Ids are written even if they are None, because other ids, beyond a small vocabulary, are the defaults of some.
    """
    rope: dict[str, Any] = {"rope_type": "default"}
    if config.rope_scaling is not None:
        scaling = {theirs: getattr(config.rope_scaling, ours) for theirs, ours in _SCALING.items()}
        rope = {"rope_type": "llama3", **scaling}
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        **{theirs: getattr(config, ours) for theirs, ours in _SIZES.items()},
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.d_k,
        "hidden_act": "silu",
        **dict.fromkeys(family.switches, False),
        "attention_dropout": config.attention_dropout,
        "rms_norm_eps": config.norm_eps,
        # Version 4 has the first two, version 5 the last.
        "rope_theta": config.rope_theta,
        "rope_scaling": None if config.rope_scaling is None else rope,
        "rope_parameters": rope | {"rope_theta": config.rope_theta},
        **_layer_fields(config, family),
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "pad_token_id": None,
    }


def _layer_fields(config: TransformerConfig, family: Family) -> dict[str, Any]:
    """Return the fields of config.json about windows and layers without a rotary embedding."""
    if family is MISTRAL:
        return {"sliding_window": config.window}
    if family not in (QWEN_2, QWEN_3, SMOLLM_3):
        return {}
    layers = range(config.num_layers)
    result: dict[str, Any] = {
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "layer_types": [_FULL if config.window_of(layer) is None else _SLIDING for layer in layers],
    }
    if family is SMOLLM_3:  # In spite of its name, the list has a 1 for a layer with a rotary embedding.
        return result | {"no_rope_layers": [int(config.has_rope(layer)) for layer in layers]}
    full = config.num_layers if config.window is None else len(config.full_attention_layers)
    return result | {"max_window_layers": full}


def read_huggingface_config(path: Path) -> tuple[TransformerConfig, Family]:
    """Return the architecture that a config.json describes, and its family.

    Absent fields have the defaults of transformers. Fields unrelated to the architecture (token ids, dtype,
    initializer_range, …) are ignored.

    Raises:
        ValueError: If the file is not a JSON object, or a field asks for something that `TransformerConfig` cannot
            express.
    """
    content = read_object(path, "fetch or save the model again")
    family = _family(path, content)
    file = _File(path, content, _DEFAULTS | dict(family.defaults))
    for name, expected in (_FIXED | dict.fromkeys(family.switches, False)).items():
        if content.get(name) not in (None, expected):
            raise file.refusal(name, content[name], repr(expected))
    sizes = {ours: file.size(theirs) for theirs, ours in _SIZES.items()}
    values = {
        **sizes,
        **family.features,
        **_heads(file, sizes["d_model"], sizes["num_heads"]),
        **_rope(file),
        **_layers(file, family, sizes["num_layers"]),
        "tie_embeddings": file.switch("tie_word_embeddings"),
        "norm_eps": file.number("rms_norm_eps", file.get("rms_norm_eps")),
        "attention_dropout": file.share("attention_dropout"),
    }
    return TransformerConfig.from_dict(values), family


@dataclass(frozen=True)
class _File:
    """Fields of a config.json, with a message for each that is wrong."""

    path: Path
    content: Mapping[str, Any]
    defaults: Mapping[str, Any]

    def get(self, name: str) -> Any:
        """Return the value of a field, or the default of transformers if the field is absent."""
        return self.content.get(name, self.defaults.get(name))

    def refusal(self, name: str, came: object, expected: str) -> ValueError:
        """Return an error about a field that `TransformerLM` cannot express."""
        return ValueError(
            f"{str(self.path)!r} has {name}={came!r}, expected {expected}; TransformerLM cannot express it, "
            f"so choose another model, or open this one with transformers"
        )

    def size(self, name: str) -> int:
        """Return a field that has to be an integer of at least 1."""
        value = self.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{str(self.path)!r} has {name}={value!r}, expected an integer of at least 1; correct the field"
            )
        return value

    def number(self, name: str, value: object) -> float:
        """Return a value that has to be a positive number; `name` is for the message."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
            raise ValueError(f"{str(self.path)!r} has {name}={value!r}, expected a positive number; correct the field")
        return float(value)

    def share(self, name: str) -> float:
        """Return a field that has to be a number from 0 up to, not including, 1; 0 if it is absent or null."""
        value = 0.0 if self.get(name) is None else self.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
            raise ValueError(
                f"{str(self.path)!r} has {name}={value!r}, expected a number from 0 up to, not including, 1; "
                f"correct the field"
            )
        return float(value)

    def switch(self, name: str) -> bool:
        """Return a field that has to be true or false."""
        value = self.get(name)
        if value is not True and value is not False:
            raise self.refusal(name, value, "True or False")
        return value

    def per_layer(self, name: str, values: object, layers: int, choices: tuple[object, ...]) -> list[Any]:
        """Return a list with one of the choices for each layer."""
        if not isinstance(values, list) or len(values) < layers or any(value not in choices for value in values):
            expected = " or ".join(map(repr, choices))
            raise self.refusal(name, values, f"{expected} for each of the {layers} layers")
        return values[:layers]


def _family(path: Path, content: Mapping[str, Any]) -> Family:
    model_type, known = content.get("model_type"), ", ".join(map(repr, FAMILIES))
    if content.get("format") == "nnscratch":
        raise ValueError(
            f"{str(path)!r} has format='nnscratch', expected a model_type of {known}; "
            f"open the directory with TransformerLM.from_pretrained"
        )
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    file = _File(path, content, {})
    if family is None:
        raise file.refusal("model_type", model_type, f"one of {known}")
    architectures = content.get("architectures")
    if architectures is not None and (not isinstance(architectures, list) or family.architecture not in architectures):
        raise file.refusal("architectures", architectures, f"{[family.architecture]!r}")
    return family


def _heads(file: _File, width: int, num_heads: int) -> dict[str, int]:
    """Return `num_kv_heads` and `head_size` where they differ from the defaults of `TransformerConfig`."""
    heads = {}
    if file.get("num_key_value_heads") not in (None, num_heads):
        heads["num_kv_heads"] = file.size("num_key_value_heads")
        if num_heads % heads["num_kv_heads"]:
            expected = f"a divisor of num_attention_heads={num_heads}"
            raise file.refusal("num_key_value_heads", heads["num_kv_heads"], expected)
    if file.get("head_dim") is None:
        if width % num_heads or width // num_heads % 2:
            raise file.refusal("num_attention_heads", num_heads, f"a divisor of hidden_size={width} into even heads")
        return heads
    size = file.size("head_dim")
    if size % 2:
        raise file.refusal("head_dim", size, "an even number")
    return heads if size * num_heads == width else heads | {"head_size": size}


def _rope(file: _File) -> dict[str, Any]:
    """Return `rope_theta` and `rope_scaling`.

    The base of the angles is at the top level in version 4, and in `rope_parameters` in version 5, which also holds
    what `rope_scaling` was.
    """
    thetas = {"rope_theta": file.content.get("rope_theta")}
    scalings = {}
    for name in ("rope_scaling", "rope_parameters"):
        settings = file.content.get(name)
        if settings is None:
            continue
        if not isinstance(settings, dict):
            raise file.refusal(name, settings, "an object")
        thetas[f"{name}.rope_theta"] = settings.get("rope_theta")
        scalings[name] = _scaling(file, name, settings)
        # transformers 5 prefers a number at the top level.
        above = {"original_max_position_embeddings": file.content.get("original_max_position_embeddings")}
        if scalings[name] is not None and None not in above.values():
            within = {f"{name}.original_max_position_embeddings": settings["original_max_position_embeddings"]}
            _one_value(file, above | within)
    found = {name: file.number(name, value) for name, value in thetas.items() if value is not None}
    theta = _one_value(file, found) if found else file.defaults["rope_theta"]
    return {"rope_theta": theta, "rope_scaling": _one_value(file, scalings) if scalings else None}


def _scaling(file: _File, name: str, settings: Mapping[str, Any]) -> RopeScaling | None:
    kinds = {key: settings[key] for key in ("rope_type", "type") if settings.get(key) is not None}
    for key, kind in kinds.items():
        if kind not in ("default", "llama3"):
            raise file.refusal(f"{name}.{key}", kind, "'default' or 'llama3'")
    scaled = "llama3" in kinds.values()
    fixed = {"partial_rotary_factor": 1, "rope_theta": settings.get("rope_theta")} | kinds
    for key, value in settings.items():
        if value not in (None, fixed.get(key)) and not (scaled and key in _SCALING):
            raise file.refusal(f"{name}.{key}", value, repr(fixed[key]) if key in fixed else "no such setting")
    if not scaled:
        return None
    numbers = {ours: file.number(f"{name}.{theirs}", settings.get(theirs)) for theirs, ours in _SCALING.items()}
    length = numbers.pop("original_context_length")
    if not length.is_integer():
        raise file.refusal(f"{name}.original_max_position_embeddings", length, "an integer")
    return RopeScaling(**numbers, original_context_length=int(length))


def _one_value(file: _File, found: Mapping[str, Any]) -> Any:
    """Return the value of fields that have to agree."""
    first, *others = found.values()
    if any(other != first for other in others):
        contradiction = " and ".join(f"{name}={value!r}" for name, value in found.items())
        raise ValueError(f"{str(file.path)!r} has {contradiction}, expected one value; remove the wrong one")
    return first


def _layers(file: _File, family: Family, layers: int) -> dict[str, Any]:
    """Return `window`, `full_attention_layers` and `no_rope_layers`."""
    result: dict[str, Any] = {}
    without_rope: list[int] = []
    if family is SMOLLM_3:
        rotated = file.get("no_rope_layers")
        if rotated is None:
            interval = file.size("no_rope_layer_interval")
            rotated = [int((layer + 1) % interval != 0) for layer in range(layers)]
        rotated = file.per_layer("no_rope_layers", rotated, layers, (0, 1))
        without_rope = [layer for layer in range(layers) if not rotated[layer]]
        result["no_rope_layers"] = without_rope
    if family not in (MISTRAL, QWEN_2, QWEN_3, SMOLLM_3):
        return result
    has_window = (family is MISTRAL or file.switch("use_sliding_window")) and file.get("sliding_window") is not None
    types = None if family is MISTRAL else file.get("layer_types")
    if types is not None:
        types = file.per_layer("layer_types", types, layers, (_FULL, _SLIDING))
    if not has_window:
        if types is not None and _SLIDING in types:
            raise file.refusal("layer_types", types, f"{_FULL!r} for each layer without a sliding_window")
        return result
    full: list[int] = []
    if family is not MISTRAL:
        if types is not None:
            full = [layer for layer in range(layers) if types[layer] == _FULL]
        elif family is SMOLLM_3:
            full = [layer for layer in range(layers) if layer not in without_rope]
        else:
            first = file.get("max_window_layers")
            if not isinstance(first, int) or isinstance(first, bool) or first < 0:
                raise file.refusal("max_window_layers", first, "a number of layers")
            full = list(range(min(first, layers)))
    if len(full) == layers:
        return result
    return result | {"window": file.size("sliding_window"), "full_attention_layers": full}
