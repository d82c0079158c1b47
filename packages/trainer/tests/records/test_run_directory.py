"""The lock and the files of a run directory."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
from bigram_run import CONFIG, make_trainer

from trainer import RunLockedError, Summary, read_config, read_metrics
from trainer.records.run_directory import RunDirectory

without_pictures = pytest.mark.usefixtures("no_pictures")


def test_run_leaves_every_file(tmp_path):
    run = tmp_path / "run"
    recorded = {"recipe": {"d_model": 16, "betas": (0.9, 0.95)}}
    summary = make_trainer(run, sample=lambda model, step: [f"{step}: é", "b"], recorded=recorded).fit()
    assert {path.name for path in run.iterdir()} - {".lock"} == {
        "config.json", "environment.json", "metrics.jsonl", "metrics.csv", "samples.jsonl", "loss.png",
        "checkpoints", "summary.json",
    }  # fmt: skip
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[-2:] == ["step_0000054", "step_0000060"]
    config = read_config(run)
    assert config["recorded"] == {"recipe": {"d_model": 16, "betas": [0.9, 0.95]}}
    assert config["train"]["batch_size"] == 4
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == CONFIG["seed"]
    assert {"git", "python", "torch", "numpy", "platform", "device", "device_name", "threads"} <= environment.keys()
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text("utf-8").splitlines()]
    assert [(sample["step"], sample["text"]) for sample in samples[:2]] == [(0, "0: é"), (0, "b")]
    assert samples[-1] == {"step": 60, "index": 1, "text": "b"}
    assert Summary.from_json(json.loads((run / "summary.json").read_text())) == summary


@without_pictures
def test_directory_in_use_is_refused(tmp_path):
    first = RunDirectory(tmp_path / "run")
    first.acquire()
    with pytest.raises(
        RunLockedError, match=r"run directory .*run is in use by another process: wait for it or choose"
    ):
        make_trainer(tmp_path / "run").fit()
    assert isinstance(RunLockedError("x"), OSError)
    first.release()
    assert make_trainer(tmp_path / "run", steps=2).fit().status == "completed"


@without_pictures
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_marker_replaces_locks_where_the_file_system_has_none(tmp_path, monkeypatch, number):
    """R40: Lustre without the option flock, and some network file systems."""
    fcntl = pytest.importorskip("fcntl")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    run, other = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    with pytest.warns(RuntimeWarning, match=r"run cannot lock files \(.*\), so .lock-marker in it keeps other"):
        run.acquire()
    with pytest.raises(RunLockedError, match=r"in use by another process: .*; if none uses it, delete .*lock-marker"):
        other.acquire()
    run.release()
    with pytest.warns(RuntimeWarning, match="cannot lock files"):
        assert make_trainer(tmp_path / "run", steps=6).fit().status == "completed"
    assert not (tmp_path / "run" / ".lock-marker").exists()


@without_pictures
def test_a_table_that_a_spreadsheet_shows_stops_no_run(tmp_path, monkeypatch):
    """Windows does not replace a file that is open."""

    def fail(records):
        raise PermissionError(errno.EACCES, "Access is denied", str(records.path / "metrics.csv"))

    monkeypatch.setattr(RunDirectory, "write_csv", fail)
    with pytest.warns(
        RuntimeWarning, match=r"metrics.csv of .*run cannot be written \(Access is denied\): close it if"
    ):
        assert make_trainer(tmp_path / "run", steps=2).fit().status == "completed"
    assert len(read_metrics(tmp_path / "run")) == 3


def test_files_that_killed_processes_wrote_aside_are_removed(tmp_path):
    run = tmp_path / "run"
    first = RunDirectory(run)
    first.acquire()
    left, others = [run / ".metrics.csv.tmp-12-34", run / ".loss.png.tmp-7"], [run / "notes.tmp-1", run / ".mine"]
    for path in [*left, *others]:
        path.write_text("")
    with pytest.raises(RunLockedError):  # they may be of whoever has the lock
        RunDirectory(run).acquire()
    assert all(path.exists() for path in left)
    first.release()
    first.acquire()
    first.release()
    assert [path.exists() for path in [*left, *others]] == [False, False, True, True]


def test_directory_that_another_process_uses_is_refused_until_it_ends(tmp_path):
    program = (
        "import sys\nfrom trainer.records.run_directory import RunDirectory\n"
        "run = RunDirectory(sys.argv[1])\nrun.acquire()\nprint('locked', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RunLockedError):
            RunDirectory(tmp_path / "run").acquire()
        process.kill()
    RunDirectory(tmp_path / "run").acquire()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_keeps_the_error_number(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot write to the run directory") as caught:
        RunDirectory(tmp_path / "run").acquire()
    assert caught.value.errno == errno.EACCES


def test_a_directory_that_is_a_file_keeps_the_error_number(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError, match="cannot write to the run directory") as caught:
        RunDirectory(tmp_path / "run").acquire()
    assert caught.value.errno == errno.EEXIST


def test_directory_is_free_after_a_failure(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            make_trainer(tmp_path / "run", loss=lambda *_: 1 / 0).fit()


class Stubborn:
    """A logger whose end is no ordinary one."""

    def log(self, record):
        pass

    def close(self):
        raise KeyboardInterrupt


@without_pictures
def test_directory_is_free_after_a_logger_that_is_interrupted_while_it_closes(tmp_path):
    trainer = make_trainer(tmp_path / "run", steps=6, loggers=[Stubborn()])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()  # the trainer is there still, and would keep the lock
    other = RunDirectory(tmp_path / "run")
    other.acquire()
    other.release()


def test_reading_what_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no run directory: expected a config.json"):
        read_config(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no metrics.jsonl"):
        read_metrics(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged: expected a JSON object; restore it"):
        read_config(tmp_path)


@without_pictures
def test_checkpoints_without_a_configuration_are_not_trusted(tmp_path):
    make_trainer(tmp_path / "run", steps=6).fit()
    (tmp_path / "run" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected a config.json"):
        make_trainer(tmp_path / "run", steps=6).fit()


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n{"step"')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
    lines = RunDirectory(tmp_path).open_lines("metrics.jsonl", last_step=1)
    lines.log({"step": 5})
    lines.close()
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 5}]


@without_pictures
def test_how_a_run_is_saved_may_change_when_it_goes_on(tmp_path):
    run = tmp_path / "run"
    make_trainer(run, keep_checkpoints=5).fit()
    assert len(list((run / "checkpoints").iterdir())) >= 5
    (run / "summary.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_0000060")  # as if it had been killed before
    changed = {"keep_checkpoints": 1, "checkpoint_interval": 30, "checkpoint_seconds": 9.0, "save_in_background": False}
    make_trainer(run, **changed).fit()
    assert read_config(run)["train"]["keep_checkpoints"] == 1
    assert len(list((run / "checkpoints").iterdir())) <= 2
