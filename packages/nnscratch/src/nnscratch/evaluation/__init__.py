"""Evaluation of language models: log-likelihoods of texts, and an adapter for lm-evaluation-harness.

`HarnessModel` is imported when it is first used, because it needs the package `lm_eval`.
"""

from typing import TYPE_CHECKING

from nnscratch.evaluation.likelihood import log_likelihoods

if TYPE_CHECKING:
    from nnscratch.evaluation.harness import HarnessModel

__all__ = ["HarnessModel", "log_likelihoods"]


def __getattr__(name: str) -> object:
    """Import `HarnessModel` when it is first used (PEP 562)."""
    if name != "HarnessModel":
        raise AttributeError(f"module 'nnscratch.evaluation' has no attribute {name!r}; it has {', '.join(__all__)}")
    from nnscratch.evaluation.harness import HarnessModel

    return HarnessModel
