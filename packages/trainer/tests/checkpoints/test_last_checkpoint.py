"""The last checkpoint: weights and optimizer are written in the background of the last evaluation, then the rest."""

import json
import math
import signal
import threading

import pytest
import torch
from bigram_run import assert_equal_runs, forget_the_time, load_states, loss_fn, make_model, make_trainer
from safetensors.torch import load_file

from trainer import TrainingInterrupted, load_weights, read_metrics
from trainer.callbacks import Callback
from trainer.checkpoints import store as checkpoint_store

pytestmark = pytest.mark.usefixtures("no_pictures")
PATIENCE = 60.0
"""Seconds after which an event that has not come is a failure; nothing takes nearly as long."""
SETTINGS = {"steps": 12, "checkpoint_interval": 4, "eval_interval": 100, "keep_checkpoints": 100, "eval_batch_size": 20}
BATCHES = 4
"""Batches of an evaluation: 62 windows."""
MESSAGE = r"^cannot save a checkpoint in .*checkpoints: No space left on device; free some space or permit it, and run"


def content(run):
    """Return all of the last checkpoint, without what depends on the clock."""
    path = max((run / "checkpoints").iterdir())
    states = load_states(path)
    forget_the_time(states["training"])
    weights = {name: value.tolist() for name, value in load_file(path / "model.safetensors").items()}
    return path.name, repr(states), weights, json.loads((path / "meta.json").read_text())["valid_loss"]


def steps_of(run):
    return [path.name for path in sorted((run / "checkpoints").iterdir())]


class Evaluation:
    """A loss that acts in the first and in the last batch of the last evaluation."""

    def __init__(self, first=lambda: None, last=lambda: None):
        self.actions, self.passes, self.batches = {1: first, BATCHES: last}, 0, 0

    def __call__(self, model, inputs, targets):
        self.passes += model.training
        if not model.training and self.passes == 2 * SETTINGS["steps"]:
            self.batches += 1
            self.actions.get(self.batches, lambda: None)()
        return loss_fn(model, inputs, targets)


@pytest.fixture
def instead(monkeypatch):
    """Replaces `write_tensors` or `write_rest` for the last step."""

    def install(name, action):
        write = getattr(checkpoint_store, name)

        def other(directory, state, *arguments):
            if state.step == SETTINGS["steps"]:
                return action(lambda: write(directory, state, *arguments))
            return write(directory, state, *arguments)

        monkeypatch.setattr(checkpoint_store, name, other)
        return monkeypatch

    return install


@pytest.mark.parametrize("settings", [{}, {"average_from": 0.5}])
def test_it_is_written_while_the_last_evaluation_takes_place(tmp_path, timeless, instead, settings):
    """The evaluation does not end before weights and optimizer are written, which begins only when it has begun."""
    make_trainer(tmp_path / "foreground", save_in_background=False, **SETTINGS, **settings).fit()
    events, begun, written = [], threading.Event(), threading.Event()

    def begin():
        events.append("evaluation begins")
        begun.set()

    def end():
        assert written.wait(PATIENCE)
        events.append("evaluation ends")

    def write_tensors(write):
        assert begun.wait(PATIENCE)
        checksums = write()
        events.append("weights and optimizer")
        written.set()
        return checksums

    def write_rest(write):
        events.append("the rest")
        write()

    instead("write_tensors", write_tensors)
    instead("write_rest", write_rest)
    run = tmp_path / "background"
    make_trainer(run, loss=Evaluation(begin, end), **SETTINGS, **settings).fit()
    assert events == ["evaluation begins", "weights and optimizer", "evaluation ends", "the rest"]
    assert content(run) == content(tmp_path / "foreground")
    assert timeless(run) == timeless(tmp_path / "foreground")
    assert steps_of(run) == ["step_0000004", "step_0000008", "step_0000012"]


def test_in_the_foreground_it_follows_the_evaluation(tmp_path, instead):
    events = []
    instead("write_tensors", lambda write: [events.append(threading.current_thread()), write()][1])
    loss = Evaluation(last=lambda: events.append("evaluation"))
    make_trainer(tmp_path / "run", loss=loss, save_in_background=False, **SETTINGS).fit()
    assert events == ["evaluation", threading.main_thread()]


