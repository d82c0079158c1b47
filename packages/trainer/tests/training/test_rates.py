"""Learning rates by torch's schedulers, scheduled weight decay, and schedules that are none (A26)."""

import signal

import pytest
import torch
from bigram_run import Notices, failing_loss, loss_fn, make_model, make_trainer, recording
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau, SequentialLR, StepLR

from trainer import TrainingInterrupted, load_weights, read_metrics

pytestmark = pytest.mark.usefixtures("no_pictures")

SCHEDULERS = {
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, 60),
    "steps": lambda optimizer: StepLR(optimizer, 10, 0.5),
    "one cycle": lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=61),
    "in sequence": lambda optimizer: SequentialLR(
        optimizer, [LambdaLR(optimizer, lambda step: 0.1 * (step + 1)), CosineAnnealingLR(optimizer, 50)], [10]
    ),
}


def with_scheduler(run, kind, **options):
    model = make_model(options.pop("seed", 0), dropout=0.0)
    groups = [{"params": model[:3].parameters(), "lr": 0.05}, {"params": model[3:].parameters(), "lr": 0.02}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    return make_trainer(run, model=model, optimizer=optimizer, lr=SCHEDULERS[kind](optimizer), steps=30, **options)


def weights(run):
    model = make_model()
    load_weights(model, run / "checkpoints" / "step_0000030")
    return torch.cat([parameter.flatten() for parameter in model.parameters()])


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_scheduler_of_torch_sets_the_rates(tmp_path, kind):
    seen, run = [], tmp_path / "run"
    with_scheduler(run, kind, loss=recording(seen), grad_accumulation_steps=1, max_grad_norm=None, log_interval=1).fit()
    other = with_scheduler(tmp_path / "other", kind)
    rates = []
    for inputs, targets in seen:
        other.optimizer.zero_grad()
        loss_fn(other.model, inputs, targets).backward()
        rates.append([group["lr"] for group in other.optimizer.param_groups])
        other.optimizer.step()
        other.schedule.step()
    assert torch.equal(weights(run), torch.cat([p.detach().flatten() for p in other.model.parameters()]))
    records = [record for record in read_metrics(run) if record["event"] == "train"]
    assert [record["lr"] for record in records] == [rate[0] for rate in rates]
    assert [record.get("group_lrs", [record["lr"]] * 2) for record in records] == rates


@pytest.mark.filterwarnings("ignore:The epoch parameter")
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_a_scheduler_goes_on_where_it_was(tmp_path, kind):
    with_scheduler(tmp_path / "whole", kind).fit()
    run = tmp_path / "run"
    with pytest.raises(TrainingInterrupted):
        with_scheduler(run, kind, loss=failing_loss(33, lambda: signal.raise_signal(signal.SIGINT))).fit()
    with_scheduler(run, kind, seed=7).fit()
    assert torch.equal(weights(run), weights(tmp_path / "whole"))


def with_decay(run, *, steps=30, seed=0, **options):
    model = make_model(seed, dropout=0.0)
    groups = [{"params": model[:3].parameters(), "weight_decay": 0.5}, {"params": model[3:].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    options = {"weight_decay_schedule": lambda step: 1 - step / 30, **options}
    return make_trainer(run, model=model, optimizer=optimizer, steps=steps, lr=lambda step: 0.1, **options)


def test_weight_decay_follows_its_schedule(tmp_path):
    """Each group's own decay is multiplied in a step, and is the same before and after it."""
    seen, run = [], tmp_path / "run"
    trainer = with_decay(run, loss=recording(seen), grad_accumulation_steps=1, max_grad_norm=None, log_interval=1)
    trainer.fit()
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.5, 0]
    other = with_decay(tmp_path / "other")
    for step, (inputs, targets) in enumerate(seen):
        other.optimizer.zero_grad()
        loss_fn(other.model, inputs, targets).backward()
        other.optimizer.param_groups[0]["weight_decay"] = 0.5 * (1 - step / 30)
        for group in other.optimizer.param_groups:
            group["lr"] = 0.1
        other.optimizer.step()
    assert torch.equal(weights(run), torch.cat([p.detach().flatten() for p in other.model.parameters()]))
    records = [record for record in read_metrics(run) if record["event"] == "train"]
    assert [record["weight_decay_factor"] for record in records] == [1 - step / 30 for step in range(30)]


def test_scheduled_weight_decay_goes_on_where_it_was(tmp_path):
    with_decay(tmp_path / "whole").fit()
    with_decay(tmp_path / "run", steps=17).fit()
    with_decay(tmp_path / "run", seed=7).fit()
    assert torch.equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    with_decay(tmp_path / "other", steps=17).fit()
    notices = Notices()
    with_decay(tmp_path / "other", weight_decay_schedule=None, loggers=[notices]).fit()
    assert "changed from step 17 on: steps was 17, now 30; weight_decay_schedule was edited" in notices.messages


def with_momentum(run, *, steps=30, seed=0, **options):
    model = make_model(seed, dropout=0.0)
    groups = [{"params": model[:3].parameters(), "momentum": 0.8}, {"params": model[3:].parameters()}]
    options = {"momentum_schedule": lambda step: 0.5 + step / 60, "lr": lambda step: 0.1, **options}
    return make_trainer(run, model=model, optimizer=torch.optim.SGD(groups, lr=0.1), steps=steps, **options)


def test_momentum_follows_its_schedule_and_goes_on_where_it_was(tmp_path):
    """Each group's own momentum is multiplied in a step, and is the same before and after it."""
    seen, run = [], tmp_path / "run"
    options = {"grad_accumulation_steps": 1, "max_grad_norm": None, "log_interval": 1}
    trainer = with_momentum(run, loss=recording(seen), **options)
    trainer.fit()
    assert [group["momentum"] for group in trainer.optimizer.param_groups] == [0.8, 0]
    other = with_momentum(tmp_path / "other")
    for step, (inputs, targets) in enumerate(seen):
        other.optimizer.zero_grad()
        loss_fn(other.model, inputs, targets).backward()
        other.optimizer.param_groups[0]["momentum"] = 0.8 * (0.5 + step / 60)
        other.optimizer.step()
    assert torch.equal(weights(run), torch.cat([p.detach().flatten() for p in other.model.parameters()]))
    records = [record for record in read_metrics(run) if record["event"] == "train"]
    assert [record["momentum_factor"] for record in records] == [0.5 + step / 60 for step in range(30)]
    with_momentum(tmp_path / "cut", steps=17, **options).fit()
    with_momentum(tmp_path / "cut", seed=7, **options).fit()
    assert torch.equal(weights(tmp_path / "cut"), weights(run))


def test_wrong_schedules_of_momentum_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no parameter group of the optimizer has a momentum above 0"):
        with_decay(tmp_path / "run", momentum_schedule=lambda step: 1.0)
    with pytest.raises(ValueError, match=r"momentum_schedule\(2\) is 1.25, which makes a momentum of 0.8 1: expected"):
        with_momentum(tmp_path / "run", momentum_schedule=lambda step: 1.0 if step < 2 else 1.25).fit()


def test_wrong_schedules_of_weight_decay_are_refused(tmp_path):
    with pytest.raises(
        TypeError, match=r"weight_decay_schedule is 0\.1: expected a function of the step that returns a"
    ):
        with_decay(tmp_path / "run", weight_decay_schedule=0.1)
    plain = torch.optim.SGD(make_model().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="no parameter group of the optimizer has a weight_decay above 0"):
        make_trainer(tmp_path / "run", optimizer=plain, weight_decay_schedule=lambda step: 1.0)
    with pytest.raises(ValueError, match=r"weight_decay_schedule\(3\) is -2.0: expected a finite factor"):
        with_decay(tmp_path / "run", weight_decay_schedule=lambda step: 1.0 if step < 3 else -2.0).fit()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (1e-3, "schedule is 0.001: expected a function of the step, such as lambda step: 1e-3"),
        (None, "schedule is a NoneType: expected a function"),
        ([1e-3], "schedule is a list: expected a function"),
        (CosineAnnealingLR, "schedule is a (ABCMeta|type): expected a function"),
    ],
    ids=str,
)
def test_what_is_no_schedule_is_refused_before_anything_is_evaluated(tmp_path, wrong, message):
    with pytest.raises(TypeError, match=message):
        make_trainer(tmp_path / "run", lr=wrong)
    assert not (tmp_path / "run").exists()


