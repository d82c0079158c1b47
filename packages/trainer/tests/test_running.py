"""Runs: their records, resuming bit for bit, interruptions, divergence, the clock."""

import json
import math
import os
import signal
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from trainer import (
    ConsoleLogger,
    Summary,
    TrainConfig,
    Trainer,
    TrainingInterrupted,
    load_weights,
    read_config,
    read_metrics,
)

VOCABULARY = 11


class Bigram(nn.Module):
    """A plain torch model: an embedding and a small MLP, with dropout so that random states matter."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, VOCABULARY))

    def forward(self, inputs):
        return self.mlp(self.embedding(inputs))


def loss_fn(model, inputs, targets):
    return nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


@pytest.fixture
def make(tmp_path):
    """make(run name, …settings) -> Trainer."""
    noise = np.random.default_rng(0).integers(0, 2, 3000)
    tokens = ((np.arange(3000) * 3 + noise) % VOCABULARY).astype(np.uint16)

    def build(name="run", *, loss=loss_fn, schedule=None, valid=None, seed=0, **settings):
        torch.manual_seed(seed)
        model = Bigram()
        options = {
            key: settings.pop(key) for key in ("sample", "recorded", "loggers", "seconds_before") if key in settings
        }
        defaults = {"steps": 40, "batch_size": 4, "context_length": 8, "eval_interval": 10, "log_interval": 5}
        config = TrainConfig(**{**defaults, "checkpoint_interval": 10, "device": "cpu", **settings})
        return Trainer(
            model,
            torch.optim.AdamW(model.parameters(), lr=1e-2),
            loss,
            tokens,
            tokens[:500] if valid is None else valid,
            config,
            schedule or (lambda step: 1e-2 * (1 + math.cos(math.pi * min(step, 40) / 40)) / 2),
            tmp_path / name,
            **{"loggers": [], **options},
        )

    return build


def facts(run_dir):
    """The records of a run without what depends on the clock."""
    clocked = ("seconds_total", "seconds_training", "tokens_per_second", "memory_bytes")
    return [{name: value for name, value in record.items() if name not in clocked} for record in read_metrics(run_dir)]


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_run_leaves_all_records(make, tmp_path):
    trainer = make(sample=lambda model, step: f"text at {step}", recorded={"why": "a test"})
    summary = trainer.fit()
    run = tmp_path / "run"
    assert summary.status == "completed"
    assert not summary.diverged
    assert summary.tokens == 40 * 4 * 8
    assert Summary.from_json(json.loads((run / "summary.json").read_text())) == summary
    assert read_config(run)["recorded"] == {"why": "a test"}
    assert {"torch", "device", "seed", "git"} <= json.loads((run / "environment.json").read_text()).keys()
    records = read_metrics(run)
    evaluations = [r for r in records if r["event"] == "eval"]
    assert [r["step"] for r in evaluations] == [0, 10, 20, 30, 40]
    assert summary.final_valid_loss == evaluations[-1]["loss"] < evaluations[0]["loss"] - 0.2
    assert [r["step"] for r in records if r["event"] == "train"] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert len((run / "metrics.csv").read_text().splitlines()) == len(records) + 1
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert samples[-1]["text"] == "text at 40"
    assert not [path for path in run.rglob("*") if "tmp" in path.name]


def test_finished_run_is_read_and_not_trained_again(make, tmp_path):
    first = make()
    summary = first.fit()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = make(seed=5, loss=lambda *_: pytest.fail("trained again"))
    assert again.fit() == summary
    assert_same(weights(first), weights(again))
    assert before == {path: path.stat().st_mtime_ns for path in before}


class StopError(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3, 10, 11, 27, 39])
def test_resumed_run_is_bit_for_bit_the_uninterrupted_one(make, tmp_path, at):
    calm = make("calm", checkpoint_interval=3)
    calm.fit()
    calls = []

    def failing(model, inputs, targets):
        if model.training:
            calls.append(1)
            if len(calls) == at:
                raise StopError
        return loss_fn(model, inputs, targets)

    with pytest.raises(StopError):
        make("rough", loss=failing, checkpoint_interval=3).fit()
    resumed = make("rough", seed=99, checkpoint_interval=3)
    # A run that was killed before its first checkpoint begins anew, with the weights it is given.
    if at <= 3:
        resumed = make("rough", checkpoint_interval=3)
    resumed.fit()
    assert_same(weights(calm), weights(resumed))
    assert facts(tmp_path / "calm") == facts(tmp_path / "rough")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_step_saves_and_resumes(make, tmp_path, number):
    calm = make("calm")
    calm.fit()
    steps = []

    def signalling(model, inputs, targets):
        if model.training:
            steps.append(1)
            if len(steps) == 17:
                os.kill(os.getpid(), number)
        return loss_fn(model, inputs, targets)

    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted, match=r"saved at step 17 in .*run the same command again"):
        make("rough", loss=signalling).fit()
    assert signal.getsignal(number) == before
    resumed = make("rough", seed=99)
    resumed.fit()
    assert_same(weights(calm), weights(resumed))
    assert facts(tmp_path / "calm") == facts(tmp_path / "rough")


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: data[:50] + b"\x00\x01" + data[52:]])
@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "meta.json"])
def test_damaged_checkpoint_is_named_and_the_one_before_is_used(make, tmp_path, damage, name):
    calm = make("calm")
    calm.fit()
    make("rough").fit()
    run = tmp_path / "rough"
    (run / "summary.json").unlink()
    path = run / "checkpoints" / "step_0000040" / name
    path.write_bytes(damage(path.read_bytes()))
    resumed = make("rough", seed=99)
    with pytest.warns(RuntimeWarning, match="step_0000040 is damaged"):
        resumed.fit()
    assert_same(weights(calm), weights(resumed))
    assert facts(tmp_path / "calm") == facts(run)


def test_last_and_best_checkpoints_are_kept(make, tmp_path):
    make(keep_checkpoints=1).fit()
    kept = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    losses = {r["step"]: r["loss"] for r in read_metrics(tmp_path / "run") if r["event"] == "eval"}
    best = min(losses, key=losses.get)
    assert kept == {f"step_{best:07}", "step_0000040"}


def test_load_weights_for_inference(make, tmp_path):
    trained, fresh = make(), make("other", seed=3)
    trained.fit()
    step = load_weights(fresh.model, tmp_path / "run")
    losses = {r["step"]: r["loss"] for r in read_metrics(tmp_path / "run") if r["event"] == "eval"}
    assert step == min(losses, key=losses.get)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_weights(fresh.model, tmp_path / "absent")


def test_other_configuration_is_refused_and_named(make):
    make().fit()
    with pytest.raises(ValueError, match=r"another configuration: .*batch_size was 4, now 5"):
        make(batch_size=5).fit()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_divergence_stops_before_the_weights_are_ruined(make, tmp_path, bad):
    calls = []

    def diverging(model, inputs, targets):
        calls.append(model.training)
        return loss_fn(model, inputs, targets) * (bad if sum(calls) == 13 else 1)

    trainer = make(loss=diverging)
    summary = trainer.fit()
    assert (summary.status, summary.diverged, summary.diverged_at_step) == ("diverged", True, 13)
    assert summary.final_valid_loss is None
    assert all(torch.isfinite(tensor).all() for tensor in trainer.model.state_dict().values())
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert read_metrics(tmp_path / "run")[-1]["loss"] is None


def test_run_that_ends_above_its_start_counts_as_diverged(make):
    summary = make(schedule=lambda step: 3.0).fit()
    assert summary.status == "completed"
    assert summary.diverged
    assert summary.diverged_at_step is None


def test_time_limit_with_the_schedule_on_the_clock(make, tmp_path):
    rates = []

    def schedule(tick):
        rates.append(tick)
        return 1e-3 * (1 - tick / 1000)

    summary = make(steps=1000, clock="time", time_limit_seconds=3.0, schedule=schedule, eval_interval=300).fit()
    assert summary.seconds_total <= 3.0
    assert summary.status in ("completed", "time_limit")
    assert rates == sorted(rates)
    assert rates[0] < 50
    assert rates[-1] > 900
    assert len([r for r in read_metrics(tmp_path / "run") if r["event"] == "eval"]) >= 4


def test_time_limit_on_the_step_clock_ends_in_order(make):
    summary = make(steps=10**6, time_limit_seconds=2.5, eval_interval=10**6, log_interval=10**5).fit()
    assert summary.status == "time_limit"
    assert summary.steps < 10**6
    assert summary.final_valid_loss is not None


def test_time_limit_that_is_used_up(make):
    with pytest.raises(ValueError, match="expected more"):
        make(time_limit_seconds=5.0, seconds_before=10.0).fit()


def test_gradients_of_micro_batches_are_averaged(make):
    trainer = make(steps=1, grad_accumulation_steps=3)
    assert trainer.fit().tokens == 3 * 4 * 8


def test_failing_logger_is_warned_about_once_and_stops_nothing(make):
    class Failing:
        def log(self, record):
            raise ConnectionError("no network")

        def close(self):
            raise ConnectionError("no network")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert make(loggers=[Failing()]).fit().status == "completed"
    assert len([w for w in caught if "Failing failed" in str(w.message)]) == 1


def test_console_prints_a_line_per_report(make, capsys):
    make(loggers=[ConsoleLogger()]).fit()
    lines = capsys.readouterr().out.splitlines()
    assert sum("valid loss" in line for line in lines) == 5
    assert sum("tok/s" in line for line in lines) == 8


def test_two_processes_on_one_directory(make, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="in use by another process"):
            make().fit()


def test_validation_text_shorter_than_a_window_is_refused_before_anything_is_made(make, tmp_path):
    with pytest.raises(ValueError, match="validation split has 8 tokens: expected at least 9"):
        make(valid=np.zeros(8, dtype=np.uint16))
    assert not (tmp_path / "run").exists()


def test_directory_that_cannot_be_made(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write to the run directory"):
        make("file/run").fit()


def test_learning_rates_are_scaled_per_group(make):
    trainer = make()
    trainer.optimizer.param_groups[0]["lr_scale"] = 0.5
    trainer.schedule = lambda step: 0.25
    trainer.fit()
    assert trainer.optimizer.param_groups[0]["lr"] == 0.125


def test_callers_random_state_is_left_alone(make):
    trainer = make()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trainer.fit()
    assert torch.equal(torch.rand(3), expected)
