"""Callbacks: what they are called with, when a run stops, and that their state survives."""

import json
import math
import signal

import numpy as np
import pytest
import torch
from bigram_run import Notices, failing_loss, make_model, make_tokens, make_trainer, train_without_pictures

from trainer import TrainingInterrupted, load_weights, read_metrics
from trainer.callbacks import EarlyStopping

pytestmark = pytest.mark.usefixtures("no_pictures")


class Recorder:
    """Records all calls."""

    def __init__(self):
        self.calls = []

    def on_step(self, run):
        self.calls.append(("step", run.step, run.tokens, run.loss.item()))

    def on_evaluation(self, run, evaluation, *, is_whole):
        self.calls.append(("evaluation", run.step, evaluation.loss, is_whole))
        assert run.loss is None

    def on_save(self, run, checkpoint):
        self.calls.append(("save", run.step, checkpoint.name))

    def on_end(self, summary):
        self.calls.append(("end", summary.steps))


def test_calls_come_with_the_state_of_the_run(tmp_path):
    recorder = Recorder()
    settings = {"steps": 12, "eval_interval": 5, "checkpoint_interval": 6, "log_interval": 1, "eval_tokens": 50}
    make_trainer(tmp_path / "run", callbacks=[recorder, object()], **settings).fit()
    kinds = [call[:2] for call in recorder.calls if call[0] != "step"]
    assert kinds == [
        ("evaluation", 0),
        ("evaluation", 5),
        ("save", 6),
        ("evaluation", 10),
        ("evaluation", 12),
        ("save", 12),
        ("end", 12),
    ]
    records = [record for record in read_metrics(tmp_path / "run") if record["event"] == "train"]
    steps = [call[1:] for call in recorder.calls if call[0] == "step"]
    assert steps == [(record["step"], record["tokens"], pytest.approx(record["loss"])) for record in records]
    evaluated = [call[2:] for call in recorder.calls if call[0] == "evaluation"]
    losses = [record["loss"] for record in read_metrics(tmp_path / "run") if record["event"] == "eval"]
    assert evaluated == [(loss, number == 3) for number, loss in enumerate(losses)]
    assert ("save", 6, "step_0000006") in recorder.calls


class StopAt:
    def __init__(self, method, at):
        self.at = at
        setattr(self, method, self._call)

    def _call(self, run, *_, **__):
        return run.step == self.at


@pytest.mark.parametrize("method", ["on_step", "on_evaluation", "on_save"])
def test_a_callback_stops_the_run_in_order(tmp_path, method):
    run = tmp_path / "run"
    settings = {"steps": 30, "eval_interval": 10, "checkpoint_interval": 10}
    summary = make_trainer(run, callbacks=[StopAt(method, 20)], **settings).fit()
    assert (summary.status, summary.steps, summary.diverged) == ("stopped", 20, False)
    evaluated = [record["step"] for record in read_metrics(run) if record["event"] == "eval"]
    assert evaluated == [0, 10, 20]
    assert load_weights(make_model(), run / "checkpoints" / "step_0000020").valid_loss == summary.final_valid_loss
    assert make_trainer(run, callbacks=[StopAt(method, 20)], **settings).fit() == summary
    notices = Notices()
    longer = make_trainer(run, callbacks=[], loggers=[notices], **settings).fit()  # a change, with which it goes on
    assert (longer.status, longer.steps) == ("completed", 30)
    assert any("changed from step 20 on: callbacks was" in message for message in notices.messages)


OVERFITTING = {"steps": 40, "eval_interval": 5, "train": make_tokens(120, seed=5), "lr": lambda step: 2e-2}


def overfitting(run, *callbacks, **settings):
    return make_trainer(run, callbacks=callbacks, **{**OVERFITTING, **settings})


def expected_end(losses, patience, min_delta=0.0):
    """The evaluation at which early stopping has to stop, by its definition."""
    for number in range(patience, len(losses)):
        before = losses[: number - patience + 1]
        if all(loss >= min(before) - min_delta for loss in losses[number - patience + 1 : number + 1]):
            return number
    return None


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The directory of a run that nothing stops."""
    return train_without_pictures(tmp_path_factory.mktemp("full") / "run", **OVERFITTING)


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_early_stopping(tmp_path, full, patience):
    run = tmp_path / "run"
    losses = [record["loss"] for record in read_metrics(full) if record["event"] == "eval"]
    summary = overfitting(run, EarlyStopping(patience)).fit()
    assert summary.status == "stopped"
    assert summary.steps == 5 * expected_end(losses, patience)
    assert load_weights(make_model(), run).valid_loss == min(losses[: expected_end(losses, patience) + 1])
    callbacks = json.loads((run / "config.json").read_text())["callbacks"]
    assert callbacks == [{"class": "EarlyStopping", "patience": patience, "min_delta": 0.0}]


def test_the_state_of_a_callback_survives_an_interruption(tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    expected = overfitting(whole, EarlyStopping(4)).fit()
    at = 2 * (expected.steps - 7)  # within the patience
    loss = failing_loss(at, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        overfitting(run, EarlyStopping(4), loss=loss).fit()
    assert overfitting(run, EarlyStopping(4)).fit().steps == expected.steps


def test_evaluations_of_a_part_are_compared_with_each_other(tmp_path):
    """The last one, of the whole split, is not taken for a better or worse one."""
    run = tmp_path / "run"
    summary = overfitting(run, EarlyStopping(2), eval_tokens=50).fit()
    losses = [record["loss"] for record in read_metrics(run) if record["event"] == "eval"]
    assert (summary.status, summary.steps) == ("stopped", 5 * expected_end(losses[:-1], 2))
    assert len(losses) == expected_end(losses[:-1], 2) + 2


def test_an_error_of_a_callback_ends_the_run_and_the_next_call_goes_on(tmp_path):
    class Broken:
        def on_step(self, run):
            if run.step == 9:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_trainer(tmp_path / "run", callbacks=[Broken()], steps=12).fit()
    assert make_trainer(tmp_path / "run", steps=12).fit().steps == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patience": 0}, "patience is 0: expected a whole number, 1 or more"),
        ({"patience": 1.5}, "patience is 1.5"),
        ({"min_delta": -1.0}, "min_delta is -1.0: expected a finite number, 0 or more"),
        ({"min_delta": math.nan}, "min_delta is nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**arguments)


def test_weights_may_be_read_and_changed(tmp_path):
    class Zero:
        def on_step(self, run):
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.zero_()

    summary = make_trainer(tmp_path / "run", callbacks=[Zero()], steps=2).fit()
    assert summary.final_valid_loss == pytest.approx(math.log(40))


@pytest.mark.parametrize("answer", [np.bool_(True), torch.tensor(True)])
def test_true_of_numpy_and_torch_stops_too(tmp_path, answer):
    class Stopping:
        best = math.inf

        def on_step(self, run):
            return answer

    assert make_trainer(tmp_path / "run", callbacks=[Stopping()]).fit().steps == 1


def test_attributes_that_are_not_finite_are_recorded_as_text(tmp_path):
    class Best:
        def __init__(self):
            self.best = math.inf

    make_trainer(tmp_path / "run", callbacks=[Best()], steps=2).fit()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["callbacks"][0]["best"] == "inf"


def test_a_class_is_no_callback(tmp_path):
    with pytest.raises(TypeError, match="callbacks has the class EarlyStopping: expected an object"):
        make_trainer(tmp_path / "run", callbacks=[EarlyStopping])
