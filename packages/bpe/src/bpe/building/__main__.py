"""Build what a process would otherwise compute at its start: `python -m bpe.building [FOLDER]`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from bpe.kernels.machine.machine_code import (
    FOLDER,
    HEADER_BYTES,
    TARGETS,
    checked_header,
    kernels_digest,
    runnable_targets,
    source_digest,
)
from bpe.kernels.scanning import unicode_classes


def build(folder: Path = FOLDER) -> None:
    """Write the Unicode classes and the machine code of all targets to a folder, unless they are there already.

    Raises:
        RuntimeError: If code that this machine can run does not do what the interpreted kernels do.
    """
    version = unicode_classes.classes_version()
    facts = {"kernels": kernels_digest(), "building": source_digest(Path(__file__).parent), "version": version}
    files = [folder / f"{name}.bin" for name in ("unicode-classes", *TARGETS)]
    if all(_has(path, facts) for path in files):
        return
    from bpe.building import compilation
    from bpe.building.linking import link

    folder.mkdir(parents=True, exist_ok=True)
    _write(files[0], unicode_classes.runs_of(unicode_classes.class_table_by_regex()), facts)
    module = compilation.portable_module()
    expected = _results(NUMBA_DISABLE_JIT="1")
    runnable = runnable_targets()
    for target, path in zip(TARGETS, files[1:], strict=True):
        image = link(compilation.object_file(module, target))
        functions = {name: HEADER_BYTES + start for name, start in image.functions.items()}
        _write(path, image.data, facts | {"target": target, "functions": functions})
        if target in runnable and _results(BPE_KERNELS=str(path)) != expected:
            path.unlink()
            raise RuntimeError(f"the machine code for {target} does not do what the interpreted kernels do")


def _has(path: Path, facts: dict[str, str]) -> bool:
    """Return whether a file is undamaged and has all these facts."""
    try:
        return facts.items() <= checked_header(path, path.read_bytes()).items()
    except (OSError, ValueError):
        return False


def _write(path: Path, content: bytes, facts: dict[str, Any]) -> None:
    """Write a compiled file: the facts and a digest as its header, then the content."""
    header = json.dumps({**facts, "sha256": sha256(content).hexdigest()}).encode("ascii")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_bytes(header.ljust(HEADER_BYTES) + content)
    temporary.replace(path)


def _results(**environment: str) -> str:
    """Return the digest of what the kernels do with a sample, run in a process with this environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BPE_", "NUMBA_"))}
    code = "import sys; sys.path.insert(0, sys.argv[1]); from bpe.building.sample import results; print(results())"
    command = [sys.executable, "-W", "error", "-c", code, str(Path(__file__).resolve().parents[2])]
    return subprocess.run(command, env=inherited | environment, check=True, stdout=subprocess.PIPE).stdout.decode()


if __name__ == "__main__":
    build(*map(Path, sys.argv[1:]))
