"""The command that predicts."""

from dataclasses import replace

from measured_runs import ONE, law, measured

from owt_leaderboard.budget import write_measurements
from owt_leaderboard.commands import plan


def test_plan_without_measurements_says_so(tmp_path, capsys):
    (tmp_path / "none.json").write_text("[]")
    arguments = ["--measurements", str(tmp_path / "none.json"), "--time-limit", "1.5h"]
    assert plan.main([*arguments, "--device", "abacus"]) == 1
    assert "no measurements for this device yet: make some with" in capsys.readouterr().out
    assert plan.main([*arguments, "--device", "NVIDIA H100 80GB HBM3"]) == 0
    printed = capsys.readouterr().out
    assert "no measurements for this device yet: assuming 40% of its peak" in printed
    assert "size: 12 layers x 1024" in printed or "size: 11 layers x 896" in printed
    assert "loss: no prediction from 0 measured runs" in printed


def test_plan_knows_the_gpus_and_limits_of_both_years_of_the_course(capsys):
    for gpu, limit, training in (("NVIDIA H100", "1.5h", "4,922 s"), ("NVIDIA B200", "45m", "2,411 s")):
        assert plan.main(["--device", gpu, "--time-limit", limit]) == 0
        printed = capsys.readouterr().out
        assert f" for {training} of training" in printed
        assert "size: 12 layers x 1024, 183,762,944 parameters" in printed


def test_plan_predicts_from_measured_runs(tmp_path, capsys):
    others = [replace(ONE, dataset="sample", loss=1.0), replace(ONE, device="NVIDIA A100", loss=1.0)]
    write_measurements(tmp_path / "m.json", [*others, *measured(1e15, 1e16, 1e17)])
    arguments = ["--measurements", str(tmp_path / "m.json"), "--device", "NVIDIA H100", "--time-limit", "1.5h"]
    assert plan.main(arguments) == 0
    printed = capsys.readouterr().out
    expected = law(4e14 * 0.9 * 5400)
    assert f"loss: {expected:.3f}, 95 % interval [{expected:.3f}, {expected:.3f}], from a fit to 3 runs" in printed
    assert "this extrapolates to 19.4 times the largest measured compute" in printed
    assert "an earlier recipe" not in printed
    first, *rest = measured(1e15, 1e16, 1e17)
    write_measurements(tmp_path / "m.json", [*rest, replace(first, context_length=256)])
    assert plan.main(arguments) == 0
    expected = "runs with windows of 256 tokens are among the measured ones, and the recipe has 512 now"
    assert expected in capsys.readouterr().out


def test_plan_takes_the_recipe_of_the_measured_runs(tmp_path, capsys):
    """Of a GPU whose peak nobody has noted, which without measurements counts as something else."""
    write_measurements(tmp_path / "m.json", [replace(one, device="Tesla T4") for one in measured(1e15, 1e16, 1e17)])
    assert plan.main(["--measurements", str(tmp_path / "m.json"), "--device", "Tesla T4"]) == 0
    printed = capsys.readouterr().out
    assert "closest to 10" in printed  # tokens for each parameter: the recipe for GPUs
    (size,) = [line for line in printed.splitlines() if line.startswith("size: ")]
    assert int(size.split(", ")[1].split()[0].replace(",", "")) > 32_000 * 512
