"""The command in a process that is forked from one which has imported everything."""

import os
import sys
from pathlib import Path


def run_command(arguments, output):
    """Run the command with its output in a file, and end with its exit code."""
    import torch

    from owt_leaderboard import __main__ as command

    torch.set_num_threads(1)
    with Path(output).open("w", buffering=1, encoding="utf-8") as sys.stdout:
        sys.stderr = sys.stdout
        code = command.main(arguments)
    os._exit(code)
