"""Recipes: everything that decides the result of a training run, except how long it lasts."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, get_args, get_origin, get_type_hints

from nnscratch.speedrun.accounting import flops_per_token
from nnscratch.speedrun.config import SpeedrunConfig

OptimizerName = Literal["adamw", "muon"]
ScheduleName = Literal["cosine", "trapezoid"]
SamplingName = Literal["random", "shuffled", "documents"]
CompileName = Literal["off", "auto", "on"]
SMALL_FLOPS = 5e15
"""Operations of training below which `speedrun` is small.

At 10 tokens per parameter they suit 9 M parameters, half of which would be an output layer for 32,000 tokens. Measured
are budgets of 1e13 to 6e13 here, and from 1e18 on by the projects that the large recipe follows; nothing between.
"""


class _Settings:
    """Base of the groups of settings; checks each value by its annotation, or by the ending of its name."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, expected = getattr(self, name), None
            if get_origin(kind) is Literal and value not in get_args(kind):
                expected = f"one of {', '.join(get_args(kind))}"
            elif kind in (int, int | None) and name != "seed" and value is not None and value < 1:
                expected = "a whole number, 1 or more"
            elif name.endswith(("_fraction", "_from", "_inputs")) and not 0 <= (value or 0) <= 1:
                expected = "a number from 0 to 1"
            elif name.endswith(("_rate", "_per_parameter")) and value is not None and value <= 0:
                expected = "a number above 0"
            if expected:
                raise ValueError(f"{name} is {value!r}: expected {expected}")


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe(_Settings):
    """Optimizers, their learning rates and weight decay."""

    kind: OptimizerName = "adamw"
    """"muon" trains the matrices inside the blocks with Muon and everything else with AdamW."""
    learning_rate: float
    """Peak rate of AdamW, for the parameters without a separate rate below."""
    muon_learning_rate: float | None = None
    """Peak rate of Muon, for the matrices inside the blocks; required if `kind` is "muon"."""
    embedding_learning_rate: float | None = None
    head_learning_rate: float | None = None
    scalar_learning_rate: float | None = None
    """Peak rate of gains and learned scales."""
    table_learning_rate: float = 0.3
    """Peak rate of RowwiseAdagrad, for the tables of n-grams."""
    table_weight_decay: float = 0.0
    """RowwiseAdagrad's weight decay."""
    weight_decay: float = 0.1
    """AdamW's weight decay. With Muon it applies to Muon's matrices only."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's betas."""
    reference_batch_tokens: int | None = None
    """Tokens per step for which the rates hold: all rates are multiplied by sqrt(tokens per step / these), as in
    nanochat (Karpathy 2025; Malladi et al. 2022 for Adam). None leaves them as they are, whatever the batch."""
    muon_momentum: float = 0.95
    muon_momentum_start: float | None = None
    """Muon's momentum in the first step, such as the 0.85 of modded-nanogpt's record 9; it rises linearly within
    `momentum_warmup_fraction`. None keeps `muon_momentum` all the time."""
    normuon: bool = False
    """Divide each row of Muon's updates by its running root mean square."""
    cautious_weight_decay: bool = False
    """Decay only the weights that Muon's update shrinks anyway."""
    max_grad_norm: float | None = 1.0
    """Global L2 norm to which gradients are clipped; None does not clip."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == "muon" and self.muon_learning_rate is None:
            raise ValueError('optimizer is "muon" but muon_learning_rate is None: give the rate of the matrices')
        if self.muon_momentum_start is not None and not 0 <= self.muon_momentum_start < 1:
            raise ValueError(
                f"muon_momentum_start is {self.muon_momentum_start!r}: expected a number from 0 to below 1, or None"
            )
        if self.muon_momentum_start is not None and self.muon_momentum == 0:
            raise ValueError(
                f"muon_momentum_start is {self.muon_momentum_start!r} but muon_momentum is 0: expected a momentum to "
                "rise to"
            )


@dataclass(frozen=True, kw_only=True)
class Schedule(_Settings):
    """Learning rates over the time of the run; fractions are shares of that time."""

    kind: ScheduleName = "cosine"
    """"cosine" falls from the warm-up on; "trapezoid" stays at the peak and falls linearly at the end."""
    warmup_fraction: float = 0.02
    """Share of the time in which the rates rise from zero."""
    decay_fraction: float = 0.6
    """Share of the time in which a trapezoid falls."""
    final_learning_rate_fraction: float = 0.1
    """Rates at the end, as a share of the peak."""
    momentum_warmup_fraction: float = 0.05
    """Share of the time in which Muon's momentum rises from `muon_momentum_start`."""
    momentum_cooldown_fraction: float = 0.0
    """Share of the time, at the end, in which it falls back to `muon_momentum_start`."""
    weight_decay_factors: tuple[tuple[float, float], ...] = ()
    """Pairs of a share of the time and the factor of every weight decay then, with linear changes between them, such as
    ((0.0, 1.0), (1.0, 0.0)) for nanochat's fall to zero; slowrun holds, dips and rises. Empty: always 1."""
    average_from: float | None = None
    """Share of the time after which weights are averaged; None keeps the weights of the last step."""
    average_decay: float | None = None
    """Share of an exponential moving average that stays in each step, such as 0.99; None averages all steps equally."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == "trapezoid" and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                f"warmup_fraction {self.warmup_fraction:g} and decay_fraction {self.decay_fraction:g} are more than "
                "the whole time: expected a sum of at most 1"
            )
        if self.momentum_warmup_fraction + self.momentum_cooldown_fraction > 1:
            raise ValueError(
                f"momentum_warmup_fraction {self.momentum_warmup_fraction:g} and momentum_cooldown_fraction "
                f"{self.momentum_cooldown_fraction:g} are more than the whole time: expected a sum of at most 1"
            )
        if self.average_decay is not None and (self.average_from is None or not 0 < self.average_decay < 1):
            raise ValueError(
                f"average_decay is {self.average_decay!r} and average_from is {self.average_from!r}: expected a share "
                "between 0 and 1, and the share of the time from which to average, such as 0.1"
            )
        pairs = self.weight_decay_factors
        are_pairs = all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs)
        if not are_pairs or not all(0 <= share <= 1 and factor >= 0 for share, factor in pairs):
            raise ValueError(
                f"weight_decay_factors is {pairs!r}: expected pairs of a share of the time and a factor of at least 0, "
                "such as ((0.0, 1.0), (1.0, 0.0))"
            )
        if any(after[0] <= before[0] for before, after in pairwise(pairs)):
            raise ValueError(f"weight_decay_factors is {pairs!r}: expected shares of the time in rising order")


@dataclass(frozen=True, kw_only=True)
class Batches(_Settings):
    """Number of training windows per step, and the way in which windows are drawn."""

    batch_size: int
    """Windows in one forward pass. A step makes one pass, or with `batch_ramp` several whose gradients accumulate."""
    batch_ramp: tuple[tuple[float, int], ...] = ()
    """Pairs of a share of the time and the number of forward passes per step from then on; empty: always one."""
    masked_inputs: float | None = 0.0
    """Share of the input tokens that training masks. The masked tokens are drawn anew each time, so that a repeated
    text differs. None lets `sized_by_budget` decide, because it knows how often the text will be repeated."""
    sampled_tokens: int | None = None
    """Tokens of the vocabulary whose logits training computes: those that occur in the batch, and others drawn at
    random (sampled softmax). None computes all; such a loss can be compiled."""
    sampling: SamplingName = "random"
    """"random" draws windows with replacement; "shuffled" visits adjacent windows once per epoch; "documents" puts the
    documents in a new order each epoch before it cuts them into windows, as slowrun does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(isinstance(part, tuple) and len(part) == 2 for part in self.batch_ramp):
            raise ValueError(
                f"batch_ramp is {self.batch_ramp!r}: expected pairs of a share of the time and the forward passes of a "
                "step, such as ((0.0, 1), (0.5, 2))"
            )

    @property
    def mean_passes(self) -> float:
        """Forward passes per step, averaged over the time of the run."""
        starts = [start for start, _ in self.batch_ramp] + [1.0]
        parts = zip(self.batch_ramp, starts[1:], strict=True)
        return sum((end - start) * passes for (start, passes), end in parts) or 1.0


