"""What the processes of a run note of the time that they spend."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from owt_leaderboard.budget.clock import Sessions, read_sessions


def begun(directory, age):
    sessions = Sessions(directory, lambda: age[0])
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
    """The one that beats and the one that ends write the same file."""
    sessions, failures = begun(tmp_path, [1.0]), []

    def note():
        try:
            for _ in range(100):
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
    assert refused.wait(10)
    age[0] = 2.0
    is_full.clear()
    for _ in range(100):
        if read_sessions(tmp_path)[0]["seconds"] == 2.0:
            break
        time.sleep(0.1)
    assert read_sessions(tmp_path)[0]["seconds"] == 2.0
    age[0] = 3.0
    is_full.set()
    with pytest.warns(RuntimeWarning, match="the end of the session is not noted: .*No space left"):
        sessions.end()
    assert read_sessions(tmp_path)[0]["seconds"] == 2.0
    is_full.clear()
    begun(tmp_path, age).end()  # its lock is released


def test_a_process_knows_its_age():
    code = "import time; time.sleep(0.5); from owt_leaderboard.budget.clock import process_age; print(process_age())"
    began = time.monotonic()
    age = float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert 0.5 < age < time.monotonic() - began + 0.02  # the system counts in hundredths


def test_a_killed_process_has_noted_its_time(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from owt_leaderboard.budget.clock import Sessions, process_age;"
        "sessions = Sessions(Path(sys.argv[1]), process_age); sessions.acquire(); sessions.begin();"
        "print('begun', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, env=os.environ)
    assert process.stdout.readline() == b"begun\n"
    with pytest.raises(OSError, match="in use by another process"):
        begun(tmp_path, [0.0])
    before = read_sessions(tmp_path)[0]["seconds"]
    time.sleep(1.5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert before + 0.5 < read_sessions(tmp_path)[0]["seconds"] < before + 10
    again = begun(tmp_path, [0.0])
    assert again.seconds_of_earlier > before
    again.forget()
    assert read_sessions(tmp_path) == []
