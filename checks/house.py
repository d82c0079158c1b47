"""Check the rules of the repository that no other linter knows: `python checks/house.py`, part of `nox -s lint`."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MAX_MODULES = 12
MAX_README_LINES = 150
CLAUSE = re.compile(r"(What|How|Which|Where|Whether|That|Those|Whose)\b")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def crowded_folders(modules: list[Path]) -> Iterator[str]:
    """Name the folders with more than twelve modules, `__init__.py` not counted."""
    counts = Counter(path.parent for path in modules if path.name != "__init__.py")
    for folder, count in sorted(counts.items()):
        if count > MAX_MODULES:
            yield f"{folder}: {count} modules; at most {MAX_MODULES} per folder, so group them by subject"


def docstring_clauses(path: Path) -> Iterator[str]:
    """Name the docstrings that begin with a relative clause; a verb or a noun phrase reads better."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"), path)):
        docstring = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
        if docstring and CLAUSE.match(docstring):
            yield (
                f"{path}:{getattr(node, 'lineno', 1)}: docstring begins with a relative clause: "
                f"{docstring.splitlines()[0]!r}; begin with a verb or a noun phrase"
            )


def system_encodings(path: Path) -> Iterator[str]:
    """Name the calls that open a text in the encoding of the system, which on Windows is not UTF-8."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"), path)):
        if isinstance(node, ast.Call) and _opens_text(node):
            yield f"{path}:{node.lineno}: a text is opened in the encoding of the system; name one, such as utf-8"


def _opens_text(call: ast.Call) -> bool:
    """Return whether a call reads, writes or opens a text without an encoding."""
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    if name not in ("read_text", "write_text", "open") or any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if name != "open":
        return len(call.args) <= (name == "write_text")
    # Only `open(path, mode)` and `path.open(mode)`, if the mode is a text: other objects have a method `open`, too.
    modes = call.args[1:2] if isinstance(call.func, ast.Name) else call.args[:1]
    mode = modes[0].value if modes and isinstance(modes[0], ast.Constant) else "r" if not modes else "b"
    is_path = isinstance(call.func, ast.Name) or bool(modes)
    return is_path and isinstance(mode, str) and set(mode) <= set("rwaxt+")


def long_readme(path: Path) -> Iterator[str]:
    """Complain about a README of more than 150 lines."""
    count = len(path.read_text("utf-8").splitlines())
    if count > MAX_README_LINES:
        yield f"{path}: {count} lines; at most {MAX_README_LINES}, so move explanations to docs/"


def violations(files: list[Path]) -> list[str]:
    """Return one line for each broken rule among these files of the repository.

    Args:
        files: Paths relative to the current folder; sources are the Python files below a folder `src`.
    """
    modules = [path for path in files if path.suffix == ".py"]
    sources = [path for path in modules if "src" in path.parts]
    found = [*crowded_folders(sources)]
    found += [line for path in sources for line in system_encodings(path)]
    found += [line for path in modules for line in docstring_clauses(path)]
    return found + [line for path in files if path.name == "README.md" for line in long_readme(path)]


def main() -> int:
    """Check all tracked files and return the exit code: 1 if a rule is broken."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    found = violations([Path(name) for name in listed.split("\0") if name and Path(name).is_file()])
    print("\n".join(found) if found else "house rules: all kept")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
