"""What a run knows about itself besides weights: counts, seconds, losses so far."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.config import TrainConfig


@dataclass
class Progress:
    """The part of a run's state that is plain numbers; every checkpoint carries it."""

    step: int = 0
    """Optimizer steps made."""
    tick: int = 0
    """Where the schedule is: `step`, or with clock="time" the ticks of the clock."""
    tested_tick: int = 0
    """The tick up to which is known which intervals have passed: what passes during an evaluation or a save counts."""
    evaluated_tick: int = 0
    """The tick after the last evaluation: what passed during it does not ask for another one."""
    saved_tick: int = 0
    """The same for checkpoints."""
    seconds_total: float = 0.0
    seconds_training: float = 0.0
    training_began: float | None = None
    """`seconds_total` at the first step, or after it if it was compiled: the ticks are counted from there."""
    windows: int = 0
    """Training windows that these steps have read, all processes together: what comes next follows from it."""
    step_windows: int = 0
    """Those of the step that is being made, or was made last."""
    reported_windows: int = 0
    """`windows` at the last training record; the next record averages what came since."""
    reported_seconds: float = 0.0
    """`seconds_training` at that record."""
    averaged_steps: int = 0
    """Steps whose weights are in the running mean of `average_from`."""
    is_averaged: bool = False
    """Whether the weights are that mean, and training is over."""
    micro_batch_size: int | None = None
    """Windows in a forward pass since there was no memory for more; None if there always was."""
    loss_sum: float = 0.0
    """Sum of the losses since that record."""
    loss_count: int = 0
    """How many losses are in that sum; those of skipped steps are not."""
    loss_max: float | None = None
    """The largest of them."""
    learning_rate: float | None = None
    """Of the last step."""
    grad_norm: float | None = None
    """That of the last step that was not skipped, as far as the losses have been looked at."""
    metrics_lines: int | None = None
    """Lines of `metrics.jsonl` at this moment; None in checkpoints of earlier versions."""
    samples_lines: int | None = None
    """Lines of `samples.jsonl`."""
    usual_loss: float | None = None
    """Moving average of the recorded losses, against which spikes are found."""
    spikes: int = 0
    """Records whose largest loss was a spike."""
    skipped_steps: int = 0
    """Steps that made no update, because their loss or gradient was not finite."""
    skipped_in_a_row: int = 0
    valid_step: int | None = None
    """The step of the last evaluation, whose results follow; None if it was on a part of the split."""
    valid_loss: float | None = None
    perplexity: float | None = None
    bits_per_byte: float | None = None
    first_valid_loss: float | None = None
    first_valid_is_whole: bool = True
    """Whether that is of the whole split, as the last one is."""
    best_valid_loss: float | None = None
    diverged_at_step: int | None = None
    divergence: str | None = None
    reserve_reports: list[float] = field(default_factory=list)
    """Seconds that an evaluation of the whole split took, or would have, the sample included: the last ones."""
    reserve_passes: list[float] = field(default_factory=list)
    """How many training passes took as long, by their times around each of the evaluations."""
    reserve_picture: float = 0.0
    """Seconds that the learning curve takes, which is drawn at the end."""
    reserve_save: float = 0.0
    """Seconds that a checkpoint takes; see `slower`."""

    @classmethod
    def from_dict(cls, values: dict[str, Any], config: TrainConfig) -> Progress:
        """Rebuild what `to_dict` returned, in this version or an earlier one."""
        values = dict(values)
        values.setdefault("tested_tick", values["tick"])
        values.setdefault("first_valid_is_whole", config.eval_tokens is None)
        if (report := values.pop("reserve_report", None)) is not None:
            values["reserve_reports"] = [report]
        if "windows" not in values:
            per_step = config.batch_size * config.grad_accumulation_steps
            values["windows"] = values["step"] * per_step
            values["reported_windows"] = values.pop("reported_step") * per_step
        return cls(**values)

    def windows_at(self, step: int) -> int:
        """Return the windows read until a step is made: the last one, or the one that is being made."""
        return self.windows + (step - self.step) * self.step_windows

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def crosses(previous: int, now: int, interval: int) -> bool:
    """Return whether a multiple of the interval lies in (previous, now]."""
    return previous // interval < now // interval
