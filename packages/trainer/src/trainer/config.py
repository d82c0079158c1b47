"""Settings of a training run, and their checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

Sampling = Literal["random", "shuffled", "documents"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
CompileMode = Literal["off", "auto", "on"]
ClockName = Literal["steps", "time"]
NonFiniteAction = Literal["stop", "skip"]
ParallelName = Literal["auto", "ddp", "fsdp"]

CHANGEABLE_SETTINGS = frozenset(
    {
        "average_decay",
        "average_from",
        "batch_ramp",
        "batch_size",
        "checkpoint_interval",
        "checkpoint_seconds",
        "compile",
        "device",
        "distributed_timeout_seconds",
        "dtype",
        "eval_batch_size",
        "eval_interval",
        "eval_seconds",
        "eval_tokens",
        "grad_accumulation_steps",
        "halve_on_out_of_memory",
        "keep_checkpoint_every_seconds",
        "keep_checkpoints",
        "log_interval",
        "max_grad_norm",
        "on_non_finite",
        "parallel",
        "profile",
        "save_in_background",
        "steps",
        "time_limit_seconds",
    }
)
"""Settings that may change when a run resumes: the records say at which step each has changed. All others decide what
the run is: its data and their order, and the length of its context."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of the training loop, which the run directory records.

    A run that resumes may change those in `CHANGEABLE_SETTINGS`.

    With `clock="time"` the schedule and all intervals follow the clock: `steps` is then the number of ticks that the
    time limit is divided into, and the machine makes as many optimizer steps as it can.

    Raises:
        ValueError: If a value has the wrong type or is out of range, or two values contradict each other.
    """

    steps: int
    """Optimizer steps of the whole run (with clock="time": ticks of the clock)."""
    batch_size: int
    """Windows in one forward pass; several processes share the windows of a step."""
    context_length: int
    """Tokens in one window."""
    grad_accumulation_steps: int = 1
    """Forward passes whose gradients are averaged for one optimizer step."""
    batch_ramp: tuple[tuple[float, int], ...] = ()
    """Pairs of a share of the run (of its ticks; the first is 0.0) and the `grad_accumulation_steps` from there on,
    such as ((0.0, 1), (0.3, 2), (0.6, 4)); () always uses `grad_accumulation_steps`. A larger batch pays off only late
    in training (Smith et al. 2018, McCandlish et al. 2018). The schedule does not change with the ramp."""
    average_from: float | None = None
    """Share of the run from which the weights after each step are averaged, equally (Izmailov et al. 2018) unless
    `average_decay` is given. The last evaluation and checkpoint use the average. None averages nothing."""
    average_decay: float | None = None
    """Share of an exponential moving average that stays in each step, such as 0.999 (Polyak and Juditsky 1992); the
    average is equal until it has 1 / (1 - average_decay) steps. It needs `average_from`, such as 0.0."""
    sampling: Sampling = "random"
    """Training windows: "random" draws them uniformly, with replacement; "shuffled" visits adjacent windows once in
    each epoch, and draws their offset and order anew for every epoch; "documents" draws a new order of the documents
    for every epoch, and cuts their text into adjacent windows. Examples stay whole with any of them."""
    separator_id: int | None = None
    """Id of the token after each document, such as `tokenizer.eot_id`; only for sampling="documents"."""
    vocab_size: int | None = None
    """Upper bound of the token ids; None takes it from the model (see `trainer.data.find_vocab_size`)."""
    halve_on_out_of_memory: bool = True
    """When a forward or backward pass runs out of memory, repeat the step in micro-batches of half the size, and keep
    them. Only with one process."""
    max_grad_norm: float | None = 1.0
    """Global L2 norm above which the gradients are scaled down to it; None does not clip."""
    eval_interval: int = 200
    """Steps between evaluations; the start and the end are always evaluated."""
    eval_tokens: int | None = None
    """Tokens, from the beginning of the validation split, that every evaluation but the last reads. None always reads
    the whole split. Losses on a part do not count for the best loss. The number must be above `context_length`; a last
    file that would contribute less than one window is left out."""
    eval_seconds: float | None = None
    """Seconds after which an evaluation is due even if `eval_interval` has not passed; None sets no such limit."""
    log_interval: int = 10
    """Steps between records of the training loss; each record averages the steps since the last one."""
    checkpoint_interval: int | None = 1000
    """Steps between checkpoints; the end, and each evaluation of the whole split that is the best so far, are always
    saved."""
    checkpoint_seconds: float | None = 60.0
    """Seconds after which a checkpoint is due even if `checkpoint_interval` has not passed; None sets no such limit."""
    keep_checkpoints: int = 2
    """Number of latest checkpoints to keep, besides the one with the lowest validation loss."""
    keep_checkpoint_every_seconds: float | None = None
    """Length of a span of `seconds_training`. The first checkpoint of each span after the first is never pruned."""
    save_in_background: bool = True
    """Copy each checkpoint in memory and write it while training continues; False needs no memory for the copy."""
    seed: int = 0
    """Seed of the batches and of all random numbers in training."""
    device: str = "auto"
    """"auto" (CUDA, then MPS, then CPU), or a device such as "cpu", "mps" or "cuda:1"."""
    dtype: DtypeName = "auto"
    """"bfloat16" and "float16" compute under autocast, float16 with loss scaling (Micikevicius et al. 2018); "auto" is
    described at `trainer.resolve_dtype`."""
    compile: CompileMode = "off"
    """torch.compile of losses and updates, each checked against the eager one before it is used. With "on", a compiler
    that fails or is wrong ends the run, which can be resumed. "auto" means on CUDA only; the run then goes on without
    the compiler, with a notice and a record."""
    eval_batch_size: int | None = None
    """Windows in one forward pass of an evaluation, of each process; None takes `batch_size`."""
    time_limit_seconds: float | None = None
    """Wall-clock limit from the construction of the trainer to the last record, summed over all sessions of the run."""
    clock: ClockName = "steps"
    """Unit of the schedule and the intervals: optimizer steps, or ticks of the time limit."""
    profile: int | None = None
    """Steps of this session to profile, after 10 others, as a Chrome trace and a table of operators; None for none."""
    on_non_finite: NonFiniteAction = "stop"
    """Reaction to a step whose loss or gradient is not finite: "stop" ends the run and keeps earlier checkpoints;
    "skip" omits the update and continues, up to 20 times in a row (the host then waits for every step)."""
    parallel: ParallelName = "auto"
    """Parallelism of several processes: "ddp" ("auto" means the same), or "fsdp", which shards the parameters."""
    distributed_timeout_seconds: float = 600.0
    """Seconds that a process waits for the others, which may be evaluating or saving, before it fails."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "context_length", "grad_accumulation_steps", "eval_interval"):
            self._check_integer(name, 1)
        for name in ("log_interval", "keep_checkpoints"):
            self._check_integer(name, 1)
        self._check_integer("seed", 0)
        if self.separator_id is not None:
            self._check_integer("separator_id", 0)
        for name in ("vocab_size", "checkpoint_interval", "eval_batch_size", "eval_tokens", "profile"):
            if getattr(self, name) is not None:
                self._check_integer(name, 1)
        if self.eval_tokens is not None and self.eval_tokens <= self.context_length:
            raise ValueError(
                f"eval_tokens is {self.eval_tokens}: expected at least {self.context_length + 1}, one window of "
                f"context_length {self.context_length} and the token after it, or None"
            )
        for name in ("max_grad_norm", "eval_seconds", "time_limit_seconds"):
            self._check_positive(name)
        for name in ("checkpoint_seconds", "keep_checkpoint_every_seconds"):
            self._check_positive(name)
        self._check_positive("distributed_timeout_seconds", optional=False)
        for name in ("average_from", "average_decay"):
            value = getattr(self, name)
            if value is not None and not _is_share(value):
                raise ValueError(f"{name} is {value!r}: expected a share from 0.0 to below 1.0, or None")
        if self.separator_id is not None and self.sampling != "documents":
            raise ValueError(
                f'separator_id is {self.separator_id} but sampling is "{self.sampling}": expected it for '
                'sampling="documents" only'
            )
        if self.average_decay is not None and self.average_from is None:
            raise ValueError(
                f"average_decay is {self.average_decay!r} but average_from is None: give the share of the run from "
                "which to average, such as 0.0"
            )
        self._check_ramp()
        for name, kind in get_type_hints(TrainConfig).items():
            if choices := (True, False) if kind is bool else get_args(kind) if get_origin(kind) is Literal else ():
                self._check_choice(name, choices)
        if self.clock == "time" and self.time_limit_seconds is None:
            raise ValueError('clock is "time" but time_limit_seconds is None: give the time limit in seconds')

    @property
    def tokens_per_step(self) -> int:
        """Training tokens per optimizer step; with a batch ramp, per step of its last stage."""
        return self.batch_size * self.context_length * self.accumulations[-1]

    @property
    def accumulations(self) -> tuple[int, ...]:
        """Forward passes per step, in each stage of the batch ramp; a single number without a ramp."""
        return tuple(count for _, count in self.batch_ramp) or (self.grad_accumulation_steps,)

    def accumulation_at(self, tick: int) -> int:
        """Return the number of forward passes of a step that begins at this tick."""
        # Divide instead of multiplying: 7 / 100 equals 0.07, but 0.07 * 100 is above 7, so the stage would begin late.
        begun = [count for share, count in self.batch_ramp if tick / self.steps >= share]
        return begun[-1] if begun else self.grad_accumulation_steps

    @property
    def depends_on_time(self) -> bool:
        """True if the wall clock decides when to evaluate, save or stop, and is not only recorded."""
        limits = (self.time_limit_seconds, self.checkpoint_seconds, self.eval_seconds)
        return any(seconds is not None for seconds in limits)

    def _check_integer(self, name: str, least: int) -> None:
        value: Any = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is {value!r}: expected a whole number, {least} or more")

    def _check_positive(self, name: str, *, optional: bool = True) -> None:
        value: Any = getattr(self, name)
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"{name} is {value!r}: expected a finite number above 0{', or None' if optional else ''}")

    def _check_ramp(self) -> None:
        ramp: Any = self.batch_ramp
        if not isinstance(ramp, tuple | list) or not all(
            isinstance(stage, tuple | list) and len(stage) == 2 for stage in ramp
        ):
            raise ValueError(
                f"batch_ramp is {ramp!r}: expected pairs of a share of the run and grad_accumulation_steps, such as "
                "((0.0, 1), (0.5, 2))"
            )
        shares, counts = [share for share, _ in ramp], [count for _, count in ramp]
        if not all(map(_is_share, shares)) or sorted(set(shares)) != shares or shares[:1] not in ([], [0.0]):
            raise ValueError(f"batch_ramp has the shares {shares}: expected them to rise from 0.0 to below 1.0")
        if any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in counts):
            raise ValueError(f"batch_ramp has the grad_accumulation_steps {counts}: expected whole numbers, 1 or more")
        if ramp and self.grad_accumulation_steps != 1:
            raise ValueError(
                f"grad_accumulation_steps is {self.grad_accumulation_steps} besides a batch_ramp: expected one of them"
            )

    def _check_choice(self, name: str, choices: tuple[object, ...]) -> None:
        value: Any = getattr(self, name)
        if value not in choices:
            raise ValueError(f"{name} is {value!r}: expected one of {', '.join(map(repr, choices))}")


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
