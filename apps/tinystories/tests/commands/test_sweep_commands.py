"""`ablations`, `lr-sweep` and `batch-sweep`: runs, searches and refusals, with trainings of known losses."""

import json
import math

import pytest
import torch
from small_runs import FakeTraining, refused

from tinystories.commands.ablations import Ablations
from tinystories.commands.shared import SweepFlags
from tinystories.flags import Machine
from tinystories.recipes import PRESETS
from tinystories.run import main
from tinystories.sweeps import Sweep
from trainer.experiments.results import read_experiment

RATE = PRESETS["cpu-quick"].learning_rate
ABLATIONS_RATE = PRESETS["cpu-ablations"].learning_rate


@pytest.fixture(autouse=True)
def _quick(quick):
    """No pictures."""


@pytest.fixture
def losses(monkeypatch):
    """Replaces training: `losses.loss_of` maps a recipe to its loss, None to diverge, or an exception."""
    training = FakeTraining(lambda recipe: 2.0 + math.log(recipe.learning_rate / RATE) ** 2)
    monkeypatch.setattr("tinystories.sweeps.runs.train", training)
    monkeypatch.setattr("tinystories.sweeps.sweep.train", training)
    return training


def test_lr_sweep_finds_the_best_rate_and_the_edge(losses, flags, tmp_path, capsys):
    """The best rate is 0.024, and training diverges above 0.3."""
    losses.loss_of = lambda recipe: (
        None if recipe.learning_rate > 0.3 else 2 + math.log(recipe.learning_rate / 0.024) ** 2
    )
    arguments = ["lr-sweep", "--out", str(tmp_path / "sweep"), *flags]
    assert main(arguments) == 0
    experiment = read_experiment(tmp_path / "sweep")
    assert experiment.kind == "lr-sweep"
    assert len(experiment.groups) <= 12
    printed = capsys.readouterr().out
    assert "lowest validation loss: 2.0000 nats per token at 0.024" in printed
    low, high = (float(word) for word in printed.split("edge of stability: between ")[1].split("\n")[0].split(" and "))
    assert low <= 0.3 < high <= 1.5 * low
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("already finished, skipped") == len(experiment.groups)


def test_a_rate_that_failed_is_no_edge_of_stability(losses, flags, tmp_path, capsys):
    losses.loss_of = lambda recipe: RuntimeError("no such device") if recipe.learning_rate > 0.015 else 2.0
    arguments = ["lr-sweep", "--out", str(tmp_path / "sweep"), "--rates", "0.005", "0.01", "0.02", *flags]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert "edge of stability: above 0.01, the highest rate tried" in captured.out
    assert captured.err == "rate-0.02 failed: RuntimeError: no such device; the same command tries it again\n"


def test_lr_sweep_takes_rates_as_given(losses, flags, tmp_path):
    out = tmp_path / "sweep"
    arguments = ["--rates", "0.01", "0.02", "0.01", "--seeds", "2", "--variant", "muon"]
    assert main(["lr-sweep", "--out", str(out), *arguments, *flags]) == 0
    experiment = read_experiment(out)
    assert [(group.rate, len(group.runs)) for group in experiment.groups] == [(0.01, 2), (0.02, 2)]
    rates = {run.recipe["learning_rate"]: run.recipe["muon_learning_rate"] for run in experiment.runs}
    assert rates[0.02] == pytest.approx(2 * rates[0.01])


def test_batch_sweep_grows_until_steps_are_too_few(losses, flags, tmp_path):
    out = tmp_path / "batches"
    arguments = ["--tokens", "1500", "--max-rates", "1", "--seeds", "3"]
    losses.loss_of = lambda recipe: 2.0 + 0.1 * recipe.seed + 0.01 * recipe.batch_size
    assert main(["batch-sweep", "--out", str(out), *arguments, *flags]) == 0
    experiment = read_experiment(out)
    assert [group.batch_size for group in experiment.groups] == [1, 4]
    assert "batch size 16 would make 5 steps" in experiment.notes[-1]
    assert experiment.target_loss == pytest.approx(2.24), "every seed of half of the sizes reaches it"
    assert {run.recipe["batch_size"]: run.recipe["steps"] for run in experiment.runs} == {1: 93, 4: 23}
    expected = {1: RATE * math.sqrt(1 / 4), 4: RATE}  # the square root rule's, from the batch size of the flags
    assert {run.recipe["batch_size"]: run.recipe["learning_rate"] for run in experiment.runs} == pytest.approx(expected)


