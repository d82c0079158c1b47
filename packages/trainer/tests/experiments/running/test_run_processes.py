"""Runs in processes of their own: exit codes, how many at a time, and an orderly end."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from patient import PATIENT
from waiting import wait_until

from trainer.experiments.running.processes import KILLED_FOR_MEMORY, RunProcess, core_share, run_side_by_side

needs_posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def process(code, *arguments, text=""):
    return RunProcess("run-0", ["-c", code, *map(str, arguments)], os.environ, text)


def patient(directory):
    """A function that starts processes which run until SIGINT, and write what they get."""

    def start(item, slot):
        return process(PATIENT, directory / f"signals-{item}")

    return start


def signals(directory):
    return [path.read_text("ascii") for path in sorted(directory.glob("signals-*"))]


@needs_posix
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("sys.exit(1)", "exit code 1"),
        ("sys.exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", f"ended by SIGKILL{KILLED_FOR_MEMORY}"),
        ("os.kill(os.getpid(), signal.SIGHUP)", "ended by SIGHUP"),
    ],
)
def test_a_failure_has_its_reason_and_the_last_words(end, reason):
    code = f"import os, signal, sys; sys.stderr.write('x' * 600 + 'last words\\n'); sys.stderr.flush(); {end}"
    assert process(code).failure() == f"the process failed ({reason}): {'x' * 490}last words"


@needs_posix
def test_a_failure_without_words():
    assert process("import sys; sys.exit(1)").failure() == "the process failed (exit code 1)"


@needs_posix
def test_success_wrong_input_and_interruption():
    assert process("print('dropped')").failure() is None
    with pytest.raises(ValueError, match=r"^run-0: no such text$"):
        process("import sys; print('no such text', file=sys.stderr); sys.exit(2)").failure()
    with pytest.raises(KeyboardInterrupt):
        process("import sys; sys.exit(130)").failure()


@needs_posix
def test_a_process_gets_text_and_environment():
    code = "import os, sys; sys.exit(sys.stdin.read() + os.environ['PLACE'])"
    child = RunProcess("run-0", ["-c", code], {**os.environ, "PLACE": " in Rome"}, "When")
    assert child.wait() == 1
    assert child.failure() == "the process failed (exit code 1): When in Rome"
    assert child.has_ended
    assert child.seconds > 0


@needs_posix
def test_two_at_a_time_in_two_slots(tmp_path):
    """Each process waits for its partner, so that it ends only if two run together; slots are given back."""
    code = """
import pathlib, sys, time
mine, partner = map(pathlib.Path, sys.argv[1:])
mine.touch()
while not partner.exists():
    time.sleep(0.01)
"""
    started, over = [], []

    def start(item, slot):
        started.append((item, slot))
        return process(code, tmp_path / str(item), tmp_path / str(item ^ 1))

    run_side_by_side(range(6), 2, start, lambda item, child: over.append((item, child.failure())))
    assert [item for item, _ in started] == list(range(6))
    assert {slot for _, slot in started} == {0, 1}
    assert sorted(over) == [(item, None) for item in range(6)]


@needs_posix
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"])
def test_a_signal_reaches_every_process_once(number, tmp_path):
    number = signal.Signals[number]
    before = signal.getsignal(number)

    def send():
        wait_until(lambda: signals(tmp_path) == ["ready\n"] * 2)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(range(3), 2, patient(tmp_path), lambda *_: None)
    sender.join()
    assert signals(tmp_path) == ["ready\nINT\n"] * 2, "and the third has not begun"
    assert signal.getsignal(number) is before


@needs_posix
def test_wrong_input_of_one_interrupts_the_others(tmp_path):
    wrong = """
import pathlib, sys, time
partner = pathlib.Path(sys.argv[1])
while not (partner.exists() and partner.read_text()):
    time.sleep(0.01)
sys.exit(2)
"""

    def start(item, slot):
        if item == 1:
            return process(wrong, tmp_path / "signals-0")
        return patient(tmp_path)(item, slot)

    with pytest.raises(ValueError, match="run-0"):
        run_side_by_side(range(3), 2, start, lambda item, child: child.failure())
    assert signals(tmp_path) == ["ready\nINT\n"]


FOLLOWING = """
import pathlib, signal, sys, time
from trainer.experiments.running.processes import follow_parent
follow_parent()
blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
pathlib.Path(sys.argv[1]).write_text(f"{blocked}\\n")
while True:
    time.sleep(0.02)
"""


@needs_posix
def test_a_process_ends_with_a_parent_that_was_killed(tmp_path):
    """It inherits one end of a pipe, which has no writer any more when it has ended."""
    code = f"""
import functools, os, signal, subprocess, sys
from trainer.experiments.running.processes import RunProcess
subprocess.Popen = functools.partial(subprocess.Popen, pass_fds=[int(sys.argv[2])])
run = RunProcess("run-0", ["-c", {FOLLOWING!r}, sys.argv[1]], os.environ)
signal.pause()
"""
    reader, writer = os.pipe()
    command = [sys.executable, "-c", code, str(tmp_path / "ready"), str(writer)]
    with subprocess.Popen(command, pass_fds=[writer]) as parent:
        os.close(writer)
        wait_until((tmp_path / "ready").exists)
        parent.kill()
    assert os.read(reader, 1) == b""  # waits for the end of the process
    os.close(reader)


@needs_posix
def test_a_parent_that_blocks_sigint_can_interrupt(tmp_path):
    """Ray's processes block it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child = process(FOLLOWING, tmp_path / "ready")
        wait_until(lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").read_text("ascii"))
        child.interrupt()
        with pytest.raises(KeyboardInterrupt):
            child.failure()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (tmp_path / "ready").read_text("ascii") == "False\n"


def test_shares_of_the_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [core_share(jobs) for jobs in (1, 3, 9)] == [8, 2, 1]
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert core_share(1) == 1


class WindowsProcess:
    """A process of Windows, which knows no SIGINT; the run ends as Ctrl-Break leaves it, or by itself with 130."""

    def __init__(self, arguments, **options):
        self.options, self.signals, self.code = options, [], None

    def communicate(self, text):
        return "", ""

    def send_signal(self, number):
        if number != CTRL_BREAK:
            raise ValueError(f"Unsupported signal: {number}")
        self.signals.append(number)

    def poll(self):
        return self.code

    wait = poll


CTRL_BREAK = 1


@pytest.mark.parametrize("code", [130, 0xC000013A])
def test_windows_gets_ctrl_break_in_a_group_of_its_own(monkeypatch, code):
    monkeypatch.setattr(signal, "CTRL_BREAK_EVENT", CTRL_BREAK, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(subprocess, "Popen", WindowsProcess)
    child = process("")
    child.interrupt()
    inner = child._process
    assert (inner.options["creationflags"], inner.signals) == (512, [CTRL_BREAK])
    inner.code = code
    with pytest.raises(KeyboardInterrupt):
        child.failure()
