"""Text from the model of a run directory."""

from pathlib import Path
from typing import TYPE_CHECKING

import nnscratch
from tinystories.building import model_config
from tinystories.recipes import Recipe, is_sized
from trainer.experiments.runs import App, Sampling, TrainedModel, recorded_of, stream_text
from trainer.experiments.texts import tokenizer_of

if TYPE_CHECKING:
    from bpe import Tokenizer
    from nnscratch import LanguageModel

SAMPLE_PROMPT = "Once upon a time"
DEFAULT_SAMPLING = Sampling()


def load(run_dir: Path, device: str = "auto") -> TrainedModel:
    """Load the best model of a run and its tokenizer.

    Raises:
        FileNotFoundError: This is no run directory, it has no checkpoint yet, or its tokenizer is missing.
        ValueError: The run belongs to another app or version, or the tokenizer is another one.
    """
    from bpe import Tokenizer
    from nnscratch import TransformerLM
    from nnscratch.speedrun import from_record, make_model
    from trainer import load_weights, resolve_device

    recorded = recorded_of(run_dir, "tinystories")
    tokenizer, expected = Tokenizer.from_pretrained(tokenizer_of(run_dir)), recorded.get("tokenizer_sha256")
    if tokenizer.sha256 != expected:
        raise ValueError(
            f"the tokenizer in {tokenizer_of(run_dir)} is another one than the run was trained with "
            f"({tokenizer.sha256[:12]}, expected {str(expected)[:12]}): restore it from a copy of the run"
        )
    if is_sized(recorded["recipe"]):
        model: LanguageModel = make_model(from_record(recorded["recipe"]), tokenizer.vocab_size)
    else:
        try:
            recipe = Recipe(**recorded["recipe"])
        except TypeError as error:
            raise ValueError(f"{run_dir} has a recipe of another app or version: {error}") from error
        model = TransformerLM(model_config(recipe, tokenizer.vocab_size))
    loaded = load_weights(model, run_dir)
    return TrainedModel(model.to(resolve_device(device)).eval(), tokenizer, loaded.valid_loss)


APP = App(nnscratch, load, SAMPLE_PROMPT)


def write_story(
    model: "LanguageModel", tokenizer: "Tokenizer", prompt: str, sampling: Sampling = DEFAULT_SAMPLING
) -> str:
    """Continue a prompt up to the end-of-text token or the limit on new tokens; return prompt and continuation.

    Raises:
        ValueError: The prompt is empty, or an option is out of range.
    """
    return prompt + "".join(stream_text(nnscratch, model, tokenizer, prompt, sampling))
