"""Byte-level byte-pair encoding: training and encoding, exact and fast.

Importing this package is light: numpy, regex and numba are imported by the first call that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bpe.text.patterns import GPT2_PATTERN

if TYPE_CHECKING:
    from bpe.encoding.token_files import EncodeReport
    from bpe.errors import InvalidUTF8Warning, UnknownTokenError
    from bpe.preparation import Preparation, prepare
    from bpe.text.documents import divide, first_documents, hold_out_documents
    from bpe.tokenizer import Tokenizer
    from bpe.training.counting import count_pretokens
    from bpe.training.counts import PretokenCounts
    from bpe.training.train import train, train_from_counts, train_from_iterator

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
    "EncodeReport": "encoding.token_files",
    "InvalidUTF8Warning": "errors",
    "Preparation": "preparation",
    "PretokenCounts": "training.counts",
    "Tokenizer": "tokenizer",
    "UnknownTokenError": "errors",
    "__version__": "version",
    "count_pretokens": "training.counting",
    "divide": "text.documents",
    "first_documents": "text.documents",
    "hold_out_documents": "text.documents",
    "prepare": "preparation",
    "train": "training.train",
    "train_from_counts": "training.train",
    "train_from_iterator": "training.train",
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
