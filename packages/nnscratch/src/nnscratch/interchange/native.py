"""Saving a model as safetensors and JSON, and loading it back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nnscratch.config import TransformerConfig
from nnscratch.interchange.files import replacing

if TYPE_CHECKING:
    from nnscratch.transformer import TransformerLM

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_FORMAT = "nnscratch"


def write_weights(weights: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, each in memory of its own."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata={"format": "pt"} | metadata)


def write_json(values: dict[str, Any], path: Path) -> None:
    """Write a dictionary as indented JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def untied_state(model: "TransformerLM") -> dict[str, Tensor]:
    """Return the state dict, with a tied matrix in it once, as the embedding."""
    state = dict(model.state_dict())
    if model.config.tie_embeddings:
        del state["lm_head.weight"]
    return state


def save_pretrained(model: "TransformerLM", directory: str | Path) -> None:
    """Write a model's weights, then its config; each file replaces an older one at once."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    config = {"format": _FORMAT} | model.config.to_dict()
    # The weights carry their config too, so that a save that was cut off between the files does not go unnoticed.
    write_weights(untied_state(model), directory / WEIGHTS_FILE, {"config": json.dumps(config)})
    write_json(config, directory / CONFIG_FILE)


def load_pretrained(directory: str | Path, device: torch.device | str = "cpu") -> "TransformerLM":
    """Return the model saved in a directory, each weight in the dtype that it was saved in.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the files are damaged or do not belong together.
    """
    from nnscratch.transformer import TransformerLM

    directory = Path(directory)
    config_path, weights_path = directory / CONFIG_FILE, directory / WEIGHTS_FILE
    for path in (config_path, weights_path):
        if not path.is_file():
            raise FileNotFoundError(f"no file {str(path)!r}; name a directory that save_pretrained wrote")
    recorded = _read_config(config_path)
    try:
        with safe_open(weights_path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except SafetensorError as error:
        raise ValueError(f"{str(weights_path)!r} is not safetensors ({error}); save the model again") from error
    if json.loads(metadata.get("config", "null")) != recorded:
        raise ValueError(
            f"{str(config_path)!r} and {str(weights_path)!r} are not of one save_pretrained; save the model again"
        )
    config = TransformerConfig.from_dict({key: value for key, value in recorded.items() if key != "format"})
    model = TransformerLM(config, device=device, dtype=next(iter(weights.values())).dtype)
    for name, param in model.named_parameters():  # norms, say, may be in a wider type than the rest
        param.data = param.data.to(weights.get(name, param).dtype)
    if config.tie_embeddings:
        weights["lm_head.weight"] = weights["token_embeddings.weight"]
    model.load_state_dict(weights)
    return model


def _read_config(path: Path) -> dict[str, Any]:
    try:
        recorded = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not JSON ({error}); save the model again") from error
    if not isinstance(recorded, dict) or recorded.get("format") != _FORMAT:
        raise ValueError(
            f"{str(path)!r} is not the config of an nnscratch model (no format {_FORMAT!r}); "
            f"name a directory that save_pretrained wrote"
        )
    return recorded
