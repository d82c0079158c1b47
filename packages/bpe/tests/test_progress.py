"""The progress report: one line on a terminal, plain lines elsewhere, and never an error."""

import io

import pytest

from bpe.cli import progress
from bpe.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when it is told to."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    moved = Clock()
    monkeypatch.setattr(progress, "time", moved)
    return moved


def test_a_terminal_gets_one_line_redrawn_at_most_ten_times_a_second(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    stream = Terminal()
    with Progress("counting", 2_000_000, stream=stream) as report:
        for step in range(1, 101):
            clock.now += 0.01
            report.update(step * 10_000)
    lines = stream.getvalue().split("\r")[1:]
    assert 9 <= len(lines) <= 11
    assert lines[-1].endswith("\n")
    assert lines[-1].strip() == "counting:  [############............]   50%  1.0 MB  1.0 MB/s  1.0 s left"
    assert stream.getvalue().count("\n") == 1


def test_a_shorter_line_covers_a_longer_one(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    stream = Terminal()
    with Progress("x", None, "merges", stream=stream) as report:
        for amount in (123_456_789, 1):
            clock.now += 1
            report.update(amount)
    first, second, _ = stream.getvalue().split("\r")[1:]
    assert len(second) == len(first)


def test_a_narrow_terminal_is_not_overrun(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    with Progress("counting", 100, stream=stream) as report:
        clock.now += 1
        report.update(50)
    assert max(len(line.rstrip("\n")) for line in stream.getvalue().split("\r")) <= 19


def test_elsewhere_there_is_a_plain_line_every_ten_seconds_and_at_the_end(clock):
    stream = io.StringIO()
    with Progress("merging", 1000, "merges", stream=stream) as report:
        for step in range(1, 26):
            clock.now += 1
            report.update(step * 40)
    assert stream.getvalue().splitlines() == [
        "merging:   40%  400 merges  40 merges/s  15 s left",
        "merging:   80%  800 merges  40 merges/s  5.0 s left",
        "merging:  100%  1,000 merges  40 merges/s  25 s",
    ]


@pytest.mark.parametrize(
    ("done", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.2e9, "2.2 GB"), (3e12, "3.0 TB")]
)
def test_bytes_have_a_prefix(clock, done, shown):
    stream = io.StringIO()
    with Progress("reading", stream=stream) as report:
        report.update(done)
    assert stream.getvalue().startswith(f"reading:  {shown}  ")


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0.4 s"), (12, "12 s"), (187, "3:07"), (3723, "1:02:03")])
def test_durations(clock, seconds, shown):
    stream = io.StringIO()
    with Progress("reading", stream=stream):
        clock.now += seconds
    assert stream.getvalue().endswith(f"  {shown}\n")


def test_switched_off_it_says_nothing(clock):
    stream = io.StringIO()
    with Progress("reading", 5, enabled=False, stream=stream) as report:
        clock.now += 100
        report.update(3)
    assert stream.getvalue() == ""


def test_a_closed_stream_ends_the_report_and_not_the_work(clock):
    stream = io.StringIO()
    with Progress("reading", 5, stream=stream) as report:
        stream.close()
        clock.now += 100
        report.update(3)
        report.update(4)
    report.close()
