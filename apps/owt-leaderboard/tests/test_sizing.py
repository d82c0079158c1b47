"""Sizes by budget."""

import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from owt_leaderboard.budget.memory import in_passes_that_fit, kept_bytes_per_token
from owt_leaderboard.budget.sizing import (
    LADDER,
    batch_windows,
    choose,
    computing_parameters,
    flops_per_training_token,
    mean_accumulation,
    resized,
)
from owt_leaderboard.recipe.assembly import make_model
from owt_leaderboard.recipe.overrides import changed
from owt_leaderboard.recipe.recipes import RECIPES
from owt_leaderboard.run.training import train_config

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


TRIAL = ("d_model=16", "num_layers=1", "num_heads=2", "d_ff=40", "batch_size=20", "context_length=16")


def test_measured_speed_is_that_of_the_trial(monkeypatch):
    import torch

    from owt_leaderboard.budget import speed_trial

    recipe = changed(RECIPES["baseline"]("cpu"), TRIAL)
    before = torch.get_rng_state()
    clock = iter(range(1_000))
    monkeypatch.setattr(speed_trial, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    speed = speed_trial.measure_flops_per_second(recipe, 300, torch.device("cpu"), 0.05)
    # Every look at the clock is a second later: passes of 1 s with 8 of 20 windows, and updates of 1 s.
    assert speed == pytest.approx(20 * 16 / (20 / 8 + 1) * flops_per_training_token(recipe, 300))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(not hasattr(signal, "SIGCONT"), reason="processes are not stopped there")
def test_a_step_in_which_the_process_was_stopped_tells_no_speed(monkeypatch):
    import torch

    from owt_leaderboard.budget import speed_trial

    recipe, steps = changed(RECIPES["baseline"]("cpu"), TRIAL), []

    def stopped_in_the_second(device):
        steps.append(None)
        if len(steps) == 3:  # the passes of the second step; there are two looks at each
            os.kill(os.getpid(), signal.SIGCONT)

    monkeypatch.setattr("trainer.devices.devices.synchronize", stopped_in_the_second)
    monkeypatch.setattr(speed_trial, "computed_per_second", lambda recipe, vocab_size, windows, timed: len(timed))
    assert speed_trial.measure_flops_per_second(recipe, 300, torch.device("cpu"), 0.0) == 2
    assert len(steps) == 2 * 4  # one that does not count, one that was stopped, two that count


@pytest.mark.parametrize("processes", [1, 3, 7, 8])
def test_processes_can_share_the_batch(processes):
    choice = chosen(CPU, 1.6e11, 600, processes=processes)
    assert choice.recipe.batch_size % processes == 0
    assert 0 <= choice.recipe.batch_size - chosen(CPU, 1.6e11, 600).recipe.batch_size < processes


@pytest.mark.parametrize("heads", [3, 6, 11, 12])
def test_heads_that_are_given_choose_among_the_widths_that_they_divide(heads):
    recipe = chosen(changed(CPU, (f"num_heads={heads}",)), 1e12, HOURS, fixed={"num_heads"}).recipe
    assert recipe.num_heads == heads
    make_model(replace(recipe, num_layers=2), 64)


def test_heads_that_divide_no_width():
    with pytest.raises(ValueError, match=r"num_heads=13 divides none of the widths .*64, 128, 192.*give d_model, too"):
        chosen(changed(CPU, ("num_heads=13",)), 1e12, HOURS, fixed={"num_heads"})


@pytest.mark.parametrize(("width", "heads"), [(480, 8), (720, 12), (800, 10), (100, 2), (64, 1), (1024, 8), (6, 1)])
def test_any_even_width_gets_heads_that_divide_it(width, heads):
    recipe = resized(changed(CPU, (f"d_model={width}", "num_layers=2")), 2, 64, {"d_model"})
    assert recipe.num_heads == heads
    make_model(recipe, 64)


@pytest.fixture
def h100(monkeypatch):
    """A GPU of known peak, with 80 GiB of free memory."""
    import torch

    monkeypatch.setattr("trainer.devices.devices.device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr("trainer.resolve_dtype", lambda name, device: torch.bfloat16)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (80 * 2**30, 80 * 2**30))
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    return torch.device("cuda")


def test_a_gpu_of_known_peak_spends_time_on_compiling_too(h100):
    from owt_leaderboard.budget.speed_trial import size_for_device

    fixed = frozenset({"d_model", "num_layers", "num_heads", "d_ff"})
    recipe, sizes = changed(GPU, ("compile=on",)), {"train_tokens": 10**10, "processes": 1}
    choice = size_for_device(recipe, 32_000, h100, seconds=5400.0, fixed=fixed, **sizes)
    assert choice.tokens / choice.tokens_per_second == pytest.approx(5300)
    assert "40% of its peak assumed, after 100 s of compiling" in choice.reasons[0]
    assert (choice.recipe.batch_size, choice.recipe.batch_ramp) == (128, ((0.0, 2),))
    assert choice.reasons[-1] == "forward passes of 128 windows, for 80 GiB of memory"
    given = size_for_device(recipe, 32_000, h100, seconds=5400.0, fixed=fixed | {"batch_size"}, **sizes)
    assert (given.recipe.batch_size, given.recipe.batch_ramp) == (256, ())


def test_a_gpu_that_does_not_compile_is_tried(h100, monkeypatch):
    from owt_leaderboard.budget import speed_trial

    monkeypatch.setattr(speed_trial, "measure_flops_per_second", lambda *_: 1e14)
    recipe = changed(GPU, ("compile=off",))
    choice = speed_trial.size_for_device(
        recipe, 32_000, h100, seconds=200.0, train_tokens=10**10, processes=1, fixed=frozenset()
    )
    assert "speed measured in" in choice.reasons[0]


def test_a_trial_of_too_many_windows_is_made_with_fewer(monkeypatch):
    import torch

    from owt_leaderboard.budget import speed_trial

    seen, losses = [], speed_trial.make_model(changed(CPU, TRIAL), 300)

    def make_model(*_):
        def loss(inputs, targets):
            seen.append(len(inputs))
            if len(inputs) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return type(losses).loss(losses, inputs, targets)

        losses.loss = loss
        return losses

    monkeypatch.setattr(speed_trial, "make_model", make_model)
    monkeypatch.setattr(speed_trial, "computed_per_second", lambda recipe, vocab_size, windows, timed: windows)
    assert speed_trial.measure_flops_per_second(changed(CPU, TRIAL), 300, torch.device("cpu"), 0.0) == 2
    assert seen == [8, 4, 2, 2, 2]


def test_batches_are_made_in_as_few_forward_passes_as_fit():
    needed = 256 * 512 * kept_bytes_per_token(GPU)
    assert needed == pytest.approx(61.2e9, rel=0.001)
    for gibibytes, passes in ((140, 1), (80, 2), (40, 4), (24, 8), (12, 64)):
        recipe = in_passes_that_fit(GPU, 400_000_000, 32_000, gibibytes * 2**30)
        assert recipe.batch_size * mean_accumulation(recipe) == 256, gibibytes
        assert mean_accumulation(recipe) == passes, gibibytes
    assert in_passes_that_fit(GPU, 400_000_000, 32_000, 80 * 2**30, processes=2) == GPU
    assert kept_bytes_per_token(GPU, 4) == 2 * kept_bytes_per_token(GPU)


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("ramp", ["()", "((0.0,1),(0.5,3))"])
def test_every_process_has_passes_as_small_as_was_asked_for(processes, ramp):
    from trainer.data.batches import BatchSource
    from trainer.data.splits import TokenSplit

    windows = 16 * processes  # 8 windows in a pass of a process fit, and 16 do not
    recipe = changed(GPU, (f"batch_size={windows}", f"batch_ramp={ramp}"))
    room = 10 * recipe.context_length * (kept_bytes_per_token(recipe) + 16 * 32_000)
    parted = in_passes_that_fit(recipe, 0, 32_000, int(room / 0.8), processes=processes)
    config = train_config(parted, time_limit_seconds=None, steps=100, device="cpu")
    source = BatchSource(TokenSplit(np.zeros(100_000, np.uint16), "x"), config, 0, processes)
    assert source.rows == 8
    for count, times in zip(config.accumulations, [times for _, times in recipe.batch_ramp] or [1], strict=True):
        assert source.micro_steps(count) * 8 * processes == times * windows


def test_a_trial_counts_on_what_compiling_gains_and_costs(monkeypatch):
    import torch

    from owt_leaderboard.budget import speed_trial

    monkeypatch.setattr(speed_trial, "measure_flops_per_second", lambda *_: 1e11)
    given = frozenset({"d_model", "num_layers", "num_heads", "d_ff"})
    sizes = {"seconds": 500.0, "train_tokens": 10**7, "processes": 1, "fixed": given}
    eager, compiled = (
        speed_trial.size_for_device(changed(CPU, (f"compile={name}",)), 4096, torch.device("cpu"), **sizes)
        for name in ("off", "on")
    )
    assert compiled.tokens_per_second == pytest.approx(1.12 * eager.tokens_per_second)
    assert compiled.tokens / eager.tokens == pytest.approx(1.12 * 400 / 500, rel=1e-3)
    assert "1.12 times that when it is compiled" in compiled.reasons[0]
    assert "compiled" not in eager.reasons[0]
