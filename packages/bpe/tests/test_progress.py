"""Progress reports: silent unless enabled, complete lines outside a terminal, and never an error."""

import io
import sys

import pytest

from bpe.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def report(monkeypatch, stream, *, enabled=True):
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("counting", 2_000_000, enabled=enabled) as progress:
        progress.update(500_000)
        progress.update(1_000_000)


def test_a_terminal_gets_one_line_that_is_redrawn(monkeypatch):
    stream = Terminal()
    report(monkeypatch, stream)
    assert stream.getvalue().count("\n") == 1
    last = stream.getvalue().rstrip("\n").split("\r")[-1]
    assert last.startswith("counting:  50%|")
    assert "1.00M/2.00M" in last


def test_a_log_gets_complete_lines(monkeypatch):
    stream = io.StringIO()
    report(monkeypatch, stream)
    lines = stream.getvalue().splitlines()
    assert lines[-1].startswith("counting:  50%|")
    assert all(line.startswith("counting: ") for line in lines)
    assert "\r" not in stream.getvalue()


def test_switched_off_it_is_silent(monkeypatch):
    stream = Terminal()
    report(monkeypatch, stream, enabled=False)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_stream_closed_meanwhile_stops_the_report_and_not_the_work(monkeypatch, kind):
    stream = kind()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress("reading", 5, enabled=True) as progress:
        stream.close()
        progress.update(3)
        progress.update(4)


def test_without_standard_error_there_is_no_report(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with Progress("reading", 5, enabled=True) as progress:
        progress.update(5)


def test_a_stream_that_can_only_write_gets_lines(monkeypatch):
    class Writer:
        def __init__(self):
            self.written = ""

        def write(self, text):
            self.written += text

    report(monkeypatch, stream := Writer())
    assert stream.written.splitlines()[-1].startswith("counting:  50%|")


def test_a_stream_closed_before_gets_no_report(monkeypatch):
    stream = io.StringIO()
    stream.close()
    report(monkeypatch, stream)
