"""Sweeps: finished runs are skipped, failures recorded, several at once, searches from the command line."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from tinystories import parallel_runs, sweeps
from tinystories.batch_search import batch_sizes, default_target, recipe_for, why_not
from tinystories.commands.lr_sweep import found
from tinystories.flags import DataFlags
from tinystories.parallel_runs import environment_of
from tinystories.recipes import cpu_quick
from tinystories.results import read_experiment
from tinystories.run import main
from tinystories.sweeps import Run, Sweep
from tinystories.training import Machine, TokenFiles
from tinystories.worker import read_task, write_task

TINY = replace(
    cpu_quick(),
    vocab_size=300,
    context_length=16,
    d_model=16,
    num_layers=1,
    num_heads=2,
    d_ff=40,
    steps=4,
    batch_size=4,
    evaluations=1,
)
CPU = Machine(device="cpu")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Draw nothing: pictures took most of the time of these small experiments, and have tests of their own."""
    monkeypatch.setattr("tinystories.reporting.style.rendered", lambda drawing, theme, form: b"")


@pytest.fixture
def files(text, tmp_path):
    return TokenFiles.of(DataFlags(dataset=str(text), data_dir=tmp_path / "data").prepare(300))


@pytest.fixture
def runs(files, tmp_path):
    return [Run(replace(TINY, seed=seed), tmp_path / "runs" / f"run-{seed}", files) for seed in range(3)]


def seen(run):
    """The directory's files and their times."""
    return {path: path.stat().st_mtime_ns for path in run.directory.iterdir() if path.is_file()}


def test_failures_are_recorded_and_the_rest_goes_on(runs, monkeypatch):
    said, broken = [], {runs[1].directory}
    train = sweeps.train

    def sometimes(recipe, files, directory, machine, **options):
        if directory in broken:
            raise torch.OutOfMemoryError("no room for 3 GB")
        return train(recipe, files, directory, machine, **options)

    monkeypatch.setattr(sweeps, "train", sometimes)
    finished = []
    assert Sweep(CPU, said.append, lambda: finished.append(1)).run_all(runs) == [runs[1]]
    assert len(finished) == 3
    assert runs[1].failure == "OutOfMemoryError: no room for 3 GB"
    assert runs[1].final_loss == float("inf")
    assert [run.is_finished for run in runs] == [True, False, True]
    assert any("[2/3] run-1: failed: OutOfMemoryError: no room for 3 GB" in line for line in said)
    assert any("1 to go" in line for line in said)

    broken.clear()
    before = seen(runs[0])
    assert Sweep(CPU, said.append).run_all(runs) == []
    assert runs[1].failure is None
    assert not (runs[1].directory / "failure.json").exists()
    assert seen(runs[0]) == before
    assert said.count("[1/3] run-0: finished before, skipped") == 1


def test_wrong_input_ends_the_sweep(runs):
    with pytest.raises(ValueError, match="context_length"):
        Sweep(CPU, print).run_all([replace(runs[0], recipe=replace(TINY, context_length=1_000_000)), runs[1]])
    assert not runs[1].is_finished


def test_side_by_side_comes_out_as_one_after_the_other(runs, tmp_path):
    said = []
    assert Sweep(CPU, said.append, jobs=2).run_all(runs) == []
    alone = [replace(run, directory=tmp_path / "alone" / run.name) for run in runs]
    Sweep(CPU, lambda line: None).run_all(alone)
    assert [run.final_loss for run in runs] == pytest.approx([run.final_loss for run in alone], abs=1e-5)
    assert sum("validation loss" in line for line in said) == 3
    environment = json.loads((runs[0].directory / "environment.json").read_text("utf-8"))
    assert environment["command"][1:] == sys.argv[1:], "the records tell the command of the sweep"
    assert Sweep(CPU, said.append, jobs=2).run_all(runs) == []
    assert sum("skipped" in line for line in said) == 3


def test_a_process_that_is_killed_is_a_failure_of_its_run_alone(runs, monkeypatch, tmp_path):
    victim = tmp_path / "victim.sh"
    victim.write_text("#!/bin/sh\necho 'last words' >&2\nkill -9 $$\n")
    victim.chmod(0o755)
    monkeypatch.setattr(parallel_runs.sys, "executable", str(victim))
    assert Sweep(CPU, print, jobs=2).run_all(runs) == runs
    assert "SIGKILL" in runs[0].failure
    assert "last words" in runs[0].failure


def test_wrong_input_of_a_process_ends_the_sweep(runs):
    wrong = replace(runs[0], recipe=replace(TINY, context_length=1_000_000))
    with pytest.raises(ValueError, match=r"run-0: .*context_length"):
        Sweep(CPU, print, jobs=2).run_all([wrong, runs[1]])


