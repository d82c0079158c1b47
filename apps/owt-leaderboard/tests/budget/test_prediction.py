"""The arithmetic of a run that nobody has measured, against numbers computed by hand."""

from dataclasses import replace

import pytest
import torch

from nnscratch import losses
from nnscratch.speedrun import baseline, changed, speedrun, with_settings
from owt_leaderboard.budget import prediction
from trainer.devices.flops import _TERAFLOPS, peak_flops
from trainer.training import clock

RATES = prediction.Rates(
    peak=1e15,
    products=5e14,
    attention=2e14,
    library_attention=4e14,
    bandwidth=2e12,
    additions=1e11,
    free_bytes=80 * 2**30,
)
RECIPE = with_settings(speedrun("cuda"), {"batches.batch_size": 128, "batches.batch_ramp": ((0.0, 2),)})
"""12 layers of 1,024 with 8 heads, d_ff 4,096, 32,000 tokens and windows of 512: two passes of 65,536 tokens."""
TOKENS = 131_072
MATRICES = 12 * (4 * 1024**2 + 2 * 1024 * 4096)
HEAD = 32_000 * 1024


def test_the_milliseconds_of_a_step():
    step = prediction.predict_step(RECIPE, 100e9, RATES)
    assert step.tokens == TOKENS
    found = {line.name: line.amount for line in step.lines}
    # Half of the square, and half a block of 64 in each row; 2 products forward, 4 and 3 backward.
    attention = 4.5 * 2 * 512 * 1024 * 12 * TOKENS * 1.125
    newton_schulz = 5 * 12 * (4 * 6 * 1024**3 + 2 * (4 * 1024**2 * 4096 + 2 * 1024**3))
    assert newton_schulz == pytest.approx(3.865e12, rel=1e-3)
    gates, scales = 6 * 8 * 32, 6 + 12
    muon, adamw = MATRICES + gates, HEAD + 7 * HEAD + scales
    # Eight chunks add to the gradient of the output layer, in float32.
    assert found == pytest.approx(
        {
            "matrix products": 1e3 * 6 * (MATRICES + HEAD) * TOKENS / 5e14,
            "element-wise kernels": 1e3 * 2 * (100e9 + 8 * 8 * HEAD) / 2e12,
            "embedding gradients": 1e3 * 7 * TOKENS * 1024 / 1e11,
            "attention": 1e3 * (attention / 2e14 + 2 * 1024 * 12 * TOKENS / 2e12),
            "Muon": 1e3 * (newton_schulz / 5e14 + 30 * muon / 2e12),
            "AdamW, norm, accumulation": 1e3 * (28 * adamw + (4 + 12) * (muon + adamw)) / 2e12,
        }
    )
    assert step.milliseconds == pytest.approx(sum(found.values()))
    assert step.tokens_per_second == pytest.approx(1e3 * TOKENS / step.milliseconds)
    library = step.with_library_attention()
    of_library = 1e3 * 3.5 * 2 * 512 * 1024 * 12 * TOKENS * 1.25 / 4e14
    assert library.milliseconds == pytest.approx(step.milliseconds - found["attention"] + of_library)


def test_a_recipe_without_muon_updates_all_by_adamw():
    recipe = baseline("cuda")
    found = {line.name: line.amount for line in prediction.predict_step(recipe, 0.0, RATES).lines}
    parameters = 2 * 32_000 * 512 + 4 * (4 * 512**2 + 3 * 512 * 1344 + 2 * 512) + 512
    assert "Muon" not in found
    assert found["AdamW, norm, accumulation"] == pytest.approx(1e3 * (28 + 4) * parameters / 2e12)  # one pass
    assert prediction.checkpoint_bytes(recipe) == 12 * parameters


def test_utilisation_counts_attention_whole_or_half():
    flops = prediction.training_flops(RECIPE)
    gates = 3 * 6 * 2 * 8 * 32
    assert flops.square == 6 * (MATRICES + HEAD) + 12 * 12 * 1024 * 512 + gates
    assert flops.square - flops.causal == 6 * 12 * 1024 * 512
    square, causal = prediction.utilisation(RECIPE, 1e5, 1e15)
    assert (square, causal) == pytest.approx((1e5 * flops.square / 1e15, 1e5 * flops.causal / 1e15))


