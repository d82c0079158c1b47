"""Averaged weights of a run's tail, compared with a plain loop that keeps the weights of every step."""

import json
import shutil
import signal

import pytest
import torch
from bigram_run import (
    CONFIG,
    VOCAB_SIZE,
    Crash,
    Notices,
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
from checkpoint_files import state_of
from safetensors.torch import load_file
from torch import nn

from trainer import TrainConfig, TrainingInterrupted, evaluate, load_weights, read_metrics
from trainer.checkpoints import CheckpointStore
from trainer.data.windows import batch_generator, get_batch
from trainer.distributed.parallel import Parallel
from trainer.distributed.processes import Processes
from trainer.training.averaging import WeightAverage

pytestmark = pytest.mark.usefixtures("no_pictures")
SETTINGS = {"steps": 20, "average_from": 0.7, "eval_interval": 5, "checkpoint_interval": 3}
FIRST = 14  # the step that begins at 0.7 of the run


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """The directory of an uninterrupted run."""
    return train_without_pictures(tmp_path_factory.mktemp("averaged") / "run", **SETTINGS)


def train_by_hand():
    """Return the final model, and its weights after each step."""
    torch.manual_seed(CONFIG["seed"])
    model, tokens, weights = make_model(), make_tokens(), []
    torch.manual_seed(CONFIG["seed"])
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(20):
        optimizer.zero_grad()
        for micro_step in range(2):
            inputs, targets = get_batch(tokens, 4, 8, "cpu", batch_generator(CONFIG["seed"], step, micro_step))
            (loss_fn(model, inputs, targets) / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
    return model, weights


def test_the_end_is_the_mean_of_a_plain_loop(tmp_path):
    notices, model = Notices(), make_model()
    summary = make_trainer(tmp_path / "run", model=model, loggers=[notices], **SETTINGS).fit()
    expected, weights = train_by_hand()
    for number, parameter in enumerate(expected.parameters()):
        tail = torch.stack([step[number].double() for step in weights[FIRST:]])
        assert len(tail) == 6
        parameter.data = tail.mean(0).float()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)
    assert not torch.allclose(next(model.parameters()), weights[-1][0], rtol=0, atol=1e-3)
    loss = evaluate(expected, make_tokens(500, seed=1), 8).loss
    assert summary.final_valid_loss == pytest.approx(loss, abs=1e-6)
    evaluations = [record for record in read_metrics(tmp_path / "run") if record["event"] == "eval"]
    assert [record.get("averaged_steps") for record in evaluations] == [None] * 4 + [6]
    saved = load_file(tmp_path / "run" / "checkpoints" / "step_0000020" / "model.safetensors")
    assert all(torch.equal(saved[name], value) for name, value in model.state_dict().items())
    assert notices.messages[-1] == (
        f"completed: 20 steps, validation loss {summary.final_valid_loss:.4f} of the mean of 6 steps' weights"
    )


def test_an_exponential_average_is_that_of_a_plain_loop(tmp_path):
    """It is an equal mean of the first 1 / (1 - decay) weights, so that none has a greater share than its due."""
    model = make_model()
    make_trainer(tmp_path / "run", model=model, **{**SETTINGS, "average_from": 0.2, "average_decay": 0.75}).fit()
    expected, weights = train_by_hand()
    for number, parameter in enumerate(expected.parameters()):
        tail = [step[number].double() for step in weights[4:]]
        mean = torch.stack(tail[:4]).mean(0)
        for value in tail[4:]:
            mean = 0.75 * mean + 0.25 * value
        parameter.data = mean.float()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)


def test_a_decay_needs_the_share_from_which_to_average():
    with pytest.raises(ValueError, match=r"average_decay is 0\.9 but average_from is None: give the share of the run"):
        TrainConfig(steps=1, batch_size=1, context_length=1, average_decay=0.9)
    with pytest.raises(ValueError, match=r"average_decay is 1\.0: expected a share from 0\.0 to below 1\.0"):
        TrainConfig(steps=1, batch_size=1, context_length=1, average_from=0.0, average_decay=1.0)


