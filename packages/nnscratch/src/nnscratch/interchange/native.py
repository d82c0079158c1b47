"""Our own format: `model.safetensors` and `config.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nnscratch.interchange.files import read_object, replacing, write_json

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT = "nnscratch"

_ADVICE = "save the model again"


def untied_state(model: nn.Module, tied: bool) -> dict[str, Tensor]:
    """Return the state dict with a tied matrix in it once, as the embedding.

    Raises:
        ValueError: If the matrices are to be tied, and differ.
    """
    state = dict(model.state_dict())
    if tied:
        head = state.pop("lm_head.weight")
        embedding = state["token_embeddings.weight"]
        if head is not embedding and head.data_ptr() != embedding.data_ptr() and not torch.equal(head, embedding):
            raise ValueError(
                "the config has tie_embeddings=True, but lm_head.weight differs from token_embeddings.weight, which "
                "alone would be saved; set model.lm_head.weight = model.token_embeddings.weight before training"
            )
    return state


def load_untied(model: nn.Module, weights: Mapping[str, Tensor], tied: bool) -> None:
    """Load what `untied_state` returned; each parameter takes the dtype of its weights."""
    for name, param in model.named_parameters():  # Norms, for example, may be in a wider dtype than the rest.
        param.data = param.data.to(weights.get(name, param).dtype)
    head = {"lm_head.weight": weights["token_embeddings.weight"]} if tied else {}
    model.load_state_dict({**weights, **head})


def write_weights(weights: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write tensors, none of which may share memory with another, as safetensors."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata={"format": "pt"} | metadata)


def write_pretrained(directory: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
    """Write weights, then the config, into a directory; each file replaces an older one atomically."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {"format": FORMAT} | config
    # The weights carry their config too, so that a save interrupted between the two files is detected.
    write_weights(weights, directory / WEIGHTS_FILE, {"config": json.dumps(config)})
    write_json(config, directory / CONFIG_FILE)


def read_pretrained(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the config and the weights that `write_pretrained` wrote.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the files are damaged or do not belong together.
    """
    config_path, weights_path = directory / CONFIG_FILE, directory / WEIGHTS_FILE
    for path in (config_path, weights_path):
        if not path.is_file():
            raise FileNotFoundError(f"no file {str(path)!r}; name a directory that save_pretrained wrote")
    config = read_object(config_path, _ADVICE)
    if config.get("format") != FORMAT:
        raise ValueError(
            f"{str(config_path)!r} has format={config.get('format')!r}, expected {FORMAT!r}; "
            f"name a directory that save_pretrained wrote"
        )
    try:
        with safe_open(weights_path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except SafetensorError as error:
        raise ValueError(f"{str(weights_path)!r} is not safetensors ({error}); {_ADVICE}") from error
    if json.loads(metadata.get("config", "null")) != config:
        raise ValueError(f"{str(config_path)!r} and {str(weights_path)!r} come from two different saves; {_ADVICE}")
    del config["format"]
    return config, weights
