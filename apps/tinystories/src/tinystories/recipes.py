"""Recipes: complete settings of one training run, which ablations and flags change."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Norm = Literal["pre", "post", "none"]
Position = Literal["rope", "none"]
FeedForward = Literal["swiglu", "silu", "relu_squared"]
OptimizerName = Literal["adamw", "muon"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings that determine the result of training one Transformer language model.

    Raises:
        ValueError: A number is out of range.
    """

    vocab_size: int
    """Entries of the tokenizer: 256 bytes, merges and the end-of-text token."""
    context_length: int
    """Tokens in one training window."""
    d_model: int
    """Width of the residual stream."""
    num_layers: int
    num_heads: int
    d_ff: int
    """Width inside the feed-forward layers; about 8/3 of d_model for SwiGLU, 4 times d_model for SiLU."""
    rope_theta: float = 10_000.0
    norm: Norm = "pre"
    position: Position = "rope"
    ffn: FeedForward = "swiglu"
    tie_embeddings: bool = False
    qk_norm: bool = False
    """Normalise every head's queries and keys."""
    dropout: float = 0.0
    """In training, share of the numbers set to 0 in the embeddings and in the outputs of attention and feed-forward."""

    steps: int
    """Optimizer steps; with a time limit, ticks of the schedule."""
    time_limit_seconds: float | None = None
    """Train for this long instead, start-up and evaluations included, with as many steps as fit."""
    batch_size: int
    """Windows per optimizer step."""
    optimizer: OptimizerName = "adamw"
    """"muon" trains the matrices inside the blocks with Muon and the rest with AdamW."""
    learning_rate: float
    """AdamW's rate at the end of the warm-up; a cosine then lowers it to `final_learning_rate_fraction` of this."""
    muon_learning_rate: float = 0.02
    """Muon's rate at the end of the warm-up, in units of the spectral norm of an update."""
    final_learning_rate_fraction: float = 0.1
    warmup_fraction: float = 0.1
    """Fraction of the steps in which the rate rises from zero."""
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float = 1.0
    """Limit on the global L2 norm of the gradients."""
    evaluations: int = 10
    """Evaluations of the whole validation text, evenly spaced, plus one before the first step."""
    seed: int = 0
    """Seed of the weights, the order of the data and the samples."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "evaluations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected 1 or more")
        for name in ("learning_rate", "muon_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected a finite number above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}: expected a number from 0 up to, not including, 1")

    @property
    def tokens(self) -> int:
        """Training tokens of the whole run."""
        return self.steps * self.batch_size * self.context_length

    @property
    def length(self) -> str:
        """Length of a run in words."""
        if self.time_limit_seconds is not None:
            return f"{self.time_limit_seconds:g} seconds each"
        return f"{self.tokens:,} tokens each"


def at_rate(recipe: Recipe, rate: float) -> Recipe:
    """The recipe at another learning rate; Muon's rate changes in the same proportion."""
    factor = rate / recipe.learning_rate
    return replace(recipe, learning_rate=rate, muon_learning_rate=recipe.muon_learning_rate * factor)


PresetName = Literal["cpu-ablations", "cpu-quick", "cpu-course", "gpu-course"]
_CPU_QUICK = Recipe(
    vocab_size=2048,
    context_length=128,
    d_model=128,
    num_layers=4,
    num_heads=4,
    d_ff=344,
    steps=320,
    batch_size=16,
    learning_rate=1.2e-2,
    evaluations=8,
)
_CPU_COURSE = Recipe(
    vocab_size=10_000,
    context_length=256,
    d_model=512,
    num_layers=4,
    num_heads=16,
    d_ff=1344,
    steps=5_000,
    batch_size=32,
    learning_rate=1e-3,
    warmup_fraction=0.02,
    evaluations=25,
)
PRESETS: dict[PresetName, Recipe] = {
    # Eighteen runs in six minutes of two CPU cores. Windows have 64 tokens, because in longer ones the differences
    # between variants depend more on the seed (docs/experiments.md).
    "cpu-ablations": replace(
        _CPU_QUICK,
        vocab_size=1024,
        context_length=64,
        num_layers=2,
        steps=150,
        batch_size=32,
        learning_rate=1.6e-2,
        evaluations=3,
    ),
    # A run in a minute of two CPU cores: the assignment's architecture.
    "cpu-quick": _CPU_QUICK,
    # The low-resource run of the handout of 2025: 40.96 M tokens with the base architecture.
    "cpu-course": _CPU_COURSE,
    # The base run of the handout of 2025: 327.68 M tokens.
    "gpu-course": replace(_CPU_COURSE, steps=10_000, batch_size=128, learning_rate=3e-3, evaluations=50),
}


def default_preset(device: str, small: PresetName = "cpu-quick") -> PresetName:
    """The preset for a device such as "auto" or "cuda:1": gpu-course on CUDA, and `small` elsewhere."""
    from trainer import resolve_device

    return "gpu-course" if resolve_device(device).type == "cuda" else small


def is_sized(record: object) -> bool:
    """Return whether the recipe that a run recorded is nnscratch's speedrun, in sizes that suit a device."""
    return isinstance(record, Mapping) and isinstance(record.get("model"), dict)
