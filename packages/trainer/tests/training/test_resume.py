"""Interrupted and killed runs end bit for bit like a run that was left alone."""

import importlib.util
import json
import os
import shlex
import signal
import sys
import threading
from pathlib import Path

import pytest
from bigram_run import Crash, assert_equal_runs, crash, failing_loss, loss_fn, make_model, make_short_trainer, schedule
from children import needs_fork
from forked import ForkedProcess

from trainer import Summary, TrainingInterrupted, interruption
from trainer.checkpoints import directory
from trainer.interruption import SignalGuard

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.mark.parametrize("at", [2, 6, 7, 20, 48])
def test_crash(tmp_path, whole, timeless, at):
    with pytest.raises(Crash):
        make_short_trainer(tmp_path / "run", loss=failing_loss(at, crash)).fit()
    fresh = at <= 6  # before the first checkpoint the new process must bring the same weights
    model = make_model(0 if fresh else 9)
    make_short_trainer(tmp_path / "run", model=model).fit()
    assert_equal_runs(whole, tmp_path / "run", timeless)


@pytest.mark.parametrize(
    ("number", "at"), [(signal.SIGINT, 1), (signal.SIGTERM, 14), (signal.SIGINT, 31), (signal.SIGTERM, 47)]
)
def test_signal(tmp_path, whole, timeless, monkeypatch, number, at):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "my study", "--seed", "1"])
    monkeypatch.setattr(interruption, "IS_WINDOWS", False)
    run, handlers = tmp_path / "run", [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with pytest.raises(TrainingInterrupted) as caught:
        make_short_trainer(run, loss=failing_loss(at, lambda: signal.raise_signal(number))).fit()
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
    step = (at + 1) // 2
    assert (caught.value.run_dir, caught.value.step) == (run, step)
    assert str(caught.value) == (
        f"interrupted by {number.name}: saved at step {step:,} in {run}; to resume: python -m 'my study' --seed 1"
    )
    assert (run / "checkpoints" / f"step_{step:07}").is_dir()
    assert not (run / "summary.json").exists()
    make_short_trainer(run, model=make_model(9)).fit()
    assert_equal_runs(whole, run, timeless)


def test_the_same_trainer_can_go_on(tmp_path, whole, timeless):
    trainer = make_short_trainer(tmp_path / "run", loss=failing_loss(15, lambda: signal.raise_signal(signal.SIGINT)))
    with pytest.raises(TrainingInterrupted):
        trainer.fit()
    trainer.fit()
    assert_equal_runs(whole, tmp_path / "run", timeless)


EVALUATION_BATCHES = 17  # 499 targets: 15 batches of 4 x 8, one of 2 x 8, and the last 3


def failing_evaluation(number, batch):
    """The loss, with SIGTERM in one batch of one evaluation of the run, both counted from 0."""
    batches = []

    def loss(model, inputs, targets):
        if not model.training:
            batches.append(None)
            if len(batches) == number * EVALUATION_BATCHES + batch + 1:
                signal.raise_signal(signal.SIGTERM)
        return loss_fn(model, inputs, targets)

    return loss, batches


@pytest.mark.parametrize("batch", [0, 7, 15])
@pytest.mark.parametrize(("number", "step"), [(0, 0), (1, 8), (2, 16), (3, 24)])
def test_a_signal_breaks_off_an_evaluation_and_saves(tmp_path, whole, timeless, number, step, batch):
    """R16: an evaluation of a real split takes longer than the grace of Slurm or Kubernetes. It is made again."""
    run, (loss, batches) = tmp_path / "run", failing_evaluation(number, batch)
    with pytest.raises(TrainingInterrupted, match=rf"saved at step {step} in"):
        make_short_trainer(run, loss=loss).fit()
    assert len(batches) == number * EVALUATION_BATCHES + batch + 1
    assert (run / "checkpoints" / f"step_{step:07}").is_dir()
    assert not (run / "summary.json").exists()
    make_short_trainer(run, model=make_model(9)).fit()
    assert_equal_runs(whole, run, timeless)


def test_a_signal_in_the_very_last_batch_lets_the_run_finish(tmp_path, whole, timeless):
    loss, _ = failing_evaluation(3, EVALUATION_BATCHES - 1)
    assert make_short_trainer(tmp_path / "run", loss=loss).fit().status == "completed"
    assert_equal_runs(whole, tmp_path / "run", timeless)


@pytest.mark.parametrize("at", [31, 32, 47, 48])
def test_after_a_signal_no_evaluation_begins(tmp_path, whole, timeless, at):
    """Also in the last step."""
    evaluated, run = [], tmp_path / "run"
    training = failing_loss(at, lambda: signal.raise_signal(signal.SIGINT))

    def loss(model, inputs, targets):
        evaluated.append(model.training)
        return training(model, inputs, targets)

    with pytest.raises(TrainingInterrupted):
        make_short_trainer(run, loss=loss).fit()
    assert all(evaluated[-1:])
    make_short_trainer(run, model=make_model(9)).fit()
    assert_equal_runs(whole, run, timeless)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_signals_of_terminals_and_batch_systems_save_too(tmp_path, whole, timeless, name):
    """R15: a closed terminal, and `sbatch --signal=USR1@60`."""
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip(f"this system has no {name}")
    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted, match=f"interrupted by {name}: saved at step 7 in"):
        make_short_trainer(tmp_path / "run", loss=failing_loss(14, lambda: signal.raise_signal(number))).fit()
    assert signal.getsignal(number) is before
    make_short_trainer(tmp_path / "run", model=make_model(9)).fit()
    assert_equal_runs(whole, tmp_path / "run", timeless)


