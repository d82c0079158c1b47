"""Where records go besides the run directory: a small protocol and its implementations."""

from trainer.loggers.background import BackgroundLogger
from trainer.loggers.console import ConsoleLogger
from trainer.loggers.group import LoggerGroup
from trainer.loggers.protocol import Logger, Record, RunInfo
from trainer.loggers.tensorboard import TensorBoardLogger
from trainer.loggers.weights_and_biases import WandbLogger
from trainer.records.lines import JsonlLogger

__all__ = [
    "BackgroundLogger",
    "ConsoleLogger",
    "JsonlLogger",
    "Logger",
    "LoggerGroup",
    "Record",
    "RunInfo",
    "TensorBoardLogger",
    "WandbLogger",
]
