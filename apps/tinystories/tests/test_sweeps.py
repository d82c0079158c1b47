"""Sweeps: finished runs are skipped, failures recorded, several at once."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from conftest import TINY

from tinystories.flags import DataFlags
from tinystories.run import main
from tinystories.sweeps import processes as parallel_runs
from tinystories.sweeps import sweep as sweeps
from tinystories.sweeps.processes import environment_of
from tinystories.sweeps.sweep import Run, Sweep
from tinystories.sweeps.worker import read_task, write_task
from tinystories.training import Machine, TokenFiles

pytestmark = pytest.mark.usefixtures("no_pictures")
CPU = Machine(device="cpu")


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


def test_time_limit_ends_the_run(flags, tmp_path):
    out = tmp_path / "timed"
    assert main(["train", "--out", str(out), *flags, "--time-limit", "5s"]) == 0
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["seconds_total"] < 6
    assert summary["steps"] > 8
    assert summary["status"] == "completed"
