"""A sweep in a process of its own that stops in the middle of its first run, prints a line, and waits for one.

    python sweep_child.py CALL ARGUMENTS

The process stops at that call of the model's loss, evaluations included.
"""

import sys

from nnscratch import TransformerLM
from tinystories.run import main

stop, calls, loss = int(sys.argv.pop(1)), 0, TransformerLM.loss


def stopping_loss(*arguments, **named):
    global calls
    calls += 1
    if calls == stop:
        print("\nstopped", flush=True)
        sys.stdin.readline()
    return loss(*arguments, **named)


TransformerLM.loss = stopping_loss
raise SystemExit(main(sys.argv[1:]))
