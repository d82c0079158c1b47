"""Time limits, under a clock that the tests move: a step takes one second, an evaluation two, a save half a second."""

import signal
import time

import pytest
from bigram_run import loss_fn, make_trainer

from trainer import TrainingInterrupted, read_metrics
from trainer.checkpoints import CheckpointStore

pytestmark = pytest.mark.usefixtures("no_pictures")


class Clock:
    """Stands in for time.perf_counter."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    write = CheckpointStore.write

    def slow_write(self, state):
        clock.now += 0.5
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", slow_write)
    return clock


def timed(run_dir, watch, ticks=None, **settings):
    """A trainer whose work moves the clock; `ticks` collects what the schedule is asked for."""

    def loss(model, inputs, targets):
        # 62 windows of the validation split, in one batch and the rest: two passes of one second.
        watch.now += 1.0
        return loss_fn(model, inputs, targets)

    def schedule(tick):
        if ticks is not None:
            ticks.append(tick)
        return 1e-2

    # In the foreground, for a thread would move the clock at any time.
    settings = {"save_in_background": False} | settings
    settings = {"eval_batch_size": 100, "grad_accumulation_steps": 1, "log_interval": 10} | settings
    return make_trainer(run_dir, loss=loss, lr=schedule, **settings)


def test_steps_stop_early_in_order(tmp_path, clock):
    summary = timed(tmp_path / "run", clock, steps=1000, time_limit_seconds=60.0).fit()
    assert summary.status == "time_limit"
    assert 40 <= summary.steps < 60
    assert 50 < summary.seconds_total <= 60
    assert summary.seconds_training == summary.steps
    last = read_metrics(tmp_path / "run")[-1]
    assert (last["event"], last["step"], last["loss"]) == ("eval", summary.steps, summary.final_valid_loss)
    assert (tmp_path / "run" / "checkpoints" / f"step_{summary.steps:07}").is_dir()


def test_enough_time_changes_nothing(tmp_path, clock):
    summary = timed(tmp_path / "run", clock, time_limit_seconds=600.0).fit()
    assert (summary.status, summary.steps) == ("completed", 60)


def test_schedule_follows_the_clock(tmp_path, clock):
    ticks = []
    settings = {"steps": 1000, "eval_interval": 250, "log_interval": 100, "checkpoint_interval": 500}
    summary = timed(
        tmp_path / "run", clock, ticks, clock="time", time_limit_seconds=100.0, seconds_before=10.0, **settings
    ).fit()
    assert summary.status == "completed"
    assert 80 < summary.seconds_total <= 100
    assert len(ticks) == summary.steps
    assert ticks == sorted(ticks)
    assert ticks[0] == 0
    assert 900 < ticks[-1] < 1000
    evaluations = [record for record in read_metrics(tmp_path / "run") if record["event"] == "eval"]
    assert len(evaluations) == 5
    assert [round(record["progress"], 1) for record in evaluations] == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.06)


def test_seconds_accumulate_over_resumes(tmp_path, clock):
    settings = {"steps": 1000, "clock": "time", "time_limit_seconds": 100.0, "log_interval": 100}
    settings |= {"eval_interval": 250, "checkpoint_interval": 500}
    trainer = timed(tmp_path / "run", clock, **settings)

    def interrupt(*_):
        if len(read_metrics(tmp_path / "run")) > 3:
            signal.raise_signal(signal.SIGTERM)

    trainer.optimizer.register_step_pre_hook(interrupt)
    with pytest.raises(TrainingInterrupted) as caught:
        trainer.fit()
    spent = read_metrics(tmp_path / "run")[-1]["seconds_total"]
    clock.now += 10_000  # time between the sessions does not count
    ticks = []
    summary = timed(tmp_path / "run", clock, ticks, **settings).fit()
    assert summary.steps == caught.value.step + len(ticks)
    assert ticks[0] >= 1000 * (spent - 10) / 100
    assert 90 < summary.seconds_total <= 100


def test_limit_that_is_too_short(tmp_path, clock):
    with pytest.raises(
        ValueError, match=r"time_limit_seconds is 3: 2\.\d s are gone before the first step .* expected more"
    ):
        timed(tmp_path / "run", clock, time_limit_seconds=3).fit()
    assert timed(tmp_path / "run", clock, steps=5, time_limit_seconds=100).fit().status == "completed"


def test_checkpoints_by_time(tmp_path, clock):
    timed(
        tmp_path / "run", clock, steps=20, checkpoint_interval=None, checkpoint_seconds=7.0, keep_checkpoints=20
    ).fit()
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == ["step_0000005", "step_0000012", "step_0000019", "step_0000020"]


def test_eta_is_that_of_the_clock(tmp_path, clock, capsys):
    from trainer import ConsoleLogger

    timed(
        tmp_path / "run", clock, steps=40, eval_interval=1000, checkpoint_interval=None, loggers=[ConsoleLogger()]
    ).fit()
    lines = [line for line in capsys.readouterr().out.splitlines() if "train loss" in line]
    assert [line.rpartition("ETA ")[2] for line in lines] == ["0:30", "0:20", "0:10", "0:00"]
    assert all(" 32 tok/s" in line for line in lines)
    assert len({line.index("ETA") for line in lines}) == 1
