import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscratch import cosine_schedule, trapezoid_schedule

COSINE = {"max_lr": 1.0, "min_lr": 0.1, "warmup_steps": 7, "decay_steps": 21}
TRAPEZOID = {"max_lr": 1.0, "min_lr": 0.2, "warmup_steps": 10, "decay_start": 20, "decay_steps": 40}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0),
        (1, 1 / 7),
        (6, 6 / 7),
        (7, 1),
        (8, 0.1 + 0.45 * (1 + math.cos(math.pi / 14))),
        (14, 0.55),
        (20, 0.1 + 0.45 * (1 + math.cos(13 * math.pi / 14))),
        (21, 0.1),
        (22, 0.1),
        (10**9, 0.1),
    ],
)
def test_cosine(step, expected):
    assert cosine_schedule(step, **COSINE) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0), (5, 0.5), (9, 0.9), (10, 1), (19, 1), (20, 1), (21, 0.96), (30, 0.6), (39, 0.24), (40, 0.2), (99, 0.2)],
)
def test_trapezoid(step, expected):
    assert trapezoid_schedule(step, **TRAPEZOID) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(0, 200))
def test_rates_stay_between_zero_and_the_maximum(warmup, plateau, decay, step):
    start, end = warmup + plateau, warmup + plateau + decay
    rates = {"max_lr": 3.0, "min_lr": 0.5}
    assert 0 <= cosine_schedule(step, **rates, warmup_steps=warmup, decay_steps=end) <= 3
    rate = trapezoid_schedule(step, **rates, warmup_steps=warmup, decay_start=start, decay_steps=end)
    assert 0 <= rate <= 3
    assert step < end or rate == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_lr": 2.0}, r"min_lr=2.0 and max_lr=1.0 are out of order; choose 0 <= min_lr <= max_lr"),
        ({"min_lr": -1.0}, r"min_lr=-1.0"),
        ({"max_lr": math.nan}, r"max_lr=nan"),
        ({"warmup_steps": math.nan}, r"warmup_steps=nan, .* are out of order"),
        ({"decay_steps": math.nan}, r"decay_steps=nan are out of order"),
        ({"warmup_steps": -1}, r"warmup_steps=-1, .* are out of order"),
        ({"decay_steps": 6}, r"decay_steps=6 are out of order; choose 0 <= warmup_steps <= .*decay_steps"),
    ],
)
def test_values_out_of_order_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        cosine_schedule(0, **COSINE | changes)
    with pytest.raises(ValueError, match=message):
        trapezoid_schedule(0, **TRAPEZOID | changes)


@pytest.mark.parametrize("step", [-1, -0.5, math.nan, -math.inf])
def test_a_step_before_the_first_is_refused(step):
    """A29: the warm-up went on below 0, to negative rates."""
    for schedule, settings in ((cosine_schedule, COSINE), (trapezoid_schedule, TRAPEZOID)):
        with pytest.raises(ValueError, match=rf"step={step!r} is out of range; choose a number of at least 0"):
            schedule(step, **settings)


def test_a_plateau_cannot_end_before_the_warm_up():
    with pytest.raises(ValueError, match="warmup_steps=10, decay_start=5, decay_steps=40 are out of order"):
        trapezoid_schedule(0, **TRAPEZOID | {"decay_start": 5})
