"""Profile of some steps of a session: a Chrome trace, and a table of the operators that take the most time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from trainer.support.files import write_atomically

SKIPPED_STEPS = 10
"""Steps before the profile: those that compile, allocate and warm up."""
_WARMUP_STEPS = 2  # of the profiler itself, among the skipped ones
_SHOWN_OPERATORS = 30


class StepProfile:
    """Profiles steps of this session on one process; a context around the steps.

    Args:
        steps: Steps to profile, after `SKIPPED_STEPS` others; None profiles none.
        device: Device of the model.
        peak_flops: Peak FLOP/s of the device in the run's dtype; None if it is not known.
        directory: Directory for the files, made if needed.
        notify: Called with a line about the result.
    """

    def __init__(
        self,
        steps: int | None,
        device: torch.device,
        peak_flops: float | None,
        directory: Path,
        notify: Callable[[str], None],
    ) -> None:
        self._steps = steps
        self._device = device
        self._peak_flops = peak_flops
        self._directory = directory
        self._notify = notify
        self._made = 0
        self._activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            self._activities.append(ProfilerActivity.CUDA)
        self._profiler: profile | None = None

    def __enter__(self) -> StepProfile:
        if self._steps is None:
            return self
        waiting = SKIPPED_STEPS - _WARMUP_STEPS
        self._profiler = profile(
            activities=self._activities,
            schedule=schedule(wait=waiting, warmup=_WARMUP_STEPS, active=self._steps, repeat=1),
            on_trace_ready=self._write,
            with_flops=True,
        )
        self._profiler.start()
        return self

    def step(self) -> None:
        """Count a step that has been made."""
        self._made += 1
        if self._profiler is not None:
            self._profiler.step()
            if self._made == SKIPPED_STEPS + (self._steps or 0):
                self._profiler = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens in the block, such as an evaluation between two steps."""
        profiler = self._profiler if self._made >= SKIPPED_STEPS else None
        if profiler is not None:
            profiler.toggle_collection_dynamic(False, self._activities)
        yield
        if profiler is not None:
            profiler.toggle_collection_dynamic(True, self._activities)

    def __exit__(self, *error: object) -> None:
        if self._profiler is None:
            return
        self._profiler.stop()
        if self._made <= SKIPPED_STEPS:
            self._notify(
                f"nothing is profiled: this session made {self._made} steps, and the profile begins after "
                f"{SKIPPED_STEPS}"
            )

    def _write(self, profiler: profile) -> None:
        if self._made <= SKIPPED_STEPS:
            return
        self._directory.mkdir(exist_ok=True)
        trace, table = self._directory / "trace.json.gz", self._directory / "operators.md"
        temporary = trace.with_name(f".tmp-{os.getpid()}-{threading.get_ident()}.{trace.name}")
        try:
            profiler.export_chrome_trace(str(temporary))
            temporary.replace(trace)
        finally:
            temporary.unlink(missing_ok=True)
        steps = self._made - SKIPPED_STEPS
        text = operator_table(profiler.key_averages(), steps, self._device.type, self._peak_flops)
        write_atomically(table, text.encode("utf-8"))
        self._notify(
            f"profiled {steps} steps: the slowest operators are in {table}, and {trace} opens in ui.perfetto.dev"
        )


def operator_table(events: Any, steps: int, device_type: str, peak_flops: float | None) -> str:
    """Return a Markdown table of the operators with the most time of their own on the device.

    Args:
        events: `torch.profiler.profile.key_averages()`.
        steps: Profiled steps.
        device_type: "cuda" counts the time of the kernels that an operator launches, anything else that of the CPU.
        peak_flops: Peak FLOP/s of the device; None leaves the share of it open.
    """
    name = "self_device_time_total" if device_type == "cuda" else "self_cpu_time_total"
    # Kernels are listed besides the operators that launch them.
    rows = [(getattr(event, name), event) for event in events if event.device_type.name == "CPU"]
    rows = sorted(
        (row for row in rows if row[0] > 0 and not row[1].key.startswith("ProfilerStep")), key=lambda row: -row[0]
    )
    total = sum(microseconds for microseconds, _ in rows)
    lines = [
        f"{total / 1000 / steps:.3f} ms of operators per step, on average of {steps} steps on {device_type}.",
        "FLOP/s are known of products and convolutions only.",
        "",
        "| operator | calls per step | ms per step | share of time | GFLOP/s | share of peak |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for microseconds, event in rows[:_SHOWN_OPERATORS]:
        speed = event.flops / (microseconds * 1e-6) if event.flops else None
        reached = "" if speed is None else f"{speed / 1e9:,.1f}"
        share = "" if speed is None or peak_flops is None else f"{speed / peak_flops:.1%}"
        lines.append(
            f"| {event.key.replace('|', '/')} | {event.count / steps:g} | {microseconds / 1000 / steps:.3f} "
            f"| {microseconds / total:.1%} | {reached} | {share} |"
        )
    return "\n".join(lines) + "\n"
