"""Batch ramps: steps grow, and read the same windows in the same order as equal steps."""

import itertools
import json

import numpy as np
import pytest
import torch
from bigram_run import (
    CONFIG,
    Crash,
    assert_equal_runs,
    crash,
    failing_loss,
    loss_fn,
    make_model,
    make_tokens,
    make_trainer,
    schedule,
    train_without_pictures,
)
from torch import nn

from trainer import TrainConfig, read_metrics
from trainer.data.batches import BatchSource, StepBatches
from trainer.data.splits import TokenSplit
from trainer.data.windows import batch_generator, get_batch

pytestmark = pytest.mark.usefixtures("no_pictures")
RAMP = ((0.0, 1), (0.3, 2), (0.6, 4))
SETTINGS = {"steps": 20, "grad_accumulation_steps": 1, "batch_ramp": RAMP, "sampling": "shuffled"}
COUNTS = [1] * 6 + [2] * 6 + [4] * 8  # of the 20 steps


def make_config(**settings):
    return TrainConfig(**{"steps": 10, "batch_size": 2, "context_length": 4, **settings})


def test_stages_begin_at_their_share_of_the_ticks():
    config = make_config(steps=100, batch_ramp=((0.0, 3), (0.07, 5), (0.29, 1), (0.57, 7)))
    counts = [config.accumulation_at(tick) for tick in range(101)]
    assert counts == [3] * 7 + [5] * 22 + [1] * 28 + [7] * 44
    assert config.accumulations == (3, 5, 1, 7)
    assert config.tokens_per_step == 2 * 4 * 7
    assert make_config(grad_accumulation_steps=3).accumulation_at(9) == 3


@pytest.mark.parametrize(
    ("ramp", "message"),
    [
        (((0.1, 1),), r"has the shares \[0\.1\]: expected them to rise from 0\.0 to below 1\.0"),
        (((0.0, 1), (0.5, 2), (0.5, 4)), "expected them to rise"),
        (((0.0, 1), (0.5, 2), (0.4, 4)), "expected them to rise"),
        (((0.0, 1), (1.0, 2)), "expected them to rise"),
        (((0.0, 1), (float("nan"), 2)), "expected them to rise"),
        (((0.0, 1), ("0.5", 2)), "expected them to rise"),
        (((False, 1),), "expected them to rise"),
        (((0.0, 0),), r"has the grad_accumulation_steps \[0\]: expected whole numbers, 1 or more"),
        (((0.0, 1), (0.5, 2.0)), "expected whole numbers, 1 or more"),
        (((0.0, True),), "expected whole numbers, 1 or more"),
        ((0.0, 1), r"is \(0\.0, 1\): expected pairs of a share of the run and grad_accumulation_steps"),
        (((0.0, 1, 2),), "expected pairs"),
        (3, "expected pairs"),
        ("ab", "expected pairs"),
    ],
)
def test_ramps_that_make_no_sense(ramp, message):
    with pytest.raises(ValueError, match=f"batch_ramp .*{message}"):
        make_config(batch_ramp=ramp)


def test_two_numbers_for_the_same():
    with pytest.raises(ValueError, match="grad_accumulation_steps is 2 besides a batch_ramp: expected one of them"):
        make_config(batch_ramp=((0.0, 1),), grad_accumulation_steps=2)


def test_each_window_once_in_an_epoch(tmp_path):
    """Token ids equal their positions, so windows can be identified: 86 in an epoch, 200 in 20 steps."""
    tokens, starts = np.arange(700, dtype=np.uint16), []

    def loss(model, inputs, targets):
        if model.training:
            starts.append(inputs[:, 0].tolist())
        return nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())

    for name, settings in {"ramp": SETTINGS, "equal": {**SETTINGS, "batch_ramp": (), "steps": 50}}.items():
        model = nn.Sequential(nn.Embedding(700, 4), nn.Linear(4, 700))
        make_trainer(tmp_path / name, model=model, train=tokens, valid=tokens[:50], loss=loss, **settings).fit()
    passes = sum(COUNTS)
    assert passes == 50
    assert starts[:passes] == starts[passes:]
    seen = [start for batch in starts[:passes] for start in batch]
    for epoch in (seen[:86], seen[86:172]):
        assert sorted(epoch) == list(range(min(epoch), min(epoch) + 86 * 8, 8))
    assert len(set(seen[172:])) == 28


def test_run_equals_a_hand_written_loop(tmp_path):
    summary = make_trainer(tmp_path / "run", model=(model := make_model()), **{**SETTINGS, "sampling": "random"}).fit()
    torch.manual_seed(CONFIG["seed"])
    other, tokens, numbers = make_model(), make_tokens(), itertools.count()
    torch.manual_seed(CONFIG["seed"])
    optimizer = torch.optim.AdamW(other.parameters())
    for step, count in enumerate(COUNTS):
        optimizer.zero_grad()
        for _ in range(count):
            inputs, targets = get_batch(tokens, 4, 8, "cpu", batch_generator(CONFIG["seed"], next(numbers), 0))
            (loss_fn(other, inputs, targets) / count).backward()
        nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert summary.tokens == 50 * 4 * 8


def test_a_ramp_of_one_stage_is_no_ramp(tmp_path, timeless):
    settings = {"steps": 20, "sampling": "shuffled"}
    make_trainer(tmp_path / "ramp", batch_ramp=((0.0, 2),), grad_accumulation_steps=1, **settings).fit()
    make_trainer(tmp_path / "none", grad_accumulation_steps=2, **settings).fit()
    assert timeless(tmp_path / "ramp") == timeless(tmp_path / "none")