def test_batch_sizes_are_tried_from_the_smallest(losses, flags, tmp_path, capsys):
    out = tmp_path / "batches"
    arguments = ["batch-sweep", "--out", str(out), "--tokens", "1500", "--max-rates", "1", *flags]
    error = refused([*arguments, "--batch-sizes", "128", "64"], capsys)
    assert "not even the smallest batch size can be tried: batch size 64 would make 1 steps" in error
    assert not out.exists()
    assert main([*arguments, "--batch-sizes", "128", "4", "4"]) == 0
    experiment = read_experiment(out)
    assert [(group.batch_size, len(group.runs)) for group in experiment.groups] == [(4, 1)]
    assert "batch size 128 would make 1 steps" in experiment.notes[-1]


def test_batch_sweep_ends_at_the_memory(losses, flags, tmp_path):
    losses.loss_of = lambda recipe: torch.OutOfMemoryError("CUDA out of memory") if recipe.batch_size > 4 else 2.0
    out = tmp_path / "batches"
    arguments = ["--tokens", "5120", "--batch-sizes", "4", "16", "--max-rates", "1"]
    assert main(["batch-sweep", "--out", str(out), *arguments, *flags]) == 0
    experiment = read_experiment(out)
    assert "16 windows do not fit into memory" in experiment.notes[-1]
    assert [failure.out_of_memory for failure in experiment.failures] == [True]
    assert not any(machine.halve_on_out_of_memory for machine in losses.machines)


