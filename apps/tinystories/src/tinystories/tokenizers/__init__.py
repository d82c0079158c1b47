"""Tokenizers, trained on texts or opened, measured and compared in a report.

Names are imported on first use: the process that trains a tokenizer imports this package, and measures its own memory.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinystories.tokenizers.comparison import Settings as Settings
    from tinystories.tokenizers.comparison import investigate as investigate
    from tinystories.tokenizers.report import brief_tables as brief_tables
    from tinystories.tokenizers.report import write_report as write_report

_MODULE_OF = {
    "Settings": "comparison",
    "investigate": "comparison",
    "brief_tables": "report",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
