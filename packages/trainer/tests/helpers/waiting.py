"""Waiting for other threads and processes."""

import time

DEADLINE_SECONDS = 300


def wait_until(condition):
    """Return as soon as a condition holds; a busy machine may need long."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