def test_ctrl_break_of_windows_saves_too(monkeypatch):
    """Windows has SIGBREAK instead of SIGHUP, SIGUSR1 and SIGUSR2, which another signal imitates here."""
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
        monkeypatch.delattr(signal, name, raising=False)
    number = getattr(signal, "SIGBREAK", None) or signal.SIGXCPU
    monkeypatch.setattr(signal, "SIGBREAK", number, raising=False)
    source = importlib.util.spec_from_file_location("trainer.interruption_on_windows", interruption.__file__)
    on_windows = importlib.util.module_from_spec(source)
    source.loader.exec_module(on_windows)
    before = signal.getsignal(number)
    with on_windows.SignalGuard() as guard:
        signal.raise_signal(number)
        assert guard.received == signal.Signals(number).name
    assert signal.getsignal(number) is before


def test_the_command_that_resumes_is_one_of_the_systems_shell(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["C:\\py\\python.exe", "my study.py", "--lr", "1"])
    monkeypatch.setattr(interruption, "IS_WINDOWS", True)
    assert interruption.resume_command() == 'C:\\py\\python.exe "my study.py" --lr 1'
    monkeypatch.setattr(interruption, "IS_WINDOWS", False)
    assert interruption.resume_command() == "'C:\\py\\python.exe' 'my study.py' --lr 1"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_signals_that_are_ignored_or_have_a_handler_keep_it(monkeypatch):
    """`nohup` ignores SIGHUP, and a program may use SIGUSR1 for something else."""
    received = []
    before = [
        signal.signal(signal.SIGHUP, signal.SIG_IGN),
        signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number)),
    ]
    try:
        with SignalGuard() as guard:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGUSR1)
            assert guard.received is None
        assert received == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGUSR1, before[1])


def test_the_same_request_by_two_signals_counts_once(monkeypatch):
    """A1: nox and others send SIGTERM shortly after they have passed on Ctrl-C."""
    now = 5.0
    monkeypatch.setattr("trainer.interruption.time.monotonic", lambda: now)
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    received = []
    try:
        with SignalGuard() as guard:
            signal.raise_signal(signal.SIGINT)
            now = 5.9
            signal.raise_signal(signal.SIGTERM)
            assert (guard.received, received) == ("SIGINT", [])
            now = 6.1
            signal.raise_signal(signal.SIGTERM)
            assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_second_signal_has_its_usual_effect():
    before = signal.getsignal(signal.SIGINT)
    with SignalGuard() as guard:
        signal.raise_signal(signal.SIGINT)
        assert guard.received == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_another_thread(tmp_path, whole, timeless):
    thread = threading.Thread(target=lambda: make_short_trainer(tmp_path / "run").fit())
    thread.start()
    thread.join()
    assert_equal_runs(whole, tmp_path / "run", timeless)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "state.pt", "meta.json"])
