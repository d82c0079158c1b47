"""A command in a forked process, which needs no start of an interpreter, stopped in the middle of its first run."""

import os
import traceback

from nnscratch import TransformerLM
from tinystories.run import main


class StoppedCommand:
    """A process that runs a command, stops at a call of the model's loss, evaluations included, and waits there.

    Args:
        arguments: Arguments of the command.
        call: Number of the call, from 1.
        errors: File that receives the standard error.
    """

    def __init__(self, arguments, call, errors):
        self._errors = errors
        stopped, self._stop = os.pipe()
        self._wait, go_on = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(stopped)
            os.close(go_on)
            self._run(arguments, call)
        os.close(self._stop)
        os.close(self._wait)
        self._go_on = go_on
        has_stopped = os.read(stopped, 1)  # empty if the process has ended instead
        os.close(stopped)
        assert has_stopped, errors.read_text("utf-8")

    def end(self):
        """Let the process go on, wait for its end, and return the exit code and the standard error."""
        os.close(self._go_on)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code, self._errors.read_text("utf-8")

    def _run(self, arguments, call):
        calls, loss, code = 0, TransformerLM.loss, 1

        def stopping_loss(*arguments, **named):
            nonlocal calls
            calls += 1
            if calls == call:
                os.write(self._stop, b"!")
                os.read(self._wait, 1)
            return loss(*arguments, **named)

        try:
            os.dup2(os.open(self._errors, os.O_WRONLY | os.O_CREAT), 2)
            TransformerLM.loss = stopping_loss
            code = main(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
