"""Checkpoints written in the background hold the state of the moment at which they were due."""

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from bigram_run import forget_the_time, load_states, loss_fn, make_model, make_trainer
from safetensors.torch import load_file

from trainer import TrainingInterrupted, read_metrics
from trainer.checkpoints.background import BackgroundSaver
from trainer.checkpoints.store import CheckpointStore
from trainer.records.reporter import Reporter

pytestmark = pytest.mark.usefixtures("no_pictures")
PATIENCE = 120.0
"""Seconds after which an event that has not come is a failure; nothing takes nearly as long."""
# Evaluations of a part of the split, which are never saved for being the best.
SETTINGS = {"steps": 24, "eval_interval": 8, "eval_tokens": 50, "keep_checkpoints": 100}


def content(path):
    """Return the content of a checkpoint, without what depends on the clock."""
    state = load_states(path)
    forget_the_time(state["training"])
    weights = {name: value.tolist() for name, value in load_file(path / "model.safetensors").items()}
    return repr(state), weights, json.loads((path / "meta.json").read_text())["valid_loss"]


def steps_of(run):
    return [int(path.name.removeprefix("step_")) for path in sorted((run / "checkpoints").iterdir())]


class Training:
    """A loss that counts its steps, can act in one, and lets another thread wait for one."""

    def __init__(self, **actions):
        self.step = 0
        self.calls = 0
        self.actions = {int(name.removeprefix("at_")): action for name, action in actions.items()}
        self._changed = threading.Condition()

    def wait_for(self, step):
        with self._changed:
            assert self._changed.wait_for(lambda: self.step >= step, PATIENCE)

    def __call__(self, model, inputs, targets):
        if model.training:
            with self._changed:
                self.calls += 1
                self.step = (self.calls + 1) // 2
                self._changed.notify_all()
            if self.calls % 2 and self.step in self.actions:
                self.actions[self.step]()
        return loss_fn(model, inputs, targets)


@pytest.fixture
def writes(monkeypatch):
    """Watches the writing of checkpoints: `writes.before[step]()` runs before that of a step."""

    class Writes:
        def __init__(self):
            self.before, self.threads, self.futures = {}, {}, []
            self._alone = threading.Lock()

        def write(self, store, state):
            self.threads[state.step] = threading.current_thread()
            assert self._alone.acquire(blocking=False), "two checkpoints are written at once"
            try:
                self.before.get(state.step, lambda: None)()
                return write(store, state)
            finally:
                self._alone.release()

        def wait_for_the_last(self):
            """Wait until the saver could know how the last background save has ended."""
            assert not wait([self.futures[-1]], PATIENCE).not_done

    class Executor(ThreadPoolExecutor):
        def submit(self, *arguments):
            writes.futures.append(super().submit(*arguments))
            return writes.futures[-1]

    writes, write = Writes(), CheckpointStore.write
    monkeypatch.setattr(CheckpointStore, "write", lambda store, state: writes.write(store, state))
    monkeypatch.setattr("trainer.checkpoints.background.ThreadPoolExecutor", Executor)
    return writes


def announced(monkeypatch, method):
    """An event that is set when a method of `BackgroundSaver` is called."""
    event, original = threading.Event(), getattr(BackgroundSaver, method)

    def call(self):
        event.set()
        return original(self)

    monkeypatch.setattr(BackgroundSaver, method, call)
    return event


def test_a_checkpoint_is_that_of_its_step_however_long_its_writing_takes(tmp_path, timeless, writes):
    """Each checkpoint is written only when training is three steps further."""
    make_trainer(tmp_path / "foreground", save_in_background=False, **SETTINGS).fit()
    assert set(writes.threads.values()) == {threading.main_thread()}
    training = Training()
    writes.before = {step: lambda step=step: training.wait_for(step + 3) for step in (6, 12, 18)}
    make_trainer(tmp_path / "background", loss=training, **SETTINGS).fit()
    assert steps_of(tmp_path / "foreground") == steps_of(tmp_path / "background") == [6, 12, 18, 24]
    assert [writes.threads[step] is threading.main_thread() for step in (6, 12, 18)] == [False, False, False]
    for step in (6, 12, 18, 24):
        ours, theirs = (
            content(tmp_path / name / "checkpoints" / f"step_{step:07}") for name in ("background", "foreground")
        )
        assert ours == theirs
    assert timeless(tmp_path / "background") == timeless(tmp_path / "foreground")


def test_one_at_a_time_and_none_is_left_out(tmp_path, writes):
    """Each checkpoint is still being written when the next one is due."""
    training = Training()
    writes.before = {step: lambda step=step: training.wait_for(step + 1) for step in range(1, 24)}
    make_trainer(tmp_path / "run", loss=training, checkpoint_interval=1, **SETTINGS).fit()
    assert steps_of(tmp_path / "run") == list(range(1, 25))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")]


def test_a_save_by_time_is_put_off_while_another_is_under_way(tmp_path, writes):
    training = Training()
    writes.before = {1: lambda: training.wait_for(10)}
    settings = {"checkpoint_interval": None, "checkpoint_seconds": 1e-9}
    make_trainer(tmp_path / "run", loss=training, **SETTINGS, **settings).fit()
    steps = steps_of(tmp_path / "run")
    assert steps[0] == 1
    assert steps[1] >= 10
    assert steps[-1] == 24


