"""Trained models of the apps' runs: the app that a run belongs to, its model, and text from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

_APPS = {
    "tinystories": ("TransformerLM", "tinystories.run "),
    "owt_leaderboard": ("SpeedrunLM", "owt_leaderboard."),
}
"""Class of the models of each app, and the beginning of its commands. "app" in a run's records takes precedence."""


class OtherAppError(ValueError):
    """The run belongs to another program."""


@dataclass(frozen=True)
class Sampling:
    """Choice of the next token."""

    max_new_tokens: int = 256
    """Limit on the length; a text ends earlier at <|endoftext|>."""
    temperature: float = 0.8
    """0 always takes the most likely token."""
    top_k: int | None = None
    """Sample only from the k most likely tokens."""
    top_p: float | None = 0.95
    """Sample only from the most likely tokens that together have this probability."""
    seed: int = 0
    """The same seed gives the same text."""


class ModelPackage(Protocol):
    """Functions that let models write, and export them; the module `nnscratch` documents their parameters."""

    stream: Callable[..., Iterator[int]]
    stream_with_logits: Callable[..., Iterator[tuple[int, Any]]]
    next_token_probabilities: Callable[..., Any]
    export_huggingface: Callable[..., None]
    export_gguf: Callable[..., None]


class TrainedModel(NamedTuple):
    """Model of a run, which is in evaluation mode, with its tokenizer."""

    model: Any
    tokenizer: Any
    valid_loss: float | None
    """Validation loss of these weights in nats per token; None if it is not known."""


@dataclass(frozen=True)
class App:
    """Functions of an app that the commands for trained models need."""

    models: ModelPackage
    load: Callable[[Path, str], TrainedModel]
    """Loads the model of a run onto a device."""
    prompt: str
    """Beginning of a text, if the user gives none."""


def recorded_of(run_dir: Path, app: str) -> dict[str, Any]:
    """Return the records of an app about its run: the recipe, the digest of the tokenizer, and more.

    Args:
        run_dir: The run.
        app: Package of the app.

    Raises:
        FileNotFoundError: If this is no run directory.
        OtherAppError: If the run belongs to another program; the message names the command of the other app.
        ValueError: If `config.json` is damaged.
    """
    from trainer.records import read_config

    config = read_config(run_dir)
    recorded, model = config.get("recorded"), config.get("model")
    if not isinstance(recorded, dict) or "recipe" not in recorded:
        raise OtherAppError(f"{run_dir} is no run of {app}: its config.json records no recipe")
    kind = model.get("class") if isinstance(model, dict) else None
    for name, (model_class, command) in _APPS.items():
        is_of_app = recorded["app"] == name if "app" in recorded else kind == model_class
        if name != app and is_of_app:
            raise OtherAppError(
                f"{run_dir} is a run of {name}, not of {app}: use that app's commands, such as "
                f"python -m {command}generate {run_dir}"
            )
    return recorded


def stream_text(models: ModelPackage, model: Any, tokenizer: Any, prompt: str, sampling: Sampling) -> Iterator[str]:
    """Continue a prompt, yielding whole characters as they come, without the prompt and the end-of-text token.

    Raises:
        ValueError: If the prompt is empty, or an option is out of range.
    """
    prompt_ids = tokenizer.encode(prompt)
    if not prompt_ids:
        raise ValueError("the prompt is empty: expected some text to continue")
    token_ids = models.stream(model, prompt_ids, eos_id=tokenizer.eot_id, **asdict(sampling))
    pieces: Iterator[str] = tokenizer.decode_stream(token for token in token_ids if token != tokenizer.eot_id)
    return pieces