def test_schedulers_that_do_not_fit_are_refused(tmp_path):
    model = make_model()
    optimizer, other = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    with pytest.raises(TypeError, match=r"schedule is a ReduceLROnPlateau: expected .* that needs no losses"):
        make_trainer(tmp_path / "run", model=model, optimizer=optimizer, lr=ReduceLROnPlateau(optimizer))
    with pytest.raises(ValueError, match="schedule is a StepLR of another optimizer"):
        make_trainer(tmp_path / "run", model=model, optimizer=optimizer, lr=StepLR(other, 5))
    with pytest.raises(ValueError, match="schedule is a StepLR, which counts steps: expected a function"):
        make_trainer(
            tmp_path / "run",
            model=model,
            optimizer=optimizer,
            lr=StepLR(optimizer, 5),
            clock="time",
            time_limit_seconds=9.0,
        )


def test_an_optimizer_of_another_model_is_refused(tmp_path):
    """R39."""
    optimizer = torch.optim.SGD(make_model().parameters(), lr=0.1)
    with pytest.raises(ValueError, match="the optimizer has no trainable parameter of the model: expected one made of"):
        make_trainer(tmp_path / "run", optimizer=optimizer)


def test_parameters_that_the_optimizer_lacks_are_named(tmp_path):
    """R39."""
    model = make_model()
    optimizer = torch.optim.SGD([*model[0].parameters(), *model[4].parameters()], lr=0.1)
    with pytest.warns(RuntimeWarning, match=r"the optimizer lacks 2 of the 5 trainable parameters \(1.weight, "):
        make_trainer(tmp_path / "run", model=model, optimizer=optimizer)
    model[1].requires_grad_(False)
    make_trainer(tmp_path / "run", model=model, optimizer=optimizer)


@pytest.mark.parametrize("value", [None, "x", [1.0, 2.0]])
def test_a_schedule_that_returns_no_number_is_named(tmp_path, value):
    """A26."""
    with pytest.raises(TypeError, match=r"schedule\(0\) is .*: expected a number"):
        make_trainer(tmp_path / "run", lr=lambda step: value).fit()
    with pytest.raises(TypeError, match=r"weight_decay_schedule\(0\) is .*: expected a number"):
        make_trainer(tmp_path / "other", weight_decay_schedule=lambda step: value).fit()