def test_training_and_evaluations_on_the_way_are_of_the_weights_as_they_are(tmp_path, averaged, timeless):
    make_trainer(tmp_path / "plain", **{**SETTINGS, "average_from": None}).fit()
    ours, plain = timeless(averaged), timeless(tmp_path / "plain")
    assert ours[:-1] == plain[:-1]
    assert ours[-1]["loss"] != plain[-1]["loss"]


@pytest.mark.parametrize("at", [1, 28, 29, 31, 40])
def test_resumes(tmp_path, averaged, timeless, at):
    """The mean begins with step 15, in passes 29 and 30; checkpoints come every third step."""
    with pytest.raises(Crash):
        make_trainer(tmp_path / "run", loss=failing_loss(at, crash), **SETTINGS).fit()
    make_trainer(tmp_path / "run", model=make_model(0 if at == 1 else 9), **SETTINGS).fit()
    assert_equal_runs(averaged, tmp_path / "run", timeless)


@pytest.mark.parametrize("at", [28, 29, 33])
def test_signals(tmp_path, averaged, timeless, at):
    interrupt = failing_loss(at, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(TrainingInterrupted):
        make_trainer(tmp_path / "run", loss=interrupt, **SETTINGS).fit()
    make_trainer(tmp_path / "run", model=make_model(9), **SETTINGS).fit()
    assert_equal_runs(averaged, tmp_path / "run", timeless)


def test_a_kill_after_the_last_checkpoint_averages_nothing_twice(tmp_path, averaged, timeless):
    run, model = shutil.copytree(averaged, tmp_path / "run"), make_model(9)
    before = json.loads((run / "summary.json").read_text())
    (run / "summary.json").unlink()
    again = make_trainer(run, model=model, **SETTINGS).fit()
    assert (again.final_valid_loss, again.steps) == (before["final_valid_loss"], 20)
    assert_equal_runs(averaged, run, timeless)
    reread = make_model(8)
    make_trainer(run, model=reread, **SETTINGS).fit()  # is only read
    for one, other in zip(model.parameters(), reread.parameters(), strict=True):
        assert torch.equal(one, other)


def test_load_weights_takes_the_mean_only_where_it_is_the_best(tmp_path):
    settings = {**SETTINGS, "checkpoint_interval": 5}
    make_trainer(tmp_path / "good", **settings).fit()
    assert load_weights(make_model(9), tmp_path / "good") == 20
    # In the tail the rate is far too high.
    make_trainer(tmp_path / "bad", lr=lambda step: 1e-2 if step < 14 else 1.0, **settings).fit()
    losses = {record["step"]: record["loss"] for record in read_metrics(tmp_path / "bad") if record["event"] == "eval"}
    assert min(losses, key=losses.get) == 10
    assert load_weights(make_model(9), tmp_path / "bad") == 10


def test_nothing_to_average_is_said(tmp_path, timeless):
    notices = Notices()
    summary = make_trainer(tmp_path / "run", loggers=[notices], **{**SETTINGS, "average_from": 0.96}).fit()
    assert notices.messages[-2:] == [
        "nothing is averaged: no step began at 0.96 of the run (average_from) or later; the last evaluation and "
        "checkpoint are of the weights as they are",
        f"completed: 20 steps, validation loss {summary.final_valid_loss:.4f}",
    ]
    make_trainer(tmp_path / "plain", **{**SETTINGS, "average_from": None}).fit()
    assert timeless(tmp_path / "run") == timeless(tmp_path / "plain")


@pytest.mark.parametrize("value", [1.0, -0.1, 5, True, float("nan"), "0.5"])
def test_shares_that_make_no_sense(value):
    with pytest.raises(ValueError, match=r"average_from is .*: expected a share from 0\.0 to below 1\.0, or None"):
        TrainConfig(steps=1, batch_size=1, context_length=1, average_from=value)


def test_a_diverged_run_averages_nothing(tmp_path):
    poison = torch.ones(())
    loss = failing_loss(35, lambda: poison.fill_(float("nan")))
    summary = make_trainer(tmp_path / "run", loss=lambda *given: loss(*given) * poison, **SETTINGS).fit()
    assert (summary.status, summary.final_valid_loss) == ("diverged", None)
    assert all("averaged_steps" not in record for record in read_metrics(tmp_path / "run"))


def test_skipped_steps_are_not_in_the_mean(tmp_path):
    loss, poisoned = failing_loss(35, lambda: poisoned.append(1)), []

    def skipped_once(*given):
        value = loss(*given)
        return value * float("nan") if poisoned and poisoned.pop() else value

    settings = {**SETTINGS, "on_non_finite": "skip"}
    assert make_trainer(tmp_path / "run", loss=skipped_once, **settings).fit().skipped_steps == 1
    assert read_metrics(tmp_path / "run")[-1]["averaged_steps"] == 5


def count_call(module, given):
    module.calls += module.training


def test_buffers_are_not_averaged(tmp_path):
    model = make_model()
    model[0].register_buffer("calls", torch.zeros(1))
    model[0].register_forward_pre_hook(count_call)
    make_trainer(tmp_path / "run", model=model, **SETTINGS).fit()
    assert model[0].calls.item() == 40


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCAB_SIZE, 16)
        self.fixed = nn.Parameter(torch.tensor(0.1), requires_grad=False)
        self.head = nn.Linear(16, VOCAB_SIZE, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, inputs):
        return self.head(self.embedding(inputs)) * (1 + self.fixed)


