"""Neural-network and optimizer primitives from scratch, and a Transformer language model.

Importing this package is light: torch is imported when a public name is first used. The table of public names is
`__init__.pyi`, which both type checkers and this module read.
"""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


def _read_table() -> dict[str, str]:
    """Return the module of every public name, from the imports in `__init__.pyi`."""
    tree = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_MODULE_OF = _read_table()
__all__ = sorted([*_MODULE_OF, "__version__"])


def _version() -> str:
    """Return the installed version, or a local version if the package is used from a source folder."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("scratchlm-nnscratch")
    except PackageNotFoundError:
        return "0+source"


def __getattr__(name: str) -> object:
    """Import a public name or a submodule when it is first used (PEP 562)."""
    value: object
    if name == "__version__":
        value = _version()
    elif name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
    elif not name.startswith("_") and find_spec(f"nnscratch.{name}"):
        return import_module(f"nnscratch.{name}")
    else:
        raise AttributeError(f"module 'nnscratch' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
