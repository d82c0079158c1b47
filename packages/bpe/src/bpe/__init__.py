"""Byte-level byte-pair encoding: training and encoding, exact and fast.

Importing this package is light: numpy, regex and numba are imported by the first call that needs them. `bpe.api` lists
the public names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bpe.api import *  # noqa: F403

    __version__: str


def __getattr__(name: str) -> Any:
    """Import a public name or a submodule at its first use (PEP 562)."""
    if name.startswith("__") and name not in ("__all__", "__version__"):
        raise AttributeError(f"module 'bpe' has no attribute {name!r}")
    if not name.startswith("__"):
        # Submodules come first, because `bpe.api` imports modules that in turn import submodules of `bpe`.
        try:
            return import_module(f"bpe.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"bpe.{name}":
                raise
    api = vars(import_module("bpe.api"))
    public = sorted(["__version__", *(key for key in api if not key.startswith("_"))])
    if name == "__all__":
        return public
    if name not in public:
        raise AttributeError(f"module 'bpe' has no attribute {name!r}; it has {', '.join(public)}")
    value = import_module("bpe.preparation").package_version() if name == "__version__" else api[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not yet."""
    return sorted({*globals(), *__getattr__("__all__")})
