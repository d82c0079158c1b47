"""The command in processes forked from one that has imported everything, with a simulated clock."""

import multiprocessing
import os
import sys
from pathlib import Path

PRELOADED = [
    "torch._dynamo",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "bpe.tokenizer",
    "nnscratch.transformer",
    "nnscratch.generation.decoding",
    "trainer.trainer",
    "owt_leaderboard.commands.train",
]


class ForkedRun:
    """One process of the command.

    Args:
        arguments: of the command.
        output: the file for what it prints.
        environment: variables that it has besides those of this process.
    """

    def __init__(self, arguments, output, environment):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.output = output
        words = [str(argument) for argument in arguments]
        self.process = context.Process(target=_run_command, args=(words, str(output), environment))
        self.process.start()

    def end(self):
        """Wait; return the exit code and what was printed."""
        self.process.join()
        return self.process.exitcode, self.output.read_text("utf-8")


def _run_command(arguments, output, environment):
    """Run the command with its output in a file, and end with its exit code."""
    import torch
    from simulated_clock import simulated_clock

    from owt_leaderboard.commands.train import main

    os.environ |= environment
    torch.set_num_threads(1)
    descriptor = os.open(Path(output), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    with simulated_clock(draws=False):
        code = main(arguments)
    sys.exit(code)
