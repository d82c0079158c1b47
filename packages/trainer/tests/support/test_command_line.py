"""Reports of failures on the command line, and exit codes."""

import errno
import io
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from trainer import TrainingInterrupted
from trainer.support.command_line import run_command


def _raiser(error: BaseException):
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_is_that_of_the_command(code: int, capsys: pytest.CaptureFixture[str]):
    assert run_command(lambda: code) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ValueError("12 is too many"), 2, "error: 12 is too many\n"),
        (FileNotFoundError("no such file"), 2, "error: no such file\n"),
        (ModuleNotFoundError("install it"), 2, "error: install it\n"),
        (KeyboardInterrupt(), 130, "interrupted: run the same command again to resume\n"),
    ],
)
def test_failures_are_told_in_one_line(error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]):
    assert run_command(_raiser(error)) == code
    assert capsys.readouterr() == ("", told)


def test_an_interrupted_training_tells_how_to_go_on(capsys: pytest.CaptureFixture[str]):
    assert run_command(_raiser(TrainingInterrupted(Path("runs/a"), 1234, "SIGTERM"))) == 130
    assert "saved at step 1,234 in runs/a; to resume:" in capsys.readouterr().err


def test_other_exceptions_pass_through():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_warnings_are_notices_each_time(capsys: pytest.CaptureFixture[str]):
    def action() -> int:
        for _ in range(2):
            warnings.warn("the text is short", stacklevel=1)
        return 0

    assert run_command(action) == 0
    assert capsys.readouterr().err == "notice: the text is short\n" * 2


def test_a_reader_that_has_seen_enough_is_no_failure():
    script = (
        "import sys; from trainer.support.command_line import run_command\n"
        "def action():\n"
        "    for _ in range(100_000): print('line')\n"
        "    return 0\n"
        "sys.exit(run_command(action))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_pipe_that_windows_calls_invalid_is_a_reader_that_has_seen_enough(monkeypatch, tmp_path):
    monkeypatch.setattr("trainer.support.command_line.IS_WINDOWS", True)
    with (tmp_path / "output").open("w", encoding="utf-8") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert run_command(_raiser(OSError(errno.EINVAL, "Invalid argument"))) == 141
        assert run_command(_raiser(OSError(errno.EINVAL, "Invalid argument", "a:b"))) == 2


def test_characters_that_the_output_cannot_encode_are_escaped(monkeypatch):
    """Files and pipes of Windows have 256 characters."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252", newline="\n"))
    assert run_command(lambda: print("é → a", flush=True) or 0) == 0
    assert written.getvalue() == b"\xe9 \\u2192 a\n"


def test_it_imports_nothing_heavy():
    script = "import sys, trainer.support.command_line; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
