"""Token files and arrays, their windows, and batches of them on their way to the device."""

from trainer.support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
