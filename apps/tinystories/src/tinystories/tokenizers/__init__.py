"""Tokenizers, trained on texts or opened, measured and compared in a report.

Names are imported on first use: the process that trains a tokenizer imports this package, and measures its own memory.
"""

from trainer.support.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
