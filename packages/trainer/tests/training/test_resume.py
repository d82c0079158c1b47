"""Interrupted and killed runs end bit for bit like a run that was left alone."""

import json
import os
import shlex
import signal
import sys
import threading
from pathlib import Path

import pytest
from bigram_run import Crash, assert_equal_runs, crash, failing_loss, make_model, make_trainer, schedule
from children import needs_fork
from forked import ForkedProcess

from trainer import Summary, TrainingInterrupted
from trainer.checkpoints import directory
from trainer.interruption import SignalGuard

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of an uninterrupted run."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
        make_trainer(run).fit()
    return run


@pytest.mark.parametrize("at", [2, 12, 13, 40, 120])
def test_crash(tmp_path, whole, timeless, at):
    with pytest.raises(Crash):
        make_trainer(tmp_path / "run", loss=failing_loss(at, crash)).fit()
    fresh = at <= 12  # before the first checkpoint the new process must bring the same weights
    model = make_model(0 if fresh else 9)
    make_trainer(tmp_path / "run", model=model).fit()
    assert_equal_runs(whole, tmp_path / "run", timeless)


@pytest.mark.parametrize(
    ("number", "at"), [(signal.SIGINT, 1), (signal.SIGTERM, 14), (signal.SIGINT, 39), (signal.SIGTERM, 117)]
)
def test_signal(tmp_path, whole, timeless, monkeypatch, number, at):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "my study", "--seed", "1"])
    run, handlers = tmp_path / "run", [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with pytest.raises(TrainingInterrupted) as caught:
        make_trainer(run, loss=failing_loss(at, lambda: signal.raise_signal(number))).fit()
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
    step = (at + 1) // 2
    assert (caught.value.run_dir, caught.value.step) == (run, step)
    assert str(caught.value) == (
        f"interrupted by {number.name}: saved at step {step:,} in {run}; to resume: python -m 'my study' --seed 1"
    )
    assert (run / "checkpoints" / f"step_{step:07}").is_dir()
    assert not (run / "summary.json").exists()
    make_trainer(run, model=make_model(9)).fit()
    assert_equal_runs(whole, run, timeless)


def test_the_same_trainer_can_go_on(tmp_path, whole, timeless):
    trainer = make_trainer(tmp_path / "run", loss=failing_loss(33, lambda: signal.raise_signal(signal.SIGINT)))
    with pytest.raises(TrainingInterrupted):
        trainer.fit()
    trainer.fit()
    assert_equal_runs(whole, tmp_path / "run", timeless)


def test_signal_in_the_last_step_lets_the_run_finish(tmp_path, whole, timeless):
    loss = failing_loss(119, lambda: signal.raise_signal(signal.SIGINT))
    assert make_trainer(tmp_path / "run", loss=loss).fit().status == "completed"
    assert_equal_runs(whole, tmp_path / "run", timeless)


def test_second_signal_has_its_usual_effect():
    before = signal.getsignal(signal.SIGINT)
    with SignalGuard() as guard:
        signal.raise_signal(signal.SIGINT)
        assert guard.received == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_another_thread(tmp_path, whole, timeless):
    thread = threading.Thread(target=lambda: make_trainer(tmp_path / "run").fit())
    thread.start()
    thread.join()
    assert_equal_runs(whole, tmp_path / "run", timeless)


@pytest.mark.parametrize("file", ["model.safetensors", "state.pt", "meta.json"])
def test_damaged_last_checkpoint(tmp_path, whole, timeless, file):
    run = tmp_path / "run"
    with pytest.raises(Crash):
        make_trainer(run, loss=failing_loss(100, crash)).fit()
    path = run / "checkpoints" / "step_0000048" / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(RuntimeWarning, match=r"step_0000048 is damaged .*; the one before it is used"):
        make_trainer(run, model=make_model(9)).fit()
    assert_equal_runs(whole, run, timeless)


def test_environments_of_resumes_are_listed(tmp_path):
    with pytest.raises(Crash):
        make_trainer(tmp_path / "run", loss=failing_loss(100, crash)).fit()
    make_trainer(tmp_path / "run").fit()
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert [session["step"] for session in environment["resumed"]] == [48]


def run_until_killed(run, **settings):
    """Train in a forked process that kills itself."""
    child = os.fork()
    if child == 0:
        try:
            make_trainer(run, **settings).fit()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was finished too early"


def kill_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


@needs_fork
def test_kill_9_again_and_again(tmp_path, whole, timeless):
    """Each process resumes where its predecessor was killed; the first one dies before its first checkpoint."""
    run = tmp_path / "run"
    for at in (5, 20, 20, 31, 7):
        run_until_killed(run, loss=failing_loss(at, kill_oneself))
    make_trainer(run).fit()
    assert_equal_runs(whole, run, timeless)


@needs_fork
def test_kill_9_while_a_checkpoint_is_written_in_the_background(tmp_path, whole, timeless, monkeypatch):
    """The weights are written and the rest is not, while training continues."""
    run, write = tmp_path / "run", directory.write_checkpoint
    for step in (6, 12, 12):
        reached = threading.Event()

        def write_half(aside, state, step=step, reached=reached):
            write(aside, state)
            if state.step == step:
                (aside / "state.pt").unlink()
                (aside / "meta.json").unlink()
                reached.set()
                threading.Event().wait()

        def kill_when_reached(number, step=step, reached=reached):
            if number == step:  # of the next step, for they are counted from 0
                reached.wait()
                kill_oneself()
            return schedule(number)

        with monkeypatch.context() as patch:
            patch.setattr("trainer.checkpoints.store.write_checkpoint", write_half)
            run_until_killed(run, lr=kill_when_reached)
        assert [path.name for path in run.glob("checkpoints/.aside-*")] == [f".aside-step_{step:07}"]
    make_trainer(run).fit()
    assert_equal_runs(whole, run, timeless)
    assert not list(run.glob("checkpoints/.aside-*"))


@needs_fork
@pytest.mark.parametrize("call", range(1, 36, 6))
def test_kill_9_at_every_kind_of_call_of_a_save(tmp_path, whole, timeless, monkeypatch, call):
    """The process dies right before its call number `call` of fsync or rename."""
    run, remaining = tmp_path / "run", [call]

    def counted(function):
        def wrapper(*arguments):
            if remaining[0] == 0:
                kill_oneself()
            remaining[0] -= 1
            return function(*arguments)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(Path, "rename", counted(Path.rename))
        patch.setattr(Path, "replace", counted(Path.replace))
        run_until_killed(run)
    make_trainer(run).fit()
    assert_equal_runs(whole, run, timeless)
    assert not [path for path in run.rglob("*") if ".tmp-" in path.name]


@needs_fork
def test_processes_interrupted_by_ctrl_c_and_a_locked_directory(tmp_path, whole, timeless):
    """The first process is held in its first step until the second is refused and the signal has been sent."""
    pytest.importorskip("fcntl")
    run, (reader, writer) = tmp_path / "run", os.pipe()

    def hold():
        os.write(writer, b"training")
        sys.stdin.readline()

    first = ForkedProcess(lambda: make_trainer(run, loss=failing_loss(1, hold)).fit(), tmp_path / "first")
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read(8) == b"training"
    code, _, errors = ForkedProcess(lambda: make_trainer(run).fit(), tmp_path / "second").end()
    assert code == 1
    assert "is in use by another process" in errors
    os.kill(first.pid, signal.SIGINT)
    first.tell("go on")
    code, _, errors = first.end()
    assert code == 1
    assert "TrainingInterrupted: interrupted by SIGINT: saved at step 1 in " in errors
    assert f"; to resume: {shlex.quote(sys.orig_argv[0])} " in errors
    summary = make_trainer(run).fit()
    assert isinstance(summary, Summary)
    assert_equal_runs(whole, run, timeless)
