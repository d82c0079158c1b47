"""The speed of a device, and the sizes that follow from it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from nnscratch.speedrun import RECIPES, changed, flops_per_token
from owt_leaderboard.budget import speed_trial
from owt_leaderboard.budget.speed_trial import flops_per_second_of, size_for_device

CPU, GPU = RECIPES["speedrun"]("cpu"), RECIPES["speedrun"]("cuda")
TRIAL = ("d_model=16", "num_layers=1", "num_heads=2", "d_ff=40", "batch_size=20", "context_length=16")


def test_measured_speed_is_that_of_the_trial(monkeypatch):
    recipe = changed(RECIPES["baseline"]("cpu"), TRIAL)
    before = torch.get_rng_state()
    clock = iter(range(1_000))
    monkeypatch.setattr(speed_trial, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    speed = speed_trial.measure_flops_per_second(recipe, 300, torch.device("cpu"), 0.05)
    # Every look at the clock is a second later: passes of 1 s with 8 of 20 windows, and updates of 1 s.
    assert speed == pytest.approx(
        20 * 16 / (20 / 8 + 1) * flops_per_token(replace(recipe.model, vocab_size=300), backward=True)
    )
    assert torch.equal(before, torch.get_rng_state())


def test_a_step_in_which_the_process_was_stopped_changes_no_speed():
    """Of three steps, one was stopped for a minute in its pass, another in its update."""
    recipe = changed(RECIPES["baseline"]("cpu"), TRIAL)
    even = flops_per_second_of(recipe, 300, 8, [(1.0, 0.5)] * 3)
    assert flops_per_second_of(recipe, 300, 8, [(61.0, 0.5), (1.0, 60.5), (1.0, 0.5)]) == even


@pytest.fixture
def h100(monkeypatch):
    """A GPU of known peak, with 50 GiB of free memory."""
    monkeypatch.setattr("trainer.devices.devices.device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr("trainer.resolve_dtype", lambda name, device: torch.bfloat16)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (50 * 2**30, 80 * 2**30))
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    return torch.device("cuda")


def test_a_gpu_of_known_peak_spends_time_on_compiling_too(h100):
    fixed = frozenset({"model.d_model", "model.num_layers", "model.num_heads", "model.d_ff"})
    recipe, sizes = changed(GPU, ("compile=on",)), {"train_tokens": 10**10, "processes": 1}
    choice = size_for_device(recipe, 32_000, h100, seconds=5400.0, fixed=fixed, **sizes)
    assert choice.tokens / choice.tokens_per_second == pytest.approx(5300)
    assert "assuming 40% of its peak, after 100 s of compiling" in choice.reasons[0]
    assert (choice.recipe.batches.batch_size, choice.recipe.batches.batch_ramp) == (128, ((0.0, 2),))
    assert choice.reasons[-1] == "forward passes of 128 windows, for 50 GiB of memory"
    given = size_for_device(recipe, 32_000, h100, seconds=5400.0, fixed=fixed | {"batches.batch_size"}, **sizes)
    assert (given.recipe.batches.batch_size, given.recipe.batches.batch_ramp) == (256, ())


def test_a_gpu_that_does_not_compile_is_tried(h100, monkeypatch):
    monkeypatch.setattr(speed_trial, "measure_flops_per_second", lambda *_: 1e14)
    recipe = changed(GPU, ("compile=off",))
    choice = size_for_device(recipe, 32_000, h100, seconds=200.0, train_tokens=10**10, processes=1, fixed=frozenset())
    assert "speed measured in" in choice.reasons[0]


def test_a_trial_of_too_many_windows_is_made_with_fewer(monkeypatch):
    seen, losses = [], speed_trial.make_model(changed(CPU, TRIAL), 300)

    def make_model(*_):
        def loss(inputs, targets, **settings):
            seen.append(len(inputs))
            if len(inputs) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return type(losses).loss(losses, inputs, targets, **settings)

        losses.loss = loss
        return losses

    monkeypatch.setattr(speed_trial, "make_model", make_model)
    monkeypatch.setattr(speed_trial, "flops_per_second_of", lambda recipe, vocab_size, windows, timed: windows)
    assert speed_trial.measure_flops_per_second(changed(CPU, TRIAL), 300, torch.device("cpu"), 0.0) == 2
    assert seen == [8, 4, 2, 2, 2, 2]


def test_a_trial_counts_on_what_compiling_gains_and_costs(monkeypatch):
    monkeypatch.setattr(speed_trial, "measure_flops_per_second", lambda *_: 1e11)
    given = frozenset({"model.d_model", "model.num_layers", "model.num_heads", "model.d_ff"})
    sizes = {"seconds": 500.0, "train_tokens": 10**7, "processes": 1, "fixed": given}
    eager, compiled = (
        size_for_device(changed(CPU, (f"compile={name}", "sampled_tokens=None")), 4096, torch.device("cpu"), **sizes)
        for name in ("off", "on")
    )
    assert compiled.tokens_per_second == pytest.approx(1.12 * eager.tokens_per_second)
    assert compiled.tokens / eager.tokens == pytest.approx(1.12 * 400 / 500, rel=1e-3)
    assert "assuming 1.12 times that after 100 s of compiling" in compiled.reasons[0]
    assert "compiling" not in eager.reasons[0]


def test_compiling_gains_more_on_a_gpu_of_unknown_peak(h100, monkeypatch):
    """Its eager steps are measured, and move six times the bytes of compiled ones; on a CPU 1.12 is measured."""
    monkeypatch.setattr("trainer.devices.devices.device_name", lambda device: "NVIDIA RTX PRO 6000")
    monkeypatch.setattr(speed_trial, "measure_flops_per_second", lambda *_: 1e14)
    assert speed_trial.COMPILED_GAIN == {"cpu": 1.12, "cuda": 2.0}
    sizes = {"seconds": 5400.0, "train_tokens": 10**10, "processes": 1}
    fixed = frozenset({"model.d_model", "model.num_layers", "model.num_heads", "model.d_ff", "batches.batch_size"})
    eager, compiled = (
        size_for_device(changed(GPU, (f"compile={mode}",)), 32_000, h100, fixed=fixed, **sizes)
        for mode in ("off", "on")
    )
    assert compiled.tokens_per_second == pytest.approx(2 * eager.tokens_per_second)
    assert "assuming 2 times that after 100 s of compiling" in compiled.reasons[0]