def fail():
    raise OSError(28, "No space left on device")


MESSAGE = r"^cannot save a checkpoint in .*checkpoints: No space left on device; free some space or permit it, and run"


@pytest.fixture
def failing(monkeypatch):
    """Makes the writing of one step fail."""

    def install(step):
        from trainer.checkpoints import store as checkpoint_store

        write = checkpoint_store.write_tensors

        def write_or_fail(directory, state):
            (directory / "model.safetensors").write_bytes(b"half")
            return fail() if state.step == step else write(directory, state)

        monkeypatch.setattr(checkpoint_store, "write_tensors", write_or_fail)
        return monkeypatch

    return install


def test_an_error_stops_the_run_at_the_next_step(tmp_path, timeless, failing, writes):
    make_trainer(tmp_path / "whole", **SETTINGS).fit()
    patch, run = failing(12), tmp_path / "run"
    training = Training(at_13=writes.wait_for_the_last)
    writes.before = {12: lambda: training.wait_for(13)}
    with pytest.raises(OSError, match=MESSAGE) as caught:
        make_trainer(run, loss=training, **SETTINGS).fit()
    assert caught.value.errno == 28
    assert training.step == 13  # not only when the next checkpoint is due
    assert steps_of(run) == [6]
    assert not (run / "summary.json").exists()
    patch.undo()
    patch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
    make_trainer(run, model=make_model(9), **SETTINGS).fit()
    assert content(run / "checkpoints" / "step_0000024") == content(tmp_path / "whole" / "checkpoints" / "step_0000024")
    assert timeless(run) == timeless(tmp_path / "whole")


def test_an_error_that_comes_late_stops_the_run_at_its_end(tmp_path, failing, writes):
    training = Training()
    writes.before = {18: lambda: training.wait_for(24)}
    failing(18)
    with pytest.raises(OSError, match=MESSAGE):
        make_trainer(tmp_path / "run", loss=training, **SETTINGS).fit()
    assert steps_of(tmp_path / "run") == [6, 12]


def test_an_error_beside_another_one_is_warned_about(tmp_path, failing, writes):
    release = threading.Event()
    writes.before = {12: lambda: release.wait(PATIENCE)}
    failing(12)

    def crash():
        release.set()
        raise RuntimeError("something else")

    with pytest.warns(RuntimeWarning, match=MESSAGE), pytest.raises(RuntimeError, match="something else"):
        make_trainer(tmp_path / "run", loss=Training(at_13=crash), **SETTINGS).fit()


def test_any_error_of_a_save_leaves_the_other_one_and_closes_the_records(tmp_path, writes, monkeypatch):
    release, closed = threading.Event(), []

    def fail_otherwise():
        assert release.wait(PATIENCE)
        raise TypeError("no tensor")

    def crash():
        release.set()
        raise RuntimeError("something else")

    def leave(self, *error, leave=Reporter.__exit__):
        leave(self, *error)
        closed.append(True)

    writes.before = {12: fail_otherwise}
    monkeypatch.setattr(Reporter, "__exit__", leave)
    with (
        pytest.warns(RuntimeWarning, match="^a checkpoint could not be saved: TypeError: no tensor$"),
        pytest.raises(RuntimeError, match="something else"),
    ):
        make_trainer(tmp_path / "run", loss=Training(at_13=crash), **SETTINGS).fit()
    assert closed == [True]


def test_an_interruption_waits_for_the_save_under_way(tmp_path, writes, monkeypatch):
    run, waits = tmp_path / "run", announced(monkeypatch, "wait")
    training = Training(at_8=lambda: signal.raise_signal(signal.SIGTERM))

    def wait_until_it_is_waited_for():
        waits.clear()  # of the wait before this save began
        assert waits.wait(PATIENCE)

    writes.before = {6: wait_until_it_is_waited_for}
    with pytest.raises(TrainingInterrupted):
        make_trainer(run, loss=training, **SETTINGS).fit()
    assert steps_of(run) == [6, 8]
    assert list(writes.threads) == [6, 8]


def test_a_crash_leaves_the_directory_only_when_the_save_is_complete(tmp_path, writes, monkeypatch):
    run, closes = tmp_path / "run", announced(monkeypatch, "close")
    training = Training(at_7=lambda: 1 / 0)
    writes.before = {6: lambda: closes.wait(PATIENCE)}
    with pytest.raises(ZeroDivisionError):
        make_trainer(run, loss=training, **SETTINGS).fit()
    assert steps_of(run) == [6]
    assert make_trainer(run, **SETTINGS).fit().status == "completed"


def test_records_are_on_the_disk_before_the_checkpoint_that_relies_on_them(tmp_path, writes, monkeypatch):
    synced = []
    monkeypatch.setattr("trainer.records.reporter.Reporter.sync", lambda self: synced.append(len(writes.threads)))
    make_trainer(tmp_path / "run", **SETTINGS).fit()
    assert synced[:4] == [0, 1, 2, 3]  # how many had been written then
    assert len(read_metrics(tmp_path / "run")) > 4
