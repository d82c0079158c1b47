"""A training loop for any module and any optimizer, whose records can be trusted and whose runs are not lost.

Importing this package is light: torch and numpy are imported by the first name that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.checkpoints import load_checkpoint, load_weights, save_checkpoint
    from trainer.config import TrainConfig
    from trainer.data import get_batch
    from trainer.devices import resolve_device, resolve_dtype
    from trainer.distributed import ProcessLostError
    from trainer.durations import format_duration, parse_duration
    from trainer.evaluation import Evaluation, evaluate
    from trainer.files import write_atomically
    from trainer.interruption import TrainingInterrupted
    from trainer.loggers import BackgroundLogger, ConsoleLogger, JsonlLogger, Logger, TensorBoardLogger, WandbLogger
    from trainer.loop import Trainer
    from trainer.records import RunLockedError, read_config, read_metrics
    from trainer.summary import Summary
    from trainer.token_files import TokenDataset
    from trainer.version import __version__

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
    "ProcessLostError": "distributed",
    "RunLockedError": "records",
    "Summary": "summary",
    "TensorBoardLogger": "loggers",
    "TokenDataset": "token_files",
    "TrainConfig": "config",
    "Trainer": "loop",
    "TrainingInterrupted": "interruption",
    "WandbLogger": "loggers",
    "__version__": "version",
    "evaluate": "evaluation",
    "format_duration": "durations",
    "get_batch": "data",
    "load_checkpoint": "checkpoints",
    "load_weights": "checkpoints",
    "parse_duration": "durations",
    "read_config": "records",
    "read_metrics": "records",
    "resolve_device": "devices",
    "resolve_dtype": "devices",
    "save_checkpoint": "checkpoints",
    "write_atomically": "files",
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
