"""Predictions from measured runs."""

import math
from dataclasses import replace

import pytest
from measured_runs import ONE, law, measured

from owt_leaderboard.budget import (
    PACKAGED,
    measured_on,
    nearest_speed,
    predict_loss,
    read_measurements,
    write_measurements,
)


def test_a_law_without_noise_is_found():
    found = predict_loss(measured(1e15, 1e16, 1e17, 1e18), 1e19)
    assert found.loss == pytest.approx(law(1e19), rel=1e-9)
    assert found.low == pytest.approx(found.high, rel=1e-6)
    assert found.extrapolation == pytest.approx(10)


def test_the_interval_is_that_of_a_regression():
    """Against numpy's least squares and the textbook's formula, with 3.1824 for 3 degrees of freedom."""
    import numpy as np

    points = measured(1e15, 3e15, 1e16, 3e16, 1e17, noise=(0.01, -0.02, 0.015, 0.0, -0.01))
    x, y = (np.log([getattr(one, name) for one in points]) for name in ("flops", "loss"))
    slope, constant = np.polyfit(x, y, 1)
    place = math.log(2e17)
    sigma = math.sqrt(((y - constant - slope * x) ** 2).sum() / 3)
    half = 3.182446 * sigma * math.sqrt(1 + 1 / 5 + (place - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    found = predict_loss(points, 2e17)
    expected = [math.exp(constant + slope * place + sign * half) for sign in (0, -1, 1)]
    assert [found.loss, found.low, found.high] == pytest.approx(expected, rel=1e-5)


def test_too_little_to_fit():
    with pytest.raises(ValueError, match="2 measured runs: expected at least 3"):
        predict_loss(measured(1e15, 1e16), 1e17)
    with pytest.raises(ValueError, match="the same compute"):
        predict_loss(measured(1e15, 1e15, 1e15), 1e17)


def test_the_speed_is_that_of_the_nearest_limit():
    runs = [replace(ONE, time_limit_seconds=10.0 * 4**i, flops_per_second=float(i)) for i in range(4)]
    assert nearest_speed(runs, 45.0)[0] == 1.0
    assert nearest_speed(runs, 1e6)[0] == 3.0


def test_measurements_survive_the_file(tmp_path):
    write_measurements(tmp_path / "m.json", [ONE])
    assert read_measurements(tmp_path / "m.json") == [ONE]
    (tmp_path / "m.json").write_text('[{"device": "x"}]')
    with pytest.raises(ValueError, match="expected a JSON list of objects with device, dataset"):
        read_measurements(tmp_path / "m.json")


def test_what_the_package_ships_can_be_read():
    for one in read_measurements(PACKAGED):
        assert one.loss > 0
        assert one.flops == pytest.approx(one.tokens * one.flops_per_second / one.tokens_per_second)


def test_a_device_may_be_named_by_the_beginning_of_its_name():
    short, long, four = (replace(ONE, device=name) for name in ("NVIDIA A10", "NVIDIA A100 80GB", "NVIDIA A100 x 4"))
    known = [short, long, four, replace(long, dataset="sample")]
    assert measured_on("NVIDIA A10", "owt", known) == [short]
    assert measured_on("NVIDIA A100 8", "owt", known) == [long]
    assert measured_on("NVIDIA B", "owt", known) == []
    with pytest.raises(
        ValueError, match="fits several measured devices: expected one of NVIDIA A100 80GB, NVIDIA A100 x 4"
    ):
        measured_on("NVIDIA A100", "owt", known)
