"""A model as a directory: `config.json` and `model.safetensors`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from nnscratch.config import TransformerConfig

if TYPE_CHECKING:
    from nnscratch.transformer import TransformerLM

Model = TypeVar("Model", bound="TransformerLM")
WEIGHTS, CONFIG = "model.safetensors", "config.json"
HEAD, EMBEDDINGS = "lm_head.weight", "token_embeddings.weight"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, bring it to disk, and give it its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save(model: "TransformerLM", directory: Path) -> None:
    """Write a model; see `TransformerLM.save_pretrained`."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    if model.config.tie_embeddings:
        del tensors[EMBEDDINGS]  # the same storage as the head, which safetensors refuses to write twice
    write_atomically(directory / WEIGHTS, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    text = json.dumps({"model_type": "nnscratch", **model.config.to_dict()}, indent=2) + "\n"
    write_atomically(directory / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))


def load(cls: type[Model], directory: Path) -> Model:
    """Read a model; see `TransformerLM.from_pretrained`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory / name}: there is no such file; expected what save_pretrained writes")
    try:
        values = json.loads((directory / CONFIG).read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{directory / CONFIG} is not JSON: {error}") from None
    if values.pop("model_type", None) != "nnscratch":
        raise ValueError(f"{directory / CONFIG} has another model_type than 'nnscratch': it is not one of ours")
    try:
        tensors = load_file(directory / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{directory / WEIGHTS} is damaged: {error}") from None
    model = cls(TransformerConfig.from_dict(values))
    if model.config.tie_embeddings and HEAD in tensors:
        tensors[EMBEDDINGS] = tensors[HEAD]
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ValueError(f"{directory / WEIGHTS} does not fit {CONFIG}: {first}") from None
    return model
