"""How a run has ended."""

from __future__ import annotations

import torch

from trainer.config import TrainConfig
from trainer.devices.devices import peak_memory_bytes
from trainer.devices.flops import Speed
from trainer.records.summary import RunStatus, Summary
from trainer.training.progress import Progress


def summarize(
    progress: Progress, config: TrainConfig, device: torch.device, speed: Speed, parameters: int, *, has_diverged: bool
) -> Summary:
    """Return the summary of a run that has ended, because it diverged or otherwise."""
    status: RunStatus = "completed" if progress.tick >= config.steps else "time_limit"
    reason = progress.divergence
    if has_diverged:
        status = "diverged"
    final = None if status == "diverged" else progress.valid_loss
    # Losses of different texts say nothing about each other.
    first = progress.first_valid_loss if progress.first_valid_is_whole else None
    if reason is None and final is not None and first is not None and final > first:
        reason = f"the final validation loss {final:.4f} is above the first one, {first:.4f}"
    tokens = progress.windows * config.context_length
    tokens_per_second = tokens / progress.seconds_training if progress.seconds_training > 0 else None
    return Summary(
        status=status,
        diverged=reason is not None,
        diverged_at_step=progress.diverged_at_step,
        divergence=reason,
        steps=progress.step,
        tokens=tokens,
        parameters=parameters,
        final_valid_loss=final,
        best_valid_loss=progress.best_valid_loss,
        perplexity=None if final is None else progress.perplexity,
        bits_per_byte=None if final is None else progress.bits_per_byte,
        seconds_total=progress.seconds_total,
        seconds_training=progress.seconds_training,
        tokens_per_second=tokens_per_second,
        mfu=speed.utilisation(tokens_per_second),
        peak_memory_bytes=peak_memory_bytes(device),
        spikes=progress.spikes,
        skipped_steps=progress.skipped_steps,
    )
