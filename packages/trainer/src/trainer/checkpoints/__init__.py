"""Checkpoints: complete or absent, verified when they are read, and resumed by any number of processes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.checkpoints.random_states import preserved_random_states
    from trainer.checkpoints.single_file import load_checkpoint, load_weights, save_checkpoint
    from trainer.checkpoints.store import CheckpointStore

_MODULE_OF = {
    "CheckpointStore": "store",
    "load_checkpoint": "single_file",
    "load_weights": "single_file",
    "preserved_random_states": "random_states",
    "save_checkpoint": "single_file",
}
__all__ = ["CheckpointStore", "load_checkpoint", "load_weights", "preserved_random_states", "save_checkpoint"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