def test_damaged_last_checkpoint(tmp_path, whole, timeless, file):
    run = tmp_path / "run"
    with pytest.raises(Crash):
        make_short_trainer(run, loss=failing_loss(40, crash)).fit()
    path = run / "checkpoints" / "step_0000018" / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(RuntimeWarning, match=r"step_0000018 is damaged .*; the one before it is used"):
        make_short_trainer(run, model=make_model(9)).fit()
    assert_equal_runs(whole, run, timeless)


def test_environments_of_resumes_are_listed(tmp_path):
    with pytest.raises(Crash):
        make_short_trainer(tmp_path / "run", loss=failing_loss(40, crash)).fit()
    make_short_trainer(tmp_path / "run").fit()
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert [session["step"] for session in environment["resumed"]] == [18]


def run_until_killed(run, **settings):
    """Train in a forked process that kills itself."""
    child = os.fork()
    if child == 0:
        try:
            make_short_trainer(run, **settings).fit()
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
    for at in (5, 12, 13, 9, 7):
        run_until_killed(run, loss=failing_loss(at, kill_oneself))
    make_short_trainer(run).fit()
    assert_equal_runs(whole, run, timeless)


@needs_fork
def test_kill_9_while_a_checkpoint_is_written_in_the_background(tmp_path, whole, timeless, monkeypatch):
    """The weights are written and the rest is not, while training continues."""
    run, write = tmp_path / "run", directory.write_tensors
    for step in (6, 12, 12):
        reached = threading.Event()

        def write_half(aside, state, step=step, reached=reached):
            written = write(aside, state)
            if state.step == step:
                reached.set()
                threading.Event().wait()
            return written

        def kill_when_reached(number, step=step, reached=reached):
            if number == step:  # of the next step, for they are counted from 0
                reached.wait()
                kill_oneself()
            return schedule(number)

        with monkeypatch.context() as patch:
            patch.setattr("trainer.checkpoints.store.write_tensors", write_half)
            run_until_killed(run, lr=kill_when_reached)
        assert [path.name for path in run.glob("checkpoints/.aside-*")] == [f".aside-step_{step:07}"]
    make_short_trainer(run).fit()
    assert_equal_runs(whole, run, timeless)
    assert not list(run.glob("checkpoints/.aside-*"))


@needs_fork
@pytest.mark.parametrize("in_evaluation", [True, False])
def test_kill_9_between_the_parts_of_the_last_checkpoint(tmp_path, whole, timeless, monkeypatch, in_evaluation):
    """Weights and optimizer are written; the loss of the last evaluation is not, or not known yet."""
    run, written, passes = tmp_path / "run", threading.Event(), []
    write = directory.write_tensors

    def note_written(aside, state):
        files = write(aside, state)
        if state.step == 24:
            written.set()
        return files

    def kill_in_evaluation(model, inputs, targets):
        passes.append(model.training)
        if in_evaluation and not model.training and sum(passes) == 48:
            assert written.wait(60.0)
            kill_oneself()
        return loss_fn(model, inputs, targets)

    def kill_before_the_rest(aside, state, files):
        if state.step == 24:
            kill_oneself()
        return directory.write_rest(aside, state, files)

    with monkeypatch.context() as patch:
        patch.setattr("trainer.checkpoints.store.write_tensors", note_written)
        patch.setattr("trainer.checkpoints.store.write_rest", kill_before_the_rest)
        run_until_killed(run, loss=kill_in_evaluation)
    (aside,) = run.glob("checkpoints/.aside-*")
    assert {path.name for path in aside.iterdir()} == {"model.safetensors", "optimizer.pt"}
    assert max(path.name for path in run.glob("checkpoints/step_*")) == "step_0000021"
    make_short_trainer(run).fit()
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
    make_short_trainer(run).fit()
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

    first = ForkedProcess(lambda: make_short_trainer(run, loss=failing_loss(1, hold)).fit(), tmp_path / "first")
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read(8) == b"training"
    code, _, errors = ForkedProcess(lambda: make_short_trainer(run).fit(), tmp_path / "second").end()
    assert code == 1
    assert "is in use by another process" in errors
    os.kill(first.pid, signal.SIGINT)
    first.tell("go on")
    code, _, errors = first.end()
    assert code == 1
    assert "TrainingInterrupted: interrupted by SIGINT: saved at step 1 in " in errors
    assert f"; to resume: {shlex.quote(sys.orig_argv[0])} " in errors
    summary = make_short_trainer(run).fit()
    assert isinstance(summary, Summary)
    assert_equal_runs(whole, run, timeless)
