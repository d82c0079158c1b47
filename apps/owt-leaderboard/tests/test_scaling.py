"""Predictions from measured runs, and the commands that measure and predict."""

import json
import math
from dataclasses import asdict, replace

import pytest

from owt_leaderboard import measure, plan
from owt_leaderboard.budget.scaling import (
    PACKAGED,
    Measurement,
    measured_on,
    nearest_speed,
    predict_loss,
    read_measurements,
    write_measurements,
)

ONE = Measurement(
    device="NVIDIA H100",
    dataset="owt",
    time_limit_seconds=60.0,
    vocab_size=32_000,
    context_length=512,
    num_layers=8,
    d_model=512,
    batch_size=64,
    parameters=41_000_000,
    tokens=100_000_000,
    tokens_per_second=2e6,
    flops=1e16,
    flops_per_second=4e14,
    training_share=0.9,
    loss=4.0,
    bits_per_byte=1.3,
)


def law(flops):
    return 400 * flops**-0.12


def measured(*flops, noise=()):
    errors = [*noise, *[0.0] * len(flops)]
    return [
        replace(ONE, flops=value, loss=law(value) * math.exp(error), time_limit_seconds=value / 1e14)
        for value, error in zip(flops, errors, strict=False)
    ]


def test_a_law_without_noise_is_found():
    found = predict_loss(measured(1e15, 1e16, 1e17, 1e18), 1e19)
    assert found.loss == pytest.approx(law(1e19), rel=1e-9)
    assert found.low == pytest.approx(found.high, rel=1e-6)
    assert found.beyond == pytest.approx(10)


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


def test_plan_without_measurements_says_so(tmp_path, capsys):
    (tmp_path / "none.json").write_text("[]")
    arguments = ["--measurements", str(tmp_path / "none.json"), "--time-limit", "1.5h"]
    assert plan.main([*arguments, "--device", "abacus"]) == 1
    assert "no measurements for this device yet: make some with" in capsys.readouterr().out
    assert plan.main([*arguments, "--device", "NVIDIA H100 80GB HBM3"]) == 0
    printed = capsys.readouterr().out
    assert "no measurements for this device yet: 40% of its peak assumed" in printed
    assert "size: 12 layers x 1024" in printed or "size: 11 layers x 896" in printed
    assert "loss: not predicted" in printed


def test_plan_predicts_from_measured_runs(tmp_path, capsys):
    others = [replace(ONE, dataset="sample", loss=1.0), replace(ONE, device="NVIDIA A100", loss=1.0)]
    write_measurements(tmp_path / "m.json", [*others, *measured(1e15, 1e16, 1e17)])
    arguments = ["--measurements", str(tmp_path / "m.json"), "--device", "NVIDIA H100", "--time-limit", "1.5h"]
    assert plan.main(arguments) == 0
    printed = capsys.readouterr().out
    expected = law(4e14 * 0.9 * 5400)
    assert f"loss: {expected:.3f}, 95 % interval [{expected:.3f}, {expected:.3f}] of a fit to 3 runs" in printed
    assert "an extrapolation, to 19.4 times the largest compute measured" in printed


def test_a_device_may_be_named_by_the_beginning_of_its_name():
    short, long, four = (replace(ONE, device=name) for name in ("NVIDIA A10", "NVIDIA A100 80GB", "NVIDIA A100 x 4"))
    known = [short, long, four, replace(long, dataset="sample")]
    assert measured_on("NVIDIA A10", "owt", known) == [short]
    assert measured_on("NVIDIA A100 8", "owt", known) == [long]
    assert measured_on("NVIDIA B", "owt", known) == []
    with pytest.raises(ValueError, match="several measured devices: expected one of NVIDIA A100 80GB, NVIDIA A100 x 4"):
        measured_on("NVIDIA A100", "owt", known)


def test_plan_takes_the_recipe_of_the_measured_runs(tmp_path, capsys):
    """Of a GPU whose peak nobody has noted, which without measurements counts as something else."""
    write_measurements(tmp_path / "m.json", [replace(one, device="Tesla T4") for one in measured(1e15, 1e16, 1e17)])
    assert plan.main(["--measurements", str(tmp_path / "m.json"), "--device", "Tesla T4"]) == 0
    printed = capsys.readouterr().out
    assert "nearest to 10" in printed  # tokens for each parameter: the recipe for GPUs
    (size,) = [line for line in printed.splitlines() if line.startswith("size: ")]
    assert int(size.split(", ")[1].split()[0].replace(",", "")) > 32_000 * 512


def test_measure_runs_every_limit_and_keeps_what_it_finds(tmp_path, monkeypatch, capsys):
    made = []

    def complete(run_dir, arguments, notify):
        made.append((run_dir.name, arguments))
        return None if "9s" in run_dir.name else {"final_valid_loss": 3.0}

    monkeypatch.setattr(measure, "complete", complete)
    monkeypatch.setattr("owt_leaderboard.budget.scaling.measurement_of", lambda run_dir, dataset: ONE)
    assert measure.main(["--limits", "5s", "9s", "--out", str(tmp_path), "--set", "batch_size=4"]) == 1
    assert [name for name, _ in made] == ["5s-seed-0", "9s-seed-0"]
    assert made[0][1][-8:-6] == ["--set", "batch_size=4"]
    assert json.loads((tmp_path / "measurements.json").read_text("utf-8")) == [asdict(ONE)]
    assert "1 runs measured, 1 failed" in capsys.readouterr().out
    assert measure.main(["--seeds", "0", "--out", str(tmp_path)]) == 2
    assert "error: --seeds 0: expected 1 or more" in capsys.readouterr().err