@pytest.mark.parametrize("part", ["write_tensors", "write_rest"])
def test_a_disk_that_is_full_then(tmp_path, timeless, instead, part):
    make_trainer(tmp_path / "whole", **SETTINGS).fit()

    def fail(_):
        raise OSError(28, "No space left on device")

    run, patch = tmp_path / "run", instead(part, fail)
    with pytest.raises(OSError, match=MESSAGE) as caught:
        make_trainer(run, **SETTINGS).fit()
    assert caught.value.errno == 28
    assert steps_of(run) == ["step_0000004", "step_0000008"]
    assert not (run / "summary.json").exists()
    patch.undo()
    patch.setattr("trainer.records.reporter.draw_losses", lambda *_: True)
    make_trainer(run, model=make_model(9), **SETTINGS).fit()
    assert_equal_runs(tmp_path / "whole", run, timeless)


def test_a_signal_in_the_last_evaluation_completes_it(tmp_path, timeless):
    make_trainer(tmp_path / "whole", **SETTINGS).fit()
    run, loss = tmp_path / "run", Evaluation(first=lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(TrainingInterrupted):
        make_trainer(run, loss=loss, **SETTINGS).fit()
    assert loss.batches < BATCHES
    assert steps_of(run) == ["step_0000004", "step_0000008", "step_0000012"]
    assert make_trainer(run, model=make_model(9), **SETTINGS).fit().status == "completed"
    assert content(run) == content(tmp_path / "whole")


def test_a_run_that_turns_out_to_have_diverged_keeps_the_checkpoints_before(tmp_path):
    def loss(model, inputs, targets):
        is_last = last(model, inputs, targets).isnan()
        return loss_fn(model, inputs, targets) * (math.nan if is_last else 1.0)

    def last(model, inputs, targets):
        value = evaluation(model, inputs, targets)
        return value * math.nan if evaluation.batches else value

    evaluation = Evaluation()
    summary = make_trainer(tmp_path / "run", loss=loss, **SETTINGS).fit()
    assert summary.status == "diverged"
    assert steps_of(tmp_path / "run") == ["step_0000004", "step_0000008"]


def test_a_failed_evaluation_leaves_no_part_of_it(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        make_trainer(run, loss=Evaluation(last=lambda: 1 / 0), **SETTINGS).fit()
    assert steps_of(run) == ["step_0000004", "step_0000008"]


class Doubling(Callback):
    """Doubles a weight after the last evaluation, so that autograd does not notice."""

    def on_evaluation(self, run, evaluation, *, is_whole):
        if run.progress == 1:
            next(run.model.parameters()).data.mul_(2)


def test_weights_that_a_callback_changes_after_the_evaluation_are_saved(tmp_path):
    model, loaded = make_model(), make_model(9)
    make_trainer(tmp_path / "run", model=model, callbacks=[Doubling()], **SETTINGS).fit()
    assert load_weights(loaded, tmp_path / "run") == 12
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))
    assert steps_of(tmp_path / "run") == ["step_0000004", "step_0000008", "step_0000012"]


def test_a_finished_run_goes_on_with_more_time(tmp_path):
    """It has its optimizer, and measures of what its end takes."""
    first = make_trainer(tmp_path / "run", time_limit_seconds=1000.0, **SETTINGS).fit()
    times = load_states(tmp_path / "run" / "checkpoints" / "step_0000012")["training"]["clock"]["times"]
    assert {what for what, seconds in times.items() if seconds} == {
        "evaluation",
        "export",
        "save",
        "busy",
        "completion",
    }
    second = make_trainer(tmp_path / "run", time_limit_seconds=2000.0, **SETTINGS | {"steps": 20}).fit()
    assert (first.steps, second.steps) == (12, 20)
    states = load_states(tmp_path / "run" / "checkpoints" / "step_0000020")
    assert {int(values["step"]) for values in states["optimizer"]["state"].values()} == {20}
    assert [record["step"] for record in read_metrics(tmp_path / "run") if record["event"] == "eval"] == [0, 12, 20]