def test_shared_and_fixed_parameters(tmp_path, timeless):
    settings = {**SETTINGS, "checkpoint_interval": 3}
    make_trainer(tmp_path / "whole", model=(model := Tied()), **settings).fit()
    assert model.head.weight is model.embedding.weight
    assert model.fixed.item() == torch.tensor(0.1).item()
    with pytest.raises(Crash):
        make_trainer(tmp_path / "run", model=Tied(), loss=failing_loss(38, crash), **settings).fit()
    make_trainer(tmp_path / "run", model=Tied(), **settings).fit()
    assert_equal_runs(tmp_path / "whole", tmp_path / "run", timeless)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_mean_is_exact_enough_for_many_steps(dtype):
    """A mean in bfloat16 would lose the small differences between late steps."""
    model = nn.Linear(1, 2, bias=False, dtype=dtype)
    parallel = Parallel(model, torch.optim.SGD(model.parameters()), Processes(), torch.device("cpu"))
    config = TrainConfig(steps=1000, batch_size=1, context_length=1, average_from=0.0)
    average, values = WeightAverage(parallel, config), []
    for step in range(1000):
        with torch.no_grad():
            model.weight.copy_(torch.tensor([[1 + step / 1000], [step % 2]]))
        values.append(model.weight.detach().double().clone())
        average.add(step)
    (mean,) = average.state_dict()["means"].values()
    expected = torch.stack(values).mean(0)
    assert mean.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.allclose(mean.double(), expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-4)
    assert average.finish()
    assert torch.equal(model.weight, mean.to(dtype))
    assert average.state_dict() == {"steps": 1000, "is_finished": True, "means": {}}
    assert not average.finish()


def test_a_checkpoint_that_was_being_replaced_is_put_back(tmp_path):
    """A process that dies between two renames leaves the checkpoint with the weights before averaging."""
    store, model = CheckpointStore(tmp_path, keep=1), make_model()
    optimizer = torch.optim.AdamW(model.parameters())
    path = store.write(state_of(4, model, optimizer, {}, 3.0))
    path.rename(tmp_path / ".aside-old-step_0000004")
    assert CheckpointStore(tmp_path, keep=1).is_empty()
    store.remove_leftovers()
    assert store.load_latest().path == path
    store.write(state_of(4, make_model(5), optimizer, {}, 2.0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_0000004"]
    assert json.loads((path / "meta.json").read_text())["valid_loss"] == 2.0
    # The new one is complete: the old one goes.
    (tmp_path / ".aside-old-step_0000004").mkdir()
    store.remove_leftovers()
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_0000004"]
    assert json.loads((path / "meta.json").read_text())["valid_loss"] == 2.0
