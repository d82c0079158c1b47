"""The age of a process, and the notes of the time that processes spend."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from waiting import DEADLINE_SECONDS, wait_until

from owt_leaderboard.budget import clock, read_sessions


def begun(directory, age):
    sessions = clock.Sessions(directory, lambda: age[0])
    sessions.acquire()
    sessions.begin()
    return sessions


def test_time_spent_adds_up_and_time_down_does_not(tmp_path):
    age = [2.0]
    first = begun(tmp_path, age)
    assert first.seconds_of_earlier == 0
    age[0] = 5.0
    first.end()
    notes = json.loads((tmp_path / "sessions.json").read_text("utf-8"))["sessions"]
    notes[0]["last_seen"] = notes[0]["last_seen"].replace("20", "19", 1)  # a century ago
    (tmp_path / "sessions.json").write_text(json.dumps({"sessions": notes}))
    second = begun(tmp_path, [1.5])
    assert second.seconds_of_earlier == 5.0
    second.end()
    assert [session["seconds"] for session in read_sessions(tmp_path)] == [5.0, 1.5]
    down = read_sessions(tmp_path)[1]["seconds_down_before"]
    assert down == pytest.approx(100 * 365.25 * 86400, rel=0.001)


def test_notes_of_two_threads_do_not_meet(tmp_path):
    """The beating thread and the main thread write the same file."""
    sessions, failures = begun(tmp_path, [1.0]), []

    def note():
        try:
            for _ in range(30):
                sessions.note()
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sessions.end()
    assert not failures
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []


def test_a_full_disk_ends_neither_the_beat_nor_the_run(tmp_path, monkeypatch):
    import trainer

    age, is_full, refused = [1.0], threading.Event(), threading.Event()

    def write(path, content, original=trainer.write_atomically):
        if is_full.is_set():
            refused.set()
            raise OSError(28, "No space left on device", str(path))
        original(path, content)

    monkeypatch.setattr(trainer, "write_atomically", write)
    sessions = begun(tmp_path, age)
    is_full.set()
    assert refused.wait(DEADLINE_SECONDS)
    age[0] = 2.0
    is_full.clear()
    wait_until(lambda: read_sessions(tmp_path)[0]["seconds"] == 2.0)
    is_full.set()
    age[0] = 3.0
    with pytest.warns(RuntimeWarning, match="the end of the session is not noted: .*No space left"):
        sessions.end()
    assert read_sessions(tmp_path)[0]["seconds"] == 2.0
    is_full.clear()
    begun(tmp_path, age).end()  # its lock is released


def test_a_process_knows_its_age_from_its_start_and_not_from_the_import():
    """The process sleeps before the import; the clock of its parent, which started first, is an upper bound."""
    code = "import time; time.sleep(0.5); from owt_leaderboard.budget import process_age; print(process_age())"
    began = time.monotonic()
    age = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert 0.5 < age < time.monotonic() - began + 0.02  # the system counts in hundredths


@pytest.fixture
def readings(monkeypatch, tmp_path):
    """Function that sets the readings of the system, in seconds, and the trainer's clock to 7 s."""

    def read(started, now):
        ticks = round(started * os.sysconf("SC_CLK_TCK"))
        (tmp_path / "stat").write_text(f"1 (a (b) c) {' '.join(['0'] * 19)} {ticks} 0", "utf-8")
        monkeypatch.setattr(clock, "_STAT", tmp_path / "stat")
        monkeypatch.setattr(time, "clock_gettime", lambda which: now)
        monkeypatch.setattr(time, "perf_counter", lambda: 7.0)
        monkeypatch.setattr(clock, "_STARTS", {})

    return read


needs_boot_time = pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no such clock here")


@needs_boot_time
@pytest.mark.parametrize(
    ("started", "now", "shown"), [(500.0, 0.0, "-500"), (500.0, 4101.0, "3,601"), (0, 1e12, "1,000,000,0")]
)
def test_an_age_that_cannot_be_is_not_believed_and_told(started, now, shown, readings):
    """In a container, /proc and the clock may disagree, in either direction."""
    readings(started, now)
    assert clock.process_age() == 0.0
    assert f"stat and the system's clock give this process an age of {shown}" in clock.doubted_age()
    assert "counted from the import" in clock.doubted_age()


@needs_boot_time
def test_an_age_that_can_be_is_believed(readings):
    readings(500.0, 500.0 + 3599)
    assert clock.process_age() == pytest.approx(3599)
    assert clock.doubted_age() is None


@pytest.mark.parametrize("content", ["", "1 (a) S 2"], ids=["empty", "cut"])
def test_a_system_that_does_not_know_the_age(content, monkeypatch, tmp_path):
    (tmp_path / "stat").write_text(content, "utf-8")
    monkeypatch.setattr(clock, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(clock, "_STARTS", {})
    monkeypatch.setattr(time, "perf_counter", lambda: 7.0)
    assert (clock.process_age(), clock.doubted_age()) == (0.0, None)


def test_a_killed_process_has_noted_its_time(tmp_path):
    code = (
        "import sys, threading; from pathlib import Path; from owt_leaderboard.budget import Sessions, process_age;"
        "sessions = Sessions(Path(sys.argv[1]), process_age); sessions.acquire(); sessions.begin();"
        "print('begun', flush=True); threading.Event().wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, env=os.environ)
    assert process.stdout.readline() == b"begun\n"
    with pytest.raises(OSError, match="in use by another process"):
        begun(tmp_path, [0.0])
    first = read_sessions(tmp_path)[0]["seconds"]
    wait_until(lambda: read_sessions(tmp_path)[0]["seconds"] > first)  # a beat
    seen = read_sessions(tmp_path)[0]["seconds"]
    process.kill()
    process.communicate()
    again = begun(tmp_path, [0.0])
    assert again.seconds_of_earlier >= seen
    again.forget()
    assert read_sessions(tmp_path) == []
