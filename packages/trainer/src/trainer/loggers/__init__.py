"""Destinations of records besides the run directory: a small protocol and its implementations."""

from trainer.support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
