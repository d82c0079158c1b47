"""Runs in processes of their own: results, crashes, interruptions, and shares of the machine."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import CPU, TINY
from waiting import wait_until

from tinystories.flags import DataFlags
from tinystories.sweeps import Run, Sweep, runs, worker
from tinystories.sweeps.worker import environment_of
from tinystories.training import Machine, TokenFiles

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and scripts of POSIX")


@pytest.fixture
def files(text, tmp_path):
    return DataFlags(dataset=str(text), data_dir=tmp_path / "data").prepare(300)


@pytest.fixture
def two(files, tmp_path):
    return [Run(replace(TINY, seed=seed), tmp_path / "runs" / f"run-{seed}", files) for seed in range(2)]


@pytest.fixture
def workers_run(monkeypatch, tmp_path):
    """Lets workers run a shell script instead of Python."""

    def install(script):
        program = tmp_path / "worker.sh"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(program))

    return install


def test_side_by_side_comes_out_as_one_after_the_other(two, tmp_path, quick):
    printed = []
    assert Sweep(CPU, printed.append, jobs=2).run_all(two) == []
    alone = [replace(run, directory=tmp_path / "alone" / run.name) for run in two]
    Sweep(CPU, lambda line: None).run_all(alone)
    assert [run.final_loss for run in two] == pytest.approx([run.final_loss for run in alone], abs=1e-5)
    assert sum("validation loss" in line for line in printed) == 2
    environment = json.loads((two[0].directory / "environment.json").read_text("utf-8"))
    assert environment["command"][1:] == sys.argv[1:], "the records hold the command of the sweep"
    assert Sweep(CPU, printed.append, jobs=2).run_all(two) == []
    assert sum("skipped" in line for line in printed) == 2


@pytest.mark.parametrize(
    ("end", "reason"),
    [("kill -9 $$", "ended by SIGKILL, perhaps for lack of memory"), ("exit 1", "exit code 1")],
)
def test_a_process_that_crashes_is_a_failure_of_its_run_alone(end, reason, two, workers_run):
    runs.record_failure(two[0], "the error of an earlier attempt")
    workers_run(f"cat > /dev/null; echo 'last words' >&2; {end}")
    assert Sweep(CPU, print, jobs=2).run_all(two) == two
    assert two[0].failure == two[1].failure == f"the process failed ({reason}): last words"


def test_wrong_input_of_a_process_ends_the_sweep(two, workers_run):
    workers_run(f"cat > /dev/null; echo 'no such text' >&2; exit {worker.WRONG_INPUT}")
    with pytest.raises(ValueError, match=r"run-\d: no such text"):
        Sweep(CPU, print, jobs=2).run_all(two)


def test_ctrl_c_in_a_terminal_saves_every_run(flags, tmp_path):
    """Ctrl-C reaches a whole group of processes: no worker may get it a second time from the sweep."""
    out, names = tmp_path / "out", ("baseline", "nope")
    command = [sys.executable, "-m", "tinystories.run", "ablations", "--jobs", "2", "--out", str(out)]
    command += ["--variants", *names, *flags, "--steps", "100000", "--evaluations", "20000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0)

    def both_have_checkpoints():
        assert process.poll() is None, process.communicate()
        return all(list((out / name / "checkpoints").glob("step_*")) for name in names)

    wait_until(both_have_checkpoints)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130
    assert "goes on" in error or "resume" in error
    assert "Traceback" not in error
    for name in names:
        assert not (out / name / "summary.json").exists()
        assert not (out / name / "failure.json").exists()
        latest = max(int(path.name.removeprefix("step_")) for path in (out / name / "checkpoints").glob("step_*"))
        records = [json.loads(line) for line in (out / name / "metrics.jsonl").read_text("utf-8").splitlines()]
        assert latest >= records[-1]["step"], "every recorded step is saved"


def test_exit_codes_of_a_worker(two, monkeypatch, capsys, quick):
    def code(run):
        monkeypatch.setattr("sys.stdin", io.StringIO(worker.write_task(run, CPU)))
        return worker.main()

    assert code(two[0]) == worker.DONE
    assert two[0].is_finished
    assert code(replace(two[1], recipe=replace(TINY, context_length=1_000_000))) == worker.WRONG_INPUT
    assert "context_length" in capsys.readouterr().err
    for error, expected in ((KeyboardInterrupt(), worker.INTERRUPTED), (TypeError("no such thing"), worker.FAILED)):

        def broken(*_, error=error, **__):
            raise error

        monkeypatch.setattr("tinystories.sweeps.runs.train", broken)
        assert code(two[1]) == expected
    assert two[1].failure == "TypeError: no such thing"


def test_a_task_comes_out_as_it_went_in(tmp_path):
    files = TokenFiles(*(tmp_path / name for name in ("tokenizer", "train.npy", "valid.npy")))
    run, machine = Run(TINY, Path("out", "run"), files), Machine(dtype="float32", halve_on_out_of_memory=False)
    assert worker.read_task(worker.write_task(run, machine)) == (run, machine)


def test_devices_take_turns_and_runs_do_not_know_which_they_have(monkeypatch):
    """The device in the records of a run must be the same in every slot: otherwise it could not resume in another."""
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
