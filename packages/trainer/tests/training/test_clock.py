"""Time limits under a fake clock: the clock alone, and complete runs."""

import itertools
import json
import random
import signal
import time

import pytest
import torch
from bigram_run import Crash, loss_fn, make_trainer
from torch.optim import AdamW

from trainer import TrainConfig, TrainingInterrupted, read_metrics
from trainer.checkpoints import CheckpointStore
from trainer.training.clock import RunClock

pytestmark = pytest.mark.usefixtures("no_pictures")


class Watch:
    """Stands in for time.perf_counter."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def make_clock(watch, limit=180.0, kind="time", steps=1000, **settings):
    config = TrainConfig(steps=steps, batch_size=1, context_length=1, clock=kind, time_limit_seconds=limit, **settings)
    return RunClock(config, now=watch)


def note(clock, **seconds):
    for what, value in seconds.items():
        clock.note(what, value)


@pytest.mark.parametrize(
    ("evaluation", "export", "save", "step"),
    [(2.0, 0.5, 1.0, 0.5), (6.0, 1.0, 0.1, 0.1), (0.1, 0.0, 8.0, 2.0), (0.0, 0.0, 0.0, 4.0), (0.5, 2.0, 0.5, 0.01)],
)
def test_the_end_has_the_time_that_it_took_before_and_not_twice_as_much(evaluation, export, save, step):
    for kind in ("steps", "time"):
        watch = Watch()
        clock = make_clock(watch, kind=kind)
        note(clock, evaluation=evaluation, export=export, save=save)
        for _ in range(5):
            clock.note_step(step, 1)
        end = evaluation + export + save + step
        watch.now = 1000.0 + 180.0 - end
        assert clock.budget_is_spent()
        watch.now = 1000.0 + 180.0 - 2 * end - step - 0.2
        assert not clock.budget_is_spent()


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize("limit", [180.0, 600.0])
@pytest.mark.parametrize("kind", ["steps", "time"])
@pytest.mark.parametrize("seed", range(12))
def test_a_limit_is_never_exceeded_and_little_of_it_is_left(seed, kind, limit, in_background):
    """Simulated loops of various speeds, in which every duration varies by a fifth.

    In the background, a save of which a half is computing takes all of that from the evaluation at the end.
    """
    chance, watch = random.Random(seed), Watch()
    step, evaluation, save = (chance.uniform(*bounds) for bounds in ((0.05, 1.5), (0.1, 5.0), (0.05, 2.0)))
    clock, ticks, last_evaluation, last_save = make_clock(watch, limit, kind, steps=100_000), [], 0, 0

    def spend(seconds):
        watch.now += seconds * chance.uniform(0.8, 1.2)
        return watch.now - 1000.0

    def measure(what, seconds):
        began = watch.now
        spend(seconds)
        clock.note(what, watch.now - began)

    def measure_save():
        measure("save", save)
        if in_background:  # all that the clock is told was measured during the save
            for what, share in parts.items():
                clock.note(what, share * save * chance.uniform(0.8, 1.2))

    parts = {"busy": 0.5, "completion": 0.1}
    for what, seconds in (("evaluation", evaluation), ("export", 0.5)):
        measure(what, seconds)
    measure_save()
    while clock.tick < 100_000 and not (kind == "steps" and clock.budget_is_spent()):
        clock.begin_training()
        ticks.append(clock.advance())
        began = watch.now
        spend(step)
        clock.note_step(watch.now - began, 1)
        clock.advance()
        if len(ticks) > last_evaluation + limit / step / 8 and clock.has_time_for(evaluation=True):
            measure("evaluation", evaluation)
            last_evaluation = len(ticks)
        if len(ticks) > last_save + limit / step / 20 and clock.has_time_for(save=True):
            measure_save()
            last_save = len(ticks)
        clock.advance()
    rest = (save,)
    if in_background:
        rest = (parts["busy"] * save, max(0.0, (1 - parts["busy"]) * save - evaluation), parts["completion"] * save)
    total = [spend(seconds) for seconds in (evaluation, 0.5, *rest)][-1]
    assert 0.95 * limit <= total <= limit
    assert ticks == sorted(ticks)
    if kind == "time":
        assert ticks[0] == 0
        assert ticks[-1] > 90_000
        assert clock.tick == 100_000


@pytest.mark.parametrize("what", ["evaluation", "save", "step"])
def test_a_stop_does_not_end_a_run_early(what):
    """One measurement among usual ones was a minute too long, because the process was stopped."""
    watch = Watch()
    clock = make_clock(watch)
    for is_stopped in (False, False, False, True, False):
        note(clock, evaluation=2.0 + 60 * (is_stopped and what == "evaluation"))
        note(clock, save=1.0 + 60 * (is_stopped and what == "save"))
        clock.note_step(0.5 + 60 * (is_stopped and what == "step"), 1)
    watch.now += 180.0 - 12.0
    assert not clock.budget_is_spent()


@pytest.mark.parametrize(
    ("what", "seconds"),
    [({"evaluation": True}, 10.0), ({"save": True}, 20.0), ({"evaluation": True, "save": True}, 30.0)],
)
def test_nothing_begins_that_would_cost_the_end_its_time(what, seconds):
    """The end takes 30 s."""
    watch = Watch()
    clock = make_clock(watch)
    note(clock, evaluation=10.0, save=20.0)
    watch.now = 1000.0 + 180.0 - seconds - 30.0
    assert not clock.has_time_for(**what)
    watch.now = 1000.0 + 180.0 - 2 * (seconds + 30.0)
    assert clock.has_time_for(**what)


def test_without_a_limit_there_is_time_for_everything():
    watch = Watch()
    unlimited = RunClock(TrainConfig(steps=10, batch_size=1, context_length=1), now=watch)
    note(unlimited, evaluation=1e9, save=1e9)
    assert unlimited.has_time_for(evaluation=True, save=True)
    assert not unlimited.budget_is_spent()


def test_ticks_are_shares_of_the_time_for_training():
    watch = Watch()
    clock = make_clock(watch)
    watch.now += 30.0  # the first evaluation, and the compiler
    clock.begin_training()
    assert clock.advance() == 0
    ticks = []
    for _ in range(150):
        watch.now += 1.0
        ticks.append(clock.advance())
    assert ticks == sorted(ticks)
    assert ticks[74] == pytest.approx(500, abs=5)
    assert ticks[-1] == 1000
    assert max(ticks[:-1]) < 1000


def test_a_schedule_never_goes_back_when_the_end_turns_out_longer_or_shorter():
    watch = Watch()
    clock = make_clock(watch)
    clock.begin_training()
    ticks = []
    for number in range(160):
        watch.now += 1.0
        note(clock, evaluation=[1.0, 9.0, 2.0][number % 3])
        ticks.append(clock.advance())
    assert ticks == sorted(ticks)


def test_steps_of_a_device_that_only_queues_them_count_when_they_are_computed():
    watch = Watch()
    clock = make_clock(watch, kind="steps", grad_accumulation_steps=2)
    for _ in range(3):
        for _ in range(5):
            clock.note_step(0.001, 2, is_computed=False)
        clock.note_step(19.995, 0)
    # A step takes 4 s: there is time for it at 170 s, but not later than 176 s.
    watch.now = 1000.0 + 170.0
    assert not clock.budget_is_spent()
    assert clock.is_near_the_end()
    watch.now = 1000.0 + 176.0
    assert clock.budget_is_spent()
    watch.now = 1000.0 + 100.0
    assert not clock.is_near_the_end()


def test_larger_steps_of_a_batch_ramp_are_reserved_before_the_first_of_them():
    watch = Watch()
    clock = make_clock(watch, kind="steps", batch_ramp=((0.0, 1), (0.03, 8)))
    for _ in range(30):
        clock.note_step(1.0, 1)
    watch.now = 1000.0 + 172.5  # the next step takes 8 s
    assert clock.budget_is_spent()


def test_a_run_resumes_with_its_clock():
    watch = Watch()
    clock = make_clock(watch)
    watch.now += 20.0
    clock.begin_training()
    note(clock, evaluation=3.0, save=2.0)
    clock.note_step(1.5, 1)
    watch.now += 60.0
    tick = clock.advance()
    state = clock.state_dict()
    watch.now += 10_000.0  # between two sessions
    for earlier, expected in ((0.0, 80.0), (95.0, 95.0)):
        config = TrainConfig(steps=1000, batch_size=1, context_length=1, clock="time", time_limit_seconds=180.0)
        again = RunClock(config, now=watch, earlier=earlier)
        again.load_state_dict(state)
        assert again.elapsed() == expected
        assert again.tick == tick
        assert again.reserve() == clock.reserve()
        assert (again.advance() > tick) is (earlier > 80.0)


def test_a_quarter_more_than_the_slowest_evaluation_and_save_is_reserved():
    clock = make_clock(Watch())
    note(clock, evaluation=7.0, save=2.0)
    note(clock, evaluation=8.0)
    note(clock, evaluation=6.0)
    assert clock.reserve() == pytest.approx(1.25 * (8.0 + 2.0) + 0.1)


@pytest.mark.parametrize(
    ("measured", "settings", "end"),
    [
        ({"save": 8.0}, {}, 10.0 + 8.0),
        ({"save": 8.0, "busy": 2.0, "completion": 1.0}, {}, 10.0 + 2.0 + 1.0),
        ({"save": 20.0, "busy": 2.0, "completion": 1.0}, {}, 20.0 + 1.0),
        ({"save": 8.0, "busy": 2.0, "completion": 1.0}, {"save_in_background": False}, 10.0 + 8.0),
    ],
)
def test_a_save_beside_the_last_evaluation_is_reserved_once_it_has_been_measured(measured, settings, end):
    """Also over a resume, from a checkpoint of a version that did not measure it."""
    clock = make_clock(Watch(), **settings)
    note(clock, evaluation=10.0, save=measured["save"])
    state = clock.state_dict()
    state["times"] = {what: times for what, times in state["times"].items() if what not in ("busy", "completion")}
    again = make_clock(Watch(), **settings)
    again.load_state_dict(state)
    assert again.reserve() == pytest.approx(1.25 * (10.0 + measured["save"]) + 0.1)
    note(again, **measured)
    assert again.reserve() == pytest.approx(1.25 * end + 0.1)


@pytest.fixture
def watch(monkeypatch):
    """Fake clock for complete runs, in which a save takes half a second."""
    watch = Watch()
    monkeypatch.setattr(time, "perf_counter", watch)
    write = CheckpointStore.write

    def slow_write(self, state):
        watch.now += 0.5
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", slow_write)
    return watch


def timed(run_dir, watch, ticks=None, **settings):
    """A trainer whose forward passes take a second; `ticks` collects what the schedule is asked for."""

    def loss(model, inputs, targets):
        # The validation split has 62 windows, in one batch and the rest: two seconds.
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


def test_a_run_that_was_out_of_time_goes_on_with_more(tmp_path, watch):
    """R37."""
    first = timed(tmp_path / "run", watch, steps=1000, time_limit_seconds=60.0).fit()
    second = timed(tmp_path / "run", watch, steps=1000, time_limit_seconds=100.0).fit()
    assert (first.status, second.status) == ("time_limit", "time_limit")
    assert first.steps + 20 < second.steps
    assert 60 < second.seconds_total <= 100


def test_with_more_time_the_schedule_goes_back(tmp_path, watch):
    """R37: to where the new limit has the present moment; evaluations follow it."""
    run, ticks = tmp_path / "run", []
    settings = {"steps": 1000, "clock": "time", "eval_interval": 250}
    first = timed(run, watch, time_limit_seconds=100.0, **settings).fit()
    second = timed(run, watch, ticks, time_limit_seconds=300.0, **settings).fit()
    assert (second.status, second.steps > first.steps + 100) == ("completed", True)
    assert 250 < ticks[0] < 400
    assert ticks == sorted(ticks)
    assert 950 < ticks[-1] < 1000
    evaluated = [record["step"] for record in read_metrics(run) if record["event"] == "eval"]
    assert len([step for step in evaluated if first.steps < step < second.steps]) == 2


def test_steps_stop_early_in_order(tmp_path, watch):
    summary = timed(tmp_path / "run", watch, steps=1000, time_limit_seconds=60.0).fit()
    assert summary.status == "time_limit"
    assert 50 < summary.seconds_total <= 60
    assert summary.seconds_training == summary.steps
    last = read_metrics(tmp_path / "run")[-1]
    assert (last["event"], last["step"], last["loss"]) == ("eval", summary.steps, summary.final_valid_loss)
    assert (tmp_path / "run" / "checkpoints" / f"step_{summary.steps:07}").is_dir()


def test_schedule_ramp_and_mean_follow_the_clock_over_an_interruption(tmp_path, watch):
    """Every pass takes a second, so in the second half of the time there are half as many steps, of two passes."""
    run, ticks = tmp_path / "run", []
    settings = {"steps": 1000, "clock": "time", "time_limit_seconds": 300.0, "log_interval": 1, "eval_interval": 250}
    settings |= {"batch_ramp": ((0.0, 1), (0.5, 2)), "average_from": 0.75, "checkpoint_interval": 500}
    trainer = timed(run, watch, ticks, seconds_before=10.0, **settings)

    def interrupt(*_):
        if len(ticks) == 100:
            signal.raise_signal(signal.SIGTERM)

    trainer.optimizer.register_step_pre_hook(interrupt)
    with pytest.raises(TrainingInterrupted):
        trainer.fit()
    spent = read_metrics(run)[-1]["seconds_total"]
    watch.now += 10_000  # between the sessions
    # Ten seconds after the last checkpoint the process was killed, say: they count.
    summary = timed(run, watch, ticks, seconds_of_earlier_sessions=spent + 10, **settings).fit()
    assert summary.status == "completed"
    assert 285 < summary.seconds_total <= 300
    assert (ticks[0], len(ticks)) == (0, summary.steps)
    assert ticks == sorted(ticks)
    assert 950 < ticks[-1] < 1000
    records = read_metrics(run)
    trained = [record for record in records if record["event"] == "train"]
    passes = [
        (after["tokens"] - before["tokens"]) // 32
        for before, after in zip([{"tokens": 0}, *trained[:-1]], trained, strict=True)
    ]
    assert passes == [1 if tick < 500 else 2 for tick in ticks]
    evaluations = [record for record in records if record["event"] == "eval"]
    assert [round(record["progress"], 1) for record in evaluations] == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.06)
    assert evaluations[-1]["averaged_steps"] == sum(tick >= 750 for tick in ticks)
    # Less than the checkpoint knows changes nothing.
    assert timed(run, watch, seconds_of_earlier_sessions=1.0, **settings).fit() == summary


@pytest.mark.parametrize("update", [False, True])
def test_the_schedule_begins_after_the_compiler(tmp_path, watch, monkeypatch, update):
    def compile_slowly(function, **_):
        def compiled(*arguments):
            watch.now += 0.0 if seen else 29.0
            seen.append(True)
            return function(*arguments)

        seen = []
        return compiled

    monkeypatch.setattr("torch.compile", compile_slowly)
    monkeypatch.setattr(AdamW, "step_compiles", update, raising=False)
    ticks = []
    settings = {"clock": "time", "time_limit_seconds": 100.0, "compile": "on", "eval_interval": 1000}
    summary = timed(tmp_path / "run", watch, ticks, steps=1000, **settings).fit()
    assert 90 < summary.seconds_total <= 100
    assert ticks[: 2 + update] == [0] * (2 + update)
    assert 0 < ticks[2 + update] < 70
    assert 900 < ticks[-1] < 1000


def test_a_limit_that_is_too_short_leaves_the_directory_for_another(tmp_path, watch):
    with pytest.raises(
        ValueError, match=r"time_limit_seconds is 3: 2\.\d s have passed before the first step, .* expected more"
    ):
        timed(tmp_path / "run", watch, time_limit_seconds=3).fit()
    assert timed(tmp_path / "run", watch, steps=5, time_limit_seconds=100).fit().status == "completed"


def test_checkpoints_by_time(tmp_path, watch):
    run = tmp_path / "run"
    timed(run, watch, steps=20, checkpoint_interval=None, checkpoint_seconds=7.0, keep_checkpoints=20).fit()
    saved = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert saved == ["step_0000005", "step_0000012", "step_0000019", "step_0000020"]


def test_eta_is_that_of_the_clock(tmp_path, watch, capsys):
    from trainer import ConsoleLogger

    settings = {"steps": 40, "eval_interval": 1000, "checkpoint_interval": None}
    timed(tmp_path / "run", watch, loggers=[ConsoleLogger()], **settings).fit()
    lines = [line for line in capsys.readouterr().out.splitlines() if "train loss" in line]
    assert [line.rpartition("ETA ")[2] for line in lines] == ["0:30", "0:20", "0:10", "0:00"]
    assert all(" 32 tok/s" in line for line in lines)
    assert len({line.index("ETA") for line in lines}) == 1


@pytest.mark.parametrize(("kind", "due"), [("steps", 7), ("steps", 20), ("time", 13)])
def test_the_end_has_time_for_averaged_weights_whatever_is_due_before(tmp_path, watch, monkeypatch, kind, due):
    """An evaluation takes seven seconds, the first save four and each other one twelve."""
    run, write = tmp_path / "run", CheckpointStore.write

    def growing_write(self, state):
        watch.now += 11.5 if state.step else 3.5
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", growing_write)
    interval = due * (1 if kind == "steps" else 12)
    settings = {"average_from": 0.0, "eval_interval": interval, "checkpoint_interval": interval, "clock": kind}
    settings |= {"steps": 1000, "time_limit_seconds": 120.0, "eval_batch_size": 10, "log_interval": 1000}
    summary = timed(run, watch, **settings).fit()
    assert 90 < summary.seconds_total <= 120
    last = read_metrics(run)[-1]
    assert (last["averaged_steps"], last["loss"]) == (summary.steps, summary.final_valid_loss)
    meta = json.loads((run / "checkpoints" / f"step_{summary.steps:07}" / "meta.json").read_text())
    assert meta["valid_loss"] == summary.final_valid_loss
    # A process that dies before the summary is followed by one that trains no further.
    (run / "summary.json").unlink()
    again = timed(run, watch, **settings).fit()
    assert (again.steps, again.final_valid_loss) == (summary.steps, summary.final_valid_loss)


@pytest.mark.parametrize("dies", [False, True])
def test_time_that_ends_during_a_save_loses_no_record(tmp_path, watch, monkeypatch, dies):
    """Alternatively the process dies in the next save, that of the evaluated weights."""
    run, saved, write = tmp_path / "run", [], CheckpointStore.write

    def slower_write(self, state):
        saved.append(state.step)
        watch.now += 40.0 if saved == [0, 20] else 0.0
        if dies and saved == [0, 20, 20]:
            raise Crash
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", slower_write)
    settings = {"time_limit_seconds": 60.0, "steps": 100, "log_interval": 7, "eval_interval": 1000}
    settings |= {"checkpoint_interval": 20, "sample": lambda model, step: "text"}
    if dies:
        with pytest.raises(Crash):
            timed(run, watch, **settings).fit()
        settings["seconds_of_earlier_sessions"] = 59.0
    summary = timed(run, watch, **settings).fit()
    assert (summary.status, summary.steps) == ("time_limit", 20)
    records = read_metrics(run)
    assert [(record["event"], record["step"]) for record in records] == [
        ("eval", 0),
        ("train", 7),
        ("train", 14),
        ("train", 20),
        ("eval", 20),
    ]
    timed(tmp_path / "longer", watch, steps=20, log_interval=7).fit()
    expected = read_metrics(tmp_path / "longer")[-2]
    assert all(records[-2][name] == expected[name] for name in ("loss", "loss_max", "lr", "grad_norm", "tokens"))
    samples = (run / "samples.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in samples] == [0, 20]


def test_intervals_that_pass_during_an_evaluation_count(tmp_path, watch, monkeypatch):
    """An evaluation takes sixty of the thousand ticks; a save that becomes due meanwhile follows the next step."""
    saved, write = [], CheckpointStore.write

    def noting_write(self, state):
        saved.append(state.training["clock"]["tick"])
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", noting_write)

    def loss(model, inputs, targets):
        watch.now += 4.0 if model.training else 30.0
        # No evaluation is the best one, which would be saved.
        return loss_fn(model, inputs, targets) if model.training else torch.ones(())

    settings = {"steps": 1000, "clock": "time", "time_limit_seconds": 1100.0, "grad_accumulation_steps": 1}
    settings |= {"save_in_background": False, "eval_batch_size": 100, "log_interval": 10}
    make_trainer(tmp_path / "saves", loss=loss, eval_interval=250, checkpoint_interval=300, **settings).fit()
    assert [tick // 10 for tick in saved] == [0, 31, 60, 90, 100]
    # But an evaluation does not make the next one due at once.
    make_trainer(tmp_path / "evaluations", loss=loss, eval_interval=50, checkpoint_interval=None, **settings).fit()
    records = read_metrics(tmp_path / "evaluations")
    evaluated = [1000 * record["progress"] for record in records if record["event"] == "eval"]
    assert 8 <= len(evaluated) <= 12
    assert all(after - before >= 80 for before, after in itertools.pairwise(evaluated[1:-1]))


def test_the_last_evaluation_has_time_though_those_before_read_less(tmp_path, watch):
    """The whole split takes 15.6 s; of any evaluation, the first batch after training takes two seconds more."""
    read, trained = [], [True]

    def loss(model, inputs, targets):
        watch.now += inputs.numel() / 8 / 4 + 2.0 * (trained[0] and not model.training)
        trained[0] = model.training
        if not model.training:
            read.append(inputs.numel())
        return loss_fn(model, inputs, targets)

    settings = {"steps": 1000, "clock": "time", "time_limit_seconds": 300.0, "log_interval": 50, "eval_interval": 100}
    settings |= {"grad_accumulation_steps": 1, "checkpoint_interval": None, "eval_batch_size": 2, "eval_tokens": 81}
    summary = make_trainer(tmp_path / "run", loss=loss, save_in_background=False, **settings).fit()
    records = [record for record in read_metrics(tmp_path / "run") if record["event"] == "eval"]
    assert len(records) > 8
    assert sum(read) == 80 * (len(records) - 1) + 499
    assert records[-1]["loss"] == summary.final_valid_loss == summary.best_valid_loss
    assert 0.95 * 300 < summary.seconds_total <= 300


def test_time_that_ends_after_an_evaluation_and_a_save(tmp_path, watch, monkeypatch):
    """Both take longer than ever before; the same step is then saved again with the averaged weights."""
    run, saved = tmp_path / "run", []
    write = CheckpointStore.write

    def slower_write(self, state):
        saved.append((state.step, bool(state.training["average"]["means"])))
        watch.now += 30.0 if state.step == 20 and len(saved) == 2 else 0.0
        return write(self, state)

    monkeypatch.setattr(CheckpointStore, "write", slower_write)
    settings = {"average_from": 0.0, "eval_interval": 20, "checkpoint_interval": 20, "keep_checkpoints": 1}
    summary = timed(run, watch, steps=100, time_limit_seconds=60.0, **settings).fit()
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
