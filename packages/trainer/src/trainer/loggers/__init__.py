"""Where records go besides the run directory: a small protocol and its implementations."""

from trainer.loggers.console import ConsoleLogger
from trainer.loggers.jsonl import JsonlLogger
from trainer.loggers.protocol import Logger, LoggerGroup, Record

__all__ = ["ConsoleLogger", "JsonlLogger", "Logger", "LoggerGroup", "Record"]