@dataclass(frozen=True, kw_only=True)
class Evaluations(_Settings):
    """Evaluations during the run. Only the final evaluation covers the whole validation text."""

    count: int = 5
    """Evaluations over the run, besides the evaluation before the first step."""
    evaluated_windows: int = 128
    """Windows of the validation text in each evaluation but the last; a small budget chooses fewer."""


@dataclass(frozen=True, kw_only=True)
class Recipe(_Settings):
    """All settings of one training run.

    Raises:
        ValueError: If a value is out of range, or two values contradict each other.
    """

    model: SpeedrunConfig
    """Architecture. Its vocabulary size is the size requested from the tokenizer; a small text may yield fewer."""
    optimizer: OptimizerRecipe
    schedule: Schedule = field(default_factory=Schedule)
    batches: Batches
    evaluations: Evaluations = field(default_factory=Evaluations)
    sized_by_budget: bool = False
    """Choose d_model, num_layers, num_heads, d_ff and batch_size from the device's speed and the time limit, and
    ngram_dropout from the epochs that follow; see
    `nnscratch.speedrun.sizing`. The sizes given here are then only placeholders."""
    tokens_per_parameter: float = 10.0
    """Target of `sized_by_budget`: training tokens per parameter of the matrices and the output layer."""
    compile: CompileName = "auto"
    """torch.compile; "auto" compiles on CUDA and CPU if the time limit is long enough to pay for it, and if nothing in
    the recipe prevents it."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile == "on" and self.batches.sampled_tokens is not None:
            raise ValueError(
                f"sampled_tokens is {self.batches.sampled_tokens} and compile is on, but the shapes of a sampled loss "
                "change from step to step: expected sampled_tokens=None or compile=off"
            )

    @property
    def step_tokens(self) -> float:
        """Training tokens in a step, of all processes, averaged over the time of the run."""
        return self.batches.batch_size * self.batches.mean_passes * self.model.context_length

    def flops_per_token(self, vocab_size: int) -> float:
        """Return the operations of training for one token, with a tokenizer of this many entries.

        Of the output layer only `sampled_tokens` rows count.
        """
        computed = min(vocab_size, self.batches.sampled_tokens or vocab_size)
        return flops_per_token(replace(self.model, vocab_size=computed), backward=True)


def baseline(device_type: str, flops: float | None = None) -> Recipe:
    """The assignment's main experiment on OpenWebText: the TinyStories architecture, with a longer context on a GPU.

    Model sizes follow the assignment's handout of 2025 on every device. For a few minutes on a CPU they are too large,
    because the model sees too few tokens; `sized_by_budget` chooses smaller sizes. `device_type` is "cuda", "mps" or
    "cpu", and `flops` change nothing.
    """
    on_gpu = device_type == "cuda"
    return Recipe(
        model=SpeedrunConfig(
            vocab_size=32_000 if on_gpu else 4096,
            context_length=512 if on_gpu else 256,
            d_model=512,
            num_layers=4,
            num_heads=16,
            d_ff=1344,
        ),
        optimizer=OptimizerRecipe(learning_rate=3e-3),
        schedule=Schedule(warmup_fraction=0.02 if on_gpu else 0.1),
        batches=Batches(batch_size=64 if on_gpu else 16),
        evaluations=_evaluations(on_gpu),
    )


def speedrun(device_type: str, flops: float | None = None) -> Recipe:
    """The best known recipe: Muon, ReLU², value embeddings, sizes from the budget, and more by device and budget.

    A GPU that computes `SMALL_FLOPS` or more gets the options and rates of nanochat (Karpathy 2025) and of the
    modded-nanogpt records (Jordan et al. 2024), where they were measured. A smaller budget, as on a laptop or in a few
    minutes of a small GPU, gets what was measured in minutes on a CPU (docs/experiments.md): a small vocabulary,
    vectors of frequent pairs and triples of tokens, and NorMuon, but no QK-norm, skip connections, shortcut or cautious
    decay, which had no mean gain over three seeds. A CPU always gets these, and computes the logits of half of its
    vocabulary.

    The soft cap is off in small budgets, because its tanh takes a seventh of a step on a CPU. The residual stream of
    small models is in float32.

    Args:
        device_type: "cuda", "mps" or "cpu".
        flops: Floating-point operations that training will take; None for a large budget on CUDA and a small one on
            other devices.
    """
    on_cpu = device_type == "cpu"
    is_large = device_type == "cuda" if flops is None else not on_cpu and flops >= SMALL_FLOPS
    width, layers = (1024, 12) if is_large else (128, 4)
    return Recipe(
        model=SpeedrunConfig(
            vocab_size=32_000 if is_large else 4096,
            context_length=512,
            d_model=width,
            num_layers=layers,
            num_heads=8 if is_large else 2,
            d_ff=4 * width,
            ffn="relu_squared",
            qk_norm=is_large,
            zero_init_projections=True,
            logit_soft_cap=15.0 if is_large else None,
            value_embeddings=True,
            skip_connections=is_large,
            embedding_shortcut=is_large,
            embedding_norm=True,
            gainless_norms=is_large,
            narrow_stream=is_large,
            ngram_rows=None if is_large else 131_072,
            ngram_min_count=None if is_large else 4,
        ),
        optimizer=OptimizerRecipe(
            kind="muon",
            learning_rate=0.01,
            muon_learning_rate=0.02,
            embedding_learning_rate=0.3,
            head_learning_rate=0.008,
            scalar_learning_rate=0.01,
            betas=(0.8, 0.95),
            cautious_weight_decay=is_large,
            normuon=not is_large,
            max_grad_norm=None,
        ),
        schedule=Schedule(
            kind="trapezoid",
            warmup_fraction=0.01,
            decay_fraction=0.65,
            final_learning_rate_fraction=0.05 if is_large else 0.0,
        ),
        batches=Batches(
            batch_size=256 if is_large else 8,
            masked_inputs=None,
            sampled_tokens=2048 if on_cpu else None,
            sampling="shuffled",
        ),
        evaluations=_evaluations(is_large),
        sized_by_budget=True,
        tokens_per_parameter=10.0 if is_large else 5.0,
    )


def _evaluations(on_gpu: bool) -> Evaluations:
    return Evaluations(count=10, evaluated_windows=2048) if on_gpu else Evaluations()


RecipeName = Literal["speedrun", "baseline"]
RECIPES: dict[RecipeName, Callable[..., Recipe]] = {"speedrun": speedrun, "baseline": baseline}
