"""Searches: learning rates, batch sizes, rates for each variant, several seeds; and flags that are refused."""

import json
import math
from dataclasses import replace

import pytest
import torch
from conftest import TINY

from tinystories.commands.lr_sweep import found
from tinystories.recipes import cpu_quick
from tinystories.results.records import read_experiment
from tinystories.run import main
from tinystories.sweeps import sweep as sweeps
from tinystories.sweeps.batch_search import batch_sizes, default_target, recipe_for, why_not
from tinystories.sweeps.sweep import Sweep

pytestmark = pytest.mark.usefixtures("no_pictures")


def test_lr_sweep_searches_and_reports(flags, tmp_path, capsys):
    out = tmp_path / "sweep"
    assert main(["lr-sweep", "--out", str(out), "--max-rates", "8", *flags]) == 0
    experiment = read_experiment(out)
    assert experiment.kind == "lr-sweep"
    assert 5 <= len(experiment.groups) <= 8
    assert any(group.diverged for group in experiment.groups), "rates are raised until one diverges"
    assert "edge of stability" in experiment.notes[0]
    assert experiment.notes[0] in capsys.readouterr().out
    assert main(["lr-sweep", "--out", str(out), "--max-rates", "8", *flags]) == 0
    assert "skipped" in capsys.readouterr().out
    assert len(read_experiment(out).groups) == len(experiment.groups)


def test_a_rate_that_failed_is_no_edge_of_stability(flags, tmp_path, monkeypatch):
    train = sweeps.train

    def limited(recipe, files, directory, machine, **options):
        if recipe.learning_rate > 0.015:
            raise RuntimeError("no such device")
        return train(recipe, files, directory, machine, **options)

    monkeypatch.setattr(sweeps, "train", limited)
    out = tmp_path / "sweep"
    assert main(["lr-sweep", "--out", str(out), "--rates", "0.005", "0.01", "0.02", *flags]) == 1
    assert read_experiment(out).notes[0].endswith("none that was tried diverged.")


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ({}, "Training diverged or failed at every rate."),
        ({0.1: math.inf}, "Training diverged or failed at every rate."),
        ({0.1: 3.0, 0.2: 4.0}, "The best rate is 0.1; none that was tried diverged."),
        ({0.1: 3.0, 0.2: math.inf}, "The best rate is 0.1; the edge of stability lies between 0.1 and 0.2."),
        ({0.1: math.inf, 0.2: 3.0}, "The best rate is 0.2; 0.1, the lowest that was tried, diverged."),
    ],
)
def test_what_a_search_has_found(losses, expected):
    assert found(losses) == expected


def test_lr_sweep_takes_rates_as_given(flags, tmp_path):
    out = tmp_path / "sweep"
    arguments = ["--rates", "0.01", "0.02", "0.01", "--seeds", "2", "--variant", "muon"]
    assert main(["lr-sweep", "--out", str(out), *arguments, *flags]) == 0
    experiment = read_experiment(out)
    assert [(group.rate, len(group.runs)) for group in experiment.groups] == [(0.01, 2), (0.02, 2)]
    rates = {run.recipe["learning_rate"]: run.recipe["muon_learning_rate"] for run in experiment.runs}
    assert rates[0.02] == pytest.approx(2 * rates[0.01])


def test_batch_sweep_grows_until_steps_are_too_few(flags, tmp_path):
    out = tmp_path / "batches"
    arguments = ["--tokens", "1500", "--max-rates", "1"]
    assert main(["batch-sweep", "--out", str(out), *arguments, *flags]) == 0
    experiment = read_experiment(out)
    assert [group.batch_size for group in experiment.groups] == [1, 4]
    assert "batch size 16 would make 5 steps" in experiment.notes[-1]
    losses = [run.summary["final_valid_loss"] for run in experiment.runs]
    assert experiment.target_loss == pytest.approx(max(losses)), "both reach it"
    tokens = {run.recipe["batch_size"]: run.summary["tokens"] for run in experiment.runs}
    assert tokens == {1: 1488, 4: 1472}
    rate = cpu_quick().learning_rate
    expected = {1: rate * math.sqrt(1 / 4), 4: rate}  # the square root rule's, from the batch size of the flags
    assert {run.recipe["batch_size"]: run.recipe["learning_rate"] for run in experiment.runs} == pytest.approx(expected)


def test_every_seed_of_half_of_the_batch_sizes_reaches_the_target(flags, tmp_path):
    out = tmp_path / "batches"
    arguments = ["--tokens", "1500", "--max-rates", "1", "--seeds", "3"]
    assert main(["batch-sweep", "--out", str(out), *arguments, *flags]) == 0
    experiment = read_experiment(out)
    worst = [max(run.summary["final_valid_loss"] for run in group.runs) for group in experiment.groups]
    assert experiment.target_loss == pytest.approx(max(worst))


