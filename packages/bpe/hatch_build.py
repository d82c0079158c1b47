"""Build hook of hatchling: compiles the kernels before they are packed into a wheel (`python -m bpe.building`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledKernels(BuildHookInterface[Any]):
    """Makes the files of `bpe/kernels/compiled`, unless they were made from the present kernels already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is packed; a source distribution holds no machine code."""
        if self.target_name == "wheel":
            # Not by PYTHONPATH: pip takes out of it what its own environment has, such as an editable installation.
            find = "import runpy, sys; sys.path.insert(0, sys.argv.pop())"
            code = f"{find}; runpy.run_module('bpe.building', run_name='__main__')"
            subprocess.run([sys.executable, "-c", code, str(Path(self.root, "src"))], check=True)
