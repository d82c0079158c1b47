"""Build hook of hatchling: compiles the kernels before they are packed into a wheel (`python -m bpe.building`)."""

from __future__ import annotations

import os
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
            # The environment of the build, too, may be found by this variable.
            paths = [str(Path(self.root, "src")), *filter(None, [os.environ.get("PYTHONPATH")])]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
            subprocess.run([sys.executable, "-m", "bpe.building"], env=environment, check=True)
