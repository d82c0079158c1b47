"""Ctrl-C in a nox session: the command gets the time to finish its step and save."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SLOW_STEP = f"""#!{sys.executable}
import signal
import sys
import time
from pathlib import Path


def finish_the_step(number, frame):
    time.sleep(1.5)  # longer than the 0.3 s after which nox sends SIGTERM by default
    Path("saved").touch()
    sys.exit(130)


def stop_at_once(number, frame):
    sys.exit(143)


signal.signal(signal.SIGINT, finish_the_step)
signal.signal(signal.SIGTERM, stop_at_once)
print("training", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C reaches a process group only on POSIX systems")
def test_after_control_c_a_session_waits_until_the_step_is_saved(tmp_path):
    """A real nox runs the real session `ablations`, with a program of this test in the place of Python."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(SLOW_STEP)
    python.chmod(0o755)
    for name in ("noxfile.py", "packages", "apps"):
        (tmp_path / "work" / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "nox", "--no-venv", "--no-install", "--noxfile", "noxfile.py", "-s", "ablations"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path / "work",
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Whoever runs these tests in the background makes every process ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    printed = []
    while not printed or printed[-1] != "training\n":
        printed.append(process.stdout.readline())
        assert printed[-1], f"nox ended before the session began: {''.join(printed)}"
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate()
    assert (tmp_path / "work" / "saved").exists(), "".join(printed) + rest
    assert process.returncode != 0