@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGINT, os.kill), (signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg)],
    ids=["SIGINT", "SIGTERM", "Ctrl-C"],
)
def test_interrupted_side_by_side_runs_are_saved_and_go_on(number, send, flags, tmp_path):
    """Ctrl-C in a terminal comes to a process and to those that it started: nobody may get two signals by that."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tinystories.run", "ablations", "--jobs", "2", "--out", str(out)]
    command += ["--variants", "baseline", "nope", *flags, "--steps", "3000", "--evaluations", "1000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0)
    deadline = time.monotonic() + 120
    names = ("baseline", "nope")
    while not all(list((out / name / "checkpoints").glob("step_*")) for name in names):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    before = {name: len((out / name / "metrics.jsonl").read_text("utf-8").splitlines()) for name in names}
    send(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on" in error
    assert "Traceback" not in error
    for name in names:
        assert not (out / name / "summary.json").exists()
        (latest,) = sorted((out / name / "checkpoints").glob("step_*"))[-1:]
        records = [json.loads(line) for line in (out / name / "metrics.jsonl").read_text("utf-8").splitlines()]
        assert len(records) >= before[name]
        assert int(latest.name.removeprefix("step_")) >= records[-1]["step"], "all that was recorded is saved"
        assert not (out / name / "failure.json").exists()


def test_devices_take_turns_and_runs_do_not_know_which_they_have(monkeypatch):
    """What a run records of its device must be the same in every slot, or it could not go on in another."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def devices(machine):
        return [environment_of(machine, slot, 3).get("CUDA_VISIBLE_DEVICES") for slot in range(3)]

    assert devices(Machine()) == devices(Machine(device="cuda")) == ["0", "1", "0"]
    assert devices(Machine(device="cpu")) == devices(Machine(device="cuda:1")) == [None] * 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-ab")
    assert devices(Machine()) == ["5", "GPU-ab", "5"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices(Machine()) == ["5,GPU-ab"] * 3


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert environment_of(CPU, 0, 3)["OMP_NUM_THREADS"] == "2"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert environment_of(CPU, 0, 3)["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (["--steps", "8"], ["--steps", "16"], "steps was 8, now 16"),
        (["--learning-rate", "0.01"], ["--learning-rate", "0.02"], "learning_rate was 0.01, now 0.02"),
        ([], ["--valid-bytes", "100"], "texts was "),
    ],
)
def test_runs_of_other_settings_are_not_mixed_in(first, second, message, flags, tmp_path, capsys):
    """The second command trains other variants only, so no run of the first would be looked at."""
    out = tmp_path / "out"
    assert main(["ablations", "--out", str(out), "--variants", "baseline", *flags, *first]) == 0
    header = (out / "experiment.json").read_bytes()
    assert main(["ablations", "--out", str(out), "--variants", "nope", *flags, *second]) == 2
    error = capsys.readouterr().err
    assert f"has runs of another experiment: {message}" in error
    assert "--out" in error
    assert (out / "experiment.json").read_bytes() == header
    assert not (out / "nope").exists()
    assert main(["lr-sweep", "--out", str(out), *flags, *first]) == 2
    assert "kind was 'ablations', now 'lr-sweep'" in capsys.readouterr().err
    assert (out / "experiment.json").read_bytes() == header
    assert main(["ablations", "--out", str(out), "--variants", "nope", "--seed", "3", *flags, *first]) == 0


def test_what_an_earlier_version_did_not_write_down_is_not_compared(flags, tmp_path):
    out = tmp_path / "out"
    arguments = ["ablations", "--out", str(out), "--variants", "baseline", *flags]
    assert main(arguments) == 0
    header = json.loads((out / "experiment.json").read_text("utf-8"))
    header.pop("shared")
    (out / "experiment.json").write_text(json.dumps(header))
    assert main([*arguments[:3], "--variants", "nope", *flags, "--steps", "16"]) == 0


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


def test_a_bug_in_a_run_is_recorded_and_the_rest_goes_on(runs, monkeypatch):
    train = sweeps.train

    def broken(recipe, files, directory, machine, **options):
        if directory == runs[0].directory:
            raise TypeError("no such thing")
        return train(recipe, files, directory, machine, **options)

    monkeypatch.setattr(sweeps, "train", broken)
    assert Sweep(CPU, print).run_all(runs[:2]) == runs[:1]
    assert runs[0].failure == "TypeError: no such thing"


def test_a_process_that_crashes_is_not_told_with_the_reason_of_an_earlier_one(runs, monkeypatch, tmp_path):
    victim = tmp_path / "victim.sh"
    victim.write_text("#!/bin/sh\necho 'last words' >&2\nexit 1\n")
    victim.chmod(0o755)
    sweeps.record_failure(runs[0], "an old story")
    monkeypatch.setattr(parallel_runs.sys, "executable", str(victim))
    assert Sweep(CPU, print, jobs=2).run_all(runs[:2]) == runs[:2]
    assert runs[0].failure == "the process failed (exit code 1): last words"


def test_a_task_comes_out_as_it_went_in(runs):
    machine = Machine(device="cpu", dtype="float32", halve_on_out_of_memory=False)
    assert read_task(write_task(runs[2], machine)) == (runs[2], machine)


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


def test_time_limit_ends_the_run(flags, tmp_path):
    out = tmp_path / "timed"
    assert main(["train", "--out", str(out), *flags, "--time-limit", "8s"]) == 0
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["seconds_total"] < 9
    assert summary["steps"] > 8
    assert summary["status"] == "completed"
