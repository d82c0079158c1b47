"""Text from the model of a run directory."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinystories.building import model_config
from tinystories.recipes import Recipe
from trainer.experiments.texts import tokenizer_of

if TYPE_CHECKING:
    from bpe import Tokenizer
    from nnscratch import TransformerLM

SAMPLE_PROMPT = "Once upon a time"


@dataclass(frozen=True)
class Sampling:
    """Choice of the next token."""

    max_new_tokens: int = 256
    """Limit on the length; a story ends earlier at <|endoftext|>."""
    temperature: float = 0.8
    """0 always takes the most likely token."""
    top_k: int | None = None
    """Sample only from the k most likely tokens."""
    top_p: float | None = 0.95
    """Sample only from the most likely tokens that together have this probability."""
    seed: int = 0
    """The same seed gives the same text."""


DEFAULT_SAMPLING = Sampling()


def load(run_dir: Path, device: str = "auto") -> "tuple[TransformerLM, Tokenizer]":
    """Load the best model of a run in evaluation mode, and its tokenizer.

    Raises:
        FileNotFoundError: This is no run directory, it has no checkpoint yet, or its tokenizer is missing.
        ValueError: The run belongs to another app or version.
    """
    from bpe import Tokenizer
    from nnscratch import TransformerLM
    from trainer import load_weights, resolve_device

    recorded = recorded_of(run_dir)
    tokenizer = Tokenizer.from_pretrained(tokenizer_directory(run_dir))
    try:
        recipe = Recipe(**recorded["recipe"])
    except TypeError as error:
        raise ValueError(f"{run_dir} has a recipe of another app or version: {error}") from error
    model = TransformerLM(model_config(recipe, tokenizer.vocab_size))
    load_weights(model, run_dir)
    return model.to(resolve_device(device)).eval(), tokenizer


def recorded_of(run_dir: Path) -> dict[str, Any]:
    """Read the records of this app about a run: its recipe and the digest of its tokenizer.

    Raises:
        FileNotFoundError: This is no run directory.
        ValueError: The run belongs to another program.
    """
    from trainer import read_config

    recorded = read_config(run_dir).get("recorded")
    if not isinstance(recorded, dict) or "recipe" not in recorded:
        raise ValueError(f"{run_dir} is no run of tinystories: its config.json records no recipe")
    return recorded


def tokenizer_directory(run_dir: Path) -> Path:
    """Directory of the tokenizer of a run, which is in the run directory.

    Raises:
        FileNotFoundError: This is no run directory, or the tokenizer is missing.
        ValueError: The run belongs to another program, or the tokenizer is another one.
    """
    from bpe import Tokenizer

    expected, directory = recorded_of(run_dir).get("tokenizer_sha256"), tokenizer_of(run_dir)
    found = Tokenizer.from_pretrained(directory).sha256
    if found != expected:
        raise ValueError(
            f"the tokenizer in {directory} is another one than the run was trained with ({found[:12]}, expected "
            f"{str(expected)[:12]}): restore it from a copy of the run"
        )
    return directory


def write_story(
    model: "TransformerLM", tokenizer: "Tokenizer", prompt: str, sampling: Sampling = DEFAULT_SAMPLING
) -> str:
    """Continue a prompt up to the end-of-text token or the limit on new tokens; return prompt and continuation."""
    return prompt + "".join(stream_story(model, tokenizer, prompt, sampling))


def stream_story(
    model: "TransformerLM", tokenizer: "Tokenizer", prompt: str, sampling: Sampling = DEFAULT_SAMPLING
) -> Iterator[str]:
    """Continue a prompt, yielding whole characters as they come, without the prompt and the end-of-text token.

    Raises:
        ValueError: The prompt is empty, or an option is out of range.
    """
    from nnscratch import stream

    prompt_ids = tokenizer.encode(prompt)
    if not prompt_ids:
        raise ValueError("the prompt is empty: expected some text to continue")
    token_ids = stream(model, prompt_ids, eos_id=tokenizer.eot_id, **asdict(sampling))
    return tokenizer.decode_stream(token for token in token_ids if token != tokenizer.eot_id)
