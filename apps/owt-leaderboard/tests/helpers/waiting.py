"""Waiting for what another thread or process does."""

import time

DEADLINE_SECONDS = 300


def wait_until(condition):
    """Return as soon as a condition holds; a machine with other work may take long."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
