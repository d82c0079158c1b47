"""A training loop for any module and any optimizer, whose records can be trusted and whose runs are not lost.

Importing this package is light: torch and numpy are imported by the first name that needs them.
"""

from trainer.support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
