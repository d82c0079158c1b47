"""The end of a process that trained."""

import os
import subprocess
import sys

SCRIPT = """
from trainer.support.leaving import leave

import atexit
import threading
import time


class Last:
    def __del__(self):
        print("taken apart")


def later():
    time.sleep(0.2)
    print("thread")


last = Last()
atexit.register(print, "exit function")
threading.Thread(target=later).start()
"""


def run(end, before=SCRIPT):
    # Without this variable a pipe's output is held back until the end.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", before + end], capture_output=True, text=True, check=False, env=environment
    )


def test_threads_and_exit_functions_come_before_the_end_and_nothing_after():
    done = run("leave(3)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "thread\nexit function\n", "")


def test_a_process_that_ends_otherwise_is_left_alone():
    done = run("raise RuntimeError('a mistake')")
    assert (done.returncode, done.stdout) == (1, "thread\nexit function\ntaken apart\n")
    assert done.stderr.endswith("RuntimeError: a mistake\n")


def test_nobody_who_reads_the_output():
    """The exit code stays, and nothing is told of it."""
    before = "from trainer.support.leaving import leave\nimport os\nread, write = os.pipe()\nos.close(read)\n"
    done = run("os.dup2(write, 1)\nprint('held back')\nleave(0)", before)
    assert (done.returncode, done.stderr) == (0, "")
