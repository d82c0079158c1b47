"""A training loop for any module and any optimizer, whose records can be trusted and whose runs are not lost.

Importing this package is light: torch and numpy are imported by the first name that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.checkpoints.single_file import load_checkpoint, load_weights, save_checkpoint
    from trainer.config import TrainConfig
    from trainer.data.token_files import TokenDataset
    from trainer.data.windows import get_batch
    from trainer.devices.devices import resolve_device, resolve_dtype
    from trainer.distributed.processes import ProcessLostError
    from trainer.evaluation import Evaluation, evaluate
    from trainer.interruption import TrainingInterrupted
    from trainer.loggers import BackgroundLogger, ConsoleLogger, JsonlLogger, Logger, TensorBoardLogger, WandbLogger
    from trainer.records.environment import __version__
    from trainer.records.run_directory import RunLockedError, read_config, read_metrics
    from trainer.records.summary import Summary
    from trainer.support.durations import format_duration, parse_duration
    from trainer.support.files import write_atomically
    from trainer.trainer import Trainer

__all__ = [
    "BackgroundLogger",
    "ConsoleLogger",
    "Evaluation",
    "JsonlLogger",
    "Logger",
    "ProcessLostError",
    "RunLockedError",
    "Summary",
    "TensorBoardLogger",
    "TokenDataset",
    "TrainConfig",
    "Trainer",
    "TrainingInterrupted",
    "WandbLogger",
    "__version__",
    "evaluate",
    "format_duration",
    "get_batch",
    "load_checkpoint",
    "load_weights",
    "parse_duration",
    "read_config",
    "read_metrics",
    "resolve_device",
    "resolve_dtype",
    "save_checkpoint",
    "write_atomically",
]

_MODULE_OF = {
    "BackgroundLogger": "loggers",
    "ConsoleLogger": "loggers",
    "Evaluation": "evaluation",
    "JsonlLogger": "loggers",
    "Logger": "loggers",
    "ProcessLostError": "distributed.processes",
    "RunLockedError": "records.run_directory",
    "Summary": "records.summary",
    "TensorBoardLogger": "loggers",
    "TokenDataset": "data.token_files",
    "TrainConfig": "config",
    "Trainer": "trainer",
    "TrainingInterrupted": "interruption",
    "WandbLogger": "loggers",
    "__version__": "records.environment",
    "evaluate": "evaluation",
    "format_duration": "support.durations",
    "get_batch": "data.windows",
    "load_checkpoint": "checkpoints.single_file",
    "load_weights": "checkpoints.single_file",
    "parse_duration": "support.durations",
    "read_config": "records.run_directory",
    "read_metrics": "records.run_directory",
    "resolve_device": "devices.devices",
    "resolve_dtype": "devices.devices",
    "save_checkpoint": "checkpoints.single_file",
    "write_atomically": "support.files",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'trainer' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"trainer.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not yet."""
    return sorted(set(globals()) | set(__all__))