def test_findings_stay_until_they_are_found_again(losses, flags, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ["batch-sweep", "--out", str(out), "--tokens", "1500", "--max-rates", "1", *flags]
    assert main(arguments) == 0
    header = json.loads((out / "experiment.json").read_text("utf-8"))
    assert header["notes"]

    def interrupted(self, runs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Sweep, "run_all", interrupted)
    assert main(arguments) == 130
    assert json.loads((out / "experiment.json").read_text("utf-8")) == header


def test_rates_are_tuned_for_each_variant(losses, flags, tmp_path):
    best = {"pre": 2 * ABLATIONS_RATE, "none": ABLATIONS_RATE / 4}
    losses.loss_of = lambda recipe: 2 + math.log(recipe.learning_rate / best[recipe.norm]) ** 2
    out = tmp_path / "tuned"
    arguments = ["--out", str(out), "--tune-rates", "--variants", "baseline", "no_rmsnorm", "no_rmsnorm_low_lr"]
    assert main(["ablations", *arguments, *flags]) == 0
    found = {group.name: group.runs[0].recipe["learning_rate"] for group in read_experiment(out).groups}
    assert found == {
        "baseline": pytest.approx(2 * ABLATIONS_RATE),
        "no_rmsnorm": pytest.approx(ABLATIONS_RATE / 4),
    }


def test_ablations_have_three_seeds_and_use_every_core(losses, flags, tmp_path, monkeypatch):
    assert main(["ablations", "--out", str(tmp_path / "out"), "--variants", "baseline", *flags]) == 0
    runs = read_experiment(tmp_path / "out").runs
    assert [run.recipe["seed"] for run in runs] == [0, 1, 2]
    assert {run.recipe["learning_rate"] for run in runs} == {ABLATIONS_RATE}
    monkeypatch.undo()
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    cpu = Machine(device="cpu")
    assert Ablations(machine=cpu).jobs == 3
    assert Ablations(machine=cpu, sweep=SweepFlags(jobs=2)).jobs == 2
    assert Ablations(machine=cpu, sweep=SweepFlags(engine="ray")).jobs == 1
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert Ablations(machine=cpu).jobs == 4
    monkeypatch.setattr(Machine, "device_type", "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert Ablations(machine=Machine(device="cuda")).jobs == 8
    assert Ablations(machine=Machine(device="cuda:1")).jobs == 1


def test_a_search_that_failed_counts(losses, flags, tmp_path, capsys):
    high = 2 * ABLATIONS_RATE
    losses.loss_of = lambda recipe: RuntimeError("no such device") if recipe.learning_rate >= high else 2.0
    assert main(["ablations", "--out", str(tmp_path), "--tune-rates", "--variants", "baseline", *flags]) == 1
    assert f"rate-{high:g} failed: RuntimeError: no such device" in capsys.readouterr().err


def test_seeds_and_vocabularies(losses, flags, tmp_path):
    out = tmp_path / "seeds"
    arguments = ["--variants", "baseline", "half_vocabulary", "--seeds", "2", *flags, "--vocab-size", "600"]
    assert main(["ablations", "--out", str(out), *arguments]) == 0
    recipes = {run.name: run.recipe for run in read_experiment(out).runs}
    assert {name: (recipe["seed"], recipe["vocab_size"]) for name, recipe in recipes.items()} == {
        "baseline": (0, 600),
        "baseline-seed-1": (1, 600),
        "half_vocabulary": (0, 300),
        "half_vocabulary-seed-1": (1, 300),
    }


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (["--steps", "8"], ["--steps", "16"], "steps was 8, now 16"),
        (["--learning-rate", "0.01"], ["--learning-rate", "0.02"], "learning_rate was 0.01, now 0.02"),
        ([], ["--valid-bytes", "100"], "texts was "),
    ],
)
def test_runs_of_other_settings_are_not_mixed_in(first, second, message, losses, flags, tmp_path, capsys):
    """The second command trains other variants only, so that no run of the first is looked at."""
    out = tmp_path / "out"
    assert main(["ablations", "--out", str(out), "--variants", "baseline", *flags, *first]) == 0
    header = (out / "experiment.json").read_bytes()
    error = refused(["ablations", "--out", str(out), "--variants", "nope", *flags, *second], capsys)
    assert f"holds runs of another experiment: {message}" in error
    assert "--out" in error
    assert (out / "experiment.json").read_bytes() == header
    assert not (out / "nope").exists()
    error = refused(["lr-sweep", "--out", str(out), *flags, *first], capsys)
    assert "kind was 'ablations', now 'lr-sweep'" in error
    assert (out / "experiment.json").read_bytes() == header
    assert main(["ablations", "--out", str(out), "--variants", "nope", "--seed", "3", *flags, *first]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablations", "--seeds", "0"], "--seeds 0"),
        (["ablations", "--jobs", "0"], "--jobs 0"),
        (["lr-sweep", "--max-rates", "0"], "--max-rates 0"),
        (["lr-sweep", "--rates", "0.1", "-1"], "above 0"),
        (["batch-sweep", "--batch-sizes", "4", "0"], "--batch-sizes 4 0"),
        (["batch-sweep", "--target-loss", "-1"], "--target-loss -1"),
        (["train", "--time-limit", "soon"], "soon"),
        (["lr-sweep", "--learning-rate", "0"], "learning_rate is 0.0: expected a finite number above 0"),
        (["train", "--learning-rate", "nan"], "learning_rate is nan"),
        (["train", "--steps", "0"], "steps is 0: expected 1 or more"),
        (["train", "--batch-size", "0"], "batch_size is 0: expected 1 or more"),
        (["train", "--evaluations", "0"], "evaluations is 0: expected 1 or more"),
    ],
)
def test_wrong_flags_are_refused(arguments, message, flags, capsys):
    assert message in refused([arguments[0], *flags, *arguments[1:]], capsys)


@pytest.mark.parametrize("command", ["ablations", "lr-sweep", "batch-sweep", "tokenizer-report"])
def test_a_missing_ray_is_named_before_anything_is_done(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("trainer.experiments.running.ray_engine.find_spec", lambda name: None)
    error = refused([command, "--engine", "ray", "--out", str(tmp_path / "out")], capsys)
    assert "--engine ray needs Ray, which is not installed here: pip install ray" in error
    assert not (tmp_path / "out").exists()
