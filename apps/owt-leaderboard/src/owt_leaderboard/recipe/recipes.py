"""Recipes: functions that return one leaderboard run in full. How long it goes on is the clock's affair."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

FeedForward = Literal["swiglu", "relu_squared"]
OptimizerName = Literal["adamw", "muon"]
ScheduleName = Literal["cosine", "trapezoid"]
SamplingName = Literal["random", "shuffled"]
CompileName = Literal["off", "auto", "on"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One time-boxed training run.

    Raises:
        ValueError: a value is out of range, or two contradict each other.
    """

    vocab_size: int
    """Entries of the tokenizer: 256 bytes, merges and the end-of-text token."""
    context_length: int
    """Tokens in one training window, and in one validation window."""

    d_model: int
    num_layers: int
    num_heads: int
    d_ff: int
    rope_theta: float = 10_000.0
    sized_by_budget: bool = False
    """Choose `d_model`, `num_layers`, `num_heads`, `d_ff` and `batch_size` by the device's speed and the time limit,
    instead of those given here; see `owt_leaderboard.budget.sizing`."""
    tokens_per_parameter: float = 10.0
    """What that choice aims at: training tokens by parameters of the matrices and the output layer."""

    ffn: FeedForward = "swiglu"
    qk_norm: bool = False
    """Normalise every head's queries and keys."""
    zero_init_projections: bool = False
    """Let each block begin as the identity."""
    logit_soft_cap: float | None = None
    """Logits z become cap · tanh(z / cap)."""
    value_embeddings: bool = False
    """Gated embeddings of the tokens, added to the values of alternate layers."""
    skip_connections: bool = False
    """The first half's outputs go into the second half, with learned scales."""
    embedding_shortcut: bool = False
    """Every block sees the token embeddings again, with learned scales."""
    bigram_embeddings: bool = False
    """Each token's embedding gets a vector of it and the token before it, from a table that pairs share by a hash."""
    embedding_norm: bool = False
    """The embeddings are normalised before the first block."""
    narrow_stream: bool = False
    """The residual stream and value embeddings are in the type of matrix products, instead of float32."""
    tie_embeddings: bool = False
    """One matrix as embedding and as output layer."""

    batch_size: int
    """Windows in one forward pass: of a step, or with `batch_ramp` of one of its accumulated passes."""
    batch_ramp: tuple[tuple[float, int], ...] = ()
    """(share of the time from which on, forward passes accumulated for a step); empty: always one."""
    masked_inputs: float | None = 0.0
    """Share of the input tokens that training hides, others each time, so that a text seen again is not the same. None
    is decided with `sized_by_budget`: `owt_leaderboard.budget.sizing` knows how often the text will be seen."""
    sampling: SamplingName = "random"
    """Windows drawn again and again, or side by side, each once in an epoch."""
    optimizer: OptimizerName = "adamw"
    """"muon" takes the matrices inside of the blocks, AdamW the rest."""
    learning_rate: float
    """AdamW's rate after the warm-up, for whatever has none of its own below."""
    muon_learning_rate: float | None = None
    """Rate of the matrices inside of the blocks; Muon needs it."""
    embedding_learning_rate: float | None = None
    head_learning_rate: float | None = None
    scalar_learning_rate: float | None = None
    """Rate of gains, biases and learned scales."""
    weight_decay: float = 0.1
    """AdamW's; with Muon that of its matrices, and the rest has none."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW."""
    muon_momentum: float = 0.95
    normuon: bool = False
    """Let Muon divide rows by their root mean square."""
    cautious_weight_decay: bool = False
    """Let Muon's decay not pull against its update."""
    max_grad_norm: float | None = 1.0

    schedule: ScheduleName = "cosine"
    """How all rates fall: "cosine" from the warm-up on; "trapezoid" in a straight line at the end."""
    warmup_fraction: float = 0.02
    """Share of the time in which the rates rise from zero."""
    decay_fraction: float = 0.6
    """Share of the time in which a trapezoid falls."""
    final_learning_rate_fraction: float = 0.1
    """The rates at the end, as a share of the highest."""
    average_from: float | None = None
    """Share of the time from which on the weights are averaged; None takes those of the last step."""

    evaluations: int = 5
    """Evaluations over the time; one more before the first step. Only the last is on the whole validation text."""
    evaluated_windows: int = 64
    """Windows of the validation text in each of the evaluations on the way."""
    compile: CompileName = "auto"
    """torch.compile; "auto" means on CUDA and on a CPU, where the time limit is long enough to pay for it."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (
            ("ffn", get_args(FeedForward)),
            ("optimizer", get_args(OptimizerName)),
            ("schedule", get_args(ScheduleName)),
            ("sampling", get_args(SamplingName)),
            ("compile", get_args(CompileName)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected one of {', '.join(choices)}")
        for name in ("evaluations", "evaluated_windows", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected a whole number, 1 or more")
        for name in ("warmup_fraction", "decay_fraction", "final_learning_rate_fraction", "masked_inputs"):
            if not 0 <= (getattr(self, name) or 0) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected a number from 0 to 1")
        if not all(isinstance(part, tuple) and len(part) == 2 for part in self.batch_ramp):
            raise ValueError(
                f"batch_ramp is {self.batch_ramp!r}: expected pairs of a share of the time and the forward passes of a "
                "step, such as ((0.0, 1), (0.5, 2))"
            )
        if self.learning_rate <= 0 or self.tokens_per_parameter <= 0:
            raise ValueError("learning_rate and tokens_per_parameter must be above 0: give positive numbers")
        if self.schedule == "trapezoid" and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"warmup_fraction {self.warmup_fraction:g} and decay_fraction {self.decay_fraction:g} are more than "
                "the whole time: expected a sum of at most 1"
            )
        if self.optimizer == "muon" and self.muon_learning_rate is None:
            raise ValueError('optimizer is "muon" but muon_learning_rate is None: give the rate of the matrices')


def baseline(device_type: str) -> Recipe:
    """The assignment's main experiment on OpenWebText: the TinyStories architecture, with a longer context on a GPU.

    The sizes are the handout's on every device, and too large for what a CPU sees of a text within minutes; with
    `sized_by_budget` its sizes are chosen like those of the speedrun.

    Args:
        device_type: "cuda", "mps" or "cpu".
    """
    on_gpu = device_type == "cuda"
    return Recipe(
        vocab_size=32_000 if on_gpu else 4096,
        context_length=512 if on_gpu else 256,
        d_model=512,
        num_layers=4,
        num_heads=16,
        d_ff=1344,
        batch_size=64 if on_gpu else 16,
        learning_rate=3e-3,
        warmup_fraction=0.02 if on_gpu else 0.1,
        evaluations=10 if on_gpu else 5,
        evaluated_windows=2048 if on_gpu else 64,
    )


def speedrun(device_type: str) -> Recipe:
    """The best that is known: Muon, ReLU², value embeddings, sizes by the budget, and on a GPU much more.

    On a GPU switches and rates are those of nanochat (Karpathy 2025) and of the modded-nanogpt records (Jordan et al.
    2024), where they were measured. Elsewhere QK-norm, skips, shortcut, the embeddings' norm and cautious decay are
    off: in models of minutes on a CPU their mean gain over three seeds was none (docs/experiments.md). So is the soft
    cap, whose tanh takes a seventh of a step there, and the residual stream is in float32. Embeddings have a tenth of
    the GPU's rate, and ten minutes of two cores were best spent with 6.5 tokens for each parameter, nearer to 5 than
    to 10.

    Args:
        device_type: "cuda", "mps" or "cpu".
    """
    on_gpu = device_type == "cuda"
    width, layers = (1024, 12) if on_gpu else (128, 4)
    return Recipe(
        vocab_size=32_000 if on_gpu else 4096,
        context_length=512 if on_gpu else 256,
        d_model=width,
        num_layers=layers,
        num_heads=8 if on_gpu else 2,
        d_ff=4 * width,
        sized_by_budget=True,
        tokens_per_parameter=10.0 if on_gpu else 5.0,
        ffn="relu_squared",
        qk_norm=on_gpu,
        zero_init_projections=True,
        logit_soft_cap=15.0 if on_gpu else None,
        value_embeddings=True,
        skip_connections=on_gpu,
        embedding_shortcut=on_gpu,
        embedding_norm=on_gpu,
        narrow_stream=on_gpu,
        batch_size=256 if on_gpu else 16,
        masked_inputs=None,
        sampling="shuffled",
        optimizer="muon",
        learning_rate=0.01,
        muon_learning_rate=0.02,
        embedding_learning_rate=0.3 if on_gpu else 0.03,
        head_learning_rate=0.008,
        scalar_learning_rate=0.01,
        weight_decay=0.1,
        betas=(0.8, 0.95),
        cautious_weight_decay=on_gpu,
        max_grad_norm=None,
        schedule="trapezoid",
        warmup_fraction=0.01,
        decay_fraction=0.65,
        final_learning_rate_fraction=0.05,
        evaluations=10 if on_gpu else 5,
        evaluated_windows=2048 if on_gpu else 64,
    )


RecipeName = Literal["speedrun", "baseline"]
RECIPES: dict[RecipeName, Callable[[str], Recipe]] = {"speedrun": speedrun, "baseline": baseline}
