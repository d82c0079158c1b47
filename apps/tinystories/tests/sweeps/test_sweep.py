"""Sweeps: finished runs are skipped, interrupted ones resumed, failures recorded."""

import json
import os
import signal
import sys
from dataclasses import replace

import pytest
import torch
from small_runs import CPU, TINY, FakeTraining, summary_of
from stopped import StoppedCommand

from tinystories.flags import DataFlags
from tinystories.run import main
from tinystories.sweeps import Run, Sweep, runs
from tinystories.training import TokenFiles
from trainer.experiments.running.processes import RunProcess
from trainer.experiments.running.ray_engine import Share


@pytest.fixture
def files(text, tmp_path):
    return DataFlags(dataset=str(text), data_dir=tmp_path / "data").prepare(300)


@pytest.fixture
def three(tmp_path):
    """Three runs, for trainings that read no texts."""
    nowhere = TokenFiles(tmp_path, tmp_path, tmp_path)
    return [Run(replace(TINY, seed=seed), tmp_path / "runs" / f"run-{seed}", nowhere) for seed in range(3)]


@pytest.fixture
def fake(monkeypatch):
    """Replaces training by a function that raises the error of `fake.errors` for a seed, or ends at loss 2."""

    def loss_of(recipe):
        return training.errors.get(recipe.seed, 2.0)

    training = FakeTraining(loss_of)
    training.errors = {}
    monkeypatch.setattr("tinystories.sweeps.runs.train", training)
    monkeypatch.setattr("tinystories.sweeps.sweep.train", training)
    return training


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room for 3 GB"), TypeError("no such thing")])
def test_failures_are_recorded_and_the_rest_goes_on(error, three, fake):
    printed, finished = [], []
    fake.errors[1] = error
    assert Sweep(CPU, printed.append, lambda: finished.append(1)).run_all(three) == [three[1]]
    expected = f"{type(error).__name__}: {error}"
    assert len(finished) == 2, "after each run but the last"
    assert three[1].failure == expected
    assert three[1].final_loss == float("inf")
    assert [run.is_finished for run in three] == [True, False, True]
    assert any(f"[2/3] run-1: failed: {expected}" in line for line in printed)
    assert any("1 to go" in line for line in printed)

    fake.errors.clear()
    assert Sweep(CPU, printed.append).run_all(three) == []
    assert three[1].failure is None
    assert not (three[1].directory / "failure.json").exists()
    assert printed.count("[1/3] run-0: already finished, skipped") == 1


def test_wrong_input_ends_the_sweep(three, fake):
    fake.errors[0] = ValueError("context_length")
    with pytest.raises(ValueError, match="context_length"):
        Sweep(CPU, print).run_all(three)
    assert not any(run.is_finished for run in three)


def test_a_finished_run_is_not_written_again_and_refuses_other_settings(files, tmp_path, quick):
    run = Run(TINY, tmp_path / "run", files)
    assert Sweep(CPU, print).run_all([run]) == []
    before = {path: path.stat().st_mtime_ns for path in run.directory.rglob("*") if path.is_file()}
    assert Sweep(CPU, print).run_all([run]) == []
    with pytest.raises(ValueError, match="seed"):
        Sweep(CPU, print).run_all([replace(run, recipe=replace(TINY, seed=7))])
    assert {path: path.stat().st_mtime_ns for path in run.directory.rglob("*") if path.is_file()} == before
    assert runs.outcome(run) == f"validation loss {summary_of(run.directory)['final_valid_loss']:.4f}"


class Elsewhere:
    """Takes the place of a Ray cluster with room for two runs, whose processes start here."""

    share = Share(1, 0, 2)

    def __init__(self):
        self.started = []

    def start(self, name, arguments, result, text):
        self.started.append((name, result))
        return RunProcess(name, arguments, {**os.environ, "OMP_NUM_THREADS": "1"}, text)


@pytest.mark.skipif(os.name != "posix", reason="processes of POSIX")
def test_another_engine_gets_all_runs_and_makes_the_same(files, tmp_path, quick):
    """Also a single run, which the sweep would otherwise train in this process."""
    alone, there = (Run(TINY, tmp_path / place / "run", files) for place in ("here", "there"))
    assert Sweep(CPU, print).run_all([alone]) == []
    engine, printed = Elsewhere(), []
    wrong = Run(replace(TINY, context_length=1_000_000), tmp_path / "there" / "wrong", files)
    with pytest.raises(ValueError, match=r"wrong: .*context_length"):
        Sweep(CPU, printed.append, engine=engine).run_all([there, wrong])
    assert engine.started == [(run.name, run.directory / "summary.json") for run in (there, wrong)]
    assert Sweep(CPU, printed.append, engine=engine).run_all([there]) == []
    assert records(there.directory) == records(alone.directory)


def records(run):
    """Events and losses of a run, without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return summary_of(run)["final_valid_loss"], [(line["event"], line["step"], line["loss"]) for line in lines]


def two_runs(out, flags):
    return [
        "ablations",
        "--out",
        str(out),
        "--variants",
        "baseline",
        "nope",
        *flags,
        "--steps",
        "30",
        "--seeds",
        "1",
        "--jobs",
        "1",
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Text, data directory and records of a sweep without an interruption."""
    from small_runs import small_flags, write_stories

    folder = tmp_path_factory.mktemp("uninterrupted")
    flags = small_flags(write_stories(folder / "stories.txt"), folder / "data")
    assert main(two_runs(folder / "out", flags)) == 0
    return flags, {name: records(folder / "out" / name) for name in ("baseline", "nope")}


@pytest.mark.skipif(
    not hasattr(os, "fork") or sys.platform == "darwin", reason="needs os.fork, after which libraries of macOS may fail"
)
@pytest.mark.parametrize("number", ["SIGKILL", "SIGINT"])
def test_an_interrupted_sweep_resumes_and_ends_like_an_uninterrupted_one(number, uninterrupted, tmp_path, quick):
    flags, expected = uninterrupted
    number = signal.Signals[number]
    arguments = two_runs(tmp_path / "out", flags)
    process = StoppedCommand(arguments, 20, tmp_path / "errors.txt")
    os.kill(process.pid, number)
    code, error = process.end()
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert "Traceback" not in error
    assert not list(tmp_path.glob("out/*/summary.json"))
    assert main(arguments) == 0
    assert {name: records(tmp_path / "out" / name) for name in ("baseline", "nope")} == expected
