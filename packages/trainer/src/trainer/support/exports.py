"""Public names of a package, imported when they are first used."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


def lazy_exports(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return `__getattr__` (PEP 562), `__dir__` and `__all__` of a package that lists its names in `__init__.pyi`.

    The stub, which type checkers read too, is the only list: it consists of lines such as
    `from trainer.config import TrainConfig as TrainConfig`. Submodules become attributes as well.
    """
    module = sys.modules[package]
    stub = Path(str(module.__file__)).with_suffix(".pyi").read_text("utf-8")
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    module_of = {alias.name: str(node.module) for node in imports for alias in node.names}

    def get(name: str) -> object:
        if name in module_of:
            value: object = getattr(import_module(module_of[name]), name)
        elif not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(sorted(module_of))}")
        setattr(module, name, value)
        return value

    return get, lambda: sorted({*vars(module), *module_of}), sorted(module_of)
