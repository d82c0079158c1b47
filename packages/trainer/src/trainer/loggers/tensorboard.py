"""Records as TensorBoard event files."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from trainer.loggers.background import BackgroundLogger
from trainer.loggers.protocol import Record, RunInfo, RunSummary, numbers_of


class TensorBoardLogger(BackgroundLogger):
    """Writes event files for `tensorboard --logdir`: metrics over steps, samples, configuration and summary as text.

    A thread writes them, so that a slow disk does not stall training. A resumed run replaces the steps that it repeats.

    Args:
        directory: Where the files go; None is `tensorboard/` in the run directory.
        close_seconds: How long the end of the run waits for the last of them.

    Raises:
        ModuleNotFoundError: If tensorboard is not installed.
        ValueError: If `close_seconds` is not above 0.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, *, close_seconds: float = 10.0) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ModuleNotFoundError(
                'tensorboard is not installed: pip install "scratchlm-trainer[tensorboard]", or from the root of the '
                'repository pip install "packages/trainer[tensorboard]"',
                name="tensorboard",
            )
        super().__init__(_EventFiles(directory), close_seconds=close_seconds)


class _EventFiles:
    """The writer; all its methods are called in the background thread."""

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        self._directory = directory
        self._writer: Any = None

    def on_start(self, run: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        directory = run.run_dir / "tensorboard" if self._directory is None else Path(self._directory)
        purge = {"purge_step": run.step + 1} if run.resumes else {}
        self._writer = SummaryWriter(str(directory), **purge)
        if not run.resumes:
            self._add_text("config", json.dumps(run.config, indent=2), 0)

    def log(self, record: Record) -> None:
        if record["event"] == "notice":
            return
        for name, value in numbers_of(record).items():
            self._writer.add_scalar(f"{record['event']}/{name}", value, record["step"])

    def on_samples(self, step: int, texts: list[str]) -> None:
        for index, text in enumerate(texts):
            self._add_text(f"samples/{index}", text, step)

    def on_finish(self, summary: RunSummary) -> None:
        self._add_text("summary", json.dumps(summary.to_json(), indent=2), summary.steps)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _add_text(self, name: str, text: str, step: int) -> None:
        """Add text as a block of code: TensorBoard renders other text as Markdown."""
        indented = "\n".join(f"    {line}" for line in text.split("\n"))
        self._writer.add_text(name, indented, step)
