"""Differences between CUDA, MPS and the CPU: devices, dtypes, copies, memory, peak FLOP/s."""

from trainer.support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
