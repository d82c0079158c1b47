"""Recipes: functions that return one leaderboard run in full. How long it goes on is the clock's affair."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One time-boxed training run."""

    vocab_size: int
    """Entries of the tokenizer: 256 bytes, merges and the end-of-text token."""
    context_length: int
    """Tokens in one training window, and in one validation window."""
    d_model: int
    num_layers: int
    num_heads: int
    d_ff: int
    rope_theta: float = 10_000.0
    batch_size: int
    """Windows per optimizer step."""
    learning_rate: float
    """AdamW's rate after the warm-up; a cosine takes it to a tenth of this by the end of the time."""
    warmup_fraction: float = 0.02
    """Share of the time in which the rate rises from zero."""
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    evaluations: int = 5
    """Evaluations of the whole validation text over the time; one more before the first step."""
    seed: int = 0


def baseline(device_type: str) -> Recipe:
    """The assignment's main experiment: the TinyStories architecture on OpenWebText.

    On a GPU with the handout's sizes and a vocabulary of 32,000; elsewhere small enough to learn within minutes.

    Args:
        device_type: "cuda", "mps" or "cpu".
    """
    if device_type == "cuda":
        return Recipe(
            vocab_size=32_000,
            context_length=512,
            d_model=512,
            num_layers=4,
            num_heads=16,
            d_ff=1344,
            batch_size=64,
            learning_rate=3e-3,
        )
    return Recipe(
        vocab_size=4096,
        context_length=128,
        d_model=128,
        num_layers=4,
        num_heads=4,
        d_ff=344,
        batch_size=16,
        learning_rate=6e-3,
        warmup_fraction=0.1,
    )


RecipeName = Literal["baseline"]
RECIPES: dict[RecipeName, Callable[[str], Recipe]] = {"baseline": baseline}
