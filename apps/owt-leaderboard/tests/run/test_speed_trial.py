"""Sizes that follow from the speed of a device."""

import pytest
import torch

from nnscratch import speedrun
from nnscratch.speedrun import RECIPES, changed
from trainer.experiments import speed_trial
from trainer.experiments.speed_trial import size_for_device

CPU, GPU = RECIPES["speedrun"]("cpu"), RECIPES["speedrun"]("cuda")


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
    choice = size_for_device(speedrun, recipe, 32_000, h100, seconds=5400.0, fixed=fixed, **sizes)
    assert choice.tokens / choice.tokens_per_second == pytest.approx(5300)
    assert "assuming 40% of its peak, after 100 s of compiling" in choice.reasons[0]
    assert (choice.recipe.batches.batch_size, choice.recipe.batches.batch_ramp) == (128, ((0.0, 2),))
    assert choice.reasons[-1] == "forward passes of 128 windows, for 50 GiB of memory"
    given = size_for_device(
        speedrun, recipe, 32_000, h100, seconds=5400.0, fixed=fixed | {"batches.batch_size"}, **sizes
    )
    assert (given.recipe.batches.batch_size, given.recipe.batches.batch_ramp) == (256, ())


def test_a_gpu_that_does_not_compile_is_tried(h100, monkeypatch):
    monkeypatch.setattr(speed_trial, "measure_flops_per_second", lambda *_: 1e14)
    recipe = changed(GPU, ("compile=off",))
    choice = size_for_device(
        speedrun, recipe, 32_000, h100, seconds=200.0, train_tokens=10**10, processes=1, fixed=frozenset()
    )
    assert "speed measured in" in choice.reasons[0]


def test_trials_of_a_long_limit_take_five_seconds_each(monkeypatch):
    lengths = []
    monkeypatch.setattr(speed_trial, "measure_flops_per_second", lambda *given: lengths.append(given[-1]) or 1e11)
    for seconds in (100.0, 3600.0):
        size_for_device(
            speedrun,
            CPU,
            4096,
            torch.device("cpu"),
            seconds=seconds,
            train_tokens=10**7,
            processes=1,
            fixed=frozenset(),
        )
    assert lengths == [1.0, 1.0, 5.0, 5.0]


def test_the_sizes_of_the_first_trial_are_not_tried_again(monkeypatch):
    tried = []
    monkeypatch.setattr(
        speed_trial, "measure_flops_per_second", lambda models, recipe, *_: tried.append(recipe.model.d_ff) or 1e11
    )
    sizes = {"seconds": 500.0, "train_tokens": 10**7, "processes": 1}
    names = {"model.d_model", "model.num_layers", "model.num_heads", "model.d_ff", "batches.batch_size"}
    for fixed in (names, names - {"model.d_ff"}):
        recipe = changed(CPU, ("d_ff=384",))
        size_for_device(speedrun, recipe, 4096, torch.device("cpu"), fixed=frozenset(fixed), **sizes)
    assert tried == [384, 384, 512]


def test_a_trial_counts_on_what_compiling_gains_and_costs(monkeypatch):
    monkeypatch.setattr(speed_trial, "measure_flops_per_second", lambda *_: 1e11)
    given = frozenset({"model.d_model", "model.num_layers", "model.num_heads", "model.d_ff"})
    sizes = {"seconds": 500.0, "train_tokens": 10**7, "processes": 1, "fixed": given}
    eager, compiled = (
        size_for_device(
            speedrun, changed(CPU, (f"compile={name}", "sampled_tokens=None")), 4096, torch.device("cpu"), **sizes
        )
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
        size_for_device(speedrun, changed(GPU, (f"compile={mode}",)), 32_000, h100, fixed=fixed, **sizes)
        for mode in ("off", "on")
    )
    assert compiled.tokens_per_second == pytest.approx(2 * eager.tokens_per_second)
    assert "assuming 2 times that after 100 s of compiling" in compiled.reasons[0]
