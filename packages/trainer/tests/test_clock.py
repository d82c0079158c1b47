"""Time limits, under a clock that the tests move: a step takes one second, an evaluation two, a save half a second."""

import itertools
import json
import signal
import time

import pytest
from bigram_run import Crash, loss_fn, make_trainer
from torch.optim import AdamW

from trainer import TrainConfig, TrainingInterrupted, read_metrics
from trainer.checkpoints.single_file import CheckpointStore
from trainer.training.clock import RunClock, slower
from trainer.training.progress import Progress

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


@pytest.mark.parametrize("update", [False, True])
def test_the_schedule_begins_after_the_compiler(tmp_path, clock, monkeypatch, update):
    def compile_slowly(function, **_):
        def compiled(*arguments):
            clock.now += 0.0 if seen else 29.0
            seen.append(True)
            return function(*arguments)

        seen = []
        return compiled

    monkeypatch.setattr("torch.compile", compile_slowly)
    monkeypatch.setattr(AdamW, "step_compiles", update, raising=False)
    ticks = []
    settings = {"clock": "time", "time_limit_seconds": 100.0, "compile": "on", "eval_interval": 1000}
    summary = timed(tmp_path / "run", clock, ticks, steps=1000, **settings).fit()
    assert 90 < summary.seconds_total <= 100
    assert ticks[: 2 + update] == [0] * (2 + update)
    assert 0 < ticks[2 + update] < 50
    assert 900 < ticks[-1] < 1000


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


def test_batch_ramp_and_mean_follow_the_clock(tmp_path, clock):
    """Every pass takes a second: so in half of the time there are half as many steps of two."""
    passes, settings = [], {"steps": 1000, "eval_interval": 1000, "checkpoint_interval": None}
    settings |= {"batch_ramp": ((0.0, 1), (0.5, 2)), "average_from": 0.75, "log_interval": 1}
    run = tmp_path / "run"
    summary = timed(run, clock, passes, clock="time", time_limit_seconds=300.0, **settings).fit()
    records = read_metrics(run)
    trained = [record for record in records if record["event"] == "train"]
    tokens = [
        after["tokens"] - before["tokens"]
        for before, after in zip([{"tokens": 0}, *trained[:-1]], trained, strict=True)
    ]
    assert set(tokens) == {32, 64}
    assert tokens == sorted(tokens)
    assert tokens.count(32) == pytest.approx(146, abs=4)
    assert tokens.count(64) == pytest.approx(73, abs=4)
    # The tick before a step is that after the one before.
    began = [0.0, *(record["progress"] for record in trained[:-1])]
    assert [share >= 0.5 for share in began] == [count == 64 for count in tokens]
    assert records[-1]["averaged_steps"] == sum(share >= 0.75 for share in began)
    assert summary.tokens == sum(tokens)
    assert 290 < summary.seconds_total <= 300


@pytest.mark.parametrize("kind", ["steps", "time"])
@pytest.mark.parametrize(("evaluates", "saves"), [(True, False), (False, True), (True, True)])
def test_the_end_has_time_for_the_averaged_weights(tmp_path, clock, monkeypatch, kind, evaluates, saves):
    """Whatever is due right before it. An evaluation takes seven seconds, the first save four and the others twelve."""
    write = CheckpointStore.write

    def growing_write(self, state):
        clock.now += 11.5 if state.step else 3.5
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", growing_write)
    for due in range(5, 27, 2):
        run, interval = tmp_path / str(due), due * (1 if kind == "steps" else 25)
        summary = timed(
            run,
            clock,
            clock=kind,
            steps=1000,
            time_limit_seconds=60.0,
            average_from=0.0,
            eval_batch_size=10,
            eval_interval=interval if evaluates else 1000,
            checkpoint_interval=interval if saves else None,
            log_interval=1000,
        ).fit()
        assert 30 < summary.seconds_total <= 60
        last = read_metrics(run)[-1]
        assert (last["averaged_steps"], last["loss"]) == (summary.steps, summary.final_valid_loss)
        meta = json.loads((run / "checkpoints" / f"step_{summary.steps:07}" / "meta.json").read_text())
        assert meta["valid_loss"] == summary.final_valid_loss