def test_records_count_tokens(tmp_path, capsys):
    from trainer import ConsoleLogger

    run = tmp_path / "run"
    summary = make_trainer(run, loggers=[ConsoleLogger()], log_interval=3, flops_per_token=5.0, **SETTINGS).fit()
    until = [0, *(32 * total for total in itertools.accumulate(COUNTS))]
    records = read_metrics(run)
    assert [record["tokens"] for record in records] == [until[record["step"]] for record in records]
    before = {"tokens": 0, "seconds_training": 0.0}
    for record in (record for record in records if record["event"] == "train"):
        tokens, seconds = (record[name] - before[name] for name in ("tokens", "seconds_training"))
        assert record["tokens_per_second"] == pytest.approx(tokens / seconds)
        before = record
    assert summary.tokens == until[-1]
    assert summary.tokens_per_second == pytest.approx(until[-1] / summary.seconds_training)
    shown = [line.split("%")[1].split()[:2] for line in capsys.readouterr().out.splitlines() if "train loss" in line]
    assert shown == [[number, "tokens"] for number in ("96", "192", "384", "576", "960", "1.34K", "1.60K")]


def test_records_of_a_step_that_is_not_made(tmp_path):
    """The record of a step whose loss ends the run counts the tokens of that step."""
    poison = torch.ones(())
    loss = failing_loss(6 + 2 * 2 + 1, lambda: poison.fill_(float("nan")))  # step 9, the third of the second stage
    settings = {**SETTINGS, "loss": lambda *arguments: loss(*arguments) * poison}
    summary = make_trainer(tmp_path / "stops", **settings).fit()
    assert (summary.status, summary.steps, summary.tokens) == ("diverged", 8, 32 * (6 + 4))
    last = read_metrics(tmp_path / "stops")[-1]
    assert (last["event"], last["step"], last["tokens"]) == ("train", 9, 32 * (6 + 6))


RESUMED = {**SETTINGS, "checkpoint_interval": 5, "log_interval": 1, "eval_interval": 10}


@pytest.fixture(scope="module")
def whole_ramp(tmp_path_factory):
    """The directory of an uninterrupted run."""
    return train_without_pictures(tmp_path_factory.mktemp("whole") / "run", **RESUMED)


@pytest.mark.parametrize("at", [1, 6, 8, 18, 19, 47])
def test_resumes_around_the_changes(tmp_path, whole_ramp, timeless, at):
    """The second stage begins with pass 7, the third with pass 19; checkpoints come every fifth step."""
    with pytest.raises(Crash):
        make_trainer(tmp_path / "run", loss=failing_loss(at, crash), **RESUMED).fit()
    fresh = at <= 5  # before the first checkpoint the new process must bring the same weights
    make_trainer(tmp_path / "run", model=make_model(0 if fresh else 9), **RESUMED).fit()
    assert_equal_runs(whole_ramp, tmp_path / "run", timeless)


def test_a_run_goes_on_with_another_ramp(tmp_path):
    with pytest.raises(Crash):
        make_trainer(tmp_path / "run", loss=failing_loss(40, crash), **SETTINGS).fit()
    summary = make_trainer(tmp_path / "run", **{**SETTINGS, "batch_ramp": ((0.0, 1), (0.5, 2))}).fit()
    assert summary.status == "completed"
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["resumed"][0]["changed"]["batch_ramp"][1] == [[0.0, 1], [0.5, 2]]


@pytest.mark.parametrize("sampling", ["random", "shuffled"])
@pytest.mark.parametrize(
    ("ramp", "world_size", "rows", "micro_steps"),
    [((1, 2, 4), 1, 12, [1, 2, 4]), ((1, 2, 4), 2, 6, [1, 2, 4]), ((2, 3), 4, 3, [2, 3]), ((2, 4), 2, 12, [1, 2])],
)
def test_processes_share_the_windows_of_every_stage(sampling, ramp, world_size, rows, micro_steps):
    """All batches have one size, so that nothing is compiled twice."""
    stages = tuple((number / len(ramp), count) for number, count in enumerate(ramp))
    config = TrainConfig(steps=9, batch_size=12, context_length=5, batch_ramp=stages, sampling=sampling)
    split = TokenSplit(np.arange(5000, dtype=np.uint16), "the data")
    whole, sources = (
        BatchSource(split, config),
        [BatchSource(split, config, rank, world_size) for rank in range(world_size)],
    )
    assert {source.rows for source in sources} == {rows}
    for count, own in zip(ramp, micro_steps, strict=True):
        assert {source.micro_steps(count) for source in sources} == {own}
        for first in (0, 3, 40):
            batches = StepBatches(first, count)
            alone = torch.cat([whole.batch(batches, number) for number in range(count)], dim=1)
            shared = [source.batch(batches, number) for source in sources for number in range(own)]
            assert {tuple(batch.shape) for batch in shared} == {(2, rows, 5)}
            assert torch.equal(torch.cat(shared, dim=1), alone)


def test_a_stage_that_the_processes_cannot_share_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "6", "LOCAL_RANK": "0", "MASTER_ADDR": "host"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError,
        match="6 processes cannot share a step of 4 x 2 windows: expected a batch_size that is a multiple of 3, or "
        "numbers of the batch_ramp that are a multiple of 6",
    ):
        make_trainer(
            tmp_path / "run", batch_size=2, grad_accumulation_steps=1, batch_ramp=((0.0, 6), (0.5, 3), (0.6, 4))
        )
    assert not list(tmp_path.iterdir())
