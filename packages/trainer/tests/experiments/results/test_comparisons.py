"""Verdicts, against SciPy's Welch interval and against the rules for runs that are few, failed or diverged."""

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind, ttest_rel
from synthetic import BYTES_PER_TOKEN, make_failure, make_group, make_header, make_run

from trainer.experiments.results import compare, read_experiment

losses = st.lists(st.floats(1.9, 2.1).map(lambda loss: round(loss, 4)), min_size=2, max_size=4, unique=True)
"""Losses of several seeds, close enough that many intervals contain 0."""


@settings(max_examples=25, deadline=None)
@given(baseline=losses, variant=losses)
def test_verdicts_are_those_of_scipys_interval(baseline, variant):
    if len(baseline) == len(variant):  # the same seeds, which make pairs
        assume(len({round(one - other, 9) for one, other in zip(variant, baseline, strict=True)}) > 1)
        interval = ttest_rel(variant, baseline).confidence_interval(0.95)
    else:
        interval = ttest_ind(variant, baseline, equal_var=False).confidence_interval(0.95)
    in_bits = [bound / math.log(2) / BYTES_PER_TOKEN for bound in interval]
    assume(all(abs(bound) > 2e-4 for bound in (*interval, *in_bits)))  # the intervals shown are rounded outwards
    with tempfile.TemporaryDirectory() as folder:
        make_group(Path(folder), "baseline", baseline)
        make_group(Path(folder), "silu", variant)
        _, comparison = compare(read_experiment(Path(folder)))
    assert comparison.loss_difference.low == pytest.approx(interval.low)
    assert comparison.loss_difference.high == pytest.approx(interval.high)
    assert (comparison.bits_difference.low, comparison.bits_difference.high) == pytest.approx(in_bits)
    if interval.low > 0:
        assert comparison.verdict == "worse"
    elif interval.high < 0:
        assert comparison.verdict == "better"
    else:
        assert comparison.verdict == f"inconclusive ({min(len(baseline), len(variant))} runs)"


def verdicts(directory, **groups):
    for name, finals in groups.items():
        make_group(directory, name, finals)
    return {comparison.group.name: comparison.verdict for comparison in compare(read_experiment(directory))}


def test_single_runs_are_inconclusive_however_far_apart(tmp_path):
    found = verdicts(tmp_path, baseline=[2.0], nope=[9.0], silu=[2.0001, 2.0002, 2.0003])
    assert found == {
        "baseline": "baseline",
        "nope": "inconclusive (1 run)",
        "silu": "inconclusive (1 run)",  # of the baseline
    }


def test_runs_without_any_spread_are_inconclusive(tmp_path):
    assert verdicts(tmp_path, baseline=[2.0, 2.0], nope=[3.0, 3.0])["nope"] == "inconclusive (2 runs)"


def test_divergence_is_a_verdict_of_its_own(tmp_path):
    make_failure(tmp_path / "muon", "RuntimeError: no")
    found = verdicts(tmp_path, baseline=[2.0, 2.1, None], no_rmsnorm=[None, None], qk_norm=[1.0, 1.1, None])
    assert found == {
        "baseline": "baseline",
        "no_rmsnorm": "diverged",
        "qk_norm": "unstable (1 of 3 runs diverged)",
        "muon": "failed",
    }


def test_without_a_baseline_nothing_is_compared(tmp_path):
    assert verdicts(tmp_path, baseline=[None], nope=[2.0, 2.1]) == {
        "baseline": "diverged",
        "nope": "inconclusive (no baseline)",
    }


def test_other_vocabularies_are_compared_in_bits_per_byte_only(tmp_path):
    make_group(tmp_path, "baseline", [2.0, 2.02, 2.04])
    make_group(tmp_path, "half_vocabulary", [1.5, 1.51, 1.52], vocab_size=1024, bytes_per_token=2.0)
    _, comparison = compare(read_experiment(tmp_path))
    assert comparison.loss_difference is None
    assert comparison.bits_difference.value == pytest.approx((1.51 / 2 - 2.02 / 3) / math.log(2))
    assert comparison.verdict == "worse"


def test_rates_are_compared_with_the_best_one(tmp_path):
    make_header(tmp_path, kind="lr-sweep")
    for rate, finals in {0.01: [2.0, 2.02], 0.02: [2.01, 2.03], 0.04: [4.0, 4.01], 0.08: [1.0, None]}.items():
        for seed, final in enumerate(finals):
            folder = tmp_path / (f"rate-{rate:g}" + (f"-seed-{seed}" if seed else ""))
            at = 17 if final is None else None
            make_run(folder, [7.6, 4.0, final], at=at, learning_rate=rate, seed=seed)
    assert {comparison.group.rate: comparison.verdict for comparison in compare(read_experiment(tmp_path))} == {
        0.01: "lowest loss",
        0.02: "inconclusive (2 runs)",
        0.04: "worse",
        0.08: "unstable (1 of 2 runs diverged)",
    }
