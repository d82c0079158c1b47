"""Progress of a whole experiment, read from the records of its runs."""

import json
import threading

import pytest
from waiting import wait_until

from trainer.experiments.running import progress
from trainer.experiments.running.progress import ExperimentProgress


@pytest.fixture
def clock(monkeypatch):
    """The seconds that `time.monotonic` returns."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def record(directory, share, loss=2.5, end="\n"):
    directory.mkdir(exist_ok=True)
    with (directory / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"event": "train", "step": 7, "progress": share, "loss": loss}) + end)


def test_a_line_tells_the_progress_of_all_runs_and_the_time_that_they_need(tmp_path, clock):
    shown = ExperimentProgress(4, print)
    shown.begin("a", tmp_path / "a")
    assert shown.line() == "  0% after 0:00, 4 to go; now a 0%"
    record(tmp_path / "a", 0.2, 3.0)
    record(tmp_path / "a", 0.5)
    shown.begin("b", tmp_path / "b")
    clock[0] += 30
    assert shown.line() == " 12% after 0:30, 4 to go, about 3:30; now a 50% loss 2.5000, b 0%"
    shown.end("a")
    clock[0] += 30
    assert shown.runs_to_go == 3
    assert shown.remaining() == "3 to go, about 3:00"


def test_what_earlier_attempts_made_takes_no_time(tmp_path, clock):
    record(tmp_path / "a", 0.8)
    shown = ExperimentProgress(2, print)
    shown.begin("a", tmp_path / "a")
    assert shown.remaining() == "2 to go"
    record(tmp_path / "a", 0.9)
    clock[0] += 10
    assert shown.remaining() == "2 to go, about 1:50"
    shown.end("a")
    clock[0] += 10
    assert shown.remaining() == "1 to go, about 1:40"


def test_records_that_are_not_whole_or_no_records_are_passed_over(tmp_path):
    shown = ExperimentProgress(1, print)
    shown.begin("a", tmp_path / "a")
    record(tmp_path / "a", 0.25, None)
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('a note\n[1]\n{"event": "x"}\n')
    record(tmp_path / "a", 0.75, end="")  # still being written
    assert "now a 25%" in shown.line()
    record(tmp_path / "a", 0.5, end="\n" + "\n" * progress._END_BYTES)
    assert "now a 0%" in shown.line()


def test_a_thread_prints_when_the_experiment_has_advanced_by_a_hundredth(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.001)
    lines = []
    with ExperimentProgress(1, lines.append) as shown:
        shown.begin("a", tmp_path / "a")
        for share in (0.002, 0.004, 0.5):
            record(tmp_path / "a", share)
        wait_until(lambda: lines)
        record(tmp_path / "a", 0.509)
        record(tmp_path / "a", 0.52)
        wait_until(lambda: len(lines) > 1)
    assert lines[0].startswith(" 50%")
    assert lines[1].startswith(" 52%")


def test_a_closed_output_ends_the_thread_without_a_traceback(tmp_path, monkeypatch):
    """The filter of pytest makes an error in a thread fail the test."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.001)

    def closed(line):
        raise BrokenPipeError

    before = set(threading.enumerate())
    with ExperimentProgress(1, closed) as shown:
        (thread,) = set(threading.enumerate()) - before
        shown.begin("a", tmp_path / "a")
        record(tmp_path / "a", 0.5)
        wait_until(lambda: not thread.is_alive())
