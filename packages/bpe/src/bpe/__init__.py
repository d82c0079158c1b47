"""Byte-level byte-pair encoding: training and encoding, exact and fast.

Importing this package is light: numpy, regex and numba are imported by the first call that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bpe.patterns import GPT2_PATTERN

if TYPE_CHECKING:
    from bpe.documents import divide, first_documents, hold_out_documents
    from bpe.errors import InvalidUTF8Warning, UnknownTokenError
    from bpe.preparation import Preparation, prepare
    from bpe.pretoken_counts import PretokenCounts
    from bpe.pretokens import count_pretokens
    from bpe.streaming import EncodeReport
    from bpe.tokenizer import Tokenizer
    from bpe.training import train, train_from_counts, train_from_iterator

    __version__: str

__all__ = [
    "GPT2_PATTERN",
    "EncodeReport",
    "InvalidUTF8Warning",
    "Preparation",
    "PretokenCounts",
    "Tokenizer",
    "UnknownTokenError",
    "__version__",
    "count_pretokens",
    "divide",
    "first_documents",
    "hold_out_documents",
    "prepare",
    "train",
    "train_from_counts",
    "train_from_iterator",
]

_MODULE_OF = {
    "EncodeReport": "streaming",
    "InvalidUTF8Warning": "errors",
    "Preparation": "preparation",
    "PretokenCounts": "pretoken_counts",
    "Tokenizer": "tokenizer",
    "UnknownTokenError": "errors",
    "__version__": "version",
    "count_pretokens": "pretokens",
    "divide": "documents",
    "first_documents": "documents",
    "hold_out_documents": "documents",
    "prepare": "preparation",
    "train": "training",
    "train_from_counts": "training",
    "train_from_iterator": "training",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'bpe' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"bpe.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not yet."""
    return sorted(set(globals()) | set(__all__))