@pytest.mark.parametrize("dies", [False, True])
def test_time_that_ends_during_a_save_loses_no_record(tmp_path, clock, monkeypatch, dies):
    """Or the process dies in the save after that, which is of the evaluated weights."""
    run, saved, write = tmp_path / "run", [], CheckpointStore.write

    def slower_write(self, state):
        saved.append(state.step)
        clock.now += 30.0 if saved == [0, 20] else 0.0
        if dies and saved == [0, 20, 20]:
            raise Crash
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", slower_write)
    settings = {"time_limit_seconds": 60.0, "steps": 100, "log_interval": 7, "eval_interval": 1000}
    settings |= {"checkpoint_interval": 20, "sample": lambda model, step: "text"}
    if dies:
        with pytest.raises(Crash):
            timed(run, clock, **settings).fit()
        settings["seconds_of_earlier_sessions"] = 59.0
    summary = timed(run, clock, **settings).fit()
    assert (summary.status, summary.steps) == ("time_limit", 20)
    records = read_metrics(run)
    assert [(record["event"], record["step"]) for record in records] == [
        ("eval", 0),
        ("train", 7),
        ("train", 14),
        ("train", 20),
        ("eval", 20),
    ]
    timed(tmp_path / "longer", clock, steps=20, log_interval=7).fit()
    expected = read_metrics(tmp_path / "longer")[-2]
    assert all(records[-2][name] == expected[name] for name in ("loss", "loss_max", "lr", "grad_norm", "tokens"))
    samples = (run / "samples.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in samples] == [0, 20]


def test_intervals_that_pass_during_an_evaluation_count(tmp_path, clock, monkeypatch):
    """An evaluation takes sixty of the thousand ticks; what is due meanwhile is made after the next step."""
    saved, write = [], CheckpointStore.write

    def noting_write(self, state):
        saved.append(state.training["progress"]["tick"])
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", noting_write)

    def loss(model, inputs, targets):
        clock.now += 1.0 if model.training else 30.0
        return loss_fn(model, inputs, targets)

    settings = {"steps": 1000, "clock": "time", "time_limit_seconds": 1100.0, "grad_accumulation_steps": 1}
    settings |= {"save_in_background": False, "eval_batch_size": 100, "log_interval": 10}

    def ticks(name, event, **intervals):
        make_trainer(tmp_path / name, loss=loss, **settings, **intervals).fit()
        return [
            round(1000 * record["progress"]) for record in read_metrics(tmp_path / name) if record["event"] == event
        ]

    assert len(ticks("saves", "train", eval_interval=250, checkpoint_interval=300)) < 100
    assert [tick // 10 for tick in saved] == [0, 31, 60, 90, 100]
    # But an evaluation does not make the next one due at once.
    evaluated = ticks("evaluations", "eval", eval_interval=50, checkpoint_interval=None)
    assert 8 <= len(evaluated) <= 12
    assert all(after - before >= 80 for before, after in itertools.pairwise(evaluated[1:-1]))


@pytest.mark.parametrize("limit", [36, 38, 40, 42, 46, 48, 50, 54, 58])
def test_larger_steps_do_not_break_the_limit(tmp_path, clock, limit):
    """From step 31 on they take eight seconds, before one."""
    settings = {"batch_ramp": ((0.0, 1), (0.03, 8)), "eval_interval": 1000, "checkpoint_interval": None}
    summary = timed(tmp_path / "run", clock, steps=1000, time_limit_seconds=limit, **settings).fit()
    assert summary.seconds_total <= limit
    assert summary.steps >= 27


def test_weights_that_are_averaged_are_trained_no_further(tmp_path, clock):
    """A process that dies before the summary; the next one does not know yet how long a step takes."""
    settings = {"steps": 1000, "grad_accumulation_steps": 20, "time_limit_seconds": 100.0, "average_from": 0.0}
    run = tmp_path / "run"
    summary = timed(run, clock, **settings).fit()
    assert (summary.steps, summary.status) == (4, "time_limit")
    (run / "summary.json").unlink()
    again = timed(run, clock, **settings).fit()
    assert (again.steps, again.final_valid_loss) == (4, summary.final_valid_loss)


def test_time_that_ends_after_an_evaluation_and_a_save(tmp_path, clock, monkeypatch):
    """They take longer than they ever did; the same step is then saved again, with the averaged weights."""
    run, saved = tmp_path / "run", []
    write = CheckpointStore.write

    def slower_write(self, state):
        saved.append((state.step, "average" in state.training))
        clock.now += 30.0 if state.step == 20 and len(saved) == 2 else 0.0
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", slower_write)
    settings = {"average_from": 0.0, "eval_interval": 20, "checkpoint_interval": 20, "keep_checkpoints": 1}
    summary = timed(run, clock, steps=100, time_limit_seconds=60.0, **settings).fit()
    assert saved == [(0, False), (20, True), (20, False)]
    assert (summary.status, summary.steps) == ("time_limit", 20)
    evaluations = [record for record in read_metrics(run) if record["event"] == "eval"]
    assert [(record["step"], record.get("averaged_steps")) for record in evaluations] == [
        (0, None),
        (20, None),
        (20, 20),
    ]
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_0000020"]
    meta = json.loads((run / "checkpoints" / "step_0000020" / "meta.json").read_text())
    assert meta["valid_loss"] == summary.final_valid_loss == evaluations[-1]["loss"]


TIMED = {"steps": 1000, "clock": "time", "time_limit_seconds": 100.0, "log_interval": 50, "eval_interval": 100}


@pytest.mark.skipif(not hasattr(signal, "SIGCONT"), reason="needs SIGCONT")
@pytest.mark.parametrize("where", ["a step", "an evaluation", "a save"])
def test_what_a_stop_took_is_not_reserved_for_the_end(tmp_path, clock, monkeypatch, where):
    """Stopped for 20 s at about half of the time: the limit is used up all the same, and ticks follow the clock."""
    stops = []

    def stop(*_):
        if clock.now > 1050 and not stops:
            stops.append(clock.now)
            clock.now += 20
            signal.raise_signal(signal.SIGCONT)

    trainer = timed(tmp_path / "run", clock, checkpoint_interval=100, **TIMED)
    if where == "a step":
        trainer.optimizer.register_step_pre_hook(stop)
    elif where == "an evaluation":
        trainer.sample = lambda model, step: stop() or "text"
    else:
        write = CheckpointStore.write

        def stopped_write(self, state):
            stop()
            return write(self, state)

        monkeypatch.setattr(CheckpointStore, "write", stopped_write)
    summary = trainer.fit()
    assert stops
    assert 90 < summary.seconds_total <= 100
    records = [record for record in read_metrics(tmp_path / "run") if record["event"] == "train"]
    assert all(record["progress"] == pytest.approx(record["seconds_total"] / 100, abs=0.08) for record in records)


def test_time_of_killed_sessions_counts(tmp_path, clock):
    """Interrupted at its last checkpoint, then 30 s more are spent in vain: the schedule goes on behind them."""
    trainer = timed(tmp_path / "run", clock, **TIMED)

    def interrupt(*_):
        if clock.now > 1030:
            signal.raise_signal(signal.SIGTERM)

    trainer.optimizer.register_step_pre_hook(interrupt)
    with pytest.raises(TrainingInterrupted):
        trainer.fit()
    ticks = []
    again = timed(tmp_path / "run", clock, ticks, seconds_of_earlier_sessions=62.0, **TIMED)
    summary = again.fit()
    assert 600 < ticks[0] < 700
    assert len(ticks) < 38
    assert 90 < summary.seconds_total <= 100
    # Less than the checkpoint knows changes nothing.
    assert timed(tmp_path / "run", clock, seconds_of_earlier_sessions=1.0, **TIMED).fit() == summary


def test_evaluations_on_the_way_may_read_less(tmp_path, clock):
    """A window takes a quarter of a second, so the whole split 15.6, reserved for the end though it was never read."""
    read = []

    def loss(model, inputs, targets):
        clock.now += inputs.numel() / 8 / 4
        if not model.training:
            read.append(inputs.numel())
        return loss_fn(model, inputs, targets)

    settings = {"grad_accumulation_steps": 1, "checkpoint_interval": None} | TIMED
    summary = make_trainer(tmp_path / "run", loss=loss, eval_tokens=21, **settings).fit()
    records = [record for record in read_metrics(tmp_path / "run") if record["event"] == "eval"]
    assert len(records) > 8
    # Each one's first batch, here all of it, is read once more before, the first one thrice, and the last one whole.
    assert sum(read) == 40 * (len(records) - 1) + 20 + 499
    assert records[-1]["loss"] == summary.final_valid_loss == summary.best_valid_loss
    assert records[-1]["seconds_total"] - records[-2]["seconds_total"] > 15.6
    assert 90 < summary.seconds_total <= 100


@pytest.mark.parametrize("kind", ["steps", "time"])
def test_the_whole_evaluation_has_time_after_one_that_reads_less(tmp_path, clock, kind):
    """The whole split takes eight seconds and most of it six, with a save of half a second after each."""

    def loss(model, inputs, targets):
        clock.now += 1.0 if model.training else inputs.numel() / 62
        return loss_fn(model, inputs, targets)

    settings = {"grad_accumulation_steps": 1, "save_in_background": False, "log_interval": 1000, "clock": kind}
    settings |= {"steps": 1000, "time_limit_seconds": 60.0, "eval_tokens": 373}
    for due in range(5, 45, 3):
        interval = due * (1 if kind == "steps" else 25)
        intervals = {"eval_interval": interval, "checkpoint_interval": interval}
        run = tmp_path / str(due)
        summary = make_trainer(run, loss=loss, **settings, **intervals).fit()
        assert 35 < summary.seconds_total <= 60
        last = read_metrics(run)[-1]
        assert (last["step"], last["loss"]) == (summary.steps, summary.final_valid_loss)


def test_the_end_is_what_evaluations_usually_take():
    """Not what one of them did while the machine was busy; a quarter is kept besides, and only the last ones count."""
    config = TrainConfig(steps=10, batch_size=1, context_length=1, time_limit_seconds=1000.0)
    progress = Progress(reserve_picture=1.0, reserve_save=2.0)
    clock = RunClock(config, progress, time.perf_counter(), 0.0)
    for seconds, report in ((8.0, 8.0), (None, 8.0), (10.0, 9.0), (90.0, 10.0), (9.0, 9.5)):
        clock.note_report(seconds)
        assert clock.reserve() == pytest.approx(1.25 * (report + 1.0 + 2.0) + 0.1)
    for _ in range(9):
        clock.note_report(20.0)
    assert progress.reserve_reports == [20.0] * 9
    old = Progress().to_dict() | {"reserve_report": 7.0}
    del old["reserve_reports"], old["reserve_passes"], old["reserve_picture"]
    assert Progress.from_dict(old, config).reserve_reports == [7.0]


def test_what_only_the_first_batch_takes_is_counted_once(tmp_path, clock):
    """A window takes a quarter of a second, and the first batch after training two seconds more."""
    trained = [True]

    def loss(model, inputs, targets):
        clock.now += inputs.numel() / 8 / 4 + 2.0 * (trained[0] and not model.training)
        trained[0] = model.training
        return loss_fn(model, inputs, targets)

    settings = {"grad_accumulation_steps": 1, "checkpoint_interval": None, "eval_batch_size": 2} | TIMED
    summary = make_trainer(tmp_path / "run", loss=loss, eval_tokens=81, **settings).fit()
    # The end takes 18.1 s, and a quarter of it is kept besides.
    assert 93 < summary.seconds_total < 97


def note_steps(clock, number, seconds):
    for _ in range(number):
        clock.note_step(seconds)


def test_the_end_is_as_slow_as_the_last_steps():
    """An evaluation is measured in a slow moment of the machine, and steps of late have been faster; or the reverse."""
    config = TrainConfig(steps=10, batch_size=1, context_length=1, time_limit_seconds=1000.0)
    for later, report in ((0.2, 12.0), (0.16, 9.6), (0.25, 15.0), (0.1, 8.0), (1.0, 18.0)):
        progress = Progress()
        clock = RunClock(config, progress, time.perf_counter(), 0.0)
        clock.note_report(30.0)  # before the first step, in seconds
        assert (progress.reserve_reports, progress.reserve_passes) == ([30.0], [])
        progress.reserve_reports = []
        note_steps(clock, 100, 0.5)
        note_steps(clock, 20, 0.2)
        clock.note_report(12.0)
        assert progress.reserve_passes == pytest.approx([60.0])
        note_steps(clock, 200, later)
        clock.note_step(30.0)  # the machine did something else, or the process was stopped
        # What steps need may need evaluations less: half as much again at most, and not less than two thirds.
        assert clock.reserve() == pytest.approx(1.25 * report + later + 0.1)
        note_steps(clock, 40, 0.2)
        for passes in (400.0, 70.0):  # and one of them took very long
            clock.note_report(0.2 * passes)
        assert progress.reserve_passes == pytest.approx([60, 400, 70])
        assert clock.reserve() == pytest.approx(1.25 * 70 * 0.2 + 0.2 + 0.1)


def test_the_end_after_few_steps_is_in_seconds():
    config = TrainConfig(steps=10, batch_size=1, context_length=1, time_limit_seconds=1000.0)
    clock = RunClock(config, Progress(reserve_reports=[12.0], reserve_passes=[60.0]), time.perf_counter(), 0.0)
    note_steps(clock, 2, 0.1)
    assert clock.reserve() == pytest.approx(1.25 * 12 + 0.1 + 0.1)
    note_steps(clock, 1, 30.0)  # however long they are
    note_steps(clock, 2, 0.16)
    assert clock.reserve() == pytest.approx(1.25 * 60 * 0.16 + 0.16 + 0.1)


def test_a_slow_time_is_forgotten_by_halves():
    assert slower(0.0, 2.0) == 2.0
    assert slower(2.0, 10.0) == 10.0
    assert slower(10.0, 2.0) == 6.0
    assert slower(6.0, None) == 6.0


def test_the_end_waits_for_what_a_gpu_was_asked_for():
    config = TrainConfig(steps=10, batch_size=1, context_length=1, time_limit_seconds=1000.0)
    clock = RunClock(config, Progress(), time.perf_counter(), 0.0, is_asynchronous=True)
    for _ in range(2):
        for _ in range(5):
            clock.note_step(0.001, passes=2, next_passes=4)  # it took no time to ask for it
        clock.note_computed(19.995)
    # A pass took 2 s, and the next step has four; two steps are on their way when it is asked for.
    assert clock.reserve() == pytest.approx(3 * 4 * 2.0 + 0.1)
    clock.note_step(0.001, passes=4, next_passes=1)
    assert clock.reserve() == pytest.approx(3 * 2.0 + 0.1)
