"""Findings of sweeps: best rates, the edge of stability, and the price of a target loss."""

import pytest
from synthetic import make_failure, make_header, make_run

from trainer.experiments.results import Cost, Curve, read_experiment, study_batches, study_rates
from trainer.experiments.results.batches import cost_of


def rates(directory, losses):
    """Study a sweep of single runs: {rate: loss}, None where it diverged."""
    make_header(directory, kind="lr-sweep")
    for rate, loss in losses.items():
        make_run(directory / f"rate-{rate:g}", [7.6, 4.0, loss], at=17 if loss is None else None, learning_rate=rate)
    findings = study_rates(read_experiment(directory).groups)
    return [group and group.rate for group in (findings.best, findings.stable, findings.divergent)], [
        group.rate for group in findings.stable_again
    ]


@pytest.mark.parametrize(
    ("losses", "expected", "again"),
    [
        ({0.01: 2.5, 0.02: 2.0, 0.04: 2.3, 0.08: None}, [0.02, 0.04, 0.08], []),
        ({0.01: 2.5, 0.02: 2.0}, [0.02, 0.02, None], []),
        ({0.01: 2.0, 0.02: None, 0.04: 2.4}, [0.01, 0.01, 0.02], [0.04]),
        ({0.1: None, 0.2: None}, [None, None, 0.1], []),
    ],
)
def test_best_rate_and_edge_of_stability(losses, expected, again, tmp_path):
    assert rates(tmp_path, losses) == (expected, again)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([4.0, 3.0, 2.0], Cost(1500.0, 15.0)),
        ([4.0, 2.5, 2.0], Cost(1000.0, 10.0)),
        ([2.0, 1.0, 0.5], Cost(0.0, 0.0)),
        ([4.0, None, 2.0], Cost(2000.0, 20.0)),  # nothing to interpolate from
        ([4.0, 3.0, 2.6], None),
        ([4.0, 2.0, 3.0], Cost(750.0, 7.5)),
    ],
)
def test_cost_of_a_target_is_interpolated(losses, expected):
    assert cost_of(Curve([0, 10, 20], [0, 1000, 2000], [0.0, 10.0, 20.0], losses, [None] * 3), 2.5) == expected


def test_batches(tmp_path):
    make_header(tmp_path, kind="batch-sweep", target_loss=3.0)
    for size, rate, losses, at in (
        (4, 0.01, [7.0, 3.0, 2.0], None),
        (4, 0.02, [7.0, None], 3),
        (16, 0.01, [7.0, 5.0, 2.8], None),
        (16, 0.02, [7.0, 4.0, 2.5], None),
        (16, 0.04, [7.0, 4.0, 2.6], None),
        (64, 0.02, [7.0, 6.0, 5.0], None),
    ):
        make_run(tmp_path / f"batch-{size}-rate-{rate:g}", losses, at=at, batch_size=size, learning_rate=rate)
    make_failure(tmp_path / "batch-256-rate-0.02", "OutOfMemoryError: CUDA out of memory.")
    experiment = read_experiment(tmp_path)
    small, middle, large, full = study_batches(experiment)
    assert [found.best.rate for found in (small, middle, large)] == [0.01, 0.02, 0.02]
    assert [found.at_end for found in (small, middle, large)] == ["lowest", None, "only"]
    tokens = 10 * 4 * experiment.runs[0].recipe["context_length"]
    assert small.costs == (Cost(tokens, 10.0),)
    assert middle.costs == (Cost(pytest.approx(4 * tokens * (1 + 2 / 3)), pytest.approx(10 * (1 + 2 / 3))),)
    assert large.costs == (None,)
    assert full.out_of_memory
    assert full.best is None
