"""The line that says what to do next."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from tinystories.writing import SAMPLE_PROMPT


def command_line(*arguments: str | Path) -> str:
    """A command of this app, to be copied as it is: from a nox session with that session's Python."""
    found = shutil.which("python")
    inside = "NOX_CURRENT_SESSION" not in os.environ and found and Path(found).parent == Path(sys.executable).parent
    python = "python" if inside else os.path.relpath(sys.executable)
    return shlex.join([python, "-m", "tinystories.run", *map(str, arguments)])


def next_step(run_dir: Path) -> str:
    """How to let the model of a run write."""
    return f'Next: {command_line("generate", run_dir)} --prompt "{SAMPLE_PROMPT}"'
