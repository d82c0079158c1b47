"""Forked processes, which need no start of an interpreter and no import of torch."""

import os
import sys
import traceback
import warnings
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import torch.distributed as dist

_SEVERAL = ("torch._dynamo", "torch.distributed.fsdp", "torch.nn.parallel.distributed")


class ForkedProcess:
    """A process that calls something and ends like a script: with 0, or with a traceback and 1.

    Args:
        action: Function without arguments.
        output: Base name of the files that receive the standard output and the standard error.
        environment: Variables that the process has besides those of this one.
    """

    def __init__(self, action, output, **environment):
        self._files = [Path(f"{output}.{name}.txt") for name in ("out", "err")]
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(writer)
            _call(
                action,
                [reader, *(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for file in self._files)],
                environment,
            )
        os.close(reader)
        self._input = os.fdopen(writer, "w")

    def tell(self, line):
        """Write a line to the standard input of the process."""
        print(line, file=self._input, flush=True)

    def is_alive(self):
        """Return whether the process has not ended yet."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self):
        """Wait; return the exit code as `subprocess` has it, the standard output and the standard error."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._input.close()
        return code, *(file.read_text("utf-8") for file in self._files)


def fork_two(action, directory):
    """Call something in two processes that are connected as by torchrun; return what `ForkedProcess.end` returns."""
    for name in _SEVERAL:
        import_module(name)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}

    def connected():
        os.environ["MASTER_PORT"] = sys.stdin.readline().strip()
        action()

    processes = [
        ForkedProcess(connected, directory / f"rank{rank}", **shared, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank in (0, 1)
    ]
    # Only now, because a process with threads should not fork.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(minutes=5))
    for process in processes:
        process.tell(store.port)
    return [process.end() for process in processes]


def _call(action, descriptors, environment):
    """Do what the process is for; it never returns to the test that forked it."""
    code = 1
    try:
        for standard, descriptor in enumerate(descriptors):
            os.dup2(descriptor, standard)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))
        os.environ |= environment
        warnings.simplefilter("default")
        action()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
