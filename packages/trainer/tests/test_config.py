import dataclasses

import pytest

from trainer import TrainConfig

VALID = {"steps": 10, "batch_size": 2, "context_length": 4}


def test_defaults_are_valid_and_frozen():
    config = TrainConfig(**VALID, grad_accumulation_steps=3)
    assert config.tokens_per_step == 24
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 3


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(
            (name, value, "expected a whole number, 1 or more")
            for name in (
                "steps",
                "batch_size",
                "context_length",
                "grad_accumulation_steps",
                "eval_interval",
                "log_interval",
                "keep_checkpoints",
                "vocab_size",
                "checkpoint_interval",
                "eval_batch_size",
                "profile",
            )
            for value in (0, 1.5, True)
        ),
        ("seed", -1, "expected a whole number, 0 or more"),
        *(
            (name, value, "expected a finite number above 0, or None")
            for name in ("max_grad_norm", "checkpoint_seconds", "keep_checkpoint_every_seconds", "time_limit_seconds")
            for value in (0, -1.0, float("nan"), float("inf"), "1h")
        ),
        ("sampling", "epochs", "expected one of 'random', 'shuffled', 'documents'"),
        ("halve_on_out_of_memory", None, "expected one of True, False"),
        ("dtype", "float64", "expected one of 'auto', 'float32', 'bfloat16', 'float16'"),
        ("compile", "yes", "expected one of 'off', 'auto', 'on'"),
        ("clock", "sun", "expected one of 'steps', 'time'"),
        ("on_non_finite", "ignore", "expected one of 'stop', 'skip'"),
        ("save_in_background", 2, "expected one of True, False"),
    ],
)
def test_refuses(name, value, expected):
    with pytest.raises(ValueError) as error:
        TrainConfig(**{**VALID, name: value})
    assert str(error.value) == f"{name} is {value!r}: {expected}"


def test_clock_needs_a_time_limit():
    with pytest.raises(ValueError, match='clock is "time" but time_limit_seconds is None'):
        TrainConfig(**VALID, clock="time")
    assert TrainConfig(**VALID, clock="time", time_limit_seconds=60).time_limit_seconds == 60


def test_evaluations_on_the_way_read_a_window_at_least():
    for tokens in (1, 4):
        with pytest.raises(ValueError, match=f"^eval_tokens is {tokens}: expected at least 5, one window of context_l"):
            TrainConfig(**VALID, eval_tokens=tokens)
    assert TrainConfig(**VALID, eval_tokens=5).eval_tokens == 5


@pytest.mark.parametrize("name", ["max_grad_norm", "checkpoint_seconds", "checkpoint_interval", "eval_batch_size"])
def test_none_is_allowed(name):
    assert getattr(TrainConfig(**{**VALID, name: None}), name) is None
