"""What the processes of a run note of the time that they spend."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from owt_leaderboard.clock import Sessions, read_sessions


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


def test_a_killed_process_has_noted_its_time(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from owt_leaderboard.clock import Sessions, process_age;"
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
