import errno
import json
import os
import shutil
import stat
import subprocess
import threading

import pytest
from bigram_run import CONFIG, make_trainer

from trainer import RunLockedError, Summary, read_config, read_metrics, write_atomically
from trainer.records.environment import describe_git
from trainer.records.plots import draw_losses
from trainer.records.run_directory import RunDirectory


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


def test_matplotlib_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backends.backend_agg", None)
    with pytest.warns(
        RuntimeWarning, match=r"matplotlib is not installed, so loss.png is not drawn; pip install"
    ) as caught:
        summary = make_trainer(tmp_path / "run").fit()
    assert len(caught) == 1
    assert summary.status == "completed"
    assert not (tmp_path / "run" / "loss.png").exists()


def test_picture_that_fails_is_a_warning(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("no space")

    monkeypatch.setattr("trainer.records.reporter.draw_losses", fail)
    with pytest.warns(RuntimeWarning, match=r"loss.png could not be drawn: OSError: no space"):
        assert make_trainer(tmp_path / "run").fit().status == "completed"


def test_picture_of_losses_that_are_not_finite(tmp_path):
    records = [
        {"event": event, "step": step, "seconds_total": step / 2, "loss": loss}
        for event, step, loss in [("eval", 0, 4.0), ("train", 1, 3.0), ("train", 2, None), ("eval", 2, None)]
    ]
    assert draw_losses(records, tmp_path / "some.png", "a run")
    assert draw_losses([], tmp_path / "none.png", "nothing")
    assert (tmp_path / "some.png").stat().st_size > (tmp_path / "none.png").stat().st_size > 1000


def test_directory_in_use_is_refused(tmp_path):
    pytest.importorskip("fcntl")
    first = RunDirectory(tmp_path / "run")
    first.acquire()
    with pytest.raises(
        RunLockedError, match=r"run directory .*run is in use by another process: wait for it or choose"
    ):
        make_trainer(tmp_path / "run").fit()
    assert isinstance(RunLockedError("x"), OSError)
    first.release()
    assert make_trainer(tmp_path / "run").fit().status == "completed"


def test_a_file_system_without_locks_is_not_called_in_use(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(
        OSError, match=r"cannot lock files \(No locks available\), so two .*; choose a directory on"
    ) as e:
        make_trainer(tmp_path / "run").fit()
    assert not isinstance(e.value, RunLockedError)
    assert e.value.errno == errno.ENOLCK
    assert str(tmp_path / "run") in str(e.value)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_flushed_is_no_failure(tmp_path, monkeypatch, number):
    """But one whose flushing fails is."""

    def fail(descriptor, fsync=os.fsync):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            write_atomically(tmp_path / "x", b"new")
    else:
        write_atomically(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


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
    with pytest.raises(ValueError, match=r"config.json is not JSON"):
        read_config(tmp_path)


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


def test_atomic_writing(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomically(path, b"old")
    write_atomically(str(path), b"new")
    assert path.read_bytes() == b"new"

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"newest")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_threads_may_write_the_same_file(tmp_path):
    path, failures = tmp_path / "x", []

    def write(content):
        try:
            for _ in range(50):
                write_atomically(path, content)
        except OSError as error:
            failures.append(error)

    contents = [bytes([65 + number]) * 1000 for number in range(4)]
    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def git(directory, *arguments):
    settings = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *settings, *arguments], cwd=directory, check=True, capture_output=True)


def test_git_state(tmp_path, monkeypatch):
    pytest.importorskip("shutil").which("git") or pytest.skip("git is not installed")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert describe_git() is None
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("a = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    clean = describe_git()
    assert len(clean["commit"]) == 40
    assert (clean["dirty"], clean["diff"]) == (False, "")
    (tmp_path / "code.py").write_text("a = 2\n")
    dirty = describe_git()
    assert dirty["dirty"]
    assert "+a = 2" in dirty["diff"]
    monkeypatch.setenv("PATH", "")
    assert describe_git() is None


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
