"""Checkpoints: complete or absent, verified when they are read, and resumed by any number of processes."""

from trainer.support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
