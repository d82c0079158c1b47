"""The command in processes that are forked from one which has imported everything."""

import multiprocessing
import os
import sys
import time
from pathlib import Path

from conftest import PRELOADED, stolen_seconds


class ForkedRun:
    """One process of the command, and the seconds from its start to its end.

    Args:
        arguments: of the command.
        output: the file for what it prints.
        environment: variables that it has besides those of this process.
    """

    def __init__(self, arguments, output, environment=None):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.output = output
        words = [str(argument) for argument in arguments]
        self.process = context.Process(target=_run_command, args=(words, str(output), environment or {}))
        self.began = time.monotonic(), stolen_seconds()
        self.process.start()

    def send(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        """End it at once, if it has not ended."""
        self.process.kill()
        self.process.join()

    def printed(self):
        return self.output.read_text("utf-8") if self.output.exists() else ""

    def end(self):
        """Wait; return the exit code, what was printed, the seconds that it took and those that were stolen."""
        self.process.join(timeout=400)
        now = time.monotonic(), stolen_seconds()
        seconds, stolen = (then - before for then, before in zip(now, self.began, strict=True))
        return self.process.exitcode, self.printed(), seconds, stolen


def _run_command(arguments, output, environment):
    """Run the command with its output in a file, and end with its exit code."""
    import torch

    from owt_leaderboard import __main__ as command

    os.environ |= environment
    torch.set_num_threads(1)
    descriptor = os.open(Path(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    sys.exit(command.main(arguments))
