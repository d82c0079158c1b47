"""Ready-made schedules, beside those of torch, and their arguments."""

import pytest
import torch
from bigram_run import make_trainer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from trainer import schedules
from trainer.records.functions import describe_function


def by_torch(make, warmup_steps, steps):
    """The rates of torch's schedulers, in sequence."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    warmup = LinearLR(optimizer, 1 / warmup_steps, total_iters=warmup_steps - 1)
    scheduler = SequentialLR(optimizer, [warmup, make(optimizer)], [warmup_steps])
    rates = []
    for _ in range(steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.filterwarnings("ignore")  # SequentialLR calls its parts in a way that torch deprecates
def test_rates_are_those_of_torch():
    options = {"steps": 50, "warmup_steps": 10, "min_rate": 0.03}
    for ours, make in (
        (schedules.cosine(0.3, **options), lambda optimizer: CosineAnnealingLR(optimizer, 40, 0.03)),
        (schedules.linear(0.3, **options), lambda optimizer: LinearLR(optimizer, 1.0, 0.1, 40)),
    ):
        assert [ours(step) for step in range(51)] == pytest.approx(by_torch(make, 10, 50))


def test_a_plateau_and_a_decay():
    schedule = schedules.warmup_stable_decay(1.0, steps=100, warmup_steps=4, min_rate=0.2)
    assert [schedule(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert {schedule(step) for step in range(4, 81)} == {1.0}
    assert schedule(85) == pytest.approx(0.2 + 0.8 * (1 - 0.5))  # a quarter done, whose root is a half
    assert schedule(100) == schedule(1000) == pytest.approx(0.2)
    short = schedules.warmup_stable_decay(1.0, steps=100, decay_steps=10)
    assert (short(90), short(91) < 1.0) == (1.0, True)


def test_a_constant_rate():
    schedule = schedules.constant(0.5, warmup_steps=2)
    assert [schedule(step) for step in range(4)] == [0.25, 0.5, 0.5, 0.5]
    assert schedules.constant(0.5)(0) == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.cosine(-1.0, steps=5), "max_rate is -1.0: expected a finite number of at least 0"),
        (lambda: schedules.cosine(float("inf"), steps=5), "max_rate is inf"),
        (lambda: schedules.linear(float("nan"), steps=5), "max_rate is nan"),
        (lambda: schedules.linear("1", steps=5), "max_rate is '1'"),
        (lambda: schedules.linear(1.0, steps=5, min_rate=2.0), "min_rate is 2.0: .* at most max_rate, 1.0"),
        (lambda: schedules.cosine(1.0, steps=0), "steps is 0: expected a whole number, 1 or more"),
        (lambda: schedules.cosine(1.0, steps=5, warmup_steps=5), "steps is 5: .* 6 or more, more than warmup_steps"),
        (lambda: schedules.constant(1.0, warmup_steps=-1), "warmup_steps is -1: expected a whole number, 0 or more"),
        (lambda: schedules.constant(1.0, warmup_steps=1.5), "warmup_steps is 1.5"),
        (lambda: schedules.warmup_stable_decay(1.0, steps=9, decay_steps=0), "decay_steps is 0: expected .* from 1"),
        (lambda: schedules.warmup_stable_decay(1.0, steps=9, warmup_steps=3, decay_steps=7), "to the 6 steps after"),
    ],
)
def test_arguments_that_make_no_schedule(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("step", [-1, -3, -0.5, float("nan")])
def test_a_step_before_the_first_is_refused(step):
    """A29: rates went on below 0, or above the largest."""
    for schedule in (
        schedules.constant(1.0),
        schedules.constant(1.0, warmup_steps=2),
        schedules.linear(1.0, steps=9),
        schedules.cosine(1.0, steps=9, warmup_steps=2),
        schedules.warmup_stable_decay(1.0, steps=9),
    ):
        with pytest.raises(ValueError, match=f"step is {step!r}: expected a number of at least 0, the first step"):
            schedule(step)


def test_schedules_have_digests_of_their_own():
    every = [
        schedules.constant(1.0),
        schedules.constant(2.0),
        schedules.linear(1.0, steps=9),
        schedules.linear(1.0, steps=10),
        schedules.cosine(1.0, steps=9),
        schedules.warmup_stable_decay(1.0, steps=9),
    ]
    assert len({describe_function(schedule)["sha256"] for schedule in every}) == len(every)
    assert describe_function(schedules.cosine(1.0, steps=9)) == describe_function(schedules.cosine(1.0, steps=9))


def test_a_run_with_a_schedule(tmp_path):
    assert make_trainer(tmp_path / "run", lr=schedules.cosine(1e-2, steps=6), steps=6).fit().status == "completed"