def test_batch_sizes_are_tried_from_the_smallest(flags, tmp_path, capsys):
    out = tmp_path / "batches"
    arguments = ["batch-sweep", "--out", str(out), "--tokens", "1500", "--max-rates", "1", *flags]
    assert main([*arguments, "--batch-sizes", "128", "64"]) == 2
    assert "not even the smallest batch size can be tried: batch size 64 would make 1 steps" in capsys.readouterr().err
    assert not out.exists()
    assert main([*arguments, "--batch-sizes", "128", "4", "4"]) == 0
    experiment = read_experiment(out)
    assert [(group.batch_size, len(group.runs)) for group in experiment.groups] == [(4, 1)]
    assert "batch size 128 would make 1 steps" in experiment.notes[-1]


def test_batch_sweep_ends_at_the_memory(flags, tmp_path, monkeypatch):
    train = sweeps.train

    def limited(recipe, files, directory, machine, **options):
        assert not machine.halve_on_out_of_memory
        if recipe.batch_size > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return train(recipe, files, directory, machine, **options)

    monkeypatch.setattr(sweeps, "train", limited)
    out = tmp_path / "batches"
    assert (
        main(
            [
                "batch-sweep",
                "--out",
                str(out),
                "--tokens",
                "5120",
                "--batch-sizes",
                "4",
                "16",
                "--max-rates",
                "1",
                *flags,
            ]
        )
        == 0
    )
    experiment = read_experiment(out)
    assert "16 windows have no room" in experiment.notes[-1]
    assert [failure.out_of_memory for failure in experiment.failures] == [True]


def test_rates_are_tuned_for_each_variant(flags, tmp_path):
    out = tmp_path / "tuned"
    arguments = ["--out", str(out), "--tune-rates", "--variants", "baseline", "no_rmsnorm", "no_rmsnorm_low_lr"]
    assert main(["ablations", *arguments, *flags]) == 0
    experiment = read_experiment(out)
    assert [group.name for group in experiment.groups] == ["baseline", "no_rmsnorm"]
    for group in experiment.groups:
        tuning = read_experiment(out / "tuning" / group.name)
        losses = {run.recipe["learning_rate"]: run.summary["final_valid_loss"] for run in tuning.runs}
        assert len(losses) >= 3
        assert group.runs[0].recipe["learning_rate"] == min(losses, key=losses.get)


def test_a_search_that_failed_counts(flags, tmp_path, monkeypatch, capsys):
    train = sweeps.train

    def limited(recipe, files, directory, machine, **options):
        if recipe.learning_rate > cpu_quick().learning_rate:
            raise RuntimeError("no such device")
        return train(recipe, files, directory, machine, **options)

    monkeypatch.setattr(sweeps, "train", limited)
    out = tmp_path / "tuned"
    assert main(["ablations", "--out", str(out), "--tune-rates", "--variants", "baseline", *flags]) == 1
    assert "rate-0.024 failed: RuntimeError: no such device" in capsys.readouterr().err


def test_seeds_and_vocabularies(flags, text, tmp_path):
    out = tmp_path / "seeds"
    large = [*flags, "--vocab-size", "600"]
    assert (
        main(["ablations", "--out", str(out), "--variants", "baseline", "half_vocabulary", "--seeds", "2", *large]) == 0
    )
    experiment = read_experiment(out)
    recipes = {run.name: run.recipe for run in experiment.runs}
    assert {name: recipe["seed"] for name, recipe in recipes.items()} == {
        "baseline": 0,
        "baseline-seed-1": 1,
        "half_vocabulary": 0,
        "half_vocabulary-seed-1": 1,
    }
    assert recipes["half_vocabulary"]["vocab_size"] == 300


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
    ],
)
def test_wrong_flags_are_refused(arguments, message, flags, capsys):
    assert main([*arguments, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["steps", "batch_size", "evaluations"])
def test_recipes_without_any(name):
    with pytest.raises(ValueError, match=f"{name} is 0: expected 1 or more"):
        replace(TINY, **{name: 0})


def test_batch_sizes_include_those_of_the_handout():
    sizes = batch_sizes()
    assert [next(sizes) for _ in range(6)] == [1, 4, 16, 64, 128, 256]


def test_a_batch_sizes_recipe_sees_as_many_tokens():
    recipe = recipe_for(TINY, 16, 64_000)
    assert recipe.tokens == 64_000
    assert recipe.learning_rate == pytest.approx(2 * TINY.learning_rate)
    assert recipe.muon_learning_rate == pytest.approx(2 * TINY.muon_learning_rate)


def test_half_of_the_batch_sizes_reach_the_default_target():
    assert default_target([1.6, 1.4, 1.9, 3.1, 4.1]) == 1.9
    assert default_target([1.6, 1.4]) == 1.6
    assert default_target([1.6, math.inf, math.inf]) is None
    assert default_target([]) is None


def test_memory_of_a_cpu_is_estimated_before():
    assert why_not(replace(TINY, steps=20), on_cpu=True) is None
    assert "20 are needed" in why_not(replace(TINY, steps=19), on_cpu=False).reason
    huge = replace(TINY, steps=20, batch_size=1 << 40)
    assert "GB" in why_not(huge, on_cpu=True).reason
    assert why_not(huge, on_cpu=False) is None


def test_what_was_found_stays_until_it_is_found_again(flags, tmp_path, monkeypatch):
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
