"""Sizes by budget."""

import pytest

from owt_leaderboard.overrides import changed
from owt_leaderboard.recipes import RECIPES
from owt_leaderboard.sizing import (
    LADDER,
    batch_windows,
    choose,
    computing_parameters,
    flops_per_training_token,
    mean_accumulation,
    resized,
)

CPU, GPU = RECIPES["speedrun"]("cpu"), RECIPES["speedrun"]("cuda")
HOURS = 3600.0


def chosen(recipe, flops, seconds, **settings):
    return choose(
        recipe, recipe.vocab_size, flops_per_second=flops, seconds=seconds, train_tokens=3_000_000, **settings
    )


def test_flops_are_six_for_each_computing_parameter_attention_and_gates():
    attention = 12 * 12 * 1024 * 512  # layers, 12 for both products forward and back, width, the square of positions
    gates = 6 * 6 * 8 * 32  # on six layers, 6 for each weight, heads, channels
    expected = 6 * computing_parameters(GPU, 32_000) + attention + gates
    assert flops_per_training_token(GPU, 32_000) == pytest.approx(expected, rel=1e-6)
    assert computing_parameters(GPU, 32_000) == 12 * 12 * 1024**2 + 32_000 * 1024


def test_the_leaderboards_budget_gives_the_size_that_entrants_came_to():
    """1.5 H100 hours at 45 %: 12 layers x 1024 and about 2 G tokens, as the isoFLOP fits of nanochat say."""
    choice = chosen(GPU, 0.45 * 989e12, 85 * 60)
    assert (choice.recipe.num_layers, choice.recipe.d_model, choice.recipe.num_heads) == (12, 1024, 8)
    assert 1.5e9 < choice.tokens < 2.3e9
    assert choice.recipe.batch_size * choice.recipe.context_length == 2**17


def test_a_small_cpu_gets_a_small_model():
    """Two cores make about 20 k tokens/s of 4 layers x 128: 1.6e11 operations per second."""
    ten_minutes = chosen(CPU, 1.6e11, 600)
    assert 64 <= ten_minutes.recipe.d_model <= 256
    assert 2 <= ten_minutes.tokens / ten_minutes.parameters <= 10
    assert 4096 <= ten_minutes.recipe.batch_size * 256 <= 8192
    assert ten_minutes.recipe.d_model // ten_minutes.recipe.num_heads == 64


def test_more_time_or_speed_never_makes_it_smaller():
    sizes = [chosen(CPU, 1e11, seconds).parameters for seconds in (1, 10, 60, 600, HOURS, 24 * HOURS, 1000 * HOURS)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 4
    assert sizes == [
        chosen(CPU, 1e9, 100 * seconds).parameters for seconds in (1, 10, 60, 600, HOURS, 24 * HOURS, 1000 * HOURS)
    ]


def test_given_sizes_stay():
    recipe = changed(CPU, ("d_model=192", "num_heads=3", "batch_size=5"))
    choice = chosen(recipe, 1e12, HOURS, fixed={"d_model", "num_heads", "batch_size"})
    assert (choice.recipe.d_model, choice.recipe.num_heads, choice.recipe.batch_size) == (192, 3, 5)
    assert choice.recipe.d_ff == 4 * 192
    assert choice.recipe.num_layers in {layers for layers, _ in LADDER}


def test_reasons_say_what_was_weighed():
    how, steps = chosen(CPU, 1.6e11, 600).reasons
    assert "160.0 GFLOP/s" in how
    assert "nearest to 5" in how
    assert "the text is seen" in steps


def test_inputs_are_masked_where_the_text_is_seen_again_and_again():
    often, once = chosen(CPU, 1.6e11, 600), chosen(CPU, 1.6e11, 60)
    assert often.tokens / 3_000_000 > 2 > once.tokens / 3_000_000
    assert (often.recipe.masked_inputs, once.recipe.masked_inputs) == (0.1, 0.0)
    assert often.reasons[1].endswith("times, so 10% of its tokens are hidden each time")
    given = changed(CPU, ("masked_inputs=0.3",))
    assert chosen(given, 1.6e11, 60).recipe.masked_inputs == 0.3
    unknown = choose(CPU, 4096, flops_per_second=1.6e11, seconds=600, train_tokens=None)
    assert unknown.recipe.masked_inputs == 0.0


def test_every_size_makes_a_model():
    for layers, width in LADDER:
        recipe = resized(CPU, layers, width)
        assert recipe.d_model % recipe.num_heads == 0
        assert recipe.d_model // recipe.num_heads in (64, 128)
        gated = resized(changed(CPU, ("ffn=swiglu",)), layers, width)
        assert computing_parameters(gated, 4096) == pytest.approx(computing_parameters(recipe, 4096), rel=0.1)


def test_batches_count_what_a_ramp_accumulates():
    ramp = changed(GPU, ("batch_ramp=((0.0, 1), (0.25, 2), (0.5, 4))",))
    assert mean_accumulation(ramp) == pytest.approx(0.25 + 0.5 + 2.0)
    assert mean_accumulation(GPU) == 1
    assert batch_windows(GPU, 2e9) == 256
    assert batch_windows(ramp, 2e9) == 128  # 256 / 2.75 = 93 by the next power of two
    assert batch_windows(CPU, 10e6) * CPU.context_length == 4096
    assert batch_windows(CPU, 1.0) == 16


def test_measured_speed_is_that_of_the_trial():
    import torch

    from owt_leaderboard.speed_trial import measure_flops_per_second

    sizes = ("d_model=16", "num_layers=1", "num_heads=2", "d_ff=40", "batch_size=2", "context_length=16")
    recipe = changed(RECIPES["baseline"]("cpu"), sizes)
    before = torch.get_rng_state()
    speed = measure_flops_per_second(recipe, 300, torch.device("cpu"), 0.05)
    assert 1e5 < speed < 1e13
    assert torch.equal(before, torch.get_rng_state())


def test_a_trial_counts_on_what_compiling_gains_and_costs(monkeypatch):
    import torch

    from owt_leaderboard import speed_trial

    monkeypatch.setattr(speed_trial, "measure_flops_per_second", lambda *_: 1e11)
    given = frozenset({"d_model", "num_layers", "num_heads", "d_ff"})
    sizes = {"seconds": 500.0, "train_tokens": 10**7, "processes": 1, "fixed": given}
    eager, compiled = (
        speed_trial.size_for_device(changed(CPU, (f"compile={name}",)), 4096, torch.device("cpu"), **sizes)
        for name in ("off", "on")
    )
    assert compiled.tokens_per_second == pytest.approx(1.3 * eager.tokens_per_second)
    assert compiled.tokens / eager.tokens == pytest.approx(1.3 * 465 / 500, rel=1e-3)
    assert "1.3 times that when it is compiled" in compiled.reasons[0]
    assert "compiled" not in eager.reasons[0]