def test_the_seconds_of_a_limit():
    size = prediction.checkpoint_bytes(RECIPE)
    assert size == pytest.approx(4.35e9, rel=0.01)
    costs = prediction.TimeCosts(evaluated_per_second=1e6, valid_tokens=60_000_000, saved_per_second=size / 2)
    costs = replace(costs, copied_per_second=size / 0.1, start=20, compiling=100, compiling_evaluation=30, entry=4)
    lines = prediction.time_lines(RECIPE, 5400, costs)
    evaluations = 11 * (2048 * 512 / 1e6 + 1)
    expected = [20, 130, evaluations, 90 * 0.1, 1.25 * (60 + 2), 7]
    assert [line.amount for line in lines] == pytest.approx(expected)
    assert prediction.training_seconds(5400, lines) == pytest.approx(5400 - sum(expected))
    assert costs.unused_seconds(RECIPE) == pytest.approx(0.25 * 62)
    assert prediction.RESERVE == clock._SAFETY_FACTOR


def test_evaluations_are_forward_passes():
    speed = prediction.predict_evaluation(RECIPE, 5e5, RATES)
    attention = 2 * 512 * 1024 * 12 * 1.125
    assert 1 / speed == pytest.approx(2 * (MATRICES + HEAD) / 5e14 + 5e5 / 2e12 + attention / 2e14)


@pytest.mark.parametrize(("tokens", "vocab_size"), [(65_536, 32_000), (131_072, 32_000), (5_000, 50_257), (64, 500)])
def test_chunks_are_those_of_the_loss(tokens, vocab_size):
    assert prediction._chunks(tokens, vocab_size) == -(-tokens // losses._chunk_rows("cuda", tokens, vocab_size))


@pytest.mark.parametrize("name", _TERAFLOPS)
def test_each_gpu_of_known_peak_has_rates(name):
    peak = _TERAFLOPS[name] * 1e12
    rates = prediction.assumed_rates(f"NVIDIA {name}", peak)
    slow, fast = prediction.plausible_rates(rates)
    assert slow.products < rates.products < fast.products < peak
    assert slow.attention < rates.attention < fast.attention < rates.products


def test_an_h100_is_the_reference():
    rates = prediction.assumed_rates("NVIDIA H100 80GB HBM3", 989.4e12)
    assert (rates.products, rates.attention, rates.bandwidth) == pytest.approx((580e12, 250e12, 2.75e12))
    with pytest.raises(ValueError, match=r"the memory of 'abacus' is not known: expected a name with one of GB200"):
        prediction.assumed_rates("abacus", 1e12)


@pytest.mark.parametrize(("name", "windows", "passes"), [("NVIDIA H100", 256, 1), ("NVIDIA H200", 256, 1)])
def test_sizes_are_those_that_a_run_chooses(name, windows, passes):
    rates = prediction.assumed_rates(name, peak_flops(name, torch.bfloat16))
    recipe = prediction.size_by_rates(
        changed(speedrun("cuda"), ("compile=on",)), rates, limit=5400.0, fixed=frozenset()
    )
    assert (recipe.model.num_layers, recipe.model.d_model) == (12, 1024)
    assert (recipe.batches.batch_size, recipe.batches.mean_passes) == (windows, passes)
    kept = prediction.size_by_rates(
        changed(speedrun("cuda"), ("batch_size=32", "sized_by_budget=False")), rates, limit=5400.0, fixed=frozenset()
    )
    assert kept.batches.batch_size == 32


def test_loss_from_published_entries():
    found = prediction.predict_from_entries(2 * 1.43e18)
    assert found[2].loss == pytest.approx(3.0354 - 0.089)
    assert found[0].loss == pytest.approx(3.0158 - 0.015 - 0.089 * 0.838, abs=1e-3)  # log2(2.86 / 1.6) = 0.838
    assert prediction.predict_from_entries(4e18) is None
    assert prediction.predict_from_entries(5e17) is None
